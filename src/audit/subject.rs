//! The app that is audited, compiled and linked, and pools of its instances.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::answer::{Answer, Outcome};
use crate::compare::{App, Asked};
use crate::config::{self, AppConfig, HostConfig, Mode};
use crate::deploy::{DeployError, builder};
use crate::engine::{self, CacheError, CodeCache, CodeKind, EngineKind, EngineSettings, Engines, Reset};
use crate::instance::{AppCode, Factory, GuestBody, GuestRequest, InstancePolicy, LinkedCode, exchange};
use crate::metrics::ReleaseCounters;
use crate::pool::{Budget, Lease, OnEnd, Policy, Pool};
use crate::prepare::{self, Checked, Kind};
use crate::router::Mount;

/// Instances of all pools together.
const INSTANCES: u32 = 128;

/// How long at least an instance may take to be made.
const LEAST_PATIENCE: Duration = Duration::from_secs(60);

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
    /// As a deploy of it would.
    #[error("{0}")]
    Deploy(#[from] DeployError),
    #[error("cannot read {file}: {error}")]
    Read { file: String, error: std::io::Error },
    #[error("{0}")]
    Cache(#[from] CacheError),
}

impl Subject {
    /// Compiles an app, or takes its code from the code cache, and links it. Blocks.
    ///
    /// # Errors
    /// What a deploy would fail with.
    pub fn new(
        app: &App,
        host: &HostConfig,
        policy: &config::Policy,
        settings: EngineSettings,
    ) -> Result<Subject, SubjectError> {
        let config_file = app.file.with_extension("toml");
        let text = match std::fs::read_to_string(&config_file) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(SubjectError::Read { file: config_file.display().to_string(), error }),
        };
        let own = text.as_deref().map(|text| (&*config_file, text));
        let own = policy.app_config(&app.name, own).map_err(DeployError::Config)?;
        let mount = builder::mount(&app.name, &own)?;
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
        let checked = prepare::check(&app.bytes).map_err(DeployError::Refused)?;
        let (kind, code_kind) = (checked.kind, CodeKind::of(checked.kind, Reset::Replace));
        let link = |error: wasmtime::Error| DeployError::Link(format!("{error:#}"));
        let engines = Engines::new(EngineSettings { instances: INSTANCES, ..settings }).map_err(link)?;
        let engine = engines.get(EngineKind::of(kind, Reset::Replace)).map_err(link)?;
        let cache = CodeCache::open(&host.cache.dir, host.cache.max_size)?;
        let loaded = cache.code(engine, &app.bytes, code_kind, checked.digest.as_bytes());
        let loaded = loaded.map_err(DeployError::Compile)?;
        let code = AppCode::link(kind, &loaded.code).map_err(link)?;
        let policy = InstancePolicy::alone(&app.name, config.clone());
        let counters = policy.counters.clone();
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
        let patience = self.config.request_timeout.max(LEAST_PATIENCE);
        let policy = Policy::for_asking(max, on_end, patience);
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
        let body = GuestBody::Whole(asked.body.clone());
        Ok(GuestRequest::of_the_host(parts, body, Some(LOCAL), self.mount.clone()))
    }
}

/// Where the requests seem to go to.
const LOCAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);
