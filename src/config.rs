//! Configuration: TOML in, checked values out.
//!
//! `hostler.toml` (the operator's) becomes a [`HostConfig`]; an app's own `.toml` (the tenant's), laid over the
//! operator's `[defaults]` and held against the operator's `[grants]`, becomes an [`AppConfig`]. Nothing after this
//! module sees a raw string, a missing value or a unit: everything is decoded and checked here, once.

mod files;
mod host;
mod layer;
mod mode;
mod names;
mod numbers;
mod origin;
mod overrides;
mod policy;
mod preload;
mod problem;
mod reader;
#[cfg(test)]
mod tests;
pub mod units;
mod values;

use std::io::Read;
use std::net::SocketAddr;
use std::num::NonZero;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::HeaderValue;
use ipnet::IpNet;

use crate::prepare::preload::{Allowance, Preload, Start};
use crate::public;

pub use mode::{GuestState, Mode, ModeError, Reset};
pub use overrides::Overrides;
pub use policy::Policy;
pub use problem::{Position, Problem};

/// The name that the operator's file has when no other one is asked for.
pub const HOST_FILE: &str = "hostler.toml";

/// Bytes that an app's own file may have.
pub const LARGEST_APP_FILE: usize = 256 << 10;

/// Bytes that the operator's file may have.
pub const LARGEST_HOST_FILE: usize = 16 << 20;

/// Reads the operator's file, if one is named, and checks it; what `overrides` set goes before what the file says.
/// Reports every problem of the file at once.
pub fn load_host(file: Option<&Path>, overrides: &Overrides) -> Result<(HostConfig, Policy), Vec<Problem>> {
    let Some(path) = file else { return parse_host(None, overrides) };
    let text = read_text(path, LARGEST_HOST_FILE).map_err(|problem| vec![problem])?;
    parse_host(Some((path, &text)), overrides)
}

/// As [`load_host`], from the file's name and text. Paths in the file are relative to the folder it is in.
pub fn parse_host(
    file: Option<(&Path, &str)>,
    overrides: &Overrides,
) -> Result<(HostConfig, Policy), Vec<Problem>> {
    host::read(file, overrides)
}

/// Reads a log filter, as `HOSTLER_LOG_LEVEL` and the file have it, for a flag.
pub fn parse_log_filter(text: &str) -> Result<String, String> {
    values::parse_log_level(text)
}

/// Reads a number of threads, as `HOSTLER_WORKER_THREADS` and the file have it, for a flag; `auto` is 0.
pub fn parse_threads(text: &str) -> Result<usize, String> {
    values::parse_threads(text)
}

/// Requests after which an instance that keeps its state is spent: each gets a number from the range, so that not all
/// are spent at once. `None`: however many.
pub type MaxRequests = Option<RangeInclusive<u64>>;

