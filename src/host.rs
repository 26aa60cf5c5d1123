//! The host: configuration in, a running host out. All long-lived tasks are started and ended here.
//!
//! Two runtimes: one serves requests, the other deploys, answers the operator and keeps the pools in order. Guests
//! that spin can slow the first one down, never the second.

mod isolation;

use std::net::SocketAddr;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::runtime::Runtime;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::admin::{self, AdminHandler};
use crate::compile::{self, Compiler};
use crate::config::{HostConfig, Policy};
use crate::deploy::store::Store;
use crate::deploy::{Builder, Deployer, Progress, orders};
use crate::engine::{CodeCache, EngineSettings, Engines, EnginesInUse, run_promptly};
use crate::instance::outbound::{OutboundClient, OutboundLimits};
use crate::isolation::Record;
use crate::machine::Machine;
use crate::pool::{self, Budget};
use crate::public::Copies;
use crate::registry::Registry;
use crate::release::Release;
use crate::server::accept::{self, Listener};
use crate::server::connection::Limits;
use crate::server::drain::{Drain, Drained};
use crate::server::handler::AppHandler;
use crate::sizing::{self, Backend, InUse, Sizing};

/// How often idle instances are looked through.
const UPKEEP: Duration = Duration::from_secs(1);

/// A running host. Dropping it without [`Host::shutdown`] ends everything at once.
pub struct Host {
    address: SocketAddr,
    admin_address: Option<SocketAddr>,
    registry: Arc<Registry>,
    store: Option<Arc<Store>>,
    budget: Budget,
    admin: AdminHandler,
    progress: watch::Receiver<Progress>,
    drain: Drain,
    drain_timeout: Duration,
    compiler: Arc<Compiler>,
    stop: CancellationToken,
    background: JoinSet<()>,
    serving: Option<Runtime>,
    control: Option<Runtime>,
}

/// What a shutdown left behind: all zero if everything ended in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leftovers {
    pub connections: usize,
    /// Units of the instance budget that never came back.
    pub units: u32,
}

impl Host {
    /// Builds everything, binds the ports and begins to look at the folder. Returns before the apps are live.
    ///
    /// # Errors
    /// What makes serving impossible: a port in use, a code cache that others may write to, no address space.
    pub fn start(config: &HostConfig, policy: Policy, compile: compile::Way) -> anyhow::Result<Host> {
        let machine = Machine::this();
        let settings = engine_settings(config, &policy, &machine);
        Host::start_on(machine, config, policy, settings, compile)
    }

    /// The engine settings for this configuration on this machine.
    pub fn settings(config: &HostConfig, policy: &Policy) -> EngineSettings {
        engine_settings(config, policy, &Machine::this())
    }

