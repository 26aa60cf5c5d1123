//! The host's state in an instance's store: what a guest's calls into the host work on.
//!
//! It is made anew with every instance, also with one that is put back in place, and never recycled, so nothing of one
//! request can be left in it for the next. Only the clock stays, which stands at zero between two requests.

use std::any::Any;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, LazyLock};

use http::HeaderName;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::clocks::{WasiClocksCtxView, WasiClocksView};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::random::{WasiRandomCtx, WasiRandomView};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error as HttpError, ForbiddenHeaderFilter, RequestOptions, WasiBody,
    WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

use super::clock::CpuClock;
use super::limits::Limits;
use super::outbound::{AppOutbound, OutboundClient, OutboundLimits};
use super::output::{GuestLog, Stream};
use crate::config::AppConfig;
use crate::metrics::AppCounters;
use crate::prepare::preload::Source;

/// Bytes of random data that a guest may ask for at once.
const MAX_RANDOM: u64 = 1 << 20;

/// As many as hardly any request needs.
const LIKELY_RESOURCES: usize = 32;

/// What an instance's guest may do: the part of an app's settings that its stores need.
pub struct InstancePolicy {
    pub app: Arc<str>,
    pub config: Arc<AppConfig>,
    /// Where the time is counted that its instances cost beside their requests.
    pub counters: Arc<AppCounters>,
    pub outbound: Arc<AppOutbound>,
}

impl InstancePolicy {
    /// For an app that no other shares its counters and its outbound client with.
    pub fn alone(app: &str, config: Arc<AppConfig>) -> Arc<InstancePolicy> {
        let outbound = OutboundClient::new(OutboundLimits::default()).for_app(app, config.outbound.clone());
        Arc::new(InstancePolicy { app: app.into(), config, counters: AppCounters::new(app.into()), outbound })
    }
}

/// What an instance's guest has of the host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Bytes of linear memory.
    pub memory: usize,
    /// Handles of host resources.
    pub handles: usize,
}

pub struct HostState {
    wasi: Wasi,
    config: Arc<AppConfig>,
    http: WasiHttpCtx,
    hooks: Hooks,
    pub limits: Limits,
    pub clock: Arc<CpuClock>,
    pub log: GuestLog,
    /// What of that which differs each time the guest has asked for last, if it is one that is rewound.
    pub drawn: Option<Source>,
}

/// WASI's own state: a core module's calls need the adapter around it.
#[expect(
    clippy::large_enum_variant,
    reason = "the large one is the usual one, and a box would be made for each instance"
)]
enum Wasi {
    Component {
        /// Made when the guest first asks for something of it, which small requests never do: it is seeds, clocks, streams.
        ctx: Option<WasiCtx>,
        table: ResourceTable,
    },
    Module(Box<WasiP1Ctx>),
}

/// Whether the store is for a component or for a WASI 0.1 core module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abi {
    Component,
    Module,
}

impl HostState {
    pub fn new(policy: &InstancePolicy, abi: Abi) -> HostState {
        let config = &policy.config;
        let limits = Limits::new(config.memory_limit, config.table_limit);
        HostState::with(policy, abi, limits, CpuClock::new(config.cpu_time))
    }

    fn with(policy: &InstancePolicy, abi: Abi, limits: Limits, clock: Arc<CpuClock>) -> HostState {
        let config = &policy.config;
        let log = GuestLog::new(policy.app.clone(), config.log_lines);
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(config.header_limit);
        let wasi = match abi {
            Abi::Component => Wasi::component(None, config.resource_limit),
            Abi::Module => Wasi::module(app_wasi(&log, config), config.resource_limit),
        };
        HostState {
            wasi,
            config: config.clone(),
            http,
            hooks: Hooks { outbound: policy.outbound.clone() },
            limits,
            clock,
            log,
            drawn: None,
        }
    }

    pub fn drawing_random(&mut self) -> &mut WasiRandomCtx {
        self.drawn = Some(Source::Random);
        self.random()
    }

