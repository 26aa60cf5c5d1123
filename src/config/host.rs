//! The operator's file.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::path::{Path, PathBuf};

use super::layer::{Grant, Layer};
use super::numbers::{
    AUTO, Bounds, DAY, GIB, HOUR, KIB, MIB, MINUTE, Number, Numbers, RULES, SECOND, TIB, UNBOUNDED, Unit,
};
use super::reader::{self, Document, Given, Table};
use super::{
    Admin, Apps, Cache, Compile, HOST_FILE, HostConfig, LARGEST_HOST_FILE, Log, MemoryBudget, Overrides,
    Policy, Pool, Problem,
};
use super::{Server, values};
use crate::public::copies::Room;
use crate::router::Mount;

pub(super) fn read(
    file: Option<(&Path, &str)>,
    overrides: &Overrides,
) -> Result<(HostConfig, Policy), Vec<Problem>> {
    let (path, text) = file.unwrap_or((Path::new(HOST_FILE), ""));
    let table = reader::parse(path, text, LARGEST_HOST_FILE)?;
    let doc = Document::new(path, text);
    let read = read_root(&doc, doc.root("", Some(&table)), path, overrides);
    let problems = doc.into_problems();
    if problems.is_empty() { Ok(read) } else { Err(problems) }
}

impl Default for Pool {
    fn default() -> Self {
        Self { max_instances: None, memory_budget: MemoryBudget::Share(75), queue_size: 10_000 }
    }
}

impl Default for Compile {
    fn default() -> Self {
        let minutes = |minutes| std::time::Duration::from_millis(minutes * MINUTE);
        Self { memory_limit: 2 * GIB, cpu_time: minutes(5), time_limit: minutes(30), nice: 19, jobs: None }
    }
}

pub(super) fn read_root(
    doc: &Document<'_>,
    mut root: Table<'_>,
    path: &Path,
    overrides: &Overrides,
) -> (HostConfig, Policy) {
    let folder = path.parent().unwrap_or(Path::new(""));
    let verify_isolation = value(root.get("verify_isolation", values::boolean));
    let debug_headers = value(root.get("debug_headers", values::boolean));
    let config = HostConfig {
        verify_isolation: overrides.verify_isolation.or(verify_isolation).unwrap_or(false),
        debug_headers: debug_headers.unwrap_or(false),
        server: server(root.table("server", "server"), overrides),
        admin: admin(root.table("admin", "admin"), overrides),
        pool: pool(root.table("pool", "pool")),
        apps: apps(root.table("apps", "apps"), folder, overrides),
        compile: compile(root.table("compile", "compile")),
        cache: cache(root.table("cache", "cache"), folder, overrides),
        log: log(root.table("log", "log"), overrides),
    };
    let defaults = Layer::of_defaults(root.table("defaults", "defaults"));
    let grants = grants(&mut root);
    root.finish();
    if config.admin.listen.is_some_and(|admin| admin.port() != 0 && admin == config.server.listen) {
        doc.problem("admin.listen", None, "the same address as server.listen, use another port");
    }
    if config.cache.dir.as_os_str().is_empty() {
        let message = "neither XDG_CACHE_HOME nor HOME is set: name a folder here or in HOSTLER_CACHE_DIR";
        doc.problem("cache.dir", None, message);
    }
    let policy = Policy { defaults, grants, pool: config.pool.clone(), mode: overrides.mode };
    check_numbers(doc, &policy);
    (config, policy)
}