/// One app's effective settings: its own file over the operator's defaults, within the operator's grants.
#[derive(Debug, Clone, PartialEq)]
pub struct AppConfig {
    pub mode: Mode,
    pub reset: Reset,
    /// Host names the app answers on, in lower case, `*.name` for every name below; empty means any host.
    pub hosts: Vec<String>,
    /// The mount path in normal form, which overrides the one that the file's name gives.
    pub path: Option<String>,
    /// Environment variables the guest sees, ordered by name.
    pub env: Vec<(String, String)>,
    /// Idle instances that are made before the first request and kept while the app is in use; none in a mode without any.
    pub min_instances: u32,
    /// Instances in all, idle and leased: also the bound on this app's requests in flight. `None`: as many as there
    /// is room for, which is then shared out by `weight`.
    pub max_instances: Option<u32>,
    /// The app's share of the host when there is not enough for all.
    pub weight: u32,
    /// How long an instance above `min_instances` may stay idle.
    pub idle_time: Duration,
    /// Without a request for so long neither instances nor code are kept in memory. `None`: they always are.
    pub code_idle_time: Option<Duration>,
    /// How old an idle instance may become. `None`: however old.
    pub max_lifetime: Option<Duration>,
    /// Requests that an instance answers before it is replaced, where it keeps its state.
    pub max_requests: MaxRequests,
    /// Bytes of linear memory with which an instance that keeps its state is replaced after a request.
    pub max_retained_memory: usize,
    /// Requests that one instance takes at once in mode `resident`.
    pub max_concurrent: u32,
    /// Connections that the app's database takes in all.
    pub backend_connections: Option<u32>,
    /// Those that an instance may hold at once.
    pub connections_per_instance: u32,
    /// Bytes of linear memory that one instance may have, all its memories together.
    pub memory_limit: usize,
    /// Elements that one table of an instance may have.
    pub table_limit: usize,
    /// Host resources (handles) that one instance may hold at once.
    pub resource_limit: usize,
    /// Bytes that the names and values of one set of header fields may take in the host.
    pub header_limit: usize,
    /// Time spent inside the guest for one request.
    pub cpu_time: Duration,
    /// Wall time from the lease to the end of the guest for one request.
    pub request_timeout: Duration,
    /// Requests that may wait for an instance.
    pub queue_size: usize,
    /// How long a request may wait for an instance.
    pub queue_timeout: Duration,
    /// Bytes that a request body may have in all.
    pub max_request_body: u64,
    /// Bytes that a response body may have in all.
    pub max_response_body: u64,
    /// A request body up to this many bytes is read before an instance is leased.
    pub request_buffer: usize,
    /// Bytes of a response that the host takes from the guest ahead of the client.
    pub response_buffer: usize,
    /// How long requests in flight may take to finish on a release that was replaced.
    pub drain_timeout: Duration,
    /// How long a new release is watched, and undone if it fails far more than the one before. Zero: it is not.
    pub probation: Duration,
    /// Releases that are kept to return to, the live one among them.
    pub keep_releases: usize,
    /// Paths below the app's own that a new release must answer before it goes live.
    pub warmup: Vec<String>,
    /// How the state is made, at the deploy, that instances begin with; `None`: each makes its own.
    pub preload: Option<Start>,
    /// What the guest may use of the host meanwhile.
    pub preload_allow: Vec<Allowance>,
    /// Where the guest may send HTTP requests to; empty means nowhere.
    pub outbound: Outbound,
    /// Guest output lines logged for one request; what is over is counted and dropped.
    pub log_lines: u32,
    /// How the files of the app's `public/` are served.
    pub files: StaticFiles,
}

impl AppConfig {
    /// Instances in all, whatever the reason: `max_instances`, and what the backend's connections allow.
    pub fn most_instances(&self) -> Option<u32> {
        [self.max_instances, self.most_by_backend()].into_iter().flatten().min()
    }

    /// Instances that the backend has connections for, if it is known how many it has.
    pub fn most_by_backend(&self) -> Option<u32> {
        self.backend_connections?.checked_div(self.connections_per_instance)
    }

    /// All that decides what comes of preloading the app, if it is to be.
    pub fn preloading(&self) -> Option<Preload> {
        let start = self.preload.clone()?;
        let paths = match &start {
            Start::Warmup(paths) => paths,
            Start::Init => &self.warmup,
        };
        let first = paths.first().map_or("/", String::as_str);
        let compared = [first, paths.get(1).map_or(first, String::as_str)].map(str::to_owned);
        Some(Preload {
            start,
            allowed: self.preload_allow.clone(),
            compared,
            env: self.env.clone(),
            memory_limit: self.memory_limit,
            table_limit: self.table_limit,
            resource_limit: self.resource_limit,
            header_limit: self.header_limit,
        })
    }
}

/// The keys of an app's `[static]`.
#[derive(Debug, Clone, PartialEq)]
pub struct StaticFiles {
    /// `public/` is served at all; otherwise it is not looked at.
    pub enabled: bool,
    /// What a folder is answered with; `None`: nothing, so that the app is asked.
    pub index: Option<String>,
    /// What each answer says in `cache-control`.
    pub cache_control: HeaderValue,
    pub limits: public::Limits,
}

/// The destinations an app may reach, and how.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outbound {
    pub allow: Vec<Origin>,
    /// Requests that may be under way at once for the whole app.
    pub max_concurrent: u32,
    pub connect_timeout: Duration,
    /// Until the response's headers have come.
    pub timeout: Duration,
    /// Addresses that the operator granted literally, so that they may be reached even if they are not public.
    pub granted_networks: Vec<GrantedNetwork>,
}

/// Addresses that the operator named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantedNetwork {
    pub network: IpNet,
    /// None for every port.
    pub port: Option<u16>,
}

