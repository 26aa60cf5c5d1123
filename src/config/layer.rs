//! The keys of an app, as its own file or the operator's `[defaults]` gives them: nothing is filled in yet.

use std::collections::BTreeMap;

use http::uri::PathAndQuery;
use toml::de::DeValue;

use super::files::Files;
use super::numbers::{Numbers, RULES, Section};
use super::origin::Destination;
use super::problem::{Position, quoted};
use super::reader::{Given, Table, kind_of};
use super::{MaxRequests, Mode, Origin, Reset, names, preload, values};
use crate::prepare::preload::{Allowance, Start};
use crate::router::{Mount, NormalPath};

#[derive(Debug, Clone)]
pub(super) struct Layer {
    pub mode: Option<Given<Mode>>,
    pub reset: Option<Given<Reset>>,
    pub max_requests: Option<Given<MaxRequests>>,
    pub hosts: Vec<Given<String>>,
    pub path: Option<Given<Mount>>,
    pub warmup: Vec<Given<String>>,
    pub preload: Option<Given<Option<Start>>>,
    pub preload_allow: Option<Vec<Given<Allowance>>>,
    pub env: BTreeMap<String, String>,
    pub limits: Numbers<Option<Given<u64>>>,
    pub allow: Option<Vec<Given<Origin>>>,
    pub files: Files,
}

/// What the operator gives to an app or to all apps of a folder.
#[derive(Debug, Clone)]
pub(super) struct Grant {
    pub hosts: Vec<String>,
    pub paths: Vec<Mount>,
    pub modes: Option<Vec<Mode>>,
    pub limits: Numbers<Option<Given<u64>>>,
    pub outbound: Option<Vec<Destination>>,
}

impl Layer {
    pub fn none() -> Self {
        Self {
            mode: None,
            reset: None,
            max_requests: None,
            hosts: Vec::new(),
            path: None,
            warmup: Vec::new(),
            preload: None,
            preload_allow: None,
            env: BTreeMap::new(),
            limits: Numbers::from_fn(|_| None),
            allow: None,
            files: Files::default(),
        }
    }

    /// An app's own file.
    pub fn of_app(mut table: Table<'_>) -> Self {
        let hosts = table.list("hosts", host).unwrap_or_default();
        let path = table.get("path", mount);
        let warmup = warmup(&mut table);
        let preload = table.get("preload", preload::start);
        let preload_allow = table.list("preload_allow", preload::allowance);
        Self { hosts, path, warmup, preload, preload_allow, ..Self::shared(table, "outbound", "static") }
    }

    /// The operator's `[defaults]`.
    pub fn of_defaults(mut table: Table<'_>) -> Self {
        const OWN: &str = "belongs in an app's own file: one value can't serve all apps";
        table.refuse("hosts", OWN);
        table.refuse("path", OWN);
        table.refuse("warmup", OWN);
        table.refuse("preload", OWN);
        table.refuse("preload_allow", OWN);
        Self::shared(table, "defaults.outbound", "defaults.static")
    }

    fn shared(mut table: Table<'_>, outbound_kind: &'static str, files_kind: &'static str) -> Self {
        let mut outbound = table.table("outbound", outbound_kind);
        let mut files = table.table("static", files_kind);
        let layer = Self {
            mode: table.get("mode", values::mode),
            reset: table.get("reset", values::reset),
            max_requests: table.get("max_requests", values::requests),
            hosts: Vec::new(),
            path: None,
            warmup: Vec::new(),
            preload: None,
            preload_allow: None,
            env: env(&mut table),
            limits: limits(&mut table, &mut outbound, &mut files),
            allow: outbound.list("allow", origin),
            files: Files::read(&mut files),
        };
        outbound.finish();
        files.finish();
        table.finish();
        layer
    }
}

impl Grant {
    pub const KIND: &str = "grants.\"<app>\"";

    pub fn read(mut table: Table<'_>) -> Self {
        const OUTBOUND: &str = "grants.\"<app>\".outbound";
        // A list alone is short for a table with `allow`.
        let is_list = matches!(table.peek("outbound"), Some(DeValue::Array(_)));
        let listed = if is_list { table.list("outbound", destination) } else { None };
        let mut outbound = if is_list { table.missing(OUTBOUND) } else { table.table("outbound", OUTBOUND) };
        let mut files = table.table("static", "grants.\"<app>\".static");
        let allow = outbound.list("allow", destination).or(listed);
        let grant = Self {
            hosts: plain(table.list("hosts", host_or_any)).unwrap_or_default(),
            paths: plain(table.list("paths", mount)).unwrap_or_default(),
            modes: plain(table.list("modes", values::mode)),
            limits: limits(&mut table, &mut outbound, &mut files),
            outbound: plain(allow),
        };
        outbound.finish();
        files.finish();
        table.finish();
        grant
    }
}

