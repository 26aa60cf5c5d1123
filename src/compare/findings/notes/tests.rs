use std::time::Duration;

use super::*;
use crate::compare::findings::tests::{measured, slice};
use crate::compare::report;
use crate::compare::report::Latency;
use crate::compare::stats::Spread;

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

fn at(answered: f64, counts: Counts) -> AtRate {
    AtRate {
        asked_per_second: 1_000.0,
        answered_per_second: Spread::of([answered]),
        latency: Latency { p50_us: Some(80.0), ..Latency::default() },
        cpu_us_per_request: None,
        counts,
        load_late_p99_us: 20.0,
    }
}

#[test]
fn an_overload_and_a_late_load_are_named() {
    assert!(at_a_rate("a", &at(1_000.0, Counts::default())).is_empty());
    let overload = Counts { unfinished: 2, unsent: 40, refused: 3, wrong: 1, ..Counts::default() };
    let notes = at_a_rate("a", &at(500.0, overload)).join("\n");
    assert!(notes.contains("a, asked 1,000 times a second: 1 answers were not as expected"), "{notes}");
    assert!(notes.contains("3 requests were turned away (503)"), "{notes}");
    assert!(notes.contains("42 requests had no answer in the end, 40 of them were not even sent"), "{notes}");
    assert!(notes.contains("it did not keep up"), "{notes}");
    let late = AtRate { load_late_p99_us: 3_000.0, ..at(1_000.0, Counts::default()) };
    assert!(at_a_rate("a", &late)[0].contains("the load was up to 3.00 ms late itself"));
}
