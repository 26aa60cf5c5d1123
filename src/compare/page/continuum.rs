//! The continuum: what each mode answers in a second, against the memory that it takes, as a way from cold to what keeps
//! most.

use std::fmt::Write;

use super::figure::{End, FRAMES, Frame, Told, class, names, short};
use super::scale::Scale;
use crate::compare::Variant;
use crate::compare::format::{MIB, count, significant};
use crate::compare::report::{Kind, Row};
use crate::compare::stats::Spread;

struct Spot<'r> {
    row: &'r Row,
    mode: Variant,
    rate: Spread,
    mib: f64,
}

/// `None` if there are fewer than two modes to draw.
pub fn continuum(rows: &[Row]) -> Option<String> {
    let mut spots = rows.iter().filter_map(spot).collect::<Vec<_>>();
    spots.sort_by_key(|spot| spot.mode);
    if spots.len() < 2 {
        return None;
    }
    let native = rows.iter().find(|row| row.kind == Kind::Native).and_then(|row| row.requests_per_second);
    let told =
        Told { id: "continuum", title: "Requests a second against memory", description: describe(&spots) };
    FRAMES.iter().map(|frame| Some(frame.svg(&told, &draw(frame, &spots, native)?))).collect()
}

fn spot(row: &Row) -> Option<Spot<'_>> {
    let rate = row.requests_per_second?;
    Some(Spot { row, mode: row.kind.mode()?, rate, mib: row.memory?.pss as f64 / MIB })
}

fn describe(spots: &[Spot<'_>]) -> String {
    let one = |spot: &Spot<'_>| {
        format!(
            "{}: {} requests/s with {} MiB",
            spot.row.name,
            count(spot.rate.median),
            significant(spot.mib)
        )
    };
    spots.iter().map(one).collect::<Vec<_>>().join("; ")
}

fn draw(frame: &Frame, spots: &[Spot<'_>], native: Option<Spread>) -> Option<String> {
    let (left, right) = frame.x();
    let (bottom, top) = frame.y();
    let across = Scale::of(spots.iter().map(|spot| spot.mib), left, right)?;
    let rates = spots.iter().flat_map(|spot| [spot.rate.min, spot.rate.max]);
    let up = Scale::of(rates.chain(native.map(|rate| rate.median)), bottom, top)?;
    let ticks = across.ticks(frame.ticks);
    let ticks = ticks.into_iter().map(|tick| (across.at(tick), whole(tick))).collect::<Vec<_>>();
    let mut out = frame.across(&up, "requests/s", whole) + &frame.along(&ticks, "memory in all, MiB");
    let mut ends = Vec::new();
    if let Some(native) = native {
        let y = up.at(native.median);
        let _ = write!(out, "<path class=\"level\" d=\"M{left:.1} {y:.1}H{right:.1}\"/>");
        ends.push(End { class: "native", name: "native".to_owned(), x: right, y });
    }
    let places = spots.iter().map(|spot| (across.at(spot.mib), up.at(spot.rate.median))).collect::<Vec<_>>();
    let _ = write!(out, "<path class=\"way\" d=\"{}\"/>", curve(&places));
    for (spot, (x, y)) in spots.iter().zip(&places) {
        let _ = write!(
            out,
            "<g class=\"{}\"><path class=\"whisker\" d=\"M{x:.1} {:.1}V{:.1}\"/><circle class=\"dot\" cx=\"{x:.1}\" \
             cy=\"{y:.1}\" r=\"6\"/></g>",
            class(spot.row),
            up.at(spot.rate.min),
            up.at(spot.rate.max),
        );
        ends.push(End { class: class(spot.row), name: short(&spot.row.name), x: *x, y: *y });
    }
    Some(out + &names(&ends, 12.0, (top, bottom - 8.0)))
}

/// A round value without figures that say nothing.
fn whole(value: f64) -> String {
    if value.fract() == 0.0 && value < 100.0 { format!("{value}") } else { count(value) }
}

/// A smooth line through the places in their order.
fn curve(places: &[(f64, f64)]) -> String {
    // How far the line leans towards its neighbours: more would make loops of turns.
    const LEAN: f64 = 1.0 / 7.0;
    let at =
        |index: usize| places.get(index.min(places.len().saturating_sub(1))).copied().unwrap_or_default();
    let (x, y) = at(0);
    let mut path = format!("M{x:.1} {y:.1}");
    for index in 1..places.len() {
        let (before, from, to, after) =
            (at(index.saturating_sub(2)), at(index - 1), at(index), at(index + 1));
        let _ = write!(
            path,
            "C{:.1} {:.1} {:.1} {:.1} {:.1} {:.1}",
            from.0 + (to.0 - before.0) * LEAN,
            from.1 + (to.1 - before.1) * LEAN,
            to.0 - (after.0 - from.0) * LEAN,
            to.1 - (after.1 - from.1) * LEAN,
            to.0,
            to.1,
        );
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::report::tests::report;

    #[test]
    fn the_way_goes_through_the_modes_in_the_order_of_the_continuum() {
        let drawn = continuum(&report().servers).unwrap();
        let told = "cold: 12.3 requests/s with 10.0 MiB; pooled: 23,456 requests/s with 10.0 MiB";
        assert_eq!(drawn.matches(told).count(), 2, "{drawn}");
        assert_eq!((drawn.matches("<circle").count(), drawn.matches("class=\"level\"").count()), (4, 2));
        assert!(!drawn.contains("NaN") && !drawn.contains("inf"));
        assert_eq!(continuum(&report().servers[..2]), None);
    }

    #[test]
    fn a_curve_ends_where_its_places_do() {
        assert_eq!(curve(&[(1.0, 2.0)]), "M1.0 2.0");
        let path = curve(&[(0.0, 0.0), (7.0, 14.0), (14.0, 0.0)]);
        assert!(path.starts_with("M0.0 0.0C1.0 2.0 ") && path.ends_with("14.0 0.0"), "{path}");
    }
}
