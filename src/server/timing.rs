//! Where a request's time went, as the header `server-timing` for a browser's developer tools (W3C Server Timing).

use std::fmt::Write;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::Mode;
use crate::instance::Factory;
use crate::pool::{Lease, Pool};

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Takes the times if they are wanted (`debug_headers`). A request that an app redirects within the host has those of
/// its last part.
#[derive(Debug)]
pub struct Timing(Option<Marks>);

#[derive(Debug, Clone, Copy)]
struct Marks {
    began: Instant,
    /// When it asked for an instance.
    asked: Option<Instant>,
    leased: Option<Leased>,
    /// How long the guest took, up to the answer's begin.
    guest: Option<Duration>,
}

#[derive(Debug, Clone, Copy)]
struct Leased {
    at: Instant,
    made_in: Option<Duration>,
    mode: Mode,
}

impl Timing {
    pub fn new(is_wanted: bool) -> Timing {
        let marks = || Marks { began: Instant::now(), asked: None, leased: None, guest: None };
        Timing(is_wanted.then(marks))
    }

    /// The request asks for an instance.
    pub fn asks(&mut self) {
        if let Some(marks) = &mut self.0 {
            *marks = Marks { asked: Some(Instant::now()), leased: None, guest: None, ..*marks };
        }
    }

    /// It has one.
    pub fn has(&mut self, lease: &Lease<Factory>, mode: Mode) {
        if let Some(marks) = &mut self.0 {
            marks.leased = Some(Leased { at: Instant::now(), made_in: lease.made_in(), mode });
        }
    }

    /// The guest has answered, or failed.
    pub fn answered(&mut self) {
        if let Some(marks) = &mut self.0 {
            marks.guest = marks.leased.map(|leased| leased.at.elapsed());
        }
    }

    /// Adds the header to an answer's. `pool`: where the instance was from, if the app was asked.
    pub fn tell(&self, headers: &mut HeaderMap, pool: Option<&Pool<Factory>>) {
        let Some(marks) = &self.0 else { return };
        let reset = pool.filter(|_| marks.leased.is_some_and(|leased| leased.mode == Mode::Pooled));
        let reset = reset.map(|pool| Duration::from_micros(pool.stats().cost_micros));
        if let Ok(value) = HeaderValue::from_str(&marks.text(reset, marks.began.elapsed())) {
            // The app may have one of its own: browsers show both.
            headers.append(SERVER_TIMING, value);
        }
    }
}

impl Marks {
    /// `reset`: what making an instance ready costs lately, behind the answer.
    fn text(&self, reset: Option<Duration>, total: Duration) -> String {
        let mut text = String::new();
        let mut add = |name: &str, took: Duration| {
            let _ = write!(text, "{name};dur={:.3}, ", took.as_secs_f64() * 1e3);
        };
        if let Some(asked) = self.asked {
            let made_in = self.leased.and_then(|leased| leased.made_in).unwrap_or_default();
            let until = self.leased.map_or_else(|| asked.elapsed(), |leased| leased.at - asked);
            add("queue", until.saturating_sub(made_in));
            match self.leased {
                Some(Leased { made_in: Some(made_in), mode: Mode::Cold, .. }) => {
                    add("lease;desc=\"cold\"", made_in)
                }
                Some(Leased { made_in: Some(made_in), .. }) => add("lease;desc=\"made\"", made_in),
                Some(_) => add("lease;desc=\"pool\"", Duration::ZERO),
                None => {}
            }
        }
        if let Some(guest) = self.guest {
            add("guest", guest);
        }
        if let Some(reset) = reset {
            add("reset;desc=\"lately\"", reset);
        }
        let _ = write!(text, "total;dur={:.3}", total.as_secs_f64() * 1e3);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn the_time_in_the_queue_is_without_that_of_making_the_instance() {
        let began = Instant::now();
        let mut marks = Marks { began, asked: None, leased: None, guest: None };
        assert_eq!(marks.text(None, millis(1)), "total;dur=1.000");
        marks.asked = Some(began);
        let at = began + millis(5);
        marks.leased = Some(Leased { at, made_in: Some(millis(3)), mode: Mode::Cached });
        marks.guest = Some(Duration::from_micros(40));
        assert_eq!(
            marks.text(None, millis(6)),
            "queue;dur=2.000, lease;desc=\"made\";dur=3.000, guest;dur=0.040, total;dur=6.000"
        );
        marks.leased = Some(Leased { at, made_in: None, mode: Mode::Pooled });
        assert_eq!(
            marks.text(Some(Duration::from_micros(25)), millis(6)),
            "queue;dur=5.000, lease;desc=\"pool\";dur=0.000, guest;dur=0.040, \
             reset;desc=\"lately\";dur=0.025, total;dur=6.000"
        );
        marks.leased = Some(Leased { at, made_in: Some(millis(5)), mode: Mode::Cold });
        assert!(marks.text(None, millis(6)).starts_with("queue;dur=0.000, lease;desc=\"cold\";dur=5.000, "));
    }
}
