//! The operator's defaults and grants, and what they make of an app's own file.
//!
//! A tenant never raises what the operator set. Every number of an app has a ceiling (`connections_per_instance` has a
//! floor): what the app's grant says, else what `[defaults]` say. Hosts, outbound destinations and other paths than the one that the app's name gives
//! have to be granted. One grant counts for an app, the one with the longest name that is the app's own or that of
//! a folder around it; `"*"` counts for those that no other one is for.

use std::collections::BTreeMap;
use std::path::Path;

use super::layer::{Grant, Layer};
use super::numbers::{AUTO, Number, Numbers, RULES, Rule, UNBOUNDED};
use super::origin::Destination;
use super::problem::{Position, quoted};
use super::reader::{self, Document, Given};
use super::{
    AppConfig, GuestState, HOST_FILE, LARGEST_APP_FILE, MaxRequests, Mode, Outbound, Pool, Problem, Reset,
    StaticFiles, names,
};
use crate::prepare::preload::{Allowance, Start};
use crate::public;
use crate::router::Mount;

/// Requests that an instance answers in mode `kept`, unless the app says otherwise: so many that making instances costs
/// nothing, and so few that an app which can't do without its state is found out.
const MAX_REQUESTS: std::ops::RangeInclusive<u64> = 1_000..=2_000;

/// What the operator lets apps be.
#[derive(Debug, Clone)]
pub struct Policy {
    pub(super) defaults: Layer,
    pub(super) grants: BTreeMap<String, Grant>,
    pub(super) pool: Pool,
    /// Set by a flag or the environment, before `[defaults]`.
    pub(super) mode: Option<Mode>,
}

impl Policy {
    /// An app's effective settings. `app` is its name (`shop`, `api/v1`), `file` the name and text of its own file,
    /// if it has one. More than is granted is a problem that says what the operator would have to write.
    pub fn app_config(&self, app: &str, file: Option<(&Path, &str)>) -> Result<AppConfig, Vec<Problem>> {
        self.judge(app, file, true)
    }

    /// The settings that an app's own file asks for, where it is not known what the operator set: wrong keys and values
    /// are problems, and all that could be granted is taken to be.
    pub fn of_any_operator(app: &str, file: Option<(&Path, &str)>) -> Result<AppConfig, Vec<Problem>> {
        Policy::default().judge(app, file, false)
    }

    fn judge(
        &self,
        app: &str,
        file: Option<(&Path, &str)>,
        is_known: bool,
    ) -> Result<AppConfig, Vec<Problem>> {
        let (path, text) = file.unwrap_or((Path::new(HOST_FILE), ""));
        let table = reader::parse(path, text, LARGEST_APP_FILE)?;
        let doc = Document::new(path, text);
        let own = Layer::of_app(doc.root("", Some(&table)));
        let grant = self.grant(app);
        let config = Request { policy: self, is_known, app, grant, own: &own, doc: &doc }.judge();
        let problems = doc.into_problems();
        if problems.is_empty() { Ok(config) } else { Err(problems) }
    }

    /// Bytes of linear memory that some app may have: what each memory must be able to grow to.
    pub fn largest_memory(&self) -> u64 {
        self.largest(Number::MemoryLimit)
    }

    /// Elements that a table of some app may have.
    pub fn largest_table(&self) -> usize {
        usize::try_from(self.largest(Number::TableLimit)).unwrap_or(usize::MAX)
    }

    /// What the `public/` of some app may have.
    pub fn largest_public(&self) -> public::Limits {
        public::Limits {
            entries: self.largest(Number::StaticFiles),
            size: self.largest(Number::StaticSize),
            depth: self.largest(Number::StaticDepth),
        }
    }

    /// What an app's `public/` may have; `None` if it is not served, or its file is wrong.
    pub fn public_limits(&self, app: &str, text: Option<&str>) -> Option<public::Limits> {
        let config = self.app_config(app, text.map(|text| (Path::new(""), text))).ok()?;
        config.files.enabled.then_some(config.files.limits)
    }

    fn largest(&self, number: Number) -> u64 {
        let default = RULES.iter().find(|rule| rule.limit == number).map(|rule| self.default_of(rule));
        let granted = self.grants.values().filter_map(|grant| grant.limits.get(number).as_ref());
        granted.map(|given| given.value).chain(default).max().unwrap_or(0)
    }

    /// The grant that counts for an app, and its name.
    fn grant(&self, app: &str) -> Option<(&str, &Grant)> {
        let mut name = app;
        loop {
            if let Some((name, grant)) = self.grants.get_key_value(name) {
                return Some((name, grant));
            }
            match name.rsplit_once('/') {
                Some((folder, _)) => name = folder,
                None => return self.grants.get_key_value("*").map(|(name, grant)| (name.as_str(), grant)),
            }
        }
    }

