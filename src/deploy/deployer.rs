//! Applies the plan: looks, reads, builds, publishes, retires.
//!
//! One loop owns the planner; all that takes time runs beside it as a job, and what came of it is fed back. So one
//! app's slow compilation delays no other app.

mod report;
pub mod restart;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::builder::{Builder, DeployError, Sources};
use super::name::AppName;
use super::plan::{AfterRead, Planner, Step};
use super::read::{Digests, ReadApp, ReadError, Reading, read};
use super::scan::{self, FolderState, Found, scan};
use super::watcher::Watcher;
use crate::compile::line::{Line, Place};
use crate::compile::queue::{Asked, Standing};
use crate::config;
use crate::pool::PrewarmError;
use crate::prepare::Refusal;
use crate::public::Store;
use crate::registry::{FolderView, Registry, Starting};
use crate::release::Release;
use restart::{Orders, Waiting};

/// Deploys under way at once: a bound on the apps' bytes in memory. Compiling has a bound of its own.
const MAX_DEPLOYS: usize = 16;

/// From one look to the next it takes so many times as long as the look took, at most [`LONGEST_REST`]: a folder in which
/// much lies and always something happens must not keep a processor busy.
const REST: u32 = 5;
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
    slots: Arc<Line>,
    state: FolderState,
    /// The last look showed nothing that could be trusted: what is due has to wait for the watcher's next hint.
    is_blind: bool,
    /// No look before then.
    rested_at: Instant,
    looks: u64,
    orders: Orders,
    /// Who has ordered which app to be built anew, and is not answered yet.
    ordered: BTreeMap<AppName, Waiting>,
    /// What was last said of each path, so that it is said once.
    said: BTreeMap<String, String>,
    progress: watch::Sender<Progress>,
}

/// What a job has come to.
#[expect(clippy::large_enum_variant, reason = "there are few of them, and each is moved twice")]
enum Done {
    Read { app: AppName, found: Found, result: Result<ReadApp, ReadError>, asked: Asked, slot: Place },
    Built { app: AppName, digests: Digests, result: Result<Arc<Release>, DeployError>, waiting: Waiting },
    Moved { from: Arc<Release>, result: Result<Arc<Release>, DeployError> },
    Drained,
}

