//! From an app's bytes and config text to a release whose first instances are ready.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::probe::{ProbeError, probe};
use super::shelf;
use super::store::Store;
use super::warmup::{WarmupError, warm_up};
use crate::compile::queue::{Asked, Standing};
use crate::compile::{Compiler, Order};
use crate::config::{self, AppConfig, Mode, Problem};
use crate::engine::{Code, CodeCache, CompileError, Engines, EnginesInUse, Key, Reset, Source, units};
use crate::instance::outbound::OutboundClient;
use crate::instance::{AppCode, ColdCode, Factory, InstancePolicy, LinkedCode, MakeError};
use crate::metrics::{AppCounters, ReleaseCounters};
use crate::pool::{Budget, PolicyError, Pool, PrewarmError};
use crate::prepare::preload::Verdict;
use crate::prepare::{self, Checked, Kind, Refusal};
use crate::public::{Copies, Manifest};
use crate::registry::{Registry, Starting};
use crate::release::{CodeOrigin, Release, pool_policy};
use crate::router::{BadName, BadPath, Mount};

/// Why a deploy failed. What was live before stays so.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    #[error("{}", list(.0))]
    Config(Vec<Problem>),
    #[error("{0}")]
    Refused(#[from] Refusal),
    #[error("its name makes no path: {0}")]
    Name(#[from] BadName),
    #[error("its path is refused: {0}")]
    Path(#[from] BadPath),
    #[error("{0}")]
    Compile(#[from] CompileError),
    #[error("it can't be linked to the host: {0}")]
    Link(String),
    #[error("{0}")]
    Mode(#[from] config::ModeError),
    #[error("its pool can't be made: {0}")]
    Pool(#[from] PolicyError),
    #[error("reset = \"rewind\" is for wasi:http 0.2 apps, and it is a {0} app: leave that out")]
    Reset(Kind),
    #[error("preload is for wasi:http 0.2 apps, and it is a {0} app: leave that out")]
    Preload(Kind),
    #[error("its first instances can't be made: {0}")]
    Start(#[from] PrewarmError<MakeError>),
    #[error("{0}")]
    Warmup(#[from] WarmupError),
    #[error("{0}")]
    Probe(#[from] ProbeError),
    #[error("{0}")]
    Route(#[from] crate::registry::RouteTaken),
    #[error("no app is served: instances can't be kept apart on this machine, see the log of the host")]
    Withdrawn,
    #[error("the deploy was ended: {0}")]
    Ended(#[from] tokio::task::JoinError),
}

/// An app's files as they were read. A clone shares them.
#[derive(Clone)]
pub struct Sources {
    pub app: Arc<str>,
    /// As the user knows it: the file's name below the apps folder.
    pub file: String,
    pub wasm: Bytes,
    /// The path and text of its config file.
    pub config: Option<(Box<Path>, String)>,
    pub public: Option<Arc<Manifest>>,
    /// Whether a request waits for it.
    pub asked: Asked,
    /// That it is to have instances ready is seen in its config.
    pub standing: Standing,
    /// `None`: the next one.
    pub number: Option<u64>,
    /// It is known to be good: that it fails its warm-up now is said, and refuses nothing.
    pub is_proven: bool,
}

/// Makes releases. One for the host; cheap to share.
pub struct Builder {
    pub engines: Arc<EnginesInUse>,
    /// Tells the deployer that live releases have to be made again in other engines, or otherwise.
    pub engines_replaced: Arc<Notify>,
    pub cache: Arc<CodeCache>,
    /// What is deployed is kept there; `None` if nothing can be.
    pub store: Option<Arc<Store>>,
    /// The copies of static files.
    pub copies: Arc<Copies>,
    pub policy: Arc<config::Policy>,
    pub budget: Budget,
    pub outbound: Arc<OutboundClient>,
    pub registry: Arc<Registry>,
    pub compiler: Arc<Compiler>,
    /// Compilations of cold apps under way at once: theirs are part of a request.
    pub compiling: Arc<Semaphore>,
    /// Apps whose static files are being copied at once: hashing them is work for a processor, too.
    pub copying: Arc<Semaphore>,
    /// The runtime that deploys run on.
    pub control: tokio::runtime::Handle,
    /// The runtime that requests are served on.
    pub serving: tokio::runtime::Handle,
    pub numbers: AtomicU64,
    /// Where apps are served.
    pub address: SocketAddr,
}

impl Builder {
    /// Checks, compiles (or takes from the code cache), links, instantiates, probes and asks the `warmup` paths; nothing is
    /// live yet.
    ///
    /// # Errors
    /// See [`DeployError`]. Nothing is left behind but an artifact in the code cache.
    pub async fn build(
        self: &Arc<Self>,
        sources: Sources,
        counters: Arc<AppCounters>,
    ) -> Result<Arc<Release>, DeployError> {
        let prepared = self.prepare_aside(sources.clone(), Choice::Best).await?;
        let is_proven = sources.is_proven;
        let is_choice = prepared.order.reset == Reset::Rewind && prepared.config.reset == config::Reset::Auto;
        match self.finish(prepared, counters.clone(), is_proven).await {
            // That it is rewound was the host's choice, and may be why.
            Err(error @ (DeployError::Start(_) | DeployError::Probe(_))) if is_choice => {
                tracing::debug!(app = %sources.app, "tried again with reset = \"replace\": {error}");
                let prepared = self.prepare_aside(sources, Choice::Replace).await?;
                self.finish(prepared, counters, is_proven).await
            }
            made => made,
        }
    }

    async fn prepare_aside(
        self: &Arc<Self>,
        sources: Sources,
        choice: Choice,
    ) -> Result<Prepared, DeployError> {
        let builder = self.clone();
        // Hashing, loading and linking are work for a thread that may block.
        tokio::task::spawn_blocking(move || builder.prepare(sources, choice)).await?
    }

    async fn finish(
        &self,
        prepared: Prepared,
        counters: Arc<AppCounters>,
        is_proven: bool,
    ) -> Result<Arc<Release>, DeployError> {
        let release = self.assemble(prepared, counters)?;
        release.pool.prewarm().await?;
        probe(&release, &self.budget, self.address).await?;
        match warm_up(&release, self.address).await {
            Err(error) if is_proven => {
                let (app, release) = (&*release.app, release.number);
                tracing::warn!(app, release, "{error}; it is made live all the same, since it was so before");
            }
            warm => warm?,
        }
        Ok(Arc::new(release))
    }

    /// The part of a deploy that works on bytes alone.
    fn prepare(&self, sources: Sources, choice: Choice) -> Result<Prepared, DeployError> {
        let Sources { app, file, wasm, config, public, asked, standing, number, is_proven: _ } = sources;
        let text = config.as_ref().map(|(path, text)| (&**path, text.as_str()));
        let config = self.policy.app_config(&app, text).map_err(DeployError::Config)?;
        let mount = mount(&app, &config)?;
        let starting = Starting { hosts: config.hosts.clone(), mount: mount.clone(), asked: asked.clone() };
        self.registry.expect([(app.clone(), starting)]);
        // Without the validator, which is the compiler's: an artifact in the code cache is of bytes that passed it.
        let checked = prepare::check_known(&wasm)?;
        check_kind(&config, checked.kind)?;
        let engines = self.engines()?;
        let reset = decide_reset(&config, checked.kind, &engines, choice);
        let preload = config.preloading().map(Arc::new);
        let mut order = Order { kind: checked.kind, reset, preload };
        let ready = if config.min_instances > 0 { Standing::Ready } else { Standing::Other };
        let standing = standing.min(ready);
        let compile = |order: &Order| self.compile(&engines, order, &wasm, standing, asked.clone());
        let mut preload = None;
        let (code, origin) = if config.mode == Mode::Cold {
            // Compiled once all the same: a deploy that could never answer is refused now.
            let engine = engines.get(order.engine_kind()).map_err(link_error)?;
            let code = crate::engine::load_bytes(engine, &compile(&order)?, order.code_kind())?;
            AppCode::link(checked.kind, &code).map_err(link_error)?;
            (PreparedCode::Cold(wasm.clone()), CodeOrigin::PerRequest)
        } else {
            let code = |order: &Order| {
                let engine = engines.get(order.engine_kind()).map_err(link_error)?;
                let (kind, digest) = (order.code_kind(), order.digest(&checked.digest));
                // What was live before is live again without a wait.
                if number.is_none() && order.preload.is_some() {
                    self.cache.try_again(&Key::new(engine, kind, digest.as_bytes()));
                }
                Ok(self.cache.code_with(engine, kind, digest.as_bytes(), || compile(order))?)
            };
            let loaded = match code(&order) {
                Err(DeployError::Compile(CompileError::Ineligible(_)))
                    if config.reset == config::Reset::Auto =>
                {
                    order.reset = Reset::Replace;
                    code(&order)?
                }
                loaded => loaded?,
            };
            preload = loaded.preload;
            let origin = match loaded.source {
                Source::Cache => CodeOrigin::Loaded(loaded.took),
                Source::Compiled => CodeOrigin::Compiled(loaded.took),
            };
            (PreparedCode::Loaded(loaded.code), origin)
        };
        Ok(Prepared {
            app,
            file,
            config,
            mount,
            checked,
            engines,
            order,
            preload,
            code,
            origin,
            public,
            number,
        })
    }

    /// Waits for its turn and compiles. Blocks.
    fn compile(
        &self,
        engines: &Engines,
        order: &Order,
        wasm: &[u8],
        standing: Standing,
        asked: Asked,
    ) -> Result<Vec<u8>, CompileError> {
        self.compiler.compile_in_turn(&self.control, standing, asked, engines, order, wasm)
    }

    fn assemble(&self, prepared: Prepared, counters: Arc<AppCounters>) -> Result<Release, DeployError> {
        let Prepared {
            app,
            file,
            config,
            mount,
            checked,
            engines,
            order,
            preload,
            code,
            origin,
            public,
            number,
        } = prepared;
        let config = Arc::new(config);
        let outbound = self.outbound.for_app(&app, config.outbound.clone());
        let policy = Arc::new(InstancePolicy {
            app: app.clone(),
            config: config.clone(),
            counters: counters.clone(),
            outbound,
        });
        let factory = match code {
            PreparedCode::Loaded(code) => {
                let code = AppCode::link(checked.kind, &code).map_err(link_error)?;
                let linked = LinkedCode::new(code, shelf::Kept::of(self, order, checked.digest));
                Factory::new(engines, linked, policy).telling(self.engines_replaced.clone())
            }
            PreparedCode::Cold(wasm) => {
                let (compiling, cores) = (self.compiling.clone(), self.budget.cores().clone());
                let cold = ColdCode { kind: checked.kind, wasm, compiling, cores };
                Factory::cold(engines, cold, policy)
            }
        };
        let factory = match config.mode {
            Mode::Resident => factory.resident(self.serving.clone()),
            _ => factory,
        };
        let (units, reset) = (units(&checked.facts), factory.way_of_reset());
        let room = self.budget.units().checked_div(units).unwrap_or(0);
        let policy = pool_policy(&config, room);
        let max_instances = policy.max;
        let pool = Pool::new(&app, factory, policy, units, &self.budget)?;
        Ok(Release {
            number: number.unwrap_or_else(|| self.next_number()),
            digest: checked.digest,
            units,
            forwarded_prefix: Release::forwarded_prefix(&mount),
            kind: checked.kind,
            reset,
            preload,
            code: origin,
            files: public,
            downloads: TaskTracker::new(),
            expired: CancellationToken::new(),
            app,
            file,
            config,
            mount,
            pool,
            max_instances,
            counters: ReleaseCounters::new(counters),
        })
    }
}

impl Builder {
    /// Those that instances may be in.
    pub(super) fn engines(&self) -> Result<Arc<Engines>, DeployError> {
        if self.engines.are_withdrawn() { Err(DeployError::Withdrawn) } else { Ok(self.engines.now()) }
    }

    pub(super) fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Relaxed) + 1
    }
}

/// Where an app hangs: what its config says, or else its name.
///
/// # Errors
/// [`DeployError::Path`] or [`DeployError::Name`].
pub fn mount(app: &str, config: &AppConfig) -> Result<Mount, DeployError> {
    Ok(match &config.path {
        Some(path) => Mount::parse(path)?,
        None => Mount::of_app(app)?,
    })
}

/// Whether an app of this kind can be what its configuration says: all that can be told without compiling it.
///
/// # Errors
/// [`DeployError::Mode`], [`DeployError::Reset`] or [`DeployError::Preload`]: what was asked for is not for such an app.
pub fn check_kind(config: &AppConfig, kind: Kind) -> Result<(), DeployError> {
    config.mode.check(kind)?;
    // The other modes reset nothing.
    let is_rewound = config.mode == Mode::Pooled && config.reset == config::Reset::Rewind;
    if is_rewound && kind != Kind::Http02 {
        return Err(DeployError::Reset(kind));
    }
    if config.preload.is_some() && kind != Kind::Http02 {
        return Err(DeployError::Preload(kind));
    }
    Ok(())
}

/// What the host may choose where it is left to it how an app's instances are brought back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    /// They are rewound if it can be done: that takes the least.
    Best,
    /// They are replaced, since the app did not start otherwise.
    Replace,
}

/// How the instances of a release are brought back, of an app that can be what its configuration says.
fn decide_reset(config: &AppConfig, kind: Kind, engines: &Engines, choice: Choice) -> Reset {
    // The other modes reset nothing.
    if config.mode != Mode::Pooled || kind != Kind::Http02 {
        return Reset::Replace;
    }
    match (config.reset, choice) {
        (config::Reset::Replace, _) | (config::Reset::Auto, Choice::Replace) => Reset::Replace,
        _ if engines.proves_rewind() => Reset::Rewind,
        _ => Reset::Replace,
    }
}

struct Prepared {
    app: Arc<str>,
    file: String,
    config: AppConfig,
    mount: Mount,
    checked: Checked,
    engines: Arc<Engines>,
    order: Order,
    preload: Option<Verdict>,
    code: PreparedCode,
    origin: CodeOrigin,
    public: Option<Arc<Manifest>>,
    number: Option<u64>,
}

enum PreparedCode {
    Loaded(Code),
    Cold(Bytes),
}

fn link_error(error: wasmtime::Error) -> DeployError {
    DeployError::Link(format!("{error:#}"))
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("; ")
}
