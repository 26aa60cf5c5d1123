//! What the operator sees of a running host, and orders: `/status`, `/metrics`, `/health` and `/apps/NAME/releases`, and
//! what can be posted to `/apps/NAME/`, on a listener of their own.
//!
//! It shares no thread with the serving of apps, so it answers when they don't. It asks nobody who he is: who reaches
//! the listener is the operator. A page in the operator's browser is not, see `orders`.

mod orders;
mod prometheus;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use serde::Serialize;

use crate::compile::Compiler;
use crate::config::{GuestState, Mode};
use crate::deploy::orders::Orders;
use crate::deploy::store::Store;
use crate::engine::{EnginesInUse, Reset};
use crate::instance::RewindStatus;
use crate::isolation::Record;
use crate::isolation::record::IsolationStatus;
use crate::metrics::AppMetrics;
use crate::pool::{Budget, Stats};
use crate::prepare::preload::Verdict;
use crate::public;
use crate::public::copies::Usage;
use crate::registry::{FolderView, Registry};
use crate::server::body::ResponseBody;
use crate::server::connection::{Answered, Arriving, Handler, Peer};
use crate::sizing::Sizing;

/// Everything that `/status` tells.
#[derive(Debug, Serialize)]
pub struct Status {
    pub version: &'static str,
    pub uptime_seconds: u64,
    /// The apps folder, with all links resolved if it is there.
    pub apps_folder: PathBuf,
    /// How instances are reset, in words, and the settings themselves.
    pub reset: String,
    pub engine: crate::engine::EngineSettings,
    /// What `verify_isolation` has shown.
    pub isolation: IsolationStatus,
    /// Units of the instance budget: in all, and held by instances.
    pub budget: BudgetStatus,
    /// How many instances there may be, and why.
    pub sizing: crate::sizing::Status,
    /// Apps that are being compiled, and that wait to be.
    pub compiling: crate::compile::Status,
    /// What the copies of static files take.
    pub static_files: Usage,
    /// What is wrong with the apps folder.
    pub folder: FolderView,
    pub apps: Vec<AppStatus>,
}

#[derive(Debug, Serialize)]
pub struct BudgetStatus {
    pub total: u32,
    /// Those of them that may be held now.
    pub limit: u32,
    pub used: u32,
}

#[derive(Debug, Serialize)]
pub struct AppStatus {
    pub app: String,
    /// Why the app's present files are not live, if they are not.
    pub problem: Option<String>,
    /// That is because it was rolled back from them.
    pub rolled_back: bool,
    pub release: Option<ReleaseStatus>,
    pub requests: AppMetrics,
}

#[derive(Debug, Serialize)]
pub struct ReleaseStatus {
    pub number: u64,
    pub digest: String,
    pub file: String,
    pub kind: String,
    pub mount: String,
    pub hosts: Vec<String>,
    pub mode: Mode,
    /// What its requests see of requests before.
    pub guest_state: GuestState,
    pub reset: Reset,
    /// What has come of preloading it, where that was asked for.
    pub preload: Option<Verdict>,
    pub code: String,
    /// An app that is not in use has its code on disk only; one in mode `cold` has always.
    pub code_in_memory: bool,
    /// How good it is known to be, if releases are kept.
    pub standing: Option<&'static str>,
    /// The app's share of the budget beside others.
    pub weight: u32,
    /// Instances that it may have at most, whatever there is room for now.
    pub max_instances: u32,
    /// In mode `resident` these are seats at its instances: requests that it may have at once.
    pub instances: Stats,
    /// In mode `resident`: instances at work.
    pub resident_instances: Option<usize>,
    /// How its instances have been rewound, if they are.
    pub rewinds: Option<RewindStatus>,
    /// The files of its `public/`, if they are served.
    pub static_files: Option<StaticStatus>,
}

#[derive(Debug, Serialize)]
pub struct StaticStatus {
    pub files: usize,
    pub bytes: u64,
    /// Of all paths and contents together.
    pub digest: String,
}

/// Answers the admin listener's requests.
#[derive(Clone)]
pub struct AdminHandler(Arc<Shared>);

struct Shared {
    registry: Arc<Registry>,
    engines: Arc<EnginesInUse>,
    budget: Budget,
    sizing: Arc<Sizing>,
    deploys: Deploys,
    isolation: Arc<Record>,
    started: Instant,
}

