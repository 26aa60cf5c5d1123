//! What a comparison found: as data, and as tables to read.

use std::fmt;

use serde::{Serialize, Serializer};

use super::Variant;
use super::advice::Advice;
use super::format::{MIB, count, noise, show, significant, size, time};
use super::load::Counts;
use super::stats::Spread;
use super::status::Own;
use super::table::Table;
use super::usage::Memory;

/// What a comparison found. Times are in the units that the names end in.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub app: AppFacts,
    pub conditions: Conditions,
    /// The reference first, then the modes, then the others.
    pub servers: Vec<Row>,
    /// Modes and servers that could not be measured.
    pub skipped: Vec<Skipped>,
    /// What one must know to read the figures rightly.
    pub notes: Vec<String>,
    pub advice: Advice,
}

#[derive(Debug, Clone, Serialize)]
pub struct AppFacts {
    pub name: String,
    pub file: String,
    pub bytes: usize,
    pub requests: Vec<RequestFacts>,
}

#[derive(Debug, Clone, Serialize)]
pub struct RequestFacts {
    /// Method and path on the server.
    pub request: String,
    pub status: u16,
    pub response_bytes: usize,
    /// Its answers are not all alike, so that only their status was checked.
    pub varies: bool,
}

#[derive(Debug, Clone, Serialize)]
pub struct Conditions {
    pub connections: usize,
    /// What was asked in the rounds at a fixed rate, if there were any.
    pub rate: Option<String>,
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

/// What a server is in a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The reference.
    Native,
    Mode(Variant),
    /// One that others run.
    Other,
}

/// One server's figures; `None` where there were too few requests to tell, or nobody to ask.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub name: String,
    pub kind: Kind,
    pub connections: usize,
    pub rounds: usize,
    pub requests_per_second: Option<Spread>,
    /// Requests/s as a part of the reference's in the same round.
    pub ratio_to_native: Option<Spread>,
    /// As fast as it answered.
    pub latency: Latency,
    /// At a fixed rate.
    pub at_rate: Option<AtRate>,
    /// With one connection.
    pub alone_p50_us: Option<f64>,
    pub alone_p99_us: Option<f64>,
    pub cpu_us_per_request: Option<Spread>,
    /// Processor time of the load for one request.
    pub load_cpu_us_per_request: Option<f64>,
    pub memory: Option<Memory>,
    /// What the host says of itself.
    pub own: Option<Own>,
    /// From the start of the process, with an empty code cache, to the end of the first answer.
    pub first_answer_from_nothing_ms: Option<f64>,
    /// The same with the compiled code in the cache; `None` if there is no cache.
    pub first_answer_from_cache_ms: Option<f64>,
    /// From a new connection to the end of its first answer, by a server that is up.
    pub first_answer_when_up_ms: Option<f64>,
    pub counts: Counts,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct Latency {
    pub p50_us: Option<f64>,
    pub p90_us: Option<f64>,
    pub p99_us: Option<f64>,
    pub p999_us: Option<f64>,
    /// The distribution: this part of the requests was answered within this time.
    pub distribution: Vec<Point>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Point {
    pub part: f64,
    pub us: f64,
}

/// An open loop: latencies count from the time at which a request was due.
#[derive(Debug, Clone, Serialize)]
pub struct AtRate {
    pub asked_per_second: f64,
    pub answered_per_second: Option<Spread>,
    pub latency: Latency,
    pub cpu_us_per_request: Option<Spread>,
    pub counts: Counts,
    /// 99 of 100 requests were sent by the load no later than this after they were due, if a connection was idle.
    pub load_late_p99_us: f64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Skipped {
    pub mode: String,
    pub reason: String,
}

const SPEED: [[&str; 2]; 9] = [
    ["", "mode"],
    ["", "requests/s"],
    ["", ""],
    ["native", "= 1"],
    ["latency:", "p50"],
    ["", "p90"],
    ["", "p99"],
    ["", "p99.9"],
    ["p50 at 1", "connection"],
];

const PACED: [[&str; 2]; 8] = [
    ["at a fixed", "rate"],
    ["asked", "a second"],
    ["answered", "a second"],
    ["latency:", "p50"],
    ["", "p90"],
    ["", "p99"],
    ["", "p99.9"],
    ["CPU per", "request"],
];

const COST: [[&str; 2]; 10] = [
    ["", "mode"],
    ["CPU per", "request"],
    ["of it in", "the guest"],
    ["for its", "instances"],
    ["instances", "made"],
    ["memory", "MiB"],
    ["of it each", "instance"],
    ["first answer:", "from nothing"],
    ["", "code cached"],
    ["", "server up"],
];

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (app, run) = (&self.app, &self.conditions);
        writeln!(f, "{} ({}, {})", app.name, app.file, size(app.bytes as f64))?;
        app.requests.iter().try_for_each(|request| writeln!(f, "{request}"))?;
        writeln!(f, "{run}\n")?;
        let mut speed = Table::new(&SPEED);
        let mut cost = Table::new(&COST);
        let mut paced = Table::new(&PACED);
        for row in &self.servers {
            speed.add(row.speed());
            cost.add(row.cost());
            row.at_rate.iter().for_each(|at| paced.add(row.paced(at)));
        }
        writeln!(f, "{speed}")?;
        if self.servers.iter().any(|row| row.at_rate.is_some()) {
            writeln!(f, "{paced}")?;
        }
        writeln!(f, "{cost}")?;
        for Skipped { mode, reason } in &self.skipped {
            writeln!(f, "{mode} not measured: {reason}")?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "{note}"))?;
        writeln!(f, "advice: {}", self.advice)
    }
}

