//! The kinds of values: each reads one TOML value or says what would have been right.

use std::net::SocketAddr;
use std::path::PathBuf;

use toml::de::DeValue;

use super::numbers::{Bounds, UNBOUNDED, Unit};
use super::problem::quoted;
use super::reader::{kind_of, nearest};
use super::units::{NO_UNIT, parse_duration, parse_size};
use super::{MaxRequests, MemoryBudget, Mode, Reset};

/// A string; `example` is a right one.
pub(super) fn string<'v>(value: &'v DeValue<'_>, example: &str) -> Result<&'v str, String> {
    value.as_str().ok_or_else(|| format!("expected a string such as \"{example}\", found {}", kind_of(value)))
}

pub(super) fn boolean(value: &DeValue<'_>) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| format!("expected true or false, found {}", kind_of(value)))
}

/// A number in the unit of its bounds, within them, or the word for no bound where there is one.
pub(super) fn number(bounds: Bounds) -> impl Fn(&DeValue<'_>) -> Result<u64, String> {
    move |value| match (bounds.unbounded, value.as_str()) {
        (Some(word), Some(text)) if text == word => Ok(UNBOUNDED),
        _ => bounds.check(plain_number(bounds, value)?),
    }
}

fn plain_number(bounds: Bounds, value: &DeValue<'_>) -> Result<u64, String> {
    let or_word = bounds.unbounded.map(|word| format!(" or \"{word}\"")).unwrap_or_default();
    Ok(match (bounds.unit, value) {
        (Unit::Count | Unit::Size, DeValue::Integer(integer)) => {
            let parsed = i128::from_str_radix(integer.as_str(), integer.radix());
            let number =
                parsed.map_err(|_| format!("too large, the most is {}", bounds.show(bounds.most)))?;
            let too_small = || format!("too small, the least is {}", bounds.show(bounds.least));
            u64::try_from(number.min(i128::from(u64::MAX))).map_err(|_| too_small())?
        }
        (Unit::Count, other) => {
            return Err(format!("expected a whole number{or_word}, found {}", kind_of(other)));
        }
        (Unit::Size, DeValue::String(text)) => parse_size(text)?,
        (Unit::Size, other) => {
            return Err(format!("expected a size such as \"64MiB\", found {}", kind_of(other)));
        }
        (Unit::Time, DeValue::String(text)) => {
            let duration = parse_duration(text).map_err(|message| message + &or_word)?;
            u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
        }
        (Unit::Time, DeValue::Integer(_)) => return Err(NO_UNIT.to_owned()),
        (Unit::Time, other) => {
            return Err(format!("expected a duration such as \"30s\"{or_word}, found {}", kind_of(other)));
        }
    })
}

/// A number, or `"auto"` for 0.
pub(super) fn number_or_auto(bounds: Bounds) -> impl Fn(&DeValue<'_>) -> Result<u64, String> {
    move |value| match value.as_str() {
        Some("auto") => Ok(0),
        Some(_) => Err("expected a whole number or \"auto\"".to_owned()),
        None => number(bounds)(value),
    }
}

/// A share such as `"75%"`, or a size.
pub(super) fn memory_budget(value: &DeValue<'_>) -> Result<MemoryBudget, String> {
    const LEAST: u64 = 16 << 20;
    const MOST: u64 = 1 << 50;
    if let Some(text) = value.as_str()
        && let Some(percent) = text.strip_suffix('%')
    {
        let share = percent.trim_end().parse().ok().filter(|percent| (1..=100).contains(percent));
        return share.map(MemoryBudget::Share).ok_or("a share is \"1%\" to \"100%\"".to_owned());
    }
    match value {
        DeValue::String(_) | DeValue::Integer(_) => {
            number(Bounds::new(Unit::Size, LEAST, MOST))(value).map(MemoryBudget::Size)
        }
        other => {
            Err(format!("expected a share or a size such as \"75%\" or \"4GiB\", found {}", kind_of(other)))
        }
    }
}

pub(super) fn address(value: &DeValue<'_>) -> Result<SocketAddr, String> {
    parse_address(string(value, "127.0.0.1:8080")?)
}

pub(super) fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "not an address with a port, write for example \"127.0.0.1:8080\"".to_owned())
}

/// A path, relative or absolute.
pub(super) fn path(value: &DeValue<'_>) -> Result<PathBuf, String> {
    parse_path(string(value, "apps")?)
}

