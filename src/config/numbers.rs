//! The numbers of an app: one table of names, units, bounds and defaults.

use std::time::Duration;

use super::units::{format_duration, format_size};

/// The keys of an app whose value is a number, which a grant can be a ceiling for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    MinInstances,
    MaxInstances,
    Weight,
    IdleTime,
    CodeIdleTime,
    MaxLifetime,
    MaxRetainedMemory,
    MaxConcurrent,
    BackendConnections,
    ConnectionsPerInstance,
    MemoryLimit,
    TableLimit,
    ResourceLimit,
    HeaderLimit,
    CpuTime,
    RequestTimeout,
    QueueSize,
    QueueTimeout,
    MaxRequestBody,
    MaxResponseBody,
    RequestBuffer,
    ResponseBuffer,
    DrainTimeout,
    Probation,
    KeepReleases,
    LogLines,
    OutboundMaxConcurrent,
    OutboundConnectTimeout,
    OutboundTimeout,
    StaticFiles,
    StaticSize,
    StaticDepth,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Count,
    /// Bytes.
    Size,
    /// Milliseconds.
    Time,
}

#[derive(Debug)]
pub(super) struct Rule {
    pub limit: Number,
    pub name: &'static str,
    pub section: Section,
    /// What the operator sets is the least, not the most, that an app may ask for.
    pub floor: bool,
    pub bounds: Bounds,
    pub default: u64,
}

/// The table of an app's file that a key is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    /// The file's own.
    Top,
    Outbound,
    Static,
}

/// The least and the greatest value, in the unit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub unit: Unit,
    pub least: u64,
    pub most: u64,
    /// The word for [`UNBOUNDED`], where there need be no bound.
    pub unbounded: Option<&'static str>,
}

/// More than any number: no bound at all.
pub(super) const UNBOUNDED: u64 = u64::MAX;

/// As much as the operator lets the app have: unlike other words for no bound it never asks for too much.
pub(super) const AUTO: &str = "auto";

pub(super) const SECOND: u64 = 1_000;
pub(super) const MINUTE: u64 = 60 * SECOND;
pub(super) const HOUR: u64 = 60 * MINUTE;
pub(super) const DAY: u64 = 24 * HOUR;
pub(super) const KIB: u64 = 1 << 10;
pub(super) const MIB: u64 = 1 << 20;
pub(super) const GIB: u64 = 1 << 30;
pub(super) const TIB: u64 = 1 << 40;

/// In the order of [`Number`].
pub(super) const RULES: [Rule; COUNT] = [
    count(Number::MinInstances, "min_instances", 0, 100_000, 1),
    unbounded(AUTO, UNBOUNDED, count(Number::MaxInstances, "max_instances", 1, 100_000, 0)),
    count(Number::Weight, "weight", 1, 1_000, 100),
    time(Number::IdleTime, "idle_time", 0, 30 * DAY, MINUTE),
    unbounded("off", DAY, time(Number::CodeIdleTime, "code_idle_time", SECOND, 365 * DAY, 0)),
    unbounded("off", HOUR, time(Number::MaxLifetime, "max_lifetime", SECOND, 365 * DAY, 0)),
    unbounded(AUTO, UNBOUNDED, size(Number::MaxRetainedMemory, "max_retained_memory", 64 * KIB, 4 * GIB, 0)),
    count(Number::MaxConcurrent, "max_concurrent", 1, 10_000, 100),
    unbounded("none", UNBOUNDED, count(Number::BackendConnections, "backend_connections", 1, 1_000_000, 0)),
    floor(count(Number::ConnectionsPerInstance, "connections_per_instance", 1, 1_000, 1)),
    size(Number::MemoryLimit, "memory_limit", 64 * KIB, 4 * GIB, 128 * MIB),
    count(Number::TableLimit, "table_limit", 1, 100_000_000, 100_000),
    count(Number::ResourceLimit, "resource_limit", 16, 10_000_000, 10_000),
    size(Number::HeaderLimit, "header_limit", KIB, GIB, 128 * KIB),
    time(Number::CpuTime, "cpu_time", 1, DAY, 10 * SECOND),
    time(Number::RequestTimeout, "request_timeout", 1, DAY, 30 * SECOND),
    count(Number::QueueSize, "queue_size", 0, 1_000_000, 1_000),
    time(Number::QueueTimeout, "queue_timeout", 0, DAY, 5 * SECOND),
    size(Number::MaxRequestBody, "max_request_body", 0, 1024 * TIB, 2 * GIB),
    size(Number::MaxResponseBody, "max_response_body", 0, 1024 * TIB, 8 * GIB),
    size(Number::RequestBuffer, "request_buffer", 0, GIB, 64 * KIB),
    size(Number::ResponseBuffer, "response_buffer", KIB, GIB, MIB),
    time(Number::DrainTimeout, "drain_timeout", 0, DAY, 30 * SECOND),
    time(Number::Probation, "probation", 0, DAY, MINUTE),
    count(Number::KeepReleases, "keep_releases", 2, 100, 5),
    count(Number::LogLines, "log_lines", 0, 1_000_000, 1_000),
    outbound(count(Number::OutboundMaxConcurrent, "max_concurrent", 1, 100_000, 64)),
    outbound(time(Number::OutboundConnectTimeout, "connect_timeout", 1, HOUR, 5 * SECOND)),
    outbound(time(Number::OutboundTimeout, "timeout", 1, DAY, 30 * SECOND)),
    of_files(count(Number::StaticFiles, "max_files", 1, 1_000_000, 10_000)),
    of_files(size(Number::StaticSize, "max_size", 0, 1024 * TIB, 256 * MIB)),
    of_files(count(Number::StaticDepth, "max_depth", 1, 64, 16)),
];

