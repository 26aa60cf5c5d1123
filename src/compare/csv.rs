//! The figures as comma-separated values: a line for each server, units in the headings, nothing where there is no
//! figure.

use super::report::{Kind, Report, Row};
use super::stats::Spread;

type Read = fn(&Row) -> Option<f64>;

const COLUMNS: [(&str, Read); 39] = [
    ("connections", |row| Some(row.connections as f64)),
    ("rounds", |row| Some(row.rounds as f64)),
    ("requests_per_second", |row| median(row.requests_per_second)),
    ("requests_per_second_min", |row| Some(row.requests_per_second?.min)),
    ("requests_per_second_max", |row| Some(row.requests_per_second?.max)),
    ("ratio_to_native", |row| median(row.ratio_to_native)),
    ("p50_us", |row| row.latency.p50_us),
    ("p90_us", |row| row.latency.p90_us),
    ("p99_us", |row| row.latency.p99_us),
    ("p999_us", |row| row.latency.p999_us),
    ("alone_p50_us", |row| row.alone_p50_us),
    ("alone_p99_us", |row| row.alone_p99_us),
    ("rate_asked_per_second", |row| Some(row.at_rate.as_ref()?.asked_per_second)),
    ("rate_answered_per_second", |row| median(row.at_rate.as_ref()?.answered_per_second)),
    ("rate_p50_us", |row| row.at_rate.as_ref()?.latency.p50_us),
    ("rate_p90_us", |row| row.at_rate.as_ref()?.latency.p90_us),
    ("rate_p99_us", |row| row.at_rate.as_ref()?.latency.p99_us),
    ("rate_p999_us", |row| row.at_rate.as_ref()?.latency.p999_us),
    ("rate_cpu_us_per_request", |row| median(row.at_rate.as_ref()?.cpu_us_per_request)),
    ("rate_without_right_answer", |row| Some(row.at_rate.as_ref()?.counts.failed() as f64)),
    ("cpu_us_per_request", |row| median(row.cpu_us_per_request)),
    ("guest_us_per_request", |row| row.own?.guest_us_per_request),
    ("upkeep_us_per_request", |row| row.own?.upkeep_us_per_request),
    ("make_us", |row| row.own?.make_us),
    ("instances_made", |row| Some(row.own?.instances_made as f64)),
    ("instances_reset", |row| Some(row.own?.instances_reset as f64)),
    ("instances", |row| Some(f64::from(row.own?.instances))),
    ("instance_bytes", |row| Some(row.own?.instance_bytes? as f64)),
    ("instance_bytes_at_most", |row| Some(row.own?.instance_bytes_at_most? as f64)),
    ("memory_pss_bytes", |row| Some(row.memory?.pss as f64)),
    ("memory_rss_bytes", |row| Some(row.memory?.rss as f64)),
    ("first_answer_from_nothing_ms", |row| row.first_answer_from_nothing_ms),
    ("first_answer_from_cache_ms", |row| row.first_answer_from_cache_ms),
    ("first_answer_when_up_ms", |row| row.first_answer_when_up_ms),
    ("right", |row| Some(row.counts.right as f64)),
    ("refused", |row| Some(row.counts.refused as f64)),
    ("wrong", |row| Some(row.counts.wrong as f64)),
    ("errors", |row| Some(row.counts.errors as f64)),
    ("unfinished", |row| Some(row.counts.unfinished as f64)),
];

pub fn csv(report: &Report) -> String {
    let names = ["app", "name", "kind"].into_iter().chain(COLUMNS.iter().map(|(name, _)| *name));
    let mut text = line(names.map(str::to_owned));
    for row in &report.servers {
        let kind = match row.kind {
            Kind::Native => "native",
            Kind::Mode(_) => "mode",
            Kind::Other => "other",
        };
        let words = [report.app.name.as_str(), &row.name, kind].map(str::to_owned);
        let figures = COLUMNS.iter().map(|(_, read)| read(row).map(figure).unwrap_or_default());
        text += &line(words.into_iter().chain(figures));
    }
    text
}

fn median(spread: Option<Spread>) -> Option<f64> {
    Some(spread?.median)
}

/// Whole numbers without a point, others with what is meant by the measurement and no more.
fn figure(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.4}") }
}

fn line(cells: impl Iterator<Item = String>) -> String {
    cells.map(|cell| quoted(&cell)).collect::<Vec<_>>().join(",") + "\r\n"
}

/// As in RFC 4180.
fn quoted(cell: &str) -> String {
    match cell.contains([',', '"', '\r', '\n']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::report::tests::report;

    #[test]
    fn each_server_is_a_line_with_a_cell_for_each_heading() {
        let mut report = report();
        report.servers[1].name = "a, \"b\"".to_owned();
        let text = csv(&report);
        let lines = text.split_terminator("\r\n").collect::<Vec<_>>();
        assert_eq!(lines.len(), 1 + report.servers.len());
        let cells = |line: &str| line.split(',').map(str::to_owned).collect::<Vec<_>>();
        let (names, native) = (cells(lines[0]), cells(lines[1]));
        assert_eq!((names.len(), native.len()), (COLUMNS.len() + 3, COLUMNS.len() + 3));
        let of = |name: &str| native[names.iter().position(|one| one == name).unwrap()].as_str();
        assert_eq!((of("app"), of("name"), of("kind")), ("hello", "native", "native"));
        assert_eq!((of("requests_per_second"), of("p50_us"), of("p999_us")), ("100000", "320", ""));
        assert_eq!((of("memory_pss_bytes"), of("alone_p50_us")), ("10485760", "43.2100"));
        assert!(lines[2].starts_with("hello,\"a, \"\"b\"\"\",mode,32,"), "{}", lines[2]);
    }
}
