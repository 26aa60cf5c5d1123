//! The app that is audited, compiled and linked, and pools of its instances.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::answer::{Answer, Outcome};
use crate::compare::{App, Asked};
use crate::config::{AppConfig, HostConfig, Mode, Policy, Problem};
use crate::engine::{
    self, CacheError, CodeCache, CodeKind, CompileError, EngineKind, EngineSettings, Engines, Reset,
};
use crate::instance::outbound::{OutboundClient, OutboundLimits};
use crate::instance::{
    AppCode, Client, Factory, GuestBody, GuestRequest, InstancePolicy, LinkedCode, exchange,
};
use crate::metrics::{AppCounters, ReleaseCounters};
use crate::pool::{self, Budget, Lease, OnEnd, Pool};
use crate::prepare::{self, Checked, Kind, Refusal};
use crate::router::Mount;

/// Instances of all pools together.
const INSTANCES: u32 = 128;

/// What an app is audited with.
pub struct Subject {
    name: String,
    checked: Checked,
    mount: Mount,
    /// Its own, with the settings that an audit has its own way with.
    config: Arc<AppConfig>,
    /// The mode that its own configuration chooses.
    mode: Mode,
    factory: Factory,
    budget: Budget,
    counters: Arc<ReleaseCounters>,
    never: CancellationToken,
}

