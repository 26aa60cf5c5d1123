use super::*;
use crate::compare::Variant;
use crate::compare::load::Outcome;
use crate::compare::plan::Schedule;
use std::time::Duration;

pub fn slice(round: usize, right: u64, wrong: u64) -> Slice {
    let mut outcome = Outcome::new();
    for at in 0..right {
        outcome.latencies.record(1_000 * (at + 1)).unwrap();
    }
    outcome.counts = Counts { right, wrong, ..Counts::default() };
    outcome.elapsed = Duration::from_secs(1);
    outcome.cpu = Duration::from_millis(500);
    outcome.threads = 1;
    Slice { round, outcome, cpu: Some(Duration::from_millis(100)) }
}

pub fn measured(loaded: Vec<Slice>) -> Measured {
    let share = Schedule::of(Duration::from_secs(40), 4, false).share(Duration::from_micros(50), 32, 1);
    Measured {
        share,
        loaded,
        paced: Vec::new(),
        rate: None,
        alone: vec![slice(0, 10, 0)],
        memory: None,
        own: None,
    }
}

const FIRST: FirstAnswer = FirstAnswer { from_nothing: Some(5.0), from_cache: Some(2.0), when_up: Some(1.0) };

#[test]
fn a_row_has_medians_and_the_ratio_to_the_reference_in_the_same_round() {
    let native = measured(vec![slice(0, 1_000, 0), slice(1, 2_000, 0), slice(2, 4_000, 0)]);
    let found = measured(vec![slice(0, 500, 0), slice(2, 1_000, 0)]);
    let row = row("pooled", Kind::Mode(Variant::Pooled), &found, &native, FIRST);
    assert_eq!(row.requests_per_second, Some(Spread { median: 750.0, min: 500.0, max: 1_000.0 }));
    assert_eq!(row.ratio_to_native, Some(Spread { median: 0.375, min: 0.25, max: 0.5 }));
    assert_eq!(row.cpu_us_per_request, Some(Spread { median: 150.0, min: 100.0, max: 200.0 }));
    assert!(row.latency.p50_us.is_some_and(|p50| (p50 - 375.0).abs() < 1.0));
    assert!(row.alone_p50_us.is_some_and(|p50| (p50 - 5.0).abs() < 0.1));
    assert_eq!((row.alone_p99_us, row.counts.right), (None, 1_510));
    assert_eq!((row.first_answer_from_nothing_ms, row.first_answer_from_cache_ms), (Some(5.0), Some(2.0)));
}

#[test]
fn wrong_answers_are_said_and_are_no_requests() {
    let native = measured(vec![slice(0, 1_000, 0)]);
    let found = measured(vec![slice(0, 100, 900)]);
    let row = row("pooled", Kind::Mode(Variant::Pooled), &found, &native, FIRST);
    assert_eq!(row.requests_per_second.map(|rate| rate.median), Some(100.0));
    let notes = notes(&[row], &[found], 32);
    assert!(
        notes.contains(&"pooled: 900 answers were not as expected; its figures are of the others".to_owned())
    );
}

#[test]
fn a_server_that_only_fails_has_no_figures() {
    let native = measured(vec![slice(0, 1_000, 0)]);
    let found = measured(vec![slice(0, 0, 0)]);
    let row = row("pooled", Kind::Mode(Variant::Pooled), &found, &native, FIRST);
    assert_eq!((row.requests_per_second, row.ratio_to_native, row.cpu_us_per_request), (None, None, None));
    assert_eq!(row.latency.p50_us, None);
}

#[test]
fn a_fixed_rate_has_figures_of_its_own() {
    let native = measured(vec![slice(0, 1_000, 0)]);
    let mut found = measured(vec![slice(0, 500, 0)]);
    assert!(row("pooled", Kind::Mode(Variant::Pooled), &found, &native, FIRST).at_rate.is_none());
    found.rate = Some(250.0);
    found.paced = vec![slice(0, 250, 0), slice(1, 200, 3)];
    let at = row("pooled", Kind::Mode(Variant::Pooled), &found, &native, FIRST).at_rate.unwrap();
    assert_eq!((at.asked_per_second, at.answered_per_second.unwrap().median), (250.0, 225.0));
    assert_eq!((at.counts.right, at.counts.wrong), (450, 3));
    assert!(at.latency.p50_us.is_some() && !at.latency.distribution.is_empty());
}
