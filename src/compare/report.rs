//! What a comparison found: as data, and as a table to read.

use std::fmt;

use serde::Serialize;

use super::load::Counts;
use super::stats::Spread;
use super::table::Table;
use super::usage::Memory;

/// What a comparison found. Times are in the units that the names end in.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub app: AppFacts,
    pub conditions: Conditions,
    /// The reference first, then the modes.
    pub servers: Vec<Row>,
    /// Modes that could not be measured.
    pub skipped: Vec<Skipped>,
    /// What one must know to read the figures rightly.
    pub notes: Vec<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct AppFacts {
    pub name: String,
    pub file: String,
    pub bytes: usize,
    /// The request: method and path on the server.
    pub request: String,
    pub status: u16,
    pub response_bytes: usize,
    /// Its answers are not all alike, so that only their status was checked.
    pub varies: bool,
}

#[derive(Debug, Clone, Serialize)]
pub struct Conditions {
    pub connections: usize,
    pub rounds: usize,
    pub slice_seconds: f64,
    /// `None` if servers and load were not kept apart.
    pub server_cores: Option<String>,
    pub load_cores: Option<String>,
    pub server_threads: usize,
    pub versions: Vec<String>,
    pub machine: String,
    /// The whole comparison, all starts included.
    pub seconds: f64,
}

/// One server's figures; `None` where there were too few requests to tell.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub name: String,
    pub connections: usize,
    pub rounds: usize,
    pub requests_per_second: Option<Spread>,
    /// Requests/s as a part of the reference's in the same round.
    pub ratio_to_native: Option<Spread>,
    pub p50_us: Option<f64>,
    pub p99_us: Option<f64>,
    pub p999_us: Option<f64>,
    /// With one connection.
    pub alone_p50_us: Option<f64>,
    pub alone_p99_us: Option<f64>,
    pub cpu_us_per_request: Option<Spread>,
    /// Processor time of the load for one request.
    pub load_cpu_us_per_request: Option<f64>,
    pub memory: Option<Memory>,
    /// From the start of the process, with an empty code cache, to the end of the first answer.
    pub first_answer_from_nothing_ms: f64,
    /// The same with the compiled code in the cache; `None` if there is no cache.
    pub first_answer_from_cache_ms: Option<f64>,
    pub counts: Counts,
}

#[derive(Debug, Clone, Serialize)]
pub struct Skipped {
    pub mode: String,
    pub reason: String,
}

const HEADINGS: [[&str; 2]; 12] = [
    ["", "mode"],
    ["", "requests/s"],
    ["", ""],
    ["native", "= 1"],
    ["latency:", "p50"],
    ["", "p99"],
    ["", "p99.9"],
    ["p50 at 1", "connection"],
    ["CPU per", "request"],
    ["memory", "MiB"],
    ["first answer:", "from nothing"],
    ["", "code cached"],
];

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (app, run) = (&self.app, &self.conditions);
        writeln!(f, "{} ({}, {})", app.name, app.file, size(app.bytes as f64))?;
        let alike = if app.varies { ", not alike each time" } else { "" };
        writeln!(f, "{} -> {}, {}{alike}", app.request, app.status, size(app.response_bytes as f64))?;
        writeln!(f, "{run}\n")?;
        let mut table = Table::new(&HEADINGS);
        for row in &self.servers {
            table.add(row.cells());
        }
        write!(f, "{table}")?;
        if !(self.skipped.is_empty() && self.notes.is_empty()) {
            writeln!(f)?;
        }
        for Skipped { mode, reason } in &self.skipped {
            writeln!(f, "{mode} not measured: {reason}")?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "{note}"))
    }
}

impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |count| if count == 1 { "" } else { "s" };
        write!(
            f,
            "{} connection{}, {} round{} of {:.2} s for each server, interleaved; ",
            self.connections,
            plural(self.connections),
            self.rounds,
            plural(self.rounds),
            self.slice_seconds,
        )?;
        match (&self.server_cores, &self.load_cores) {
            (Some(servers), Some(load)) => write!(f, "servers on core {servers}, load on core {load}")?,
            _ => write!(f, "servers and load share the cores")?,
        }
        write!(f, "; {} server thread{}", self.server_threads, plural(self.server_threads))?;
        write!(f, "\n{}; {}", self.versions.join(", "), self.machine)
    }
}

impl Row {
    fn cells(&self) -> [String; HEADINGS.len()] {
        let spread = |spread: &Spread| format!("±{:.0}%", spread.noise() * 100.0);
        [
            self.name.clone(),
            show(self.requests_per_second, |rate| count(rate.median)),
            show(self.requests_per_second, |rate| spread(&rate)),
            show(self.ratio_to_native, |ratio| significant(ratio.median)),
            show(self.p50_us, time),
            show(self.p99_us, time),
            show(self.p999_us, time),
            show(self.alone_p50_us, time),
            show(self.cpu_us_per_request, |cpu| time(cpu.median)),
            show(self.memory, |memory| format!("{:.1}", memory.pss as f64 / MIB)),
            time(self.first_answer_from_nothing_ms * 1e3),
            show(self.first_answer_from_cache_ms, |ms| time(ms * 1e3)),
        ]
    }
}

const KIB: f64 = 1024.0;
const MIB: f64 = KIB * KIB;

fn show<T>(value: Option<T>, shown: impl Fn(T) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), shown)
}

/// A time given in microseconds, with the unit that makes it short.
fn time(us: f64) -> String {
    match us {
        us if us < 999.5 => format!("{} us", significant(us)),
        us if us < 999_500.0 => format!("{} ms", significant(us / 1e3)),
        us => format!("{} s", significant(us / 1e6)),
    }
}

fn size(bytes: f64) -> String {
    match bytes {
        bytes if bytes < KIB => format!("{bytes} bytes"),
        bytes if bytes < MIB => format!("{} KiB", significant(bytes / KIB)),
        bytes => format!("{} MiB", significant(bytes / MIB)),
    }
}

/// Three figures, or all before the point; two for what is small.
fn significant(value: f64) -> String {
    match value {
        value if value < 0.00995 => format!("{value:.4}"),
        value if value < 0.0995 => format!("{value:.3}"),
        value if value < 9.995 => format!("{value:.2}"),
        value if value < 99.95 => format!("{value:.1}"),
        value => count(value),
    }
}

/// A whole number in groups of three; small ones with three figures.
fn count(value: f64) -> String {
    if value < 99.95 {
        return significant(value);
    }
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
pub mod tests;
