//! Applies the plan: looks, reads, builds, publishes, retires.
//!
//! One loop owns the planner; all that takes time runs beside it as a job, and what came of it is fed back. So one
//! app's slow compilation delays no other app.
//!
//! Reading order: this file is the loop; `from_files` is a deploy's way, `restore` and `rollback` are the ways from the
//! store; `watched` is what is on probation; [`orders`] is who asks for what; `moving` is about other engines, and `said`
//! about what is told of it all.

mod from_files;
mod kept;
mod moving;
pub mod orders;
mod restore;
mod rollback;
mod said;
mod watched;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::behind::spawn_behind;
use super::builder::{Builder, DeployError};
use super::name::AppName;
use super::plan::{Planner, Step};
use super::scan::{self, FolderState, PAUSE, scan};
use super::watcher::Watcher;
use crate::compile::line::Line;
use crate::compile::queue::Asked;
use crate::config;
use crate::engine::thread_cpu_time;
use crate::public::Copies;
use crate::registry::{FolderView, Registry, Starting};
use crate::release::Release;
use from_files::{Built, DoneReading};
use orders::{Awaited, Incoming, Obeyed, Waiting};
use restore::Restored;
use rollback::{Rollback, RolledBack};
use watched::Watched;

/// Deploys under way at once: a bound on the apps' bytes in memory. Compiling has a bound of its own.
const MAX_DEPLOYS: usize = 16;

/// Of these, so many of apps with more bytes than [`LARGE`](super::read::LARGE).
const MAX_LARGE_DEPLOYS: usize = 2;

/// The same for releases that are restored, and for rollbacks: these have places of their own, so that deploys that take
/// long keep nobody from what was good before.
const MAX_RESTORES: usize = 16;
const MAX_ROLLBACKS: usize = 8;

/// Rollbacks whose static files are copied at once, beside what [`Builder::copying`] allows: deploys that wait for a place
/// have that.
const ROLLBACKS_COPYING: usize = 2;

/// From one look to the next it takes [`PAUSE`] times as long as the look had a processor, at most this: a folder in which
/// much lies and always something happens must not keep one busy. By the clock it would be long after a look on a busy
/// machine, too, and deploys would wait for that.
const LONGEST_REST: Duration = Duration::from_secs(30);

/// Largest app that is read, bytes.
pub const MAX_APP_SIZE: u64 = 256 << 20;

/// How far the deployer is with the folder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Looks at the folder so far.
    pub looks: u64,
    /// Apps that were seen and have not come to anything yet.
    pub pending: usize,
}

impl Progress {
    /// Every app that was seen is live, or known why not.
    pub fn settled(&self) -> bool {
        self.looks > 0 && self.pending == 0
    }
}

/// Keeps what is live in step with the apps folder.
pub struct Deployer {
    folder: PathBuf,
    scan_interval: Duration,
    planner: Planner,
    builder: Arc<Builder>,
    registry: Arc<Registry>,
    address: SocketAddr,
    jobs: JoinSet<Done>,
    lines: Lines,
    state: FolderState,
    /// The last look showed nothing that could be trusted: what is due has to wait for the watcher's next hint.
    is_blind: bool,
    /// No look before then.
    rested_at: Instant,
    looks: u64,
    orders: Incoming,
    /// Who has ordered which app to be built anew, and is not answered yet.
    ordered: BTreeMap<AppName, Waiting>,
    /// Who waits for what comes of the files that he has put in place.
    awaited: BTreeMap<AppName, Vec<Awaited>>,
    /// Rollbacks that wait until nothing else is under way for the app.
    rollbacks: BTreeMap<AppName, Rollback>,
    /// The releases on probation.
    watched: BTreeMap<AppName, Watched>,
    /// The releases that are being made again elsewhere.
    moving: Vec<Arc<Release>>,
    /// What was last said of each path, so that it is said once.
    said: BTreeMap<String, String>,
    progress: watch::Sender<Progress>,
}

/// Who waits for a place to be worked on.
struct Lines {
    deploys: Arc<Line>,
    large_deploys: Arc<Semaphore>,
    restores: Arc<Line>,
    rollbacks: Arc<Line>,
    rollbacks_copying: Arc<Semaphore>,
}