/// A value for each number.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Numbers<T>([T; COUNT]);

impl<T> Numbers<T> {
    pub fn from_fn(mut value: impl FnMut(&'static Rule) -> T) -> Self {
        Self(std::array::from_fn(|at| value(&RULES[at])))
    }

    pub fn get(&self, limit: Number) -> &T {
        &self.0[limit as usize]
    }

    pub fn set(&mut self, limit: Number, value: T) {
        self.0[limit as usize] = value;
    }
}

impl Numbers<u64> {
    pub fn count(&self, limit: Number) -> u32 {
        u32::try_from(*self.get(limit)).unwrap_or(u32::MAX)
    }

    pub fn size(&self, limit: Number) -> usize {
        usize::try_from(*self.get(limit)).unwrap_or(usize::MAX)
    }

    pub fn time(&self, limit: Number) -> Duration {
        Duration::from_millis(*self.get(limit))
    }

    /// A count that need not have a bound.
    pub fn bounded(&self, limit: Number) -> Option<u32> {
        Some(*self.get(limit)).filter(|value| *value != UNBOUNDED).map(|_| self.count(limit))
    }

    /// A time that need not have a bound.
    pub fn bounded_time(&self, limit: Number) -> Option<Duration> {
        Some(*self.get(limit)).filter(|value| *value != UNBOUNDED).map(|_| self.time(limit))
    }
}

impl Rule {
    /// The key as messages name it.
    pub fn key(&self) -> String {
        match self.section {
            Section::Top => self.name.to_owned(),
            Section::Outbound => format!("outbound.{}", self.name),
            Section::Static => format!("static.{}", self.name),
        }
    }
}

impl Bounds {
    pub const fn new(unit: Unit, least: u64, most: u64) -> Self {
        Self { unit, least, most, unbounded: None }
    }

    /// The same, or a word for no bound.
    pub const fn or(self, word: &'static str) -> Self {
        Self { unbounded: Some(word), ..self }
    }

    pub fn check(&self, value: u64) -> Result<u64, String> {
        match value {
            _ if value < self.least => Err(format!("too small, the least is {}", self.show(self.least))),
            _ if value > self.most => Err(format!("too large, the most is {}", self.show(self.most))),
            _ => Ok(value),
        }
    }

    /// A value as a person writes it.
    pub fn show(&self, value: u64) -> String {
        match self.unit {
            _ if let (UNBOUNDED, Some(word)) = (value, self.unbounded) => word.to_owned(),
            Unit::Count => value.to_string(),
            Unit::Size => format_size(value),
            Unit::Time => format_duration(Duration::from_millis(value)),
        }
    }

    /// A value as TOML.
    pub fn show_toml(&self, value: u64) -> String {
        let is_word = value == UNBOUNDED && self.unbounded.is_some();
        match self.unit {
            Unit::Count if !is_word => value.to_string(),
            Unit::Count | Unit::Size | Unit::Time => format!("\"{}\"", self.show(value)),
        }
    }
}

const COUNT: usize = Number::StaticDepth as usize + 1;

const fn rule(limit: Number, name: &'static str, bounds: Bounds, default: u64) -> Rule {
    Rule { limit, name, section: Section::Top, floor: false, bounds, default }
}

const fn count(limit: Number, name: &'static str, least: u64, most: u64, default: u64) -> Rule {
    rule(limit, name, Bounds::new(Unit::Count, least, most), default)
}

const fn size(limit: Number, name: &'static str, least: u64, most: u64, default: u64) -> Rule {
    rule(limit, name, Bounds::new(Unit::Size, least, most), default)
}

const fn time(limit: Number, name: &'static str, least: u64, most: u64, default: u64) -> Rule {
    rule(limit, name, Bounds::new(Unit::Time, least, most), default)
}

const fn outbound(rule: Rule) -> Rule {
    Rule { section: Section::Outbound, ..rule }
}

const fn of_files(rule: Rule) -> Rule {
    Rule { section: Section::Static, ..rule }
}

const fn floor(rule: Rule) -> Rule {
    Rule { floor: true, ..rule }
}

const fn unbounded(word: &'static str, default: u64, rule: Rule) -> Rule {
    Rule { bounds: rule.bounds.or(word), default, ..rule }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_enum_and_its_defaults_are_within_bounds() {
        for (at, rule) in RULES.iter().enumerate() {
            assert_eq!(rule.limit as usize, at, "{}", rule.name);
            let unbounded = rule.default == UNBOUNDED && rule.bounds.unbounded.is_some();
            assert!(unbounded || rule.bounds.check(rule.default).is_ok(), "{}", rule.name);
        }
    }
}
