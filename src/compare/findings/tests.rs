use super::*;
use crate::compare::load::Outcome;
use crate::compare::plan::Schedule;
use crate::compare::report;
use std::time::Duration;

fn slice(round: usize, right: u64, wrong: u64) -> Slice {
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

fn measured(loaded: Vec<Slice>) -> Measured {
    let share = Schedule::of(Duration::from_secs(40), 4).share(Duration::from_micros(50), 32, 1);
    Measured { share, loaded, alone: vec![slice(0, 10, 0)], memory: None }
}

const FIRST: FirstAnswer = FirstAnswer { from_nothing: 5.0, from_cache: Some(2.0) };

#[test]
fn a_row_has_medians_and_the_ratio_to_the_reference_in_the_same_round() {
    let native = measured(vec![slice(0, 1_000, 0), slice(1, 2_000, 0), slice(2, 4_000, 0)]);
    let found = measured(vec![slice(0, 500, 0), slice(2, 1_000, 0)]);
    let row = row("pooled", &found, &native, FIRST);
    assert_eq!(row.requests_per_second, Some(Spread { median: 750.0, min: 500.0, max: 1_000.0 }));
    assert_eq!(row.ratio_to_native, Some(Spread { median: 0.375, min: 0.25, max: 0.5 }));
    assert_eq!(row.cpu_us_per_request, Some(Spread { median: 150.0, min: 100.0, max: 200.0 }));
    assert!(row.p50_us.is_some_and(|p50| (p50 - 375.0).abs() < 1.0));
    assert!(row.alone_p50_us.is_some_and(|p50| (p50 - 5.0).abs() < 0.1));
    assert_eq!((row.alone_p99_us, row.counts.right), (None, 1_510));
    assert_eq!((row.first_answer_from_nothing_ms, row.first_answer_from_cache_ms), (5.0, Some(2.0)));
}

#[test]
fn wrong_answers_are_said_and_are_no_requests() {
    let native = measured(vec![slice(0, 1_000, 0)]);
    let found = measured(vec![slice(0, 100, 900)]);
    let row = row("pooled", &found, &native, FIRST);
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
    let row = row("pooled", &found, &native, FIRST);
    assert_eq!((row.requests_per_second, row.ratio_to_native, row.cpu_us_per_request), (None, None, None));
    assert_eq!(row.p50_us, None);
}

#[test]
fn servers_that_cannot_be_told_apart_are_named() {
    let found = [[90, 50, 70], [40, 60, 50], [30, 30, 30]].map(|rates| {
        measured(rates.iter().enumerate().map(|(round, rate)| slice(round, *rate, 0)).collect())
    });
    let rows = ["a", "b", "c"].map(|name| report::tests::row(name, 50.0, 0.5));
    let told = "a and b can't be told apart by requests/s: a was ahead in 2 of 3 rounds";
    assert_eq!(too_close(&rows, &found), [told]);
}

#[test]
fn noise_is_named() {
    let told =
        "a: between 800 and 1200 requests/s in the rounds: something else was running, or they are too short";
    assert_eq!(noisy(&report::tests::row("a", 1_000.0, 0.2)).as_deref(), Some(told));
    assert_eq!(noisy(&report::tests::row("a", 1_000.0, 0.1)), None);
}

#[test]
fn few_requests_and_fewer_connections_are_named() {
    let mut row = report::tests::row("cold", 10.0, 0.0);
    row.counts.right = 1;
    row.connections = 1;
    row.rounds = 1;
    let told = "cold: 1 request in 1 round with 1 connection, because one takes that long";
    assert_eq!(fewer(&row, 32).as_deref(), Some(told));
    assert_eq!(fewer(&report::tests::row("a", 10.0, 0.0), 32), None);
}

#[test]
fn a_load_that_has_no_time_left_is_named() {
    let mut found = measured(vec![slice(0, 1_000, 0)]);
    assert!(!limited_by_the_load(&found));
    found.loaded[0].outcome.cpu = Duration::from_millis(980);
    assert!(limited_by_the_load(&found));
    found.loaded[0].outcome.threads = 2;
    assert!(!limited_by_the_load(&found));
}
