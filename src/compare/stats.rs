//! Figures over the rounds.

use hdrhistogram::Histogram;
use serde::Serialize;

use super::load::histogram;

/// What was seen over the rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// `None` if there is nothing, or something that is no number.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values = values.into_iter().collect::<Vec<_>>();
        if values.iter().any(|value| !value.is_finite()) {
            return None;
        }
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let upper = *values.get(middle)?;
        let lower = if values.len() % 2 == 0 { *values.get(middle - 1)? } else { upper };
        Some(Self { median: (lower + upper) / 2.0, min, max })
    }

    /// Half of the range as a part of the median: 0.02 is "within 2 %".
    pub fn noise(&self) -> f64 {
        if self.median > 0.0 { (self.max - self.min) / 2.0 / self.median } else { 0.0 }
    }
}

/// The latency in nanoseconds that this part of the requests stayed within: the median of the rounds if each has
/// enough requests to tell, or else that of all rounds together. `None` if even they have too few.
pub fn percentile(rounds: &[&Histogram<u64>], part: f64) -> Option<f64> {
    let needed = samples_for(part);
    let at = |histogram: &Histogram<u64>| histogram.value_at_quantile(part) as f64;
    if !rounds.is_empty() && rounds.iter().all(|round| round.len() >= needed) {
        return Some(Spread::of(rounds.iter().map(|round| at(round)))?.median);
    }
    let mut all = histogram();
    for round in rounds {
        all.add(*round).ok()?;
    }
    (all.len() >= needed).then(|| at(&all))
}

/// Requests that are needed so that one of them is beyond this part: 1000 for 0.999.
fn samples_for(part: f64) -> u64 {
    (1.0 / (1.0 - part)).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(values: impl IntoIterator<Item = u64>) -> Histogram<u64> {
        let mut filled = histogram();
        for value in values {
            filled.record(value).unwrap();
        }
        filled
    }

    fn near(value: Option<f64>, wanted: f64) -> bool {
        value.is_some_and(|value| (value - wanted).abs() <= wanted * 0.002)
    }

    #[test]
    fn the_median_is_the_middle_or_between_the_two_middle_ones() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 9.0]), Some(Spread { median: 3.0, min: 1.0, max: 9.0 }));
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([1.0, f64::NAN]), None);
    }

    #[test]
    fn noise_is_half_of_the_range() {
        let spread = Spread { median: 100.0, min: 97.0, max: 101.0 };
        assert!((spread.noise() - 0.02).abs() < 1e-9);
        assert_eq!(Spread { median: 0.0, min: 0.0, max: 0.0 }.noise(), 0.0);
    }

    #[test]
    fn a_percentile_is_the_median_of_the_rounds() {
        let rounds = [filled(1..=1_000), filled(2_001..=3_000), filled(1_001..=2_000)];
        let rounds = rounds.iter().collect::<Vec<_>>();
        assert!(near(percentile(&rounds, 0.5), 1_500.0));
        assert!(near(percentile(&rounds, 0.99), 1_990.0));
        assert!(near(percentile(&rounds, 0.999), 1_999.0));
    }

    #[test]
    fn a_percentile_needs_enough_requests() {
        let few = filled(1..=999);
        assert!(near(percentile(&[&few], 0.99), 990.0));
        assert_eq!(percentile(&[&few], 0.999), None);
        let other = filled([1_000_000]);
        assert!(near(percentile(&[&few, &other], 0.999), 999.0), "together they are enough");
        assert_eq!(percentile(&[], 0.5), None);
        assert_eq!(percentile(&[&histogram()], 0.5), None);
    }
}
