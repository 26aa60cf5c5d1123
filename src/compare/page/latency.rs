//! The distribution of latencies: how many of the requests were answered within what time. Towards the right each step is
//! ten times as rare.

use std::fmt::Write;

use super::figure::{End, FRAMES, Frame, Told, class, names, short};
use super::scale::Scale;
use super::text::typeset;
use crate::compare::format::time;
use crate::compare::report::{Latency, Point, Row};

/// Parts of the requests that are named below.
const NAMED: [(f64, &str); 6] =
    [(0.0, "0"), (0.5, "50"), (0.9, "90"), (0.99, "99"), (0.999, "99.9"), (0.9999, "99.99")];

/// `None` if there is nothing to draw.
pub fn latencies<'r>(
    id: &str,
    title: &str,
    rows: impl Iterator<Item = (&'r Row, &'r Latency)>,
) -> Option<String> {
    let rows = rows.filter(|(_, latency)| latency.distribution.len() > 1).collect::<Vec<_>>();
    let told = Told { id, title, description: describe(&rows) };
    FRAMES.iter().map(|frame| Some(frame.svg(&told, &draw(frame, &rows)?))).collect()
}

fn describe(rows: &[(&Row, &Latency)]) -> String {
    let one = |(row, latency): &(&Row, &Latency)| {
        let last = latency.distribution.last()?;
        let median = time(latency.p50_us?);
        Some(format!("{}: half within {median}, {} % within {}", row.name, last.part * 100.0, time(last.us)))
    };
    rows.iter().filter_map(one).collect::<Vec<_>>().join("; ")
}

fn draw(frame: &Frame, rows: &[(&Row, &Latency)]) -> Option<String> {
    let (left, right) = frame.x();
    let (bottom, top) = frame.y();
    let points = || rows.iter().flat_map(|(_, latency)| &latency.distribution);
    let rarest = points().map(|point| rarity(point.part)).fold(0.0, f64::max);
    let up = Scale::of(points().map(|point| point.us), bottom, top)?;
    let x = |part: f64| left + rarity(part) / rarest * (right - left);
    let named = NAMED.iter().filter(|(part, _)| rarity(*part) <= rarest * 1.001);
    let named = named.map(|(part, shown)| (x(*part), (*shown).to_owned())).collect::<Vec<_>>();
    let mut out = frame.across(&up, "latency", |us| typeset(&tick(us)));
    out += &frame.along(&named, "% of the requests within that time");
    let mut ends = Vec::new();
    for (row, latency) in rows {
        let place = |point: &Point| (x(point.part), up.at(point.us));
        let path = latency.distribution.iter().map(place).enumerate().map(|(at, (x, y))| {
            let step = if at == 0 { 'M' } else { 'L' };
            format!("{step}{x:.1} {y:.1}")
        });
        let path = path.collect::<String>();
        let Some((x, y)) = latency.distribution.last().map(place) else { continue };
        let _ = write!(
            out,
            "<g class=\"{}\"><path class=\"line\" d=\"{path}\"/><circle class=\"dot\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"/></g>",
            class(row)
        );
        ends.push(End { class: class(row), name: short(&row.name), x, y });
    }
    Some(out + &names(&ends, 9.0, (top, bottom - 4.0)))
}

/// 1 is one request of ten, 2 one of a hundred.
fn rarity(part: f64) -> f64 {
    -(1.0 - part).max(1e-9).log10()
}

/// A round time without figures that say nothing.
fn tick(us: f64) -> String {
    let (value, unit) = match us {
        us if us < 999.5 => (us, "us"),
        us if us < 999_500.0 => (us / 1e3, "ms"),
        us => (us / 1e6, "s"),
    };
    format!("{} {unit}", (value * 100.0).round() / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::report::tests::report;

    #[test]
    fn each_server_has_a_line_with_its_name() {
        let report = report();
        let drawn = latencies("l", "Latency", report.servers.iter().map(|row| (row, &row.latency))).unwrap();
        assert_eq!(drawn.matches("class=\"line\"").count(), 2 * report.servers.len());
        assert!(drawn.contains("pooled: half within 1.36 ms, 99 % within 2.73 ms"), "{drawn}");
        assert!(!drawn.contains("NaN") && !drawn.contains("inf"));
        assert_eq!(latencies("l", "Latency", std::iter::empty()), None);
    }

    #[test]
    fn ticks_are_short() {
        assert_eq!([100.0, 1_500.0, 3e6].map(tick), ["100 us", "1.5 ms", "3 s"]);
    }
}