    /// The same as [`Host::start`] with chosen engine settings, on a machine that may be another than this one, as tests
    /// have it.
    pub fn start_on(
        machine: Machine,
        config: &HostConfig,
        policy: Policy,
        settings: EngineSettings,
        compile: compile::Way,
    ) -> anyhow::Result<Host> {
        let record = Arc::new(Record::default());
        let settings = match config.verify_isolation {
            true => isolation::verified(settings, &record)?,
            false => settings,
        };
        tracing::info!("{settings}");
        let budget = Budget::new(settings.instances, config.pool.queue_size);
        let engines =
            Engines::new(settings).map_err(|error| anyhow::anyhow!("cannot make the engine: {error:#}"))?;
        let engines = EnginesInUse::new(engines);
        let cpus = machine.cpus();
        let sizing = Sizing::start(machine, &config.pool, &budget);
        let cache = Arc::new(CodeCache::open(&config.cache.dir, config.cache.max_size)?);
        let copies = Copies::open(&config.cache.dir, config.cache.public)
            .context("cannot make a place for copies of static files in the cache directory")?;
        let copies = Arc::new(copies);
        let registry = Arc::new(Registry::default());
        let threads = NonZero::new(config.server.worker_threads).map_or(cpus, NonZero::get);
        let serving = serving_runtime(threads)?;
        budget.cores().set_threads(u32::try_from(threads).unwrap_or(u32::MAX));
        let control =
            runtime("control", CONTROL_THREADS).build().context("cannot start the control threads")?;
        let (control_handle, serving_handle) = (control.handle().clone(), serving.handle().clone());

        let listener = {
            let _runtime = serving.enter();
            Listener::bind(config.server.listen)
                .with_context(|| format!("cannot listen on {}", config.server.listen))?
        };
        let address = listener.local_addr();
        let (limits, cores) = (compile::Limits::of(&config.compile, cpus), budget.cores().clone());
        let compiler = Arc::new(Compiler::new(compile, limits, move || cores.lane().has_work()));
        let store = Store::of(&config.apps)?;
        let store = store.map(Arc::new);
        let (orders, incoming) = orders::channel();
        let admin = AdminHandler::new(
            registry.clone(),
            engines.clone(),
            budget.clone(),
            sizing.clone(),
            record.clone(),
            admin::Deploys {
                orders,
                store: store.clone(),
                folder: config.apps.folder.clone(),
                compiler: compiler.clone(),
                copies: copies.clone(),
            },
        );
        let mut host = Host {
            address,
            admin_address: None,
            registry: registry.clone(),
            store: store.clone(),
            budget: budget.clone(),
            admin,
            progress: watch::channel(Progress::default()).1,
            drain: Drain::new(),
            drain_timeout: config.server.drain_timeout,
            compiler: compiler.clone(),
            stop: CancellationToken::new(),
            background: JoinSet::new(),
            serving: Some(serving),
            control: Some(control),
        };
        host.start_admin(config)?;
        let outbound = OutboundClient::new(OutboundLimits::default());
        let listeners: Vec<SocketAddr> = [Some(address), host.admin_address].into_iter().flatten().collect();
        outbound.set_listeners(&listeners);
        let engines_replaced = Arc::new(Notify::new());
        let builder = Builder {
            outbound,
            registry: registry.clone(),
            compiler,
            compiling: Arc::new(Semaphore::new(compile_jobs(cpus))),
            copying: Arc::new(Semaphore::new(cpus.div_ceil(2))),
            policy: Arc::new(policy),
            numbers: AtomicU64::new(store.as_ref().map_or(0, |store| store.last_number())),
            address,
            control: control_handle,
            serving: serving_handle,
            engines: engines.clone(),
            engines_replaced: engines_replaced.clone(),
            cache,
            store,
            copies,
            budget: budget.clone(),
        };
        host.start_deploying(config, builder, engines_replaced.clone(), incoming);
        if config.verify_isolation {
            host.start_watching(isolation::Vigil { engines, budget, record, registry, engines_replaced });
        }
        host.start_upkeep(sizing);
        host.start_sharing();
        host.start_serving(config, listener);
        Ok(host)
    }
}