fn server(mut table: Table<'_>, overrides: &Overrides) -> Server {
    let listen = value(table.get("listen", values::address));
    let threads = table.get("worker_threads", values::number_or_auto(values::THREADS));
    let server = Server {
        listen: overrides.listen.or(listen).unwrap_or(([127, 0, 0, 1], 8080).into()),
        max_connections: count(&mut table, "max_connections", 1, 1_000_000, 10_000),
        header_timeout: time(&mut table, "header_timeout", 1, HOUR, 10 * SECOND),
        idle_timeout: time(&mut table, "idle_timeout", 1, DAY, 75 * SECOND),
        body_timeout: time(&mut table, "body_timeout", 1, HOUR, 10 * SECOND),
        write_timeout: time(&mut table, "write_timeout", 1, HOUR, 30 * SECOND),
        max_header_bytes: size(&mut table, "max_header_bytes", 8 * KIB, 16 * MIB, 64 * KIB),
        worker_threads: overrides.worker_threads.or(value(threads).map(to_usize)).unwrap_or(0),
        drain_timeout: time(&mut table, "drain_timeout", 0, DAY, 30 * SECOND),
        error_detail: value(table.get("error_detail", values::boolean)).unwrap_or(false),
        max_streams: to_u32(count(&mut table, "max_streams", 1, 100_000, 100)),
        busy_poll: value(table.get("busy_poll", values::boolean)).unwrap_or(true),
    };
    table.finish();
    server
}

fn admin(mut table: Table<'_>, overrides: &Overrides) -> Admin {
    let listen = value(table.get("listen", values::address));
    table.finish();
    Admin { listen: overrides.admin.or(listen) }
}

fn pool(mut table: Table<'_>) -> Pool {
    let instances = Bounds::new(Unit::Count, 1, 100_000).or(AUTO);
    let max_instances = value(table.get("max_instances", values::number(instances)));
    let memory_budget = value(table.get("memory_budget", values::memory_budget));
    let default = Pool::default();
    let pool = Pool {
        max_instances: max_instances.and_then(|number| u32::try_from(number).ok()),
        memory_budget: memory_budget.unwrap_or(default.memory_budget),
        queue_size: count(&mut table, "queue_size", 0, 10_000_000, 10_000),
    };
    table.finish();
    pool
}

fn apps(mut table: Table<'_>, base: &Path, overrides: &Overrides) -> Apps {
    let folder = value(table.get("folder", values::path)).map(|folder| base.join(folder));
    let state_dir = value(table.get("state_dir", values::path)).map(|dir| base.join(dir));
    let apps = Apps {
        folder: overrides.folder.clone().or(folder).unwrap_or_else(|| PathBuf::from("apps")),
        settle_time: time(&mut table, "settle_time", 1, HOUR, 200),
        scan_interval: time(&mut table, "scan_interval", 10, HOUR, 2 * SECOND),
        state_dir: overrides.state_dir.clone().or(state_dir),
    };
    table.finish();
    apps
}

fn compile(mut table: Table<'_>) -> Compile {
    let jobs = value(table.get("jobs", values::number_or_auto(Bounds::new(Unit::Count, 1, 64))));
    let nice = value(table.get("nice", values::number(Bounds::new(Unit::Count, 0, 19))));
    let memory_limit = Bounds::new(Unit::Size, 64 * MIB, TIB);
    let memory_limit = value(table.get("memory_limit", values::number(memory_limit)));
    let times = values::number(Bounds::new(Unit::Time, SECOND, DAY));
    let mut span = |key| value(table.get(key, &times)).map(std::time::Duration::from_millis);
    let default = Compile::default();
    let compile = Compile {
        memory_limit: memory_limit.unwrap_or(default.memory_limit),
        cpu_time: span("cpu_time").unwrap_or(default.cpu_time),
        time_limit: span("time_limit").unwrap_or(default.time_limit),
        nice: nice.and_then(|nice| u8::try_from(nice).ok()).unwrap_or(default.nice),
        jobs: jobs.and_then(|jobs| NonZero::new(to_usize(jobs))),
    };
    table.finish();
    compile
}

/// The folder is empty if there is nothing to derive it from.
fn cache(mut table: Table<'_>, base: &Path, overrides: &Overrides) -> Cache {
    let dir = value(table.get("dir", values::path)).map(|dir| base.join(dir));
    let default = || overrides.cache_home.as_ref().map(|home| home.join("hostler"));
    let max_size = table.get("max_size", values::number(Bounds::new(Unit::Size, MIB, 1024 * TIB)));
    let mut bytes = |key, default| {
        let bounds = Bounds::new(Unit::Size, 0, 1024 * TIB);
        value(table.get(key, values::number(bounds))).unwrap_or(default)
    };
    let public = Room { memory: bytes("static_memory", 64 * MIB), disk: bytes("static_disk", 4 * GIB) };
    table.finish();
    Cache {
        dir: overrides.cache_dir.clone().or(dir).or_else(default).unwrap_or_default(),
        max_size: value(max_size).unwrap_or(2 * GIB),
        public,
    }
}