impl Lines {
    fn new() -> Lines {
        Lines {
            deploys: Line::new(MAX_DEPLOYS),
            large_deploys: Arc::new(Semaphore::new(MAX_LARGE_DEPLOYS)),
            restores: Line::new(MAX_RESTORES),
            rollbacks: Line::new(MAX_ROLLBACKS),
            rollbacks_copying: Arc::new(Semaphore::new(ROLLBACKS_COPYING)),
        }
    }
}

/// What a job has come to.
#[expect(clippy::large_enum_variant, reason = "there are few of them, and each is moved twice")]
enum Done {
    Read(DoneReading),
    Built(Built),
    Restored(Restored),
    RolledBack(RolledBack),
    Moved { from: Arc<Release>, result: Result<Arc<Release>, DeployError> },
    Drained,
}

impl Deployer {
    pub fn new(
        apps: &config::Apps,
        builder: Builder,
        registry: Arc<Registry>,
        orders: Incoming,
    ) -> (Deployer, watch::Receiver<Progress>) {
        let (progress, receiver) = watch::channel(Progress::default());
        let deployer = Deployer {
            folder: apps.folder.clone(),
            scan_interval: apps.scan_interval,
            planner: Planner::new(apps.settle_time),
            address: builder.address,
            builder: Arc::new(builder),
            registry,
            jobs: JoinSet::new(),
            lines: Lines::new(),
            state: FolderState::default(),
            is_blind: false,
            rested_at: Instant::now(),
            looks: 0,
            orders,
            ordered: BTreeMap::new(),
            awaited: BTreeMap::new(),
            rollbacks: BTreeMap::new(),
            watched: BTreeMap::new(),
            moving: Vec::new(),
            said: BTreeMap::new(),
            progress,
        };
        (deployer, receiver)
    }