/// Why an app can't be audited.
#[derive(Debug, thiserror::Error)]
pub enum SubjectError {
    #[error("{}", .0.iter().map(Problem::to_string).collect::<Vec<_>>().join("; "))]
    Config(Vec<Problem>),
    #[error("cannot read {file}: {error}")]
    Read { file: String, error: std::io::Error },
    #[error("{0}")]
    Refused(#[from] Refusal),
    #[error("{0}")]
    Compile(#[from] CompileError),
    #[error("{0}")]
    Cache(#[from] CacheError),
    #[error("{0}")]
    Link(String),
    #[error("its path is refused: {0}")]
    Mount(String),
}

impl Subject {
    /// Compiles an app, or takes its code from the code cache, and links it. Blocks.
    ///
    /// # Errors
    /// What a deploy would fail with.
    pub fn new(
        app: &App,
        host: &HostConfig,
        policy: &Policy,
        settings: EngineSettings,
    ) -> Result<Subject, SubjectError> {
        let config_file = app.file.with_extension("toml");
        let text = match std::fs::read_to_string(&config_file) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(SubjectError::Read { file: config_file.display().to_string(), error }),
        };
        let own = text.as_deref().map(|text| (&*config_file, text));
        let own = policy.app_config(&app.name, own).map_err(SubjectError::Config)?;
        let mount = crate::deploy::builder::mount(&app.name, &own)
            .map_err(|error| SubjectError::Mount(error.to_string()))?;
        let mode = own.mode;
        // What would replace an instance would hide what was left in it.
        let config = Arc::new(AppConfig {
            mode: Mode::Kept,
            max_requests: None,
            max_lifetime: None,
            max_retained_memory: usize::MAX,
            max_instances: Some(1),
            ..own
        });
        let checked = prepare::check(&app.bytes)?;
        let (kind, code_kind) = (checked.kind, CodeKind::of(checked.kind, Reset::Replace));
        let link = |error: wasmtime::Error| SubjectError::Link(format!("{error:#}"));
        let engines = Engines::new(EngineSettings { instances: INSTANCES, ..settings }).map_err(link)?;
        let engine = engines.get(EngineKind::of(kind, Reset::Replace)).map_err(link)?;
        let cache = CodeCache::open(&host.cache.dir, host.cache.max_size)?;
        let loaded = cache.code(engine, &app.bytes, code_kind, checked.digest.as_bytes())?;
        let code = AppCode::link(kind, &loaded.code).map_err(link)?;
        let outbound = OutboundClient::new(OutboundLimits::default());
        let counters = AppCounters::new(app.name.as_str().into());
        let policy = Arc::new(InstancePolicy {
            app: app.name.as_str().into(),
            config: config.clone(),
            counters: counters.clone(),
            outbound: outbound.for_app(&app.name, config.outbound.clone()),
        });
        let factory = Factory::new(engines, LinkedCode::new(code, None), policy);
        Ok(Subject {
            name: app.name.clone(),
            checked,
            mount,
            config,
            mode,
            factory,
            budget: Budget::new(INSTANCES, 1_000),
            counters: ReleaseCounters::new(counters),
            never: CancellationToken::new(),
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn kind(&self) -> Kind {
        self.checked.kind
    }

    pub(super) fn mode(&self) -> Mode {
        self.mode
    }

    pub(super) fn config(&self) -> &AppConfig {
        &self.config
    }

    /// A pool whose instances are for one request each.
    pub(super) fn clean(&self) -> Result<Pool<Factory>, String> {
        self.pool(self.factory.twin(), OnEnd::Drop, 1)
    }

    /// A pool of one instance that goes on as the guest leaves it.
    pub(super) fn kept(&self) -> Result<Pool<Factory>, String> {
        self.pool(self.factory.twin(), OnEnd::Keep, 1)
    }

    /// A pool of seats at one instance.
    pub(super) fn shared(&self, seats: u32) -> Result<Pool<Factory>, String> {
        let factory = self.factory.twin().resident(tokio::runtime::Handle::current());
        self.pool(factory, OnEnd::Keep, seats)
    }

    fn pool(&self, factory: Factory, on_end: OnEnd, max: u32) -> Result<Pool<Factory>, String> {
        let policy = pool::Policy {
            min_idle: 0,
            max,
            max_idle: if on_end == OnEnd::Drop { 0 } else { max },
            queue_size: 1_000,
            queue_timeout: self.config.request_timeout.max(Duration::from_secs(60)),
            idle_time: Duration::from_secs(3600),
            sleep_after: None,
            on_end,
            weight: 1,
            max_lifetime: None,
            max_uses: None,
        };
        let units = engine::units(&self.checked.facts);
        Pool::new(&self.name, factory, policy, units, &self.budget).map_err(|error| error.to_string())
    }

    /// Has a leased instance answer a request.
    pub(super) async fn ask(&self, lease: Lease<Factory>, asked: &Asked) -> Outcome {
        let request = match self.request(asked) {
            Ok(request) => request,
            Err(error) => return Outcome::Failed(format!("it can't be asked: {error}")),
        };
        let answered = async {
            let exchanged = exchange(lease, request, &self.config, &self.counters, &self.never).await;
            Answer::take(exchanged).await
        };
        match tokio::time::timeout(self.config.request_timeout, answered).await {
            Ok(Ok(answer)) => Outcome::Answered(answer),
            Ok(Err(failure)) => Outcome::Failed(failure),
            Err(_) => Outcome::Hung(self.config.request_timeout),
        }
    }

    fn request(&self, asked: &Asked) -> Result<GuestRequest, http::Error> {
        let prefix = if self.kind().is_command() { self.mount.prefix() } else { "" };
        let mut request =
            http::Request::builder().method(asked.method.clone()).uri(format!("{prefix}{}", asked.path));
        if !asked.headers.iter().any(|(name, _)| name == http::header::HOST) {
            request = request.header(http::header::HOST, LOCAL.to_string());
        }
        for (name, value) in &asked.headers {
            request = request.header(name, value);
        }
        if !asked.body.is_empty() {
            request = request.header(http::header::CONTENT_LENGTH, asked.body.len());
        }
        let (parts, ()) = request.body(())?.into_parts();
        let client = Client { remote: LOCAL, local: LOCAL, mount: self.mount.clone() };
        Ok(GuestRequest { parts, body: GuestBody::Whole(asked.body.clone()), id: 0, client })
    }
}

/// Where the requests seem to come from and go to.
const LOCAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);