pub(super) fn parse_path(text: &str) -> Result<PathBuf, String> {
    match text {
        "" => Err("an empty path, write for example \"apps\"".to_owned()),
        _ if text.contains('\0') => Err("a path has no NUL".to_owned()),
        _ if text == "~" || text.starts_with("~/") => {
            Err("~ is not expanded, write the whole path".to_owned())
        }
        _ => Ok(PathBuf::from(text)),
    }
}

/// Threads of a pool; 0 stands for `"auto"`.
pub(super) const THREADS: Bounds = Bounds::new(Unit::Count, 1, 1024);

pub(super) fn parse_threads(text: &str) -> Result<usize, String> {
    if text == "auto" {
        return Ok(0);
    }
    let number = text.parse::<u64>().map_err(|_| "expected a whole number or auto")?;
    THREADS.check(number).map(|number| usize::try_from(number).unwrap_or(usize::MAX))
}

pub(super) fn mode(value: &DeValue<'_>) -> Result<Mode, String> {
    parse_mode(string(value, "pooled")?)
}

/// The name of a mode.
pub(super) fn parse_mode(text: &str) -> Result<Mode, String> {
    match text {
        "cold" => Ok(Mode::Cold),
        "cached" => Ok(Mode::Cached),
        "pooled" => Ok(Mode::Pooled),
        "kept" => Ok(Mode::Kept),
        "resident" => Ok(Mode::Resident),
        _ => Err(unknown("mode", text, &["pooled", "cached", "cold", "kept", "resident"])),
    }
}

/// A number of requests, a range of them, or `"off"`.
pub(super) fn requests(value: &DeValue<'_>) -> Result<MaxRequests, String> {
    const EXAMPLE: &str = "write a whole number, a range such as \"500..1000\", or \"off\"";
    const BOUNDS: Bounds = Bounds::new(Unit::Count, 1, 1_000_000_000_000);
    if value.as_integer().is_some() {
        let number = number(BOUNDS)(value)?;
        return Ok(Some(number..=number));
    }
    let text =
        value.as_str().ok_or_else(|| format!("expected requests, found {}: {EXAMPLE}", kind_of(value)))?;
    if text == "off" {
        return Ok(None);
    }
    let (least, most) = text.split_once("..").ok_or_else(|| format!("{}: {EXAMPLE}", quoted(text)))?;
    let bound = |text: &str| {
        let number = text.parse::<u64>().map_err(|_| format!("{}: {EXAMPLE}", quoted(text)))?;
        BOUNDS.check(number)
    };
    let (least, most) = (bound(least)?, bound(most)?);
    if least > most {
        return Err(format!("the range begins above its end, write \"{most}..{least}\""));
    }
    Ok(Some(least..=most))
}

pub(super) fn reset(value: &DeValue<'_>) -> Result<Reset, String> {
    match string(value, "auto")? {
        "auto" => Ok(Reset::Auto),
        "replace" => Ok(Reset::Replace),
        "rewind" => Ok(Reset::Rewind),
        other => Err(unknown("reset", other, &["auto", "replace", "rewind"])),
    }
}

/// Whether logs are JSON.
pub(super) fn log_format(value: &DeValue<'_>) -> Result<bool, String> {
    parse_log_format(string(value, "human")?)
}

pub(super) fn parse_log_format(text: &str) -> Result<bool, String> {
    match text {
        "human" => Ok(false),
        "json" => Ok(true),
        other => Err(unknown("format", other, &["human", "json"])),
    }
}

pub(super) fn log_level(value: &DeValue<'_>) -> Result<String, String> {
    parse_log_level(string(value, "info")?)
}

/// A level, or levels of targets: a misspelt level would otherwise pass for the name of a target.
pub(super) fn parse_log_level(text: &str) -> Result<String, String> {
    // No `trace`: a guest's every call of the host would look whether it is wanted, so it is not compiled in.
    const LEVELS: [&str; 5] = ["info", "debug", "warn", "error", "off"];
    let is_target = |target: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_:-".contains(&byte);
        !target.is_empty() && target.bytes().all(plain)
    };
    for directive in text.split(',') {
        let (target, level) = directive.split_once('=').unwrap_or(("hostler", directive));
        if !is_target(target) {
            return Err("not a filter, write for example \"info\" or \"info,hostler=debug\"".to_owned());
        }
        if !LEVELS.contains(&level) {
            return Err(unknown("level", level, &LEVELS));
        }
    }
    Ok(text.to_owned())
}

fn unknown(what: &str, found: &str, known: &[&'static str]) -> String {
    let found_shown = quoted(found);
    match nearest(found, known.iter().copied()) {
        Some(near) => format!("unknown {what} {found_shown}, did you mean {near}?"),
        None => format!("unknown {what} {found_shown}, use {}", known.join(", ")),
    }
}
