//! What to be careful about.

use super::ratios;
use crate::compare::format::{count, time};
use crate::compare::load::Counts;
use crate::compare::measure::Measured;
use crate::compare::report::{AtRate, Row};

/// What one must know to read the rows rightly.
pub fn notes(rows: &[Row], measured: &[Measured], connections: usize) -> Vec<String> {
    let mut notes = Vec::new();
    for row in rows {
        notes.extend(failures(&row.name, &row.counts));
        notes.extend(row.at_rate.iter().flat_map(|at| at_a_rate(&row.name, at)));
    }
    for (row, measured) in rows.iter().zip(measured) {
        notes.extend(fewer(row, connections));
        if limited_by_the_load(measured) {
            notes.push(format!(
                "{}: the load had no time left, so the server may be faster than shown",
                row.name
            ));
        }
    }
    notes.extend(too_close(rows, measured));
    notes.extend(rows.iter().filter_map(noisy));
    notes
}

fn failures(name: &str, counts: &Counts) -> Option<String> {
    let Counts { refused, wrong, errors, unfinished, .. } = *counts;
    let parts = [
        (refused, "requests were turned away (503), since it could not keep up"),
        (wrong, "answers were not as expected"),
        (errors, "requests or connections failed"),
        (unfinished, "requests had no answer when the time was over"),
    ];
    let parts = parts.iter().filter(|(count, _)| *count > 0);
    let parts = parts.map(|(count, what)| format!("{count} {what}")).collect::<Vec<_>>();
    (!parts.is_empty()).then(|| format!("{name}: {}; its figures are of the others", parts.join(", ")))
}

/// What went wrong at a fixed rate.
fn at_a_rate(name: &str, at: &AtRate) -> Vec<String> {
    let mut notes = Vec::new();
    let asked = format!("{name}, asked {} times a second", count(at.asked_per_second));
    let Counts { refused, wrong, errors, unfinished, unsent, .. } = at.counts;
    if refused > 0 {
        notes.push(format!("{asked}: {refused} requests were turned away (503)"));
    }
    if wrong + errors > 0 {
        notes.push(format!("{asked}: {wrong} answers were not as expected, {errors} requests failed"));
    }
    if unfinished + unsent > 0 {
        notes.push(format!(
            "{asked}: {} requests had no answer in the end, {unsent} of them were not even sent; they count with the \
             time they had waited",
            unfinished + unsent
        ));
    }
    let median = at.latency.p50_us.unwrap_or(f64::MAX);
    if at.load_late_p99_us > LATE_US.max(median / 2.0) {
        // Then nothing can be said of the server.
        let late = time(at.load_late_p99_us);
        notes
            .push(format!("{asked}: the load was up to {late} late itself (p99), which is in the latencies"));
    } else if at.answered_per_second.is_some_and(|rate| rate.median < KEPT_UP * at.asked_per_second) {
        notes.push(format!("{asked}: it did not keep up, so its latencies grow with the length of a round"));
    }
    notes
}

/// A server that answers less than this part of what is asked has not kept up.
const KEPT_UP: f64 = 0.95;
/// A delay of the load in microseconds that is worth a word, if it is more than half of the median latency.
const LATE_US: f64 = 100.0;

/// A server whose requests take too long for all rounds and connections.
fn fewer(row: &Row, connections: usize) -> Option<String> {
    let few = row.counts.right < FEW;
    if row.connections == connections && !few {
        return None;
    }
    let Row { name, rounds, connections, counts, .. } = row;
    let plural = |count| if count == 1 { "" } else { "s" };
    Some(format!(
        "{name}: {} request{} in {rounds} round{} with {connections} connection{}, because one takes that long",
        counts.right,
        plural(counts.right as usize),
        plural(*rounds),
        plural(*connections),
    ))
}

/// Fewer requests than this are worth a word.
const FEW: u64 = 1_000;

/// The load used nearly all the time that its threads had.
fn limited_by_the_load(measured: &Measured) -> bool {
    let busy = measured.loaded.iter().map(|slice| slice.outcome.cpu.as_secs_f64()).sum::<f64>();
    let had = measured
        .loaded
        .iter()
        .map(|slice| slice.outcome.elapsed.as_secs_f64() * slice.outcome.threads as f64);
    let had = had.sum::<f64>();
    had > 0.0 && busy / had > 0.95
}

/// Pairs of servers of which now the one and now the other was faster.
fn too_close(rows: &[Row], measured: &[Measured]) -> Vec<String> {
    let all = rows.iter().zip(measured).collect::<Vec<_>>();
    let pairs =
        all.iter().enumerate().flat_map(|(at, one)| all.iter().skip(at + 1).map(move |other| (one, other)));
    let mut notes = Vec::new();
    for ((one, a), (other, b)) in pairs {
        let ratios = ratios(a, b);
        let faster = ratios.iter().filter(|ratio| **ratio > 1.0).count();
        if faster.min(ratios.len() - faster) > 0 {
            let (one, other, all) = (&one.name, &other.name, ratios.len());
            notes.push(format!(
                "{one} and {other} can't be told apart by requests/s: {one} was ahead in {faster} of {all} rounds"
            ));
        }
    }
    notes
}

fn noisy(row: &Row) -> Option<String> {
    let rate = row.requests_per_second.filter(|rate| rate.noise() > NOISY)?;
    Some(format!(
        "{}: between {:.0} and {:.0} requests/s in the rounds: something else was running, or they are too short",
        row.name, rate.min, rate.max,
    ))
}

/// Noise that is worth a word.
pub const NOISY: f64 = 0.15;

#[cfg(test)]
mod tests;