impl Deployer {
    /// `address`: where apps are served, for what is said about them.
    pub fn new(
        apps: &config::Apps,
        builder: Builder,
        registry: Arc<Registry>,
        address: SocketAddr,
        orders: Orders,
    ) -> (Deployer, watch::Receiver<Progress>) {
        let (progress, receiver) = watch::channel(Progress::default());
        let deployer = Deployer {
            folder: apps.folder.clone(),
            scan_interval: apps.scan_interval,
            planner: Planner::new(apps.settle_time),
            builder: Arc::new(builder),
            registry,
            address,
            jobs: JoinSet::new(),
            slots: Line::new(MAX_DEPLOYS),
            state: FolderState::default(),
            is_blind: false,
            rested_at: Instant::now(),
            looks: 0,
            orders,
            ordered: BTreeMap::new(),
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
                () = stop.cancelled() => return,
                () = engines_replaced.notified() => self.move_all(),
                () = hint => self.look().await,
                () = look_again => self.look().await,
                Some(done) = self.jobs.join_next() => self.feed_back(done),
                order = self.orders.next() => self.take_order(order),
            }
            self.report_progress();
        }
    }

    /// Looks at the folder and starts what follows.
    async fn look(&mut self) {
        let folder = self.folder.clone();
        let limits = scan::Limits { public: self.builder.policy.largest_public(), ..Default::default() };
        let began = Instant::now();
        let looked = tokio::task::spawn_blocking(move || scan(&folder, &limits)).await;
        self.rested_at = began + (began.elapsed() * REST).min(LONGEST_REST);
        match looked {
            Ok(Ok(state)) => {
                self.is_blind = self.planner.is_lost(&state);
                self.state = state;
            }
            Ok(Err(error)) => {
                self.is_blind = true;
                self.review_orders();
                let problem = Some(self.say_folder(&error));
                self.registry.set_folder(FolderView { problem, ..self.registry.folder() });
                return;
            }
            Err(_) => return,
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

    fn start_reading(&mut self, app: AppName, found: Found, asked: Asked) {
        let (slots, builder) = (self.slots.clone(), self.builder.clone());
        self.jobs.spawn(async move {
            // Before the slot, so that those who wait for it keep none from apps without static files.
            let copying = match found.public {
                Some(_) => Some(builder.copying.clone().acquire_owned().await),
                None => None,
            };
            // Neither the semaphore nor the line is ever closed.
            let Ok(slot) = slots.place(Standing::Other, asked.clone()).await else { return Done::Drained };
            let (files, name) = (found.clone(), app.clone());
            let reading = move || {
                let limits = |text: Option<&str>| builder.policy.public_limits(name.as_str(), text);
                read(
                    &files,
                    &Reading { max_size: MAX_APP_SIZE, store: Some(&builder.store), limits: &limits },
                )
            };
            let result = tokio::task::spawn_blocking(reading).await;
            let result = result.unwrap_or(Err(ReadError::Changed));
            drop(copying);
            Done::Read { app, found, result, asked, slot }
        });
    }

    fn feed_back(&mut self, done: Result<Done, tokio::task::JoinError>) {
        match done {
            Ok(Done::Read { app, found, result: Ok(files), asked, slot }) => {
                let next = self.planner.read(&app, &found, &files.after, files.digests);
                if next != AfterRead::Deploy {
                    self.registry.unexpect(app.as_str());
                }
                match next {
                    AfterRead::Deploy => self.start_building(app, found, files, asked, slot),
                    AfterRead::Nothing if self.planner.live(&app) == Some(files.digests) => {
                        // What is live was put back: whatever was wrong in between is over.
                        self.registry.solved(app.as_str());
                        self.unsay(app.as_str());
                    }
                    AfterRead::Nothing | AfterRead::Again => {}
                }
            }
            Ok(Done::Read { app, found, result: Err(error), .. }) => {
                self.planner.unreadable(&app, &found, &error, Instant::now());
                self.registry.unexpect(app.as_str());
                if !matches!(error, ReadError::Changed | ReadError::Gone) {
                    self.failed(&app, &error);
                    self.sweep();
                    let answer = Err(self.failure(&app, error.to_string()));
                    restart::answer(self.orders_of(&app), &answer);
                }
            }
            Ok(Done::Built { app, digests, result, waiting }) => {
                let answer = self.built(&app, digests, result);
                if answer.is_err() {
                    self.sweep();
                }
                restart::answer(waiting, &answer);
            }
            Ok(Done::Moved { from, result }) => self.moved(&from, result),
            Ok(Done::Drained) => {}
            Err(error) => tracing::error!("a deploy job ended unexpectedly: {error}"),
        }
    }

    fn start_building(&mut self, app: AppName, found: Found, files: ReadApp, asked: Asked, slot: Place) {
        let name: Arc<str> = app.as_str().into();
        let relative = |path: &std::path::Path| path.strip_prefix(&found.folder).unwrap_or(path).to_owned();
        let config = found.config.as_ref().zip(files.config);
        let sources = Sources {
            app: name.clone(),
            file: relative(&found.wasm.path).display().to_string(),
            wasm: files.wasm,
            config: config.map(|(stamp, text)| (relative(&stamp.path).into_boxed_path(), text)),
            public: files.public,
            asked,
        };
        let (builder, counters, digests) =
            (self.builder.clone(), self.registry.counters(&name), files.digests);
        let waiting = self.orders_of(&app);
        self.jobs.spawn(async move {
            let result = builder.build(sources, counters).await;
            drop(slot);
            Done::Built { app, digests, result, waiting }
        });
    }

    fn built(
        &mut self,
        app: &AppName,
        digests: Digests,
        result: Result<Arc<Release>, DeployError>,
    ) -> restart::Answer {
        let published = result.and_then(|release| {
            let before = self.registry.publish(release.clone())?;
            Ok((release, before))
        });
        match published {
            Ok((release, before)) => {
                self.planner.deployed(app, digests);
                self.unsay(app.as_str());
                self.say_live(&release);
                let replaced = before.as_ref().map(|before| before.number);
                self.move_if_needed(&release);
                if let Some(before) = before {
                    if before.mount != release.mount || before.config.hosts != release.config.hosts {
                        self.route_freed();
                    }
                    self.drain(before);
                }
                Ok(restart::restarted(app, release.number, replaced))
            }
            Err(DeployError::Refused(Refusal::Incomplete(cut))) => {
                self.planner.incomplete(app, digests);
                self.failed(app, &format_args!("{cut}; it is looked at again when it changes"));
                Err(self.failure(app, cut.to_string()))
            }
            Err(error) => {
                let reason = error.to_string();
                match error {
                    DeployError::Start(PrewarmError::NoRoom) => {
                        self.planner.postponed(app, digests, reason, Instant::now());
                    }
                    _ => self.planner.failed(app, digests, reason),
                }
                self.failed(app, &error);
                Err(self.failure(app, error.to_string()))
            }
        }
    }

    /// The engines were replaced: what is live in others is made again in those that are in use.
    fn move_all(&mut self) {
        for release in self.registry.apps().into_iter().filter_map(|app| app.live) {
            self.move_if_needed(&release);
        }
    }

    /// Called after the release was published: whoever replaces the engines closes the pools of what is live after that,
    /// so one of the two sees the other.
    fn move_if_needed(&mut self, release: &Arc<Release>) {
        if self.builder.engines.are(release.pool.manager().engines()) {
            return;
        }
        release.pool.close();
        let (builder, from) = (self.builder.clone(), release.clone());
        self.jobs.spawn(async move {
            let result = builder.moved(&from).await;
            Done::Moved { from, result }
        });
    }

    fn moved(&mut self, from: &Arc<Release>, result: Result<Arc<Release>, DeployError>) {
        let live = self.registry.apps().into_iter().filter_map(|app| app.live);
        let is_live = live.into_iter().any(|live| Arc::ptr_eq(&live, from));
        let published = result.and_then(|release| {
            if is_live {
                self.registry.publish(release.clone())?;
            }
            Ok(release)
        });
        match (published, AppName::parse(&from.app)) {
            (Ok(release), _) if is_live => {
                self.say_live(&release);
                self.move_if_needed(&release);
                self.drain(from.clone());
            }
            // It was replaced or retired meanwhile.
            (Ok(release), _) => release.pool.close(),
            (Err(error), Ok(app)) if is_live => self.failed(&app, &error),
            (Err(_), _) => {}
        }
    }

    fn retire(&mut self, app: &AppName) {
        self.unsay(app.as_str());
        if let Some(release) = self.registry.retire(app.as_str()) {
            tracing::info!(app = app.as_str(), release = release.number, "retired: its file is gone");
            self.drain(release);
        }
        self.route_freed();
    }

    /// Perhaps for an app that was refused it.
    fn route_freed(&mut self) {
        self.planner.retry_failed();
    }

    fn drain(&mut self, release: Arc<Release>) {
        let store = self.builder.store.clone();
        self.jobs.spawn(async move {
            release.drain().await;
            drop(release);
            sweep(store).await;
            Done::Drained
        });
    }

    fn sweep(&mut self) {
        let store = self.builder.store.clone();
        self.jobs.spawn(async move {
            sweep(store).await;
            Done::Drained
        });
    }

    fn report_progress(&self) {
        let pending = self.state.apps.keys().filter(|app| self.planner.outcome(app).is_none()).count();
        self.progress.send_replace(Progress { looks: self.looks, pending });
    }
}

/// Removes the copies of static files that no release has any more.
async fn sweep(store: Arc<Store>) {
    // What fails in it has been logged.
    let _ = tokio::task::spawn_blocking(move || store.sweep()).await;
}