    /// Runs until it is stopped. Jobs under way are dropped then: a deploy that is not live was none.
    ///
    /// `engines_replaced`: the engines in use are others than before.
    pub async fn run(mut self, stop: CancellationToken, engines_replaced: Arc<Notify>) {
        let mut watcher = Watcher::start(self.folder.clone(), self.scan_interval);
        let mut review = tokio::time::interval(watched::INTERVAL);
        review.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.remember();
        loop {
            let rested_at = self.rested_at;
            // Cancellation safety: the watcher loses no hint.
            let hint = async {
                tokio::time::sleep_until(rested_at.into()).await;
                watcher.changed().await;
            };
            let next_look = self.planner.next_look().filter(|_| !self.is_blind);
            let look_again = async {
                match next_look {
                    Some(at) => tokio::time::sleep_until(at.max(rested_at).into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => break,
                () = engines_replaced.notified() => self.move_all(),
                () = hint => self.look().await,
                () = look_again => self.look().await,
                Some(done) = self.jobs.join_next() => self.feed_back(done),
                order = self.orders.next() => self.take_order(order).await,
                _ = review.tick(), if !self.watched.is_empty() => self.review_watched(),
            }
            self.start_rollbacks();
            self.report_progress();
        }
        self.jobs.shutdown().await;
    }

    /// What is kept of the time before this host.
    fn remember(&mut self) {
        let Some(store) = &self.builder.store else { return };
        let now = Instant::now();
        for app in store.apps() {
            let held = store.record(app.as_str()).and_then(|record| record.held);
            self.planner.remember(app, held.map(|held| held.digests).unwrap_or_default(), now);
        }
    }

    /// Looks at the folder and starts what follows.
    async fn look(&mut self) {
        let folder = self.folder.clone();
        let limits = scan::Limits {
            public: self.builder.policy.largest_public(),
            // At the first look nothing is served yet.
            in_stretches: self.looks > 0,
            ..Default::default()
        };
        let began = Instant::now();
        let look = move || {
            let before = thread_cpu_time();
            let state = scan(&folder, &limits);
            (state, thread_cpu_time().saturating_sub(before))
        };
        let Ok((looked, took)) = tokio::task::spawn_blocking(look).await else { return };
        self.rested_at = began + (took * PAUSE).min(LONGEST_REST);
        match looked {
            Ok(state) => {
                self.is_blind = self.planner.is_lost(&state);
                if self.is_blind && self.looks == 0 {
                    tracing::warn!(
                        "the apps folder is empty, though releases of its apps are kept: if it is a mount, it is yet \
                         to come; nothing is served until something is in it"
                    );
                }
                self.state = state;
            }
            Err(error) => {
                self.is_blind = true;
                self.review_orders();
                let problem = Some(self.say_folder(&error));
                self.registry.set_folder(FolderView { problem, ..self.registry.folder() });
                return;
            }
        }
        if !self.is_blind {
            self.unsay("");
        }
        self.report_problems();
        let plan = self.planner.look(&self.state, Instant::now());
        let mut expected = Vec::new();
        for step in plan.steps {
            match step {
                Step::Read { app, found } => {
                    let asked = Asked::default();
                    expected.extend(Starting::by_name(app.as_str(), &asked));
                    self.start_reading(app, found, asked);
                }
                Step::Retire { app } => self.retire(&app),
                Step::Restore { app } => self.start_restoring(app, false),
            }
        }
        self.registry.expect(expected);
        self.forget_gone();
        self.review_orders();
        self.looks += 1;
    }

    /// Apps that were never live leave no step to be taken when their files go, only what was said of them.
    fn forget_gone(&mut self) {
        for view in self.registry.apps() {
            let known = AppName::parse(&view.app).is_ok_and(|app| self.planner.knows(&app));
            if view.live.is_none() && !known {
                self.registry.retire(&view.app);
                self.unsay(&view.app);
            }
        }
    }

    fn feed_back(&mut self, done: Result<Done, tokio::task::JoinError>) {
        match done {
            Ok(Done::Read(done)) => self.read(done),
            Ok(Done::Built(built)) => self.built(built),
            Ok(Done::Restored(restored)) => self.restored(restored),
            Ok(Done::RolledBack(rolled_back)) => self.rolled_back(rolled_back),
            Ok(Done::Moved { from, result }) => self.moved(&from, result),
            Ok(Done::Drained) => {}
            Err(error) => tracing::error!("a deploy job ended unexpectedly: {error}"),
        }
    }

    /// A release was published in place of `before`.
    fn went_live(&mut self, app: &AppName, release: &Arc<Release>, before: Option<Arc<Release>>) {
        self.unsay(app.as_str());
        self.say_live(release);
        self.move_if_needed(release);
        if let Some(before) = before {
            if before.mount != release.mount || before.config.hosts != release.config.hosts {
                self.route_freed();
            }
            self.drain(before);
        }
    }

    /// The release of an app that is live.
    fn live(&self, app: &AppName) -> Option<Arc<Release>> {
        self.registry.app(app.as_str())?.live
    }

    fn obeyed(&self, app: &AppName, release: &Release, replaced: Option<u64>, already: bool) -> Obeyed {
        let probation = self.watched.contains_key(app);
        let time = u64::try_from(release.config.probation.as_millis()).unwrap_or(u64::MAX);
        Obeyed {
            app: app.to_string(),
            release: release.number,
            replaced,
            url: self.url(release),
            already,
            probation: (probation && !already).then_some(time),
        }
    }

    fn retire(&mut self, app: &AppName) {
        self.unsay(app.as_str());
        if let Some(release) = self.registry.retire(app.as_str()) {
            tracing::info!(app = app.as_str(), release = release.number, "retired: its file is gone");
            self.drain(release);
        }
        self.watched.remove(app);
        let name = app.to_string();
        let live = self.record(app).and_then(|record| record.live);
        self.in_store(move |store| store.forget(&name, live));
        self.route_freed();
    }

    /// Perhaps for an app that was refused it.
    fn route_freed(&mut self) {
        self.planner.retry_failed();
    }

    fn drain(&mut self, release: Arc<Release>) {
        let copies = self.builder.copies.clone();
        self.jobs.spawn(async move {
            release.drain().await;
            drop(release);
            sweep(copies).await;
            Done::Drained
        });
    }

    fn sweep(&mut self) {
        let copies = self.builder.copies.clone();
        self.jobs.spawn(async move {
            sweep(copies).await;
            Done::Drained
        });
    }

    fn report_progress(&self) {
        let pending = self.state.apps.keys().filter(|app| self.planner.outcome(app).is_none()).count();
        self.progress.send_replace(Progress { looks: self.looks, pending });
    }
}

/// Removes the copies of static files that no release has any more.
async fn sweep(copies: Arc<Copies>) {
    // What fails in it has been logged.
    let _ = spawn_behind(move || copies.sweep()).await;
}