fn log(mut table: Table<'_>, overrides: &Overrides) -> Log {
    let json = value(table.get("format", values::log_format));
    let level = value(table.get("level", values::log_level));
    let access = value(table.get("access", values::boolean));
    table.finish();
    Log {
        json: overrides.log_json.or(json).unwrap_or(false),
        level: overrides.log_level.clone().or(level).unwrap_or_else(|| "info".to_owned()),
        access: overrides.log_access.or(access).unwrap_or(false),
    }
}

fn grants(root: &mut Table<'_>) -> BTreeMap<String, Grant> {
    let mut grants = BTreeMap::new();
    for (name, at, value) in root.names_and_values("grants") {
        let table = root.table_named("grants", name, at, Some(value), Grant::KIND);
        if name != "*" && Mount::of_app(name).is_err() {
            table.problem_of_itself(
                at,
                "not the name of an app or a folder, write for example [grants.\"api/v1\"]",
            );
        }
        grants.insert(name.to_owned(), Grant::read(table));
    }
    grants
}

/// What comes before the keys of `[defaults]` in messages.
const DEFAULTS: &str = "defaults.";

/// What the operator gives to apps must fit together and into the pool.
fn check_numbers(doc: &Document<'_>, policy: &Policy) {
    let grants = policy.grants.iter();
    let grants = grants.map(|(name, grant)| (format!("grants.\"{name}\"."), &grant.limits));
    for (prefix, limits) in grants.chain([(DEFAULTS.to_owned(), &policy.defaults.limits)]) {
        for rule in &RULES {
            let pool = policy.whole_pool(rule.limit);
            if let Some(given) = limits.get(rule.limit)
                && given.value > pool
                && given.value != UNBOUNDED
            {
                let message = format!("{} is more than all apps together have, {pool}", given.value);
                doc.problem(prefix.clone() + rule.name, Some(given.at), message);
            }
        }
        check_order(doc, &prefix, limits);
    }
}

fn check_order(doc: &Document<'_>, prefix: &str, limits: &Numbers<Option<Given<u64>>>) {
    let least = limits.get(Number::MinInstances).as_ref();
    let most = limits.get(Number::MaxInstances).as_ref();
    let default = RULES[Number::MaxInstances as usize].default;
    let Some(Given { value: least, at }) = least else { return };
    // A grant without the one number leaves it to [defaults].
    let most = match most {
        Some(most) => most.value,
        None if prefix == DEFAULTS => default,
        None => return,
    };
    if *least > most {
        doc.problem(
            format!("{prefix}min_instances"),
            Some(*at),
            format!("{least} is more than max_instances, {most}"),
        );
    }
}

fn value<T>(given: Option<Given<T>>) -> Option<T> {
    given.map(|given| given.value)
}

fn count(table: &mut Table<'_>, key: &'static str, least: u64, most: u64, default: u64) -> usize {
    let bounds = Bounds::new(Unit::Count, least, most);
    to_usize(value(table.get(key, values::number(bounds))).unwrap_or(default))
}

fn size(table: &mut Table<'_>, key: &'static str, least: u64, most: u64, default: u64) -> usize {
    let bounds = Bounds::new(Unit::Size, least, most);
    to_usize(value(table.get(key, values::number(bounds))).unwrap_or(default))
}

fn time(
    table: &mut Table<'_>,
    key: &'static str,
    least: u64,
    most: u64,
    default: u64,
) -> std::time::Duration {
    let bounds = Bounds::new(Unit::Time, least, most);
    std::time::Duration::from_millis(value(table.get(key, values::number(bounds))).unwrap_or(default))
}

fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn to_u32(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