/// What has to do with deploys.
pub struct Deploys {
    pub orders: Orders,
    pub store: Option<Arc<Store>>,
    pub folder: PathBuf,
    pub compiler: Arc<Compiler>,
    /// Of static files.
    pub copies: Arc<public::Copies>,
}

impl AdminHandler {
    pub fn new(
        registry: Arc<Registry>,
        engines: Arc<EnginesInUse>,
        budget: Budget,
        sizing: Arc<Sizing>,
        isolation: Arc<Record>,
        deploys: Deploys,
    ) -> AdminHandler {
        AdminHandler(Arc::new(Shared {
            registry,
            engines,
            budget,
            sizing,
            isolation,
            deploys,
            started: Instant::now(),
        }))
    }

    pub fn status(&self) -> Status {
        let Shared { registry, engines, budget, sizing, isolation, deploys, started } = &*self.0;
        let (engines, store) = (engines.now(), deploys.store.as_ref());
        Status {
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: started.elapsed().as_secs(),
            apps_folder: std::fs::canonicalize(&deploys.folder).unwrap_or_else(|_| deploys.folder.clone()),
            reset: engines.settings().to_string(),
            engine: engines.settings().clone(),
            isolation: isolation.snapshot(),
            budget: BudgetStatus {
                total: budget.units(),
                limit: budget.limit(),
                used: budget.units() - budget.free(),
            },
            sizing: sizing.status(),
            compiling: deploys.compiler.status(),
            static_files: deploys.copies.usage(),
            folder: registry.folder(),
            apps: registry
                .apps()
                .into_iter()
                .map(|view| AppStatus {
                    requests: registry.counters(&view.app).snapshot(),
                    app: view.app.to_string(),
                    problem: view.problem,
                    rolled_back: view.is_rolled_back,
                    release: view.live.map(|release| ReleaseStatus {
                        number: release.number,
                        digest: release.digest.to_string(),
                        file: release.file.clone(),
                        kind: release.kind.to_string(),
                        mount: release.mount.to_string(),
                        hosts: release.config.hosts.clone(),
                        mode: release.config.mode,
                        guest_state: release.config.mode.guest_state(),
                        reset: release.reset,
                        preload: release.preload.clone(),
                        code: release.code.to_string(),
                        code_in_memory: release.pool.manager().has_code(),
                        standing: store.and_then(|store| store.standing(&release.app, release.number)),
                        weight: release.config.weight,
                        max_instances: release.max_instances,
                        instances: release.pool.stats(),
                        resident_instances: release.pool.manager().resident_instances(),
                        rewinds: release.pool.manager().rewinds(),
                        static_files: release.files.as_ref().map(|files| StaticStatus {
                            files: files.files(),
                            bytes: files.size(),
                            digest: files.digest().to_string(),
                        }),
                    }),
                })
                .collect(),
        }
    }

    async fn answer(&self, request: &Parts) -> Response<ResponseBody> {
        if let Some((app, about)) = orders::target(request.uri.path()) {
            return orders::answer(&self.0.deploys, &self.0.registry, request, app, about).await;
        }
        if request.method != Method::GET && request.method != Method::HEAD {
            return answer(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "GET only\n".to_owned());
        }
        match request.uri.path() {
            "/health" => answer(StatusCode::OK, "text/plain", "ok\n".to_owned()),
            "/metrics" => {
                answer(StatusCode::OK, "text/plain; version=0.0.4", prometheus::text(&self.status()))
            }
            "/" | "/status" => match serde_json::to_string_pretty(&self.status()) {
                Ok(json) => answer(StatusCode::OK, "application/json", json + "\n"),
                Err(error) => answer(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", format!("{error}\n")),
            },
            _ => answer(
                StatusCode::NOT_FOUND,
                "text/plain",
                "try /status, /metrics, /health or /apps/NAME/releases, or POST /apps/NAME/restart, rollback or record\n"
                    .to_owned(),
            ),
        }
    }
}

impl Handler for AdminHandler {
    type Body = ResponseBody;

    async fn handle(&self, request: Request<Arriving>, _: Peer) -> Answered<ResponseBody> {
        let (request, _) = request.into_parts();
        self.answer(&request).await.into()
    }

    fn may_busy_poll(&self) -> bool {
        false
    }
}

fn answer(status: StatusCode, content_type: &'static str, text: String) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::fixed(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