    pub fn drawing_time(&mut self) -> WasiClocksCtxView<'_> {
        self.drawn = Some(Source::Clocks);
        self.clocks()
    }

    /// As for a new instance of a component whose limits stand so.
    pub fn renew(&mut self, policy: &InstancePolicy, limits: Limits) {
        *self = HostState::with(policy, Abi::Component, limits, self.clock.clone());
    }

    /// Of what types the resources are that are held for the guest, in the order of its table: a number that stays the same
    /// as long as the process runs.
    pub fn types_of_resources(&mut self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for resource in self.http().table.iter_mut() {
            Any::type_id(resource).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// Resources that the host may have held for the guest at once since its table was made, no fewer: as many as the table
    /// has had room for. The table does not tell that, but while it may not grow it is full when its free places are used up.
    pub fn most_resources(&mut self) -> usize {
        let table = self.http().table;
        let held = table.iter_mut().count();
        let capacity = table.max_capacity();
        table.set_max_capacity(0);
        let mut free = Vec::with_capacity(LIKELY_RESOURCES);
        while let Ok(place) = table.push(()) {
            free.push(place);
        }
        table.set_max_capacity(capacity);
        let most = held + free.len();
        for place in free {
            // It was put there just now.
            let _ = table.delete(place);
        }
        most
    }

    /// Whether nothing of the host's is held for the guest, such as a stream or a request.
    pub fn has_no_resources(&self) -> bool {
        match &self.wasi {
            Wasi::Component { table, .. } => table.is_empty(),
            // Its table has the files that it began with.
            Wasi::Module(_) => false,
        }
    }

    /// Puts a new WASI context in place, with an empty table of resources: `set` adds to what every guest gets.
    pub fn renew_wasi(&mut self, abi: Abi, set: impl FnOnce(&mut WasiCtxBuilder)) {
        let mut builder = wasi_builder(&self.log);
        set(&mut builder);
        let most = self.config.resource_limit;
        self.wasi = match abi {
            Abi::Component => Wasi::component(Some(builder.build()), most),
            Abi::Module => Wasi::module(builder, most),
        };
    }

    /// Has the guest grown so much, over the requests that it has answered, that one of its limits is near? One that
    /// reaches it would fail a request.
    pub fn is_worn(&mut self, config: &AppConfig) -> bool {
        let Figures { memory, handles } = self.figures();
        memory > config.max_retained_memory || handles > config.resource_limit / 2
    }

    pub fn figures(&mut self) -> Figures {
        Figures { memory: self.limits.memory(), handles: self.http().table.iter_mut().count() }
    }

    /// The WASI 0.1 context, for the linker of core modules.
    pub fn p1(&mut self) -> &mut WasiP1Ctx {
        match &mut self.wasi {
            Wasi::Module(p1) => p1,
            Wasi::Component { .. } => {
                unreachable!("the linker of core modules only serves stores made for them")
            }
        }
    }
}

/// What every guest gets, with its app's environment.
fn app_wasi(log: &GuestLog, config: &AppConfig) -> WasiCtxBuilder {
    let mut builder = wasi_builder(log);
    builder.envs(&config.env);
    builder
}

/// What every guest gets: clocks, fresh random seeds, output to the log, no input, no files, no sockets.
fn wasi_builder(log: &GuestLog) -> WasiCtxBuilder {
    let mut builder = WasiCtxBuilder::new();
    builder
        .stdout(log.stream(Stream::Stdout))
        .stderr(log.stream(Stream::Stderr))
        .max_random_size(MAX_RANDOM)
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false);
    builder
}

impl Wasi {
    fn component(ctx: Option<WasiCtx>, most_resources: usize) -> Wasi {
        let mut table = ResourceTable::new();
        table.set_max_capacity(most_resources);
        Wasi::Component { ctx, table }
    }

    fn module(mut builder: WasiCtxBuilder, most_resources: usize) -> Wasi {
        let mut p1 = builder.build_p1();
        p1.ctx().table.set_max_capacity(most_resources);
        Wasi::Module(Box::new(p1))
    }
}

impl WasiView for HostState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        match &mut self.wasi {
            Wasi::Component { ctx, table } => {
                let ctx = ctx.get_or_insert_with(|| app_wasi(&self.log, &self.config).build());
                WasiCtxView { ctx, table }
            }
            Wasi::Module(p1) => p1.ctx(),
        }
    }
}

impl WasiHttpView for HostState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        let table = match &mut self.wasi {
            Wasi::Component { table, .. } => table,
            Wasi::Module(p1) => p1.ctx().table,
        };
        WasiHttpCtxView { hooks: &mut self.hooks, table, ctx: &mut self.http }
    }
}

struct Hooks {
    outbound: Arc<AppOutbound>,
}

/// Header fields that belong to the connection and not to the message, both ways.
fn forbidden(name: &HeaderName) -> bool {
    DEFAULT_FORBIDDEN_HEADERS.contains(name)
}

static FORBIDDEN: LazyLock<ForbiddenHeaderFilter> = LazyLock::new(|| Arc::new(forbidden));

impl WasiHttpHooks for Hooks {
    // The default makes a new shared closure for each header it looks at.
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        forbidden(name)
    }

    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        FORBIDDEN.clone()
    }

    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        // Carries the guest's own verdict on the response's body, in which the host has no interest.
        _verdict: Box<dyn Future<Output = Result<(), HttpError>> + Send>,
    ) -> Box<
        dyn Future<
                Output = wasmtime_wasi_http::Result<(
                    http::Response<WasiBody>,
                    Box<dyn Future<Output = Result<(), HttpError>> + Send>,
                )>,
            > + Send,
    > {
        let outbound = self.outbound.clone();
        Box::new(async move {
            let (response, io) = outbound.send(request, options).await?;
            Ok((response, Box::new(io) as Box<dyn Future<Output = _> + Send>))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Policy;

    #[test]
    fn as_many_resources_as_were_held_at_once_are_told_whatever_is_left_of_them() {
        let config = Policy::default().app_config("app", None).expect("the defaults");
        let policy = InstancePolicy::alone("app", Arc::new(config));
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut state = HostState::new(&policy, Abi::Component);
            let (mut held, mut most) = (Vec::new(), 0);
            for _ in 0..random.usize(..60) {
                if held.is_empty() || random.bool() {
                    held.push(state.http().table.push(seed).expect("room"));
                } else {
                    let gone = held.swap_remove(random.usize(..held.len()));
                    state.http().table.delete(gone).expect("it was there");
                }
                most = most.max(held.len());
            }
            assert_eq!((state.most_resources(), state.most_resources()), (most, most), "seed {seed}");
            assert_eq!(state.figures().handles, held.len(), "what is left is left");
            let unchanged = held.iter().all(|resource| state.http().table.get(resource).ok() == Some(&seed));
            assert!(unchanged, "seed {seed}");
        }
    }
}
