//! The tables of the page: the same figures as in the report for a terminal, by subject, so that each fits a telephone.

use super::figure::class;
use super::text::{Text, typeset};
use crate::compare::format::{MIB, count, noise, significant, time};
use crate::compare::report::Row;

/// A heading, and the cell for a server; no cell is no figure.
type Column<'c> = (&'c str, fn(&Row) -> Option<String>);

const SPEED: [Column<'_>; 4] = [
    ("requests/s", |row| Some(count(row.requests_per_second?.median))),
    ("over the rounds", |row| Some(noise(row.requests_per_second?.noise()))),
    ("native = 1", |row| Some(significant(row.ratio_to_native?.median))),
    ("median alone", |row| Some(time(row.alone_p50_us?))),
];

const LATENCY: [Column<'_>; 4] = [
    ("half", |row| Some(time(row.latency.p50_us?))),
    ("90 %", |row| Some(time(row.latency.p90_us?))),
    ("99 %", |row| Some(time(row.latency.p99_us?))),
    ("99.9 %", |row| Some(time(row.latency.p999_us?))),
];

const PACED: [Column<'_>; 5] = [
    ("asked a second", |row| Some(count(row.at_rate.as_ref()?.asked_per_second))),
    ("answered a second", |row| Some(count(row.at_rate.as_ref()?.answered_per_second?.median))),
    ("half", |row| Some(time(row.at_rate.as_ref()?.latency.p50_us?))),
    ("99 %", |row| Some(time(row.at_rate.as_ref()?.latency.p99_us?))),
    ("99.9 %", |row| Some(time(row.at_rate.as_ref()?.latency.p999_us?))),
];

const COST: [Column<'_>; 4] = [
    ("in all", |row| Some(time(row.cpu_us_per_request?.median))),
    ("in the guest", |row| Some(time(row.own?.guest_us_per_request?))),
    ("for instances", |row| Some(time(row.own?.upkeep_us_per_request?))),
    ("instances made", |row| Some(significant(row.made_per_request()?))),
];

const MEMORY: [Column<'_>; 4] = [
    ("in all, MiB", |row| Some(format!("{:.1}", row.memory?.pss as f64 / MIB))),
    ("each instance", |row| row.instance_size()),
    ("instances left", |row| Some(row.own?.instances.to_string())),
    ("time to make one", |row| Some(time(row.own?.make_us?))),
];

const FIRST: [Column<'_>; 3] = [
    ("from nothing", |row| Some(time(row.first_answer_from_nothing_ms? * 1e3))),
    ("code cached", |row| Some(time(row.first_answer_from_cache_ms? * 1e3))),
    ("server up", |row| Some(time(row.first_answer_when_up_ms? * 1e3))),
];

pub fn speed(rows: &[Row]) -> String {
    table(
        "Requests answered in a second, as fast as each server could, and the median time of one that is alone",
        rows,
        &SPEED,
    )
}

pub fn latency(rows: &[Row]) -> String {
    table("Time within which this part of the requests was answered", rows, &LATENCY)
}

pub fn at_rate(rows: &[Row]) -> String {
    table("At a fixed rate, from the time at which each request was due", rows, &PACED)
}

pub fn cost(rows: &[Row]) -> String {
    table("For one request: processor time, and instances that were made", rows, &COST)
}

pub fn memory(rows: &[Row]) -> String {
    table("Memory after the rounds, and what an instance takes", rows, &MEMORY)
}

pub fn first(rows: &[Row]) -> String {
    table("Time to the first answer", rows, &FIRST)
}

fn table(caption: &str, rows: &[Row], columns: &[Column<'_>]) -> String {
    let heading = |(heading, _): &Column<'_>| format!("<th scope=\"col\">{}</th>", Text(heading));
    let headings = columns.iter().map(heading).collect::<String>();
    let lines = rows.iter().map(|row| {
        let cells = columns.iter().map(|(_, read)| cell(read(row))).collect::<String>();
        let (class, name) = (class(row), Text(&row.name));
        format!("<tr class=\"{class}\"><th scope=\"row\">{name}</th>{cells}</tr>\n")
    });
    format!(
        "<div class=\"scroll\" role=\"region\" aria-label=\"{caption}\" tabindex=\"0\"><table><caption>{caption}</caption>\
         <thead><tr><th scope=\"col\">server</th>{headings}</tr></thead>\n<tbody>\n{}</tbody></table></div>\n",
        lines.collect::<String>(),
        caption = Text(caption),
    )
}

fn cell(shown: Option<String>) -> String {
    match shown {
        Some(shown) => format!("<td>{}</td>", Text(&typeset(&shown))),
        None => {
            "<td class=\"none\"><span aria-hidden=\"true\">–</span><span class=\"sr\">no figure</span></td>"
                .to_owned()
        }
    }
}
