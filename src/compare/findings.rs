//! From what was measured to what is reported: one row for each server, and what to be careful about.

mod notes;

use super::load::Counts;
use super::measure::{Measured, Slice};
use super::report::{AtRate, Kind, Latency, Point, Row};
use super::stats::{Spread, percentile};

pub use notes::{NOISY, notes};

/// A server's times to its first answer, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct FirstAnswer {
    pub from_nothing: Option<f64>,
    pub from_cache: Option<f64>,
    pub when_up: Option<f64>,
}

/// One server's figures, beside those of the reference.
pub fn row(name: &str, kind: Kind, measured: &Measured, native: &Measured, first: FirstAnswer) -> Row {
    let alone = histograms(&measured.alone);
    let load_cpu = measured.loaded.iter().map(|slice| slice.outcome.cpu.as_secs_f64() * 1e6).sum::<f64>();
    let right = measured.loaded.iter().map(|slice| slice.outcome.counts.right).sum::<u64>();
    Row {
        name: name.to_owned(),
        kind,
        connections: measured.share.connections,
        rounds: measured.loaded.len(),
        requests_per_second: Spread::of(answering(&measured.loaded).map(|slice| slice.outcome.rate())),
        ratio_to_native: Spread::of(ratios(measured, native)),
        latency: latency(&measured.loaded),
        at_rate: at_rate(measured),
        alone_p50_us: us(&alone, 0.5),
        alone_p99_us: us(&alone, 0.99),
        cpu_us_per_request: Spread::of(answering(&measured.loaded).filter_map(cpu_per_request)),
        load_cpu_us_per_request: (right > 0).then(|| load_cpu / right as f64),
        memory: measured.memory,
        own: measured.own,
        first_answer_from_nothing_ms: first.from_nothing,
        first_answer_from_cache_ms: first.from_cache,
        first_answer_when_up_ms: first.when_up,
        counts: counts(measured.loaded.iter().chain(&measured.alone)),
    }
}

/// The parts of the requests that a distribution is drawn from.
const PARTS: [f64; 14] =
    [0.001, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975, 0.99, 0.995, 0.999, 0.9995, 0.9999, 0.99999];

fn latency(slices: &[Slice]) -> Latency {
    let rounds = histograms(slices);
    let point = |part: f64| Some(Point { part, us: us(&rounds, part)? });
    Latency {
        p50_us: us(&rounds, 0.5),
        p90_us: us(&rounds, 0.9),
        p99_us: us(&rounds, 0.99),
        p999_us: us(&rounds, 0.999),
        distribution: PARTS.into_iter().filter_map(point).collect(),
    }
}

fn at_rate(measured: &Measured) -> Option<AtRate> {
    let lags = measured.paced.iter().map(|slice| &slice.outcome.lags).collect::<Vec<_>>();
    Some(AtRate {
        asked_per_second: measured.rate?,
        answered_per_second: Spread::of(answering(&measured.paced).map(|slice| slice.outcome.rate())),
        latency: latency(&measured.paced),
        cpu_us_per_request: Spread::of(answering(&measured.paced).filter_map(cpu_per_request)),
        counts: counts(&measured.paced),
        load_late_p99_us: us(&lags, 0.99).unwrap_or_default(),
    })
}

fn us(rounds: &[&hdrhistogram::Histogram<u64>], part: f64) -> Option<f64> {
    percentile(rounds, part).map(|nanoseconds| nanoseconds / 1e3)
}

fn histograms(slices: &[Slice]) -> Vec<&hdrhistogram::Histogram<u64>> {
    slices.iter().map(|slice| &slice.outcome.latencies).collect()
}

/// Slices in which there was a right answer.
fn answering(slices: &[Slice]) -> impl Iterator<Item = &Slice> {
    slices.iter().filter(|slice| slice.outcome.counts.right > 0)
}

fn counts<'a>(slices: impl IntoIterator<Item = &'a Slice>) -> Counts {
    let mut counts = Counts::default();
    slices.into_iter().for_each(|slice| counts.add(&slice.outcome.counts));
    counts
}

/// Requests/s as a part of another server's, in each round that both took part in.
pub fn ratios(measured: &Measured, other: &Measured) -> Vec<f64> {
    let of_round = |round| answering(&other.loaded).find(|slice| slice.round == round);
    answering(&measured.loaded)
        .filter_map(|slice| Some(slice.outcome.rate() / of_round(slice.round)?.outcome.rate()))
        .collect()
}

/// In microseconds. Wrong answers cost time, too, and a server that failed has no cost that means anything.
fn cpu_per_request(slice: &Slice) -> Option<f64> {
    let Counts { right, refused, wrong, .. } = slice.outcome.counts;
    let answers = right + refused + wrong;
    Some(slice.cpu?.as_secs_f64() * 1e6 / answers as f64)
}

#[cfg(test)]
mod tests;