impl Host {
    /// Where apps are served: the real port, if port 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    pub fn compiler(&self) -> &Arc<Compiler> {
        &self.compiler
    }

    pub fn status(&self) -> crate::admin::Status {
        self.admin.status()
    }

    /// Clients' connections that are open now.
    pub fn connections(&self) -> usize {
        self.drain.connections()
    }

    /// How far the deployer is: for those who wait for the folder's apps to be live.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// Ends in order: no new connections, requests in flight to their end, then the apps; at most `drain_timeout`.
    pub async fn shutdown(mut self) -> Leftovers {
        // First of all: who stops it may lose patience while requests are drained.
        self.stop_store().await;
        let Drained { aborted, stuck } = self.drain.finish(self.drain_timeout).await;
        if aborted + stuck > 0 {
            tracing::warn!(aborted, stuck, "connections outlived drain_timeout");
        }
        self.stop.cancel();
        while self.background.join_next().await.is_some() {}
        self.stop_store().await;
        // After the deployer, to whom it would be deploys that failed.
        self.compiler.stop();
        if tokio::time::timeout(COMPILERS_END, self.compiler.stopped()).await.is_err() {
            tracing::warn!("a compiler that was ended is still there");
        }
        for app in self.registry.apps() {
            if let Some(release) = self.registry.retire(&app.app) {
                release.drain().await;
            }
        }
        // Those of releases that were still to go live end by themselves, since nobody waits for them any more.
        let freed = async {
            while self.budget.free() < self.budget.units() {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        let _ = tokio::time::timeout(INSTANCES_END, freed).await;
        let leftovers = Leftovers {
            connections: self.drain.connections(),
            units: self.budget.units() - self.budget.free(),
        };
        if let Some(store) = &self.store {
            store.close();
        }
        tracing::info!("stopped");
        leftovers
    }

    /// Notes that this end says nothing against what is on probation.
    async fn stop_store(&self) {
        if let Some(store) = self.store.clone() {
            let _ = tokio::task::spawn_blocking(move || store.stop()).await;
        }
    }

    fn start_admin(&mut self, config: &HostConfig) -> anyhow::Result<()> {
        let (Some(listen), Some(control)) = (config.admin.listen, &self.control) else { return Ok(()) };
        let _runtime = control.enter();
        let listener =
            Listener::bind(listen).with_context(|| format!("cannot listen on {listen} (admin)"))?;
        self.admin_address = Some(listener.local_addr());
        let limits = Limits { max_connections: ADMIN_CONNECTIONS, ..limits(config) };
        // Not drained: the operator sees the end of the host, too.
        let serving = accept::serve(listener, limits, self.admin.clone(), Drain::new().signal());
        let stop = self.stop.clone();
        self.background.spawn_on(
            async move {
                tokio::select! {
                    _ = serving => {}
                    () = stop.cancelled() => {}
                }
            },
            control.handle(),
        );
        Ok(())
    }

    fn start_deploying(
        &mut self,
        config: &HostConfig,
        builder: Builder,
        engines_replaced: Arc<Notify>,
        orders: orders::Incoming,
    ) {
        let Some(control) = &self.control else { return };
        let (deployer, progress) = Deployer::new(&config.apps, builder, self.registry.clone(), orders);
        self.progress = progress;
        self.background.spawn_on(deployer.run(self.stop.clone(), engines_replaced), control.handle());
    }

    fn start_watching(&mut self, vigil: isolation::Vigil) {
        let Some(control) = &self.control else { return };
        self.background.spawn_on(vigil.keep(self.stop.clone()), control.handle());
    }

    /// The processors, between requests that are short and those that take long.
    fn start_sharing(&mut self) {
        let Some(control) = &self.control else { return };
        let (cores, stop) = (self.budget.cores().clone(), self.stop.clone());
        let sharing = async move {
            tokio::select! {
                () = cores.share_with_lane() => {}
                () = stop.cancelled() => {}
            }
        };
        self.background.spawn_on(sharing, control.handle());
    }

    /// Once a second: how many instances there may be, and what each pool does about it.
    fn start_upkeep(&mut self, sizing: Arc<Sizing>) {
        let Some(control) = &self.control else { return };
        let (registry, stop) = (self.registry.clone(), self.stop.clone());
        let upkeep = async move {
            let mut tick = tokio::time::interval(UPKEEP);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = tick.tick() => {}
                }
                let live: Vec<_> = registry.apps().into_iter().filter_map(|app| app.live).collect();
                sizing.upkeep(&in_use(&live));
                for release in live {
                    release.counters.tally.tick(Instant::now());
                    release.pool.tend(Instant::now());
                }
            }
        };
        self.background.spawn_on(upkeep, control.handle());
    }

    fn start_serving(&mut self, config: &HostConfig, listener: Listener) {
        let Some(serving) = &self.serving else { return };
        let handler = AppHandler::new(self.registry.clone(), self.budget.cores().clone(), config);
        let accepting = accept::serve(listener, limits(config), handler, self.drain.signal());
        self.background.spawn_on(
            async move {
                let _ = accepting.await;
            },
            serving.handle(),
        );
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop.cancel();
        self.compiler.stop();
        // A runtime can't be waited for inside of one, which is where hosts are dropped in tests.
        for runtime in [self.serving.take(), self.control.take()].into_iter().flatten() {
            runtime.shutdown_background();
        }
    }
}