/// `scheme://host[:port]`; the host may begin with `*.`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    pub https: bool,
    /// Lower case; an address literal without brackets. Empty, with `subdomains`, for any name.
    pub host: String,
    /// True for `*.host`: any name below, not the name itself.
    pub subdomains: bool,
    pub port: u16,
}

/// The operator's settings.
#[derive(Debug, Clone, PartialEq)]
pub struct HostConfig {
    /// Check before the apps are served, and on and on while they are, that no instance shows anything of the requests
    /// before.
    pub verify_isolation: bool,
    /// Tell the client in each answer where its time went (development).
    pub debug_headers: bool,
    pub server: Server,
    pub admin: Admin,
    pub pool: Pool,
    pub apps: Apps,
    pub compile: Compile,
    pub cache: Cache,
    pub log: Log,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    pub listen: SocketAddr,
    /// Open client connections; further ones wait in the kernel's backlog.
    pub max_connections: usize,
    /// Until a connection's request headers are complete, and the longest idle time between two requests.
    pub header_timeout: Duration,
    pub idle_timeout: Duration,
    /// How long a client may take to send some more of its request's body.
    pub body_timeout: Duration,
    /// How long a client may take to accept some more of its response.
    pub write_timeout: Duration,
    /// Bytes of one request's header section.
    pub max_header_bytes: usize,
    /// Threads that serve requests; 0 means one for each processor that this process may use.
    pub worker_threads: usize,
    /// How long requests in flight may take to finish at shutdown.
    pub drain_timeout: Duration,
    /// Show a guest's trap and backtrace to the client (development).
    pub error_detail: bool,
    /// Requests taken on one HTTP/2 connection at once.
    pub max_streams: u32,
    /// Stay awake for a moment when a client is likely to send its next request at once.
    pub busy_poll: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Admin {
    /// The status listener; none unless asked for.
    pub listen: Option<SocketAddr>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    /// Instances of all apps together, at most; `None`: as many as the machine has room for.
    pub max_instances: Option<u32>,
    /// Memory that the host and all instances may take together.
    pub memory_budget: MemoryBudget,
    /// Requests that may wait for an instance, all apps together.
    pub queue_size: usize,
}

/// Part of the memory that this process may have, or so many bytes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryBudget {
    /// Per cent, 1 to 100.
    Share(u8),
    Size(u64),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Apps {
    pub folder: PathBuf,
    /// A file is read once it has been unchanged for this long.
    pub settle_time: Duration,
    /// How often the folder is looked through even if nothing was notified.
    pub scan_interval: Duration,
    /// Where releases are kept. `None`: in the apps folder, if that can be written.
    pub state_dir: Option<PathBuf>,
}

/// What the compilation of an app, which is a process of its own, may take.
#[derive(Debug, Clone, PartialEq)]
pub struct Compile {
    /// Bytes of memory.
    pub memory_limit: u64,
    /// Processor time; the kernel counts it in whole seconds.
    pub cpu_time: Duration,
    /// Wall time: while the machine is busy, the compiler hardly runs.
    pub time_limit: Duration,
    /// How much later than others it gets a processor, as `nice` counts it: 19 is the lowest priority.
    pub nice: u8,
    /// Compilations at once; `None`: by the number of processors.
    pub jobs: Option<NonZero<usize>>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Cache {
    pub dir: PathBuf,
    pub max_size: u64,
    /// What the copies of static files may take, of all apps and releases together.
    pub public: public::copies::Room,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    pub json: bool,
    /// A `tracing` filter such as `info` or `hostler=debug`.
    pub level: String,
    pub access: bool,
}

fn read_text(path: &Path, largest: usize) -> Result<String, Problem> {
    let wrong = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::InvalidData => Problem::of_file(path, "not UTF-8 text"),
        _ => Problem::of_file(path, format!("can't be read: {error}")),
    };
    let file = std::fs::File::open(path).map_err(wrong)?;
    let mut text = String::new();
    // One byte more than is accepted: the parser then says that it is too large.
    let bound = u64::try_from(largest).unwrap_or(u64::MAX).saturating_add(1);
    file.take(bound).read_to_string(&mut text).map_err(wrong)?;
    Ok(text)
}