impl fmt::Display for RequestFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let alike = if self.varies { ", not alike each time" } else { "" };
        write!(f, "{} -> {}, {}{alike}", self.request, self.status, size(self.response_bytes as f64))
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
        if let Some(rate) = &self.rate {
            write!(f, "as many at {rate}; ")?;
        }
        match (&self.server_cores, &self.load_cores) {
            (Some(servers), Some(load)) => write!(f, "servers on core {servers}, load on core {load}")?,
            _ => write!(f, "servers and load share the cores")?,
        }
        write!(f, "; {} server thread{}", self.server_threads, plural(self.server_threads))?;
        write!(f, "\n{}; {}", self.versions.join(", "), self.machine)
    }
}

impl Kind {
    pub fn mode(self) -> Option<Variant> {
        match self {
            Self::Mode(mode) => Some(mode),
            _ => None,
        }
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Self::Native => "native",
            Self::Mode(_) => "mode",
            Self::Other => "other",
        })
    }
}

impl Row {
    /// Instances made for each request under load.
    pub fn made_per_request(&self) -> Option<f64> {
        let own = self.own.as_ref().filter(|own| own.requests > 0)?;
        Some(own.instances_made as f64 / own.requests as f64)
    }

    /// What an instance takes, or the most that it can take.
    pub fn instance_size(&self) -> Option<String> {
        let own = self.own.as_ref()?;
        let measured = own.instance_bytes.map(|bytes| size(bytes as f64));
        measured.or_else(|| Some(format!("≤ {}", size(own.instance_bytes_at_most? as f64))))
    }

    fn speed(&self) -> [String; SPEED.len()] {
        let latency = &self.latency;
        [
            self.name.clone(),
            show(self.requests_per_second, |rate| count(rate.median)),
            show(self.requests_per_second, |rate| noise(rate.noise())),
            show(self.ratio_to_native, |ratio| significant(ratio.median)),
            show(latency.p50_us, time),
            show(latency.p90_us, time),
            show(latency.p99_us, time),
            show(latency.p999_us, time),
            show(self.alone_p50_us, time),
        ]
    }

    fn paced(&self, at: &AtRate) -> [String; PACED.len()] {
        [
            self.name.clone(),
            count(at.asked_per_second),
            show(at.answered_per_second, |rate| count(rate.median)),
            show(at.latency.p50_us, time),
            show(at.latency.p90_us, time),
            show(at.latency.p99_us, time),
            show(at.latency.p999_us, time),
            show(at.cpu_us_per_request, |cpu| time(cpu.median)),
        ]
    }

    fn cost(&self) -> [String; COST.len()] {
        let own = self.own.as_ref();
        [
            self.name.clone(),
            show(self.cpu_us_per_request, |cpu| time(cpu.median)),
            show(own.and_then(|own| own.guest_us_per_request), time),
            show(own.and_then(|own| own.upkeep_us_per_request), time),
            show(own, |own| count(own.instances_made as f64)),
            show(self.memory, |memory| format!("{:.1}", memory.pss as f64 / MIB)),
            show(self.instance_size(), |size| size),
            show(self.first_answer_from_nothing_ms, |ms| time(ms * 1e3)),
            show(self.first_answer_from_cache_ms, |ms| time(ms * 1e3)),
            show(self.first_answer_when_up_ms, |ms| time(ms * 1e3)),
        ]
    }
}

#[cfg(test)]
pub mod tests;