/// How long the kernel may take to end a compiler.
const COMPILERS_END: Duration = Duration::from_secs(5);

/// How long instances may take to end that nobody waits for, and from one look at them to the next.
const INSTANCES_END: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Threads for deploys, the operator and upkeep; compiling has the runtime's blocking threads.
const CONTROL_THREADS: usize = 1;

/// Connections to the admin listener.
const ADMIN_CONNECTIONS: usize = 64;

/// Compilations at once: half of the processors, so that serving keeps the rest; but two at least, so that an app which
/// takes long to compile doesn't hold up all others.
fn compile_jobs(cpus: usize) -> usize {
    cpus.div_ceil(2).max(2)
}

/// What the engines are made with: room for as many instances as the configuration asks for, or as there may be.
fn engine_settings(config: &HostConfig, policy: &Policy, machine: &Machine) -> EngineSettings {
    let asked = config.pool.max_instances;
    let instances = sizing::allocator_size(asked, machine);
    if let Some(asked) = asked.filter(|asked| *asked > instances) {
        tracing::warn!("vm.max_map_count has mappings for {instances} instead of {asked} instances");
    }
    let mut settings =
        EngineSettings { instances, table_elements: policy.largest_table(), ..EngineSettings::default() };
    // As many as there may be are not worth slower guests.
    let enough = asked.unwrap_or(ENOUGH_INSTANCES);
    if let Some(note) = settings.fit(policy.largest_memory(), enough) {
        tracing::warn!("{note}");
    }
    settings
}

/// Instances for which guests may be made slower where address space is short, if nobody asked for a number.
const ENOUGH_INSTANCES: u32 = 1_000;

fn in_use(live: &[Arc<Release>]) -> InUse {
    let mut in_use = InUse::default();
    for release in live {
        in_use.idle = in_use.idle.saturating_add(release.pool.stats().idle);
        let config = &release.config;
        if let (Some(instances), Some(connections)) = (config.most_by_backend(), config.backend_connections) {
            in_use.backends.push(Backend { app: release.app.clone(), instances, connections });
        }
    }
    in_use
}

fn serving_runtime(threads: usize) -> anyhow::Result<Runtime> {
    let mut builder = runtime("serve", threads);
    // So that the pools see whether the processors are the scarce thing.
    builder.on_thread_unpark(pool::thread_awoke);
    builder.on_thread_start(|| {
        // Ahead of the slow lane, whose threads the kernel would else let end a time slice that they have begun.
        run_promptly();
        pool::thread_awoke();
    });
    builder.build().context("cannot start the serve threads")
}

fn runtime(name: &'static str, threads: usize) -> tokio::runtime::Builder {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(threads);
    // A low interval: sockets and timers are looked at often even when guests keep all threads busy.
    builder.thread_name(name).event_interval(EVENT_INTERVAL).enable_all();
    builder
}

/// Polls of tasks between two looks at sockets and timers.
const EVENT_INTERVAL: u32 = 13;

fn limits(config: &HostConfig) -> Limits {
    let server = &config.server;
    Limits {
        max_connections: server.max_connections,
        header_timeout: server.header_timeout,
        idle_timeout: server.idle_timeout,
        write_timeout: server.write_timeout,
        max_header_bytes: server.max_header_bytes,
        max_streams: server.max_streams,
        busy_poll: server.busy_poll,
        ..Limits::default()
    }
}
