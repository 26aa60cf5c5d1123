//! How many idle instances are worth keeping ready: pure, time is passed in.
//!
//! By Little's law `rate * cost` instances are being made at any time if each request needs one; the square root on top is
//! the usual stock for chance. The rate is that of the last second or that of the last ten, whichever is greater: so it
//! rises with a burst at once and is forgotten slowly.

use std::time::{Duration, Instant};

/// The weight of the latest cost in their mean.
const LATEST: f64 = 1.0 / 8.0;

const FAST: f64 = 1.0;
const SLOW: f64 = 10.0;

/// The arrivals at one pool, and what its instances cost.
#[derive(Debug, Default)]
pub struct Spares {
    arrived: u64,
    ticked: Option<Instant>,
    last_arrival: Option<Instant>,
    /// The last tick at which a request was under way; the first one, if there was none.
    busy: Option<Instant>,
    /// Arrivals a second.
    fast: f64,
    slow: f64,
    /// Seconds to make one ready; 0 while unknown.
    cost: f64,
}

impl Spares {
    /// A request asks for an instance.
    pub fn arrived(&mut self) {
        self.arrived += 1;
    }

    /// An instance was made, or reset, in so much time.
    pub fn took(&mut self, time: Duration) {
        let time = time.as_secs_f64();
        self.cost = if self.cost == 0.0 { time } else { self.cost + LATEST * (time - self.cost) };
    }

    /// Takes the arrivals since the last tick into the rates. To be called about once a second.
    pub fn tick(&mut self, now: Instant) {
        let arrived = std::mem::take(&mut self.arrived);
        if arrived > 0 {
            self.last_arrival = Some(now);
        }
        self.busy.get_or_insert(now);
        let Some(before) = self.ticked.replace(now) else { return };
        let passed = now.saturating_duration_since(before).as_secs_f64();
        if passed <= 0.0 {
            self.arrived += arrived;
            return;
        }
        let rate = arrived as f64 / passed;
        let mean = |mean: &mut f64, time: f64| *mean += (1.0 - (-passed / time).exp()) * (rate - *mean);
        mean(&mut self.fast, FAST);
        mean(&mut self.slow, SLOW);
    }

    /// Idle instances that are worth keeping: at least one as long as requests have come within `idle_time`, then none.
    pub fn target(&self, now: Instant, idle_time: Duration) -> u32 {
        let is_active = self.last_arrival.is_some_and(|last| now.saturating_duration_since(last) < idle_time);
        if is_active { stock(self.rate(), self.cost).max(1) } else { 0 }
    }

    /// A request is under way.
    pub fn busy(&mut self, now: Instant) {
        self.busy = Some(now);
    }

    /// For how long no request has come or been under way, as far as ticks tell.
    pub fn quiet_for(&self, now: Instant) -> Duration {
        let since = self.last_arrival.max(self.busy);
        since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// Arrivals a second.
    pub fn rate(&self) -> f64 {
        self.fast.max(self.slow)
    }

    /// Seconds to make an instance ready.
    pub fn cost(&self) -> f64 {
        self.cost
    }
}

/// The spare instances that a pool needs at so many arrivals a second, if making one takes `cost` seconds.
pub fn stock(rate: f64, cost: f64) -> u32 {
    let preparing = (rate * cost).max(0.0);
    (preparing + 2.0 * preparing.sqrt()).ceil().min(f64::from(u32::MAX)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Instant, seconds: f64) -> Instant {
        start + Duration::from_secs_f64(seconds)
    }

    #[test]
    fn cheap_instances_need_few_spares_and_dear_ones_more() {
        assert_eq!(stock(5_000.0, 8e-6), 1);
        assert_eq!(stock(500.0, 2e-3), 3);
        assert_eq!(stock(500.0, 0.1), 65);
        assert_eq!(stock(0.0, 1.0), 0);
    }

    #[test]
    fn the_rate_rises_with_a_burst_and_is_forgotten_slowly() {
        let start = Instant::now();
        let mut spares = Spares::default();
        spares.took(Duration::from_millis(2));
        spares.tick(start);
        for second in 1..=3 {
            (0..500).for_each(|_| spares.arrived());
            spares.tick(after(start, f64::from(second)));
        }
        assert!(spares.rate() > 450.0, "{}", spares.rate());
        assert_eq!(spares.target(after(start, 3.0), Duration::from_secs(60)), 3);
        for second in 4..=8 {
            spares.tick(after(start, f64::from(second)));
        }
        let rate = spares.rate();
        assert!(50.0 < rate && rate < 200.0, "{rate}: that of ten seconds counts now");
    }

    #[test]
    fn one_is_kept_while_the_app_is_in_use_and_none_afterwards() {
        let start = Instant::now();
        let idle_time = Duration::from_secs(60);
        let mut spares = Spares::default();
        spares.tick(start);
        assert_eq!(spares.target(start, idle_time), 0);
        assert_eq!(spares.quiet_for(after(start, 1.0)), Duration::from_secs(1));
        spares.arrived();
        spares.tick(after(start, 1.0));
        assert_eq!(spares.target(after(start, 60.0), idle_time), 1);
        assert_eq!(spares.target(after(start, 61.0), idle_time), 0);
        assert_eq!(spares.quiet_for(after(start, 61.0)), idle_time);
    }

    #[test]
    fn the_cost_is_the_mean_of_the_latest() {
        let mut spares = Spares::default();
        spares.took(Duration::from_millis(8));
        assert_eq!(spares.cost(), 0.008);
        spares.took(Duration::from_millis(16));
        assert!((spares.cost() - 0.009).abs() < 1e-9);
    }
}