fn limits<'d>(
    table: &mut Table<'d>,
    outbound: &mut Table<'d>,
    files: &mut Table<'d>,
) -> Numbers<Option<Given<u64>>> {
    let mut limits = Numbers::from_fn(|_| None);
    for rule in &RULES {
        let table = match rule.section {
            Section::Top => &mut *table,
            Section::Outbound => &mut *outbound,
            Section::Static => &mut *files,
        };
        limits.set(rule.limit, table.get(rule.name, values::number(rule.bounds)));
    }
    limits
}

/// Variables are copied into every instance, so there is an end to them.
const LARGEST_ENV: usize = 64 << 10;

fn env(table: &mut Table<'_>) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    let mut bytes = 0;
    let mut first: Option<Position> = None;
    for (name, at, value) in table.names_and_values("env") {
        first = first.min(Some(at)).or(Some(at));
        let key = || format!("env.{}", quoted(name));
        let Some(text) = value.as_str() else {
            let message = format!("expected a string, found {}: put it in quotes", kind_of(value));
            table.problem(&key(), at, message);
            continue;
        };
        if name.is_empty() || name.contains(['=', '\0']) || text.contains('\0') {
            table.problem(&key(), at, "a variable's name has no =, and neither it nor its value has a NUL");
            continue;
        }
        bytes += name.len() + text.len() + 2;
        env.insert(name.to_owned(), text.to_owned());
    }
    if let Some(at) = first.filter(|_| bytes > LARGEST_ENV) {
        table.problem(
            "env",
            at,
            format!("all variables together may have {LARGEST_ENV} bytes, these have {bytes}"),
        );
    }
    env
}

/// Requests that are made before a release goes live.
pub(super) const MOST_WARMUPS: usize = 32;

fn warmup(table: &mut Table<'_>) -> Vec<Given<String>> {
    let paths = table.list("warmup", warmup_path).unwrap_or_default();
    if let Some(beyond) = paths.get(MOST_WARMUPS) {
        table.problem("warmup", beyond.at, format!("more than {MOST_WARMUPS} paths"));
    }
    paths
}

/// A path below the app's own, with or without a query.
fn warmup_path(value: &DeValue<'_>) -> Result<String, String> {
    request_path(values::string(value, "/")?)
}

pub(super) fn request_path(text: &str) -> Result<String, String> {
    let is_whole =
        |target: &PathAndQuery| target.as_str() == text && NormalPath::parse(target.path()).is_ok();
    match text.parse::<PathAndQuery>() {
        Ok(target) if text.starts_with('/') && is_whole(&target) => Ok(text.to_owned()),
        _ => {
            let shown = quoted(text);
            Err(format!("{shown}: not a path as in a request, write for example \"/\" or \"/search?q=a\""))
        }
    }
}

fn host(value: &DeValue<'_>) -> Result<String, String> {
    match values::string(value, "shop.example.com")? {
        "*" => Err("leave hosts out to answer on any host".to_owned()),
        text => names::host_pattern(text).map_err(|message| format!("{}: {message}", quoted(text))),
    }
}

fn host_or_any(value: &DeValue<'_>) -> Result<String, String> {
    if value.as_str() == Some("*") { Ok("*".to_owned()) } else { host(value) }
}

fn mount(value: &DeValue<'_>) -> Result<Mount, String> {
    let text = values::string(value, "/shop")?;
    Mount::parse(text).map_err(|error| format!("{}: {error}, write for example \"/shop\"", quoted(text)))
}

fn origin(value: &DeValue<'_>) -> Result<Origin, String> {
    let text = values::string(value, "https://api.example.com")?;
    text.parse().map_err(|message| format!("{}: {message}", quoted(text)))
}

fn destination(value: &DeValue<'_>) -> Result<Destination, String> {
    let text = values::string(value, "https://api.example.com")?;
    text.parse().map_err(|message| format!("{}: {message}", quoted(text)))
}

fn plain<T>(list: Option<Vec<Given<T>>>) -> Option<Vec<T>> {
    list.map(|items| items.into_iter().map(|item| item.value).collect())
}