    /// What an app has if neither its file nor its grant says anything.
    pub(super) fn default_of(&self, rule: &Rule) -> u64 {
        let value = self.defaults.limits.get(rule.limit).as_ref().map_or(rule.default, |given| given.value);
        value.min(self.whole_pool(rule.limit))
    }

    /// What all apps together have of something.
    pub(super) fn whole_pool(&self, limit: Number) -> u64 {
        match limit {
            Number::MaxInstances | Number::MinInstances => {
                self.pool.max_instances.map_or(UNBOUNDED, u64::from)
            }
            Number::QueueSize => u64::try_from(self.pool.queue_size).unwrap_or(u64::MAX),
            _ => UNBOUNDED,
        }
    }
}

impl Default for Policy {
    /// Without any file of the operator's.
    fn default() -> Self {
        Self { defaults: Layer::none(), grants: BTreeMap::new(), pool: Pool::default(), mode: None }
    }
}

/// What one app asks for, and who judges it.
struct Request<'r> {
    policy: &'r Policy,
    /// The policy is that of the host. Else nothing follows from what it sets or leaves out.
    is_known: bool,
    app: &'r str,
    grant: Option<(&'r str, &'r Grant)>,
    own: &'r Layer,
    doc: &'r Document<'r>,
}

impl Request<'_> {
    fn judge(&self) -> AppConfig {
        let defaults = &self.policy.defaults;
        let mode = self.mode();
        let limits = self.limits(mode);
        let reset = self.own.reset.as_ref().or(defaults.reset.as_ref());
        AppConfig {
            mode,
            reset: reset.map_or(Reset::Auto, |given| given.value),
            hosts: self.hosts(),
            path: self.path(),
            env: defaults
                .env
                .clone()
                .into_iter()
                .chain(self.own.env.clone())
                .collect::<BTreeMap<_, _>>()
                .into_iter()
                .collect(),
            min_instances: limits.count(Number::MinInstances),
            max_instances: limits.bounded(Number::MaxInstances),
            weight: limits.count(Number::Weight),
            idle_time: limits.time(Number::IdleTime),
            code_idle_time: limits.bounded_time(Number::CodeIdleTime),
            max_lifetime: limits.bounded_time(Number::MaxLifetime),
            max_requests: self.max_requests(mode),
            max_retained_memory: match limits.size(Number::MaxRetainedMemory) {
                usize::MAX => limits.size(Number::MemoryLimit) / 4 * 3,
                size => size,
            },
            max_concurrent: limits.count(Number::MaxConcurrent),
            backend_connections: limits.bounded(Number::BackendConnections),
            connections_per_instance: limits.count(Number::ConnectionsPerInstance),
            memory_limit: limits.size(Number::MemoryLimit),
            table_limit: limits.size(Number::TableLimit),
            resource_limit: limits.size(Number::ResourceLimit),
            header_limit: limits.size(Number::HeaderLimit),
            cpu_time: limits.time(Number::CpuTime),
            request_timeout: limits.time(Number::RequestTimeout),
            queue_size: limits.size(Number::QueueSize),
            queue_timeout: limits.time(Number::QueueTimeout),
            max_request_body: *limits.get(Number::MaxRequestBody),
            max_response_body: *limits.get(Number::MaxResponseBody),
            request_buffer: limits.size(Number::RequestBuffer),
            response_buffer: limits.size(Number::ResponseBuffer),
            drain_timeout: limits.time(Number::DrainTimeout),
            probation: limits.time(Number::Probation),
            keep_releases: limits.size(Number::KeepReleases),
            warmup: self.own.warmup.iter().map(|path| path.value.clone()).collect(),
            preload: self.preload(),
            preload_allow: self.preload_allow(mode),
            outbound: self.outbound(&limits),
            log_lines: limits.count(Number::LogLines),
            files: self.files(&limits),
        }
    }

    fn mode(&self) -> Mode {
        let own = self.own.mode.as_ref();
        let inherited = || self.policy.mode.or(self.policy.defaults.mode.as_ref().map(|given| given.value));
        let mode = own.map(|given| given.value).or_else(inherited).unwrap_or(Mode::Pooled);
        if let Some((name, modes)) = self.grant.and_then(|(name, grant)| Some((name, grant.modes.as_ref()?)))
            && !modes.contains(&mode)
        {
            let granted = modes.iter().map(|mode| mode.as_str()).collect::<Vec<_>>().join(", ");
            let message = format!("{mode} is not among the modes of [grants.\"{name}\"]: {granted}");
            self.doc.problem("mode", own.map(|given| given.at), message);
        }
        if own.is_some() || self.is_known {
            self.check_keys(mode);
        }
        mode
    }

    /// A key that the mode can't honour is a problem where the app itself gives it; in `[defaults]` it is for others.
    fn check_keys(&self, mode: Mode) {
        let of = |number| self.own.limits.get(number).as_ref().map(|given| given.at);
        for key in mode.refuses() {
            let at = match *key {
                "reset" => self.own.reset.as_ref().map(|given| given.at),
                "max_requests" => self.own.max_requests.as_ref().map(|given| given.at),
                "preload" => self.own.preload.as_ref().map(|given| given.at),
                "preload_allow" => self.own.preload_allow.as_ref().and_then(|list| Some(list.first()?.at)),
                key => RULES.iter().find(|rule| rule.key() == key).and_then(|rule| of(rule.limit)),
            };
            if at.is_some() {
                let (why, other) = match (*key, mode) {
                    ("code_idle_time", _) => ("keeps no code", "cached"),
                    ("max_concurrent", _) => ("gives an instance one request at once", "resident"),
                    ("preload" | "preload_allow", Mode::Cold) => ("compiles the app as it is", "cached"),
                    ("preload" | "preload_allow", Mode::Resident) => {
                        ("is for wasi:http 0.3 apps, which can't be preloaded", "pooled")
                    }
                    (_, Mode::Cold | Mode::Cached) => ("keeps no instances", "pooled"),
                    (_, Mode::Pooled) => ("resets an instance after each request", "kept"),
                    (_, Mode::Kept | Mode::Resident) => ("keeps what the guest left", "pooled"),
                };
                self.doc.problem(
                    *key,
                    at,
                    format!("mode {mode} {why}, so leave this key out or use {other}"),
                );
            }
        }
    }

    fn preload(&self) -> Option<Start> {
        self.own.preload.as_ref().and_then(|given| given.value.clone())
    }

    fn preload_allow(&self, mode: Mode) -> Vec<Allowance> {
        let listed = self.own.preload_allow.as_deref().unwrap_or_default();
        if let (Some(first), None) = (listed.first(), self.preload())
            && !mode.refuses().contains(&"preload_allow")
        {
            let message =
                "there is no preload for which anything could be allowed, so set that or leave this key out";
            self.doc.problem("preload_allow", Some(first.at), message);
        }
        listed.iter().map(|given| given.value).collect()
    }

    fn max_requests(&self, mode: Mode) -> MaxRequests {
        let given = self.own.max_requests.as_ref().or(self.policy.defaults.max_requests.as_ref());
        match (given, mode.guest_state()) {
            (_, GuestState::Clean) => None,
            (Some(given), _) => given.value.clone(),
            (None, GuestState::Kept) => Some(MAX_REQUESTS),
            // What it holds is the app's only copy.
            (None, GuestState::Shared) => None,
        }
    }

    fn limits(&self, mode: Mode) -> Numbers<u64> {
        let mut limits = Numbers::from_fn(|rule| self.limit(rule));
        let (most, why) = self.most(&limits);
        let least = *limits.get(Number::MinInstances);
        if let Some(given) = self.own.limits.get(Number::MinInstances)
            && least > most
        {
            let message = format!("{least} is more than {why}, {most}");
            self.doc.problem("min_instances", Some(given.at), message);
        }
        let least = if matches!(mode, Mode::Cold | Mode::Cached) { 0 } else { least.min(most) };
        limits.set(Number::MinInstances, least);
        limits
    }

    /// Instances in all, and what says so.
    fn most(&self, limits: &Numbers<u64>) -> (u64, &'static str) {
        let asked = *limits.get(Number::MaxInstances);
        let (connections, each) =
            (*limits.get(Number::BackendConnections), *limits.get(Number::ConnectionsPerInstance));
        let place = |number| self.own.limits.get(number).as_ref().map(|given: &Given<u64>| given.at);
        let at = place(Number::ConnectionsPerInstance);
        if connections == UNBOUNDED {
            if at.is_some() && self.is_known {
                let message = "there is no number of backend_connections to be divided by it, so set that or leave \
                               this key out";
                self.doc.problem("connections_per_instance", at, message);
            }
            return (asked, "max_instances");
        }
        let fitting = connections.checked_div(each).unwrap_or(connections);
        if fitting == 0 {
            let message = format!("{connections} are too few for one instance, which holds {each}");
            self.doc.problem("backend_connections", place(Number::BackendConnections).or(at), message);
        }
        if fitting < asked { (fitting, "the backend's connections allow") } else { (asked, "max_instances") }
    }

    fn limit(&self, rule: &Rule) -> u64 {
        let granted =
            self.grant.and_then(|(name, grant)| Some((name, grant.limits.get(rule.limit).as_ref()?.value)));
        let (default, pool) = (self.policy.default_of(rule), self.policy.whole_pool(rule.limit));
        // A ceiling, or else a floor.
        let edge = granted.map_or(default, |(_, value)| value).min(pool);
        let Some(given) = self.own.limits.get(rule.limit) else {
            return if rule.floor { default.max(edge) } else { default.min(edge) };
        };
        let asked = given.value;
        if asked == UNBOUNDED && rule.bounds.unbounded == Some(AUTO) {
            return edge;
        }
        if !self.is_known {
            return asked;
        }
        let show = |value| rule.bounds.show(value);
        let than = if rule.floor { "less" } else { "more" };
        if asked > pool {
            let message = format!("{} is more than all apps together have, {}", show(asked), show(pool));
            self.doc.problem(rule.key(), Some(given.at), message);
        } else if if rule.floor { asked < edge } else { asked > edge } {
            let whose = granted.map_or("[defaults]".to_owned(), |(name, _)| format!("[grants.\"{name}\"]"));
            let beyond = format!("{} is {than} than the {} of {whose}", show(asked), show(edge));
            let line = format!("{} = {}", rule.key(), rule.bounds.show_toml(asked));
            self.refuse(&rule.key(), Some(given.at), &beyond, &line);
        }
        asked
    }

    fn hosts(&self) -> Vec<String> {
        let granted = self.grant.map_or(&[][..], |(_, grant)| &grant.hosts);
        for host in &self.own.hosts {
            if !granted.iter().any(|granted| names::covers(granted, &host.value)) {
                let line = format!("hosts = [\"{}\"]", host.value);
                self.refuse("hosts", Some(host.at), &format!("{} is not granted", host.value), &line);
            }
        }
        self.own.hosts.iter().map(|host| host.value.clone()).collect()
    }

    fn path(&self) -> Option<String> {
        let path = self.own.path.as_ref()?;
        let granted = self.grant.map_or(&[][..], |(_, grant)| &grant.paths);
        let own = Mount::of_app(self.app).is_ok_and(|own| own == path.value);
        if !own && !granted.iter().any(|granted| granted.covers(&path.value)) {
            let line = format!("paths = [\"{}\"]", path.value);
            self.refuse("path", Some(path.at), &format!("{} is not granted", path.value), &line);
        }
        Some(path.value.as_str().to_owned())
    }

    fn outbound(&self, limits: &Numbers<u64>) -> Outbound {
        let defaults = self.policy.defaults.allow.as_deref().unwrap_or_default();
        let granted = match self.grant.and_then(|(_, grant)| grant.outbound.as_ref()) {
            Some(granted) => granted.clone(),
            None => defaults.iter().map(|origin| Destination::Origin(origin.value.clone())).collect(),
        };
        let is_granted = |origin| granted.iter().any(|granted| granted.covers(origin));
        let allow = match &self.own.allow {
            Some(own) => own,
            None => &defaults.iter().filter(|origin| is_granted(&origin.value)).cloned().collect(),
        };
        for origin in allow.iter().filter(|origin| !is_granted(&origin.value)) {
            let what = format!("{} is not granted", origin.value);
            self.refuse(
                "outbound.allow",
                Some(origin.at),
                &what,
                &format!("outbound = [\"{}\"]", origin.value),
            );
        }
        Outbound {
            allow: allow.iter().map(|origin| origin.value.clone()).collect(),
            max_concurrent: limits.count(Number::OutboundMaxConcurrent),
            connect_timeout: limits.time(Number::OutboundConnectTimeout),
            timeout: limits.time(Number::OutboundTimeout),
            granted_networks: granted.iter().filter_map(Destination::network).collect(),
        }
    }

    fn files(&self, limits: &Numbers<u64>) -> StaticFiles {
        let (own, defaults) = (&self.own.files, &self.policy.defaults.files);
        let limits = public::Limits {
            entries: *limits.get(Number::StaticFiles),
            size: *limits.get(Number::StaticSize),
            depth: *limits.get(Number::StaticDepth),
        };
        own.over(defaults, limits)
    }

    /// More than is granted: says what the operator would have to write, and where.
    fn refuse(&self, key: &str, at: Option<Position>, what: &str, line: &str) {
        if !self.is_known {
            return;
        }
        let grant = self.grant.map_or(self.app, |(name, _)| name);
        let advice = format!("the operator can allow it with {line} under [grants.\"{}\"]", quoted(grant));
        self.doc.problem(key, at, format!("{what}; {advice} in {HOST_FILE}"));
    }
}
