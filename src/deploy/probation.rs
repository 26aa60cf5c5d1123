//! Probation: whether a new release fails far more of its requests than the one before. No clock, no counters.
//!
//! Three things must hold, so that neither chance nor an app that always failed undoes a deploy:
//!
//! - at least [`LEAST_ENDED`] requests have ended and [`LEAST_FAILED`] of them failed: one bad request on a quiet app
//!   says nothing;
//! - it is no chance: the share that fails *at least*, by what was seen of the new release, is above the share that
//!   failed *at most* by what was seen of the one before (the ends of Wilson's score intervals);
//! - it is far more, and not only surely more: at least twice what failed before, and another 5 % of the requests.
//!
//! Of a release before that was asked little or not at all it is assumed that one request in four failed, by as much as
//! four requests say: enough to undo a release that fails always, too little for one that fails now and then.

use crate::metrics::Counted;

/// Requests that must have ended before anything is said.
const LEAST_ENDED: u64 = 20;
/// Those of them that must have failed.
const LEAST_FAILED: u64 = 10;
/// What is assumed of the release before, beside what was seen: requests, and those that failed.
const ASSUMED: Counted = Counted { ended: 4, failed: 1 };
/// Standard deviations: 99.5 % for the new release, which is judged again and again, 97.5 % for the one before.
const SURE_NOW: f64 = 2.58;
const SURE_BEFORE: f64 = 1.96;
const TIMES: f64 = 2.0;
const BEYOND: f64 = 0.05;

/// True if the new release is to be undone.
pub fn is_far_worse(now: Counted, before: Counted) -> bool {
    if now.ended < LEAST_ENDED || now.failed < LEAST_FAILED {
        return false;
    }
    let before = Counted {
        ended: before.ended.saturating_add(ASSUMED.ended),
        failed: before.failed.saturating_add(ASSUMED.failed),
    };
    let (least, _) = interval(now, SURE_NOW);
    let (_, most) = interval(before, SURE_BEFORE);
    least > most && least > TIMES * share(before) + BEYOND
}

/// The worse of what was seen of a release lately and in all: if it has begun to fail just now, so will the next one, and
/// nobody is helped by undoing it.
pub fn worse(lately: Counted, in_all: Counted) -> Counted {
    if share(lately) > share(in_all) { lately } else { in_all }
}

fn share(counted: Counted) -> f64 {
    if counted.ended == 0 { 0.0 } else { counted.failed as f64 / counted.ended as f64 }
}

/// Wilson's score interval of a share.
fn interval(counted: Counted, deviations: f64) -> (f64, f64) {
    let (n, p, square) = (counted.ended as f64, share(counted), deviations * deviations);
    let middle = p + square / (2.0 * n);
    let reach = deviations * (p * (1.0 - p) / n + square / (4.0 * n * n)).sqrt();
    let whole = 1.0 + square / n;
    ((middle - reach) / whole, (middle + reach) / whole)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counted(failed: u64, ended: u64) -> Counted {
        Counted { ended, failed }
    }

    #[test]
    fn a_release_that_fails_far_more_is_told_from_one_that_does_not() {
        for (now, before, worse) in [
            ((20, 20), (0, 1000), true),
            ((10, 20), (0, 1000), true),
            ((10, 20), (10, 1000), true),
            ((30, 100), (50, 1000), true),
            ((100, 1000), (1, 1000), true),
            // The one before was hardly asked, or not at all.
            ((20, 20), (0, 0), true),
            ((10, 20), (0, 0), false),
            ((100, 1000), (0, 0), false),
            // A few requests.
            ((1, 1), (0, 1_000_000), false),
            ((9, 1000), (0, 1_000_000), false),
            ((19, 19), (0, 1000), false),
            // It always failed, or as much.
            ((1000, 1000), (20, 20), false),
            ((1000, 1000), (5, 5), false),
            ((10, 20), (500, 1000), false),
            ((11, 100), (10, 100), false),
            // Surely more, but not far more.
            ((1_500, 100_000), (1_000, 100_000), false),
            ((3_000, 100_000), (100, 100_000), false),
        ] {
            let is_worse = is_far_worse(counted(now.0, now.1), counted(before.0, before.1));
            assert_eq!(is_worse, worse, "{now:?} after {before:?}");
        }
    }

    #[test]
    fn who_has_begun_to_fail_just_now_is_measured_by_that() {
        let before = worse(counted(50, 60), counted(50, 1_000_000));
        assert!(!is_far_worse(counted(100, 100), before));
        assert_eq!(worse(counted(0, 0), counted(0, 5)), counted(0, 5));
    }

    #[test]
    fn by_chance_alone_hardly_any_release_is_undone() {
        // Both fail one request in ten, and the new one is judged after each request.
        let (mut undone, mut random) = (0, fastrand::Rng::with_seed(1));
        for _ in 0..2_000 {
            let failed = (0..500).filter(|_| random.f64() < 0.1).count() as u64;
            let (before, mut now) = (counted(failed, 500), Counted::default());
            let fails = (0..1_000).any(|_| {
                now.ended += 1;
                now.failed += u64::from(random.f64() < 0.1);
                is_far_worse(now, before)
            });
            undone += u32::from(fails);
        }
        assert!(undone <= 20, "{undone} of 2000");
    }

    proptest! {
        #[test]
        fn one_more_failure_never_speaks_for_a_release_and_never_against_the_next(
            failed in 0u64..2_000, good in 0u64..2_000, failed_before in 0u64..2_000, good_before in 0u64..2_000,
        ) {
            let now = counted(failed, failed + good);
            let before = counted(failed_before, failed_before + good_before);
            if is_far_worse(now, before) && good > 0 {
                prop_assert!(is_far_worse(counted(failed + 1, failed + good), before));
            }
            if !is_far_worse(now, before) && good_before > 0 {
                let worse_before = counted(failed_before + 1, failed_before + good_before);
                prop_assert!(!is_far_worse(now, worse_before));
            }
        }
    }
}
