//! From what was measured to what is reported: one row for each server, and what to be careful about.

use super::load::Counts;
use super::measure::{Measured, Slice};
use super::report::Row;
use super::stats::{Spread, percentile};

/// A server's times to its first answer, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct FirstAnswer {
    pub from_nothing: f64,
    pub from_cache: Option<f64>,
}

/// One server's figures, beside those of the reference.
pub fn row(name: &str, measured: &Measured, native: &Measured, first: FirstAnswer) -> Row {
    let loaded = histograms(&measured.loaded);
    let alone = histograms(&measured.alone);
    let us = |rounds: &[_], part| percentile(rounds, part).map(|nanoseconds| nanoseconds / 1e3);
    let counts = counts(measured);
    let load_cpu = measured.loaded.iter().map(|slice| slice.outcome.cpu.as_secs_f64() * 1e6).sum::<f64>();
    let right = measured.loaded.iter().map(|slice| slice.outcome.counts.right).sum::<u64>();
    Row {
        name: name.to_owned(),
        connections: measured.share.connections,
        rounds: measured.loaded.len(),
        requests_per_second: Spread::of(answering(&measured.loaded).map(|slice| slice.outcome.rate())),
        ratio_to_native: Spread::of(ratios(measured, native)),
        p50_us: us(&loaded, 0.5),
        p99_us: us(&loaded, 0.99),
        p999_us: us(&loaded, 0.999),
        alone_p50_us: us(&alone, 0.5),
        alone_p99_us: us(&alone, 0.99),
        cpu_us_per_request: Spread::of(answering(&measured.loaded).filter_map(cpu_per_request)),
        load_cpu_us_per_request: (right > 0).then(|| load_cpu / right as f64),
        memory: measured.memory,
        first_answer_from_nothing_ms: first.from_nothing,
        first_answer_from_cache_ms: first.from_cache,
        counts,
    }
}

/// What one must know to read the rows rightly.
pub fn notes(rows: &[Row], measured: &[Measured], connections: usize) -> Vec<String> {
    let mut notes = Vec::new();
    for row in rows {
        notes.extend(failures(row));
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

fn histograms(slices: &[Slice]) -> Vec<&hdrhistogram::Histogram<u64>> {
    slices.iter().map(|slice| &slice.outcome.latencies).collect()
}

/// Slices in which there was a right answer.
fn answering(slices: &[Slice]) -> impl Iterator<Item = &Slice> {
    slices.iter().filter(|slice| slice.outcome.counts.right > 0)
}

fn counts(measured: &Measured) -> Counts {
    let mut counts = Counts::default();
    for slice in measured.loaded.iter().chain(&measured.alone) {
        counts.add(&slice.outcome.counts);
    }
    counts
}

/// Requests/s as a part of another server's, in each round that both took part in.
fn ratios(measured: &Measured, other: &Measured) -> Vec<f64> {
    let of_round = |round| answering(&other.loaded).find(|slice| slice.round == round);
    answering(&measured.loaded)
        .filter_map(|slice| Some(slice.outcome.rate() / of_round(slice.round)?.outcome.rate()))
        .collect()
}

/// In microseconds. Wrong answers cost time, too, and a server that failed has no cost that means anything.
fn cpu_per_request(slice: &Slice) -> Option<f64> {
    let answers = slice.outcome.counts.right + slice.outcome.counts.wrong;
    Some(slice.cpu?.as_secs_f64() * 1e6 / answers as f64)
}

fn failures(row: &Row) -> Option<String> {
    let Counts { wrong, errors, unfinished, .. } = row.counts;
    let parts = [
        (wrong, "answers were not as expected"),
        (errors, "requests or connections failed"),
        (unfinished, "requests had no answer when the time was over"),
    ];
    let parts = parts.iter().filter(|(count, _)| *count > 0);
    let parts = parts.map(|(count, what)| format!("{count} {what}")).collect::<Vec<_>>();
    (!parts.is_empty()).then(|| format!("{}: {}; its figures are of the others", row.name, parts.join(", ")))
}

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
const NOISY: f64 = 0.15;

#[cfg(test)]
mod tests;
