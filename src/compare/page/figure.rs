//! What all figures have in common: their two sizes, and the axes.

use std::fmt::Write;

use super::scale::{Scale, names_at};
use super::text::Text;
use crate::compare::report::{Kind, Row};

/// The room for a figure. Each is drawn twice, for a page and for a telephone: scaled down its letters would be too small.
#[derive(Debug, Clone, Copy)]
pub struct Frame {
    class: &'static str,
    pub width: f64,
    pub height: f64,
    pub left: f64,
    pub right: f64,
    pub top: f64,
    pub bottom: f64,
    /// Lines across and along.
    pub ticks: usize,
}

pub const FRAMES: [Frame; 2] = [
    Frame {
        class: "wide",
        width: 720.0,
        height: 380.0,
        left: 64.0,
        right: 110.0,
        top: 30.0,
        bottom: 44.0,
        ticks: 7,
    },
    Frame {
        class: "narrow",
        width: 320.0,
        height: 330.0,
        left: 50.0,
        right: 66.0,
        top: 30.0,
        bottom: 42.0,
        ticks: 4,
    },
];

/// What a figure is about, for who does not see it.
pub struct Told<'t> {
    pub id: &'t str,
    pub title: &'t str,
    pub description: String,
}

impl Frame {
    pub fn x(&self) -> (f64, f64) {
        (self.left, self.width - self.right)
    }

    /// Upwards.
    pub fn y(&self) -> (f64, f64) {
        (self.height - self.bottom, self.top)
    }

    pub fn svg(&self, told: &Told<'_>, inside: &str) -> String {
        let Self { class, width, height, .. } = self;
        let Told { id, title, description } = told;
        format!(
            "<svg class=\"{class}\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-labelledby=\"{id}-{class}-t \
             {id}-{class}-d\"><title id=\"{id}-{class}-t\">{}</title><desc id=\"{id}-{class}-d\">{}</desc>{inside}\
             </svg>\n",
            Text(title),
            Text(description),
        )
    }

    /// Lines across, with their values at the left and what they are above.
    pub fn across(&self, scale: &Scale, of: &str, shown: impl Fn(f64) -> String) -> String {
        let (from, to) = self.x();
        let mut out = String::new();
        for tick in scale.ticks(self.ticks) {
            let y = scale.at(tick);
            let _ = write!(
                out,
                "<path class=\"grid\" d=\"M{from:.1} {y:.1}H{to:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\" \
                 text-anchor=\"end\">{}</text>",
                from - 8.0,
                y + 4.5,
                Text(&shown(tick)),
            );
        }
        let _ = write!(out, "<text x=\"0\" y=\"12\">{}</text>", Text(of));
        out
    }

    /// Values below, and what they are.
    pub fn along(&self, ticks: &[(f64, String)], of: &str) -> String {
        let (bottom, top) = self.y();
        let mut out = String::new();
        for (x, shown) in ticks {
            let _ = write!(
                out,
                "<path class=\"grid\" d=\"M{x:.1} {top:.1}V{bottom:.1}\"/><text x=\"{x:.1}\" y=\"{:.1}\" \
                 text-anchor=\"middle\">{}</text>",
                bottom + 17.0,
                Text(shown),
            );
        }
        let middle = (self.x().0 + self.x().1) / 2.0;
        let y = self.height - 6.0;
        let _ =
            write!(out, "<text x=\"{middle:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{}</text>", Text(of));
        out
    }
}

/// Where a line or a dot ends, and whose it is.
pub struct End {
    pub class: &'static str,
    pub name: String,
    pub x: f64,
    pub y: f64,
}

/// Names beside what they are of, so far to the right, and apart from each other between these two heights.
pub fn names(ends: &[End], beside: f64, (top, bottom): (f64, f64)) -> String {
    let places = ends.iter().map(|end| (end.x, end.y)).collect::<Vec<_>>();
    let mut out = String::new();
    for (End { class, name, x, .. }, y) in ends.iter().zip(names_at(&places, top, bottom)) {
        let (x, y) = (x + beside, y + 4.5);
        let _ = write!(
            out,
            "<g class=\"{class}\"><text class=\"name\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text></g>",
            Text(name)
        );
    }
    out
}

/// The class that colours what belongs to a server.
pub fn class(row: &Row) -> &'static str {
    match row.kind {
        Kind::Native => "native",
        Kind::Mode(mode) => mode.as_str(),
        Kind::Other => "other",
    }
}

/// A name short enough to stand in a figure.
pub fn short(name: &str) -> String {
    const MOST: usize = 14;
    match name.chars().count() {
        count if count <= MOST => name.to_owned(),
        _ => name.chars().take(MOST - 1).chain(['…']).collect(),
    }
}
