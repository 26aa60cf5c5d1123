//! What is live: which release answers at which host and path.
//!
//! Deploys change the registry under a lock; requests read an immutable snapshot by one pointer and never wait.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;
use serde::Serialize;

use crate::compile::queue::Asked;
use crate::metrics::AppCounters;
use crate::release::Release;
use crate::router::{Conflict, Mount, Route, Router};

/// What requests see.
pub type Live = Router<Target>;

/// What a route leads to.
#[derive(Clone)]
pub enum Target {
    Live(Arc<Release>),
    /// An app whose first release is being made: who asks for it brings it to the front.
    Starting(Asked),
}

#[derive(Default)]
pub struct Registry {
    live: ArcSwap<Live>,
    apps: Mutex<BTreeMap<Arc<str>, App>>,
    folder: Mutex<FolderView>,
}

/// What is wrong with the apps folder, besides what is wrong with an app.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FolderView {
    /// Why it can't be looked at as a whole.
    pub problem: Option<String>,
    /// The first of the paths in it that are not taken as apps.
    pub paths: Vec<PathProblem>,
    /// How many there are besides.
    pub further_paths: usize,
}

/// A path in the apps folder, and why it is not taken as an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PathProblem {
    pub path: String,
    pub problem: String,
}

#[derive(Default)]
struct App {
    live: Option<Arc<Release>>,
    counters: Option<Arc<AppCounters>>,
    /// Where its first release is to be.
    starting: Option<Starting>,
    /// Why the app's present files are not live.
    problem: Option<String>,
    /// It was rolled back from them.
    is_rolled_back: bool,
}

/// An app that is not live and may become so.
#[derive(Clone)]
pub struct Starting {
    pub hosts: Vec<String>,
    pub mount: Mount,
    pub asked: Asked,
}

/// Two apps claim one route: the one that runs stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{route} is already served by the app {owner}; give one of them another path or host")]
pub struct RouteTaken {
    pub route: String,
    pub owner: String,
}

impl RouteTaken {
    pub fn of(conflict: &Conflict, owner: &str) -> RouteTaken {
        let Conflict { host, mount, .. } = conflict;
        RouteTaken {
            route: format!("{}{mount}", host.as_deref().unwrap_or_default()),
            owner: owner.to_owned(),
        }
    }
}

/// One app, as status shows it.
pub struct AppView {
    pub app: Arc<str>,
    pub live: Option<Arc<Release>>,
    pub problem: Option<String>,
    pub is_rolled_back: bool,
}

impl Registry {
    /// The releases that are live now. The snapshot never changes; hold it only as long as a request needs it.
    pub fn live(&self) -> Guard<Arc<Live>> {
        self.live.load()
    }

    /// The counters of an app, which outlive its releases.
    pub fn counters(&self, app: &Arc<str>) -> Arc<AppCounters> {
        let mut apps = self.apps.lock();
        let entry = apps.entry(app.clone()).or_default();
        entry.counters.get_or_insert_with(|| AppCounters::new(app.clone())).clone()
    }

    /// Makes a release live by one pointer swap and returns the one before.
    ///
    /// # Errors
    /// Another app already has one of its routes; then nothing changes.
    pub fn publish(&self, release: Arc<Release>) -> Result<Option<Arc<Release>>, RouteTaken> {
        let mut apps = self.apps.lock();
        let others = apps.values().filter_map(|app| app.live.as_ref()).filter(|live| live.app != release.app);
        // The new one comes last: of two that claim one route the running one stays.
        let all: Vec<&Arc<Release>> = others.chain([&release]).collect();
        let starting = starting(&apps, &release.app);
        let (router, conflicts) = Router::build(all.iter().map(|release| route(release)).chain(starting));
        // An app that is not live yet takes no route from one that is.
        if let Some(conflict) = conflicts.iter().find(|conflict| conflict.refused < all.len()) {
            let owner = all.get(conflict.holder).map_or("", |holder| &holder.app);
            return Err(RouteTaken::of(conflict, owner));
        }
        let app = apps.entry(release.app.clone()).or_default();
        (app.problem, app.starting) = (None, None);
        app.is_rolled_back = false;
        let before = app.live.replace(release);
        self.live.store(Arc::new(router));
        Ok(before)
    }

    /// Requests to these apps are told from now on that they are starting, unless a live app has the route. An app that
    /// is live itself is left out.
    pub fn expect(&self, expected: impl IntoIterator<Item = (Arc<str>, Starting)>) {
        let mut apps = self.apps.lock();
        let mut changed = false;
        for (app, starting) in expected {
            let app = apps.entry(app).or_default();
            if app.live.is_some() || app.starting.as_ref().is_some_and(|known| known.is_at(&starting)) {
                continue;
            }
            app.starting = Some(starting);
            changed = true;
        }
        if changed {
            self.reroute(&apps);
        }
    }

    /// Takes back what [`Registry::expect`] said of an app: nothing comes of it.
    pub fn unexpect(&self, app: &str) {
        let mut apps = self.apps.lock();
        if apps.get_mut(app).and_then(|app| app.starting.take()).is_some() {
            self.reroute(&apps);
        }
    }

    /// Takes an app out of service and returns its release, to be drained.
    pub fn retire(&self, app: &str) -> Option<Arc<Release>> {
        let mut apps = self.apps.lock();
        let App { live, starting, .. } = apps.remove(app)?;
        if live.is_some() || starting.is_some() {
            self.reroute(&apps);
        }
        live
    }

    /// Notes why an app's present files are not live; what is live stays so. True if something is.
    pub fn problem(&self, app: &Arc<str>, problem: String) -> bool {
        let mut apps = self.apps.lock();
        let entry = apps.entry(app.clone()).or_default();
        entry.problem = Some(problem);
        let (is_live, was_starting) = (entry.live.is_some(), entry.starting.take().is_some());
        if was_starting {
            self.reroute(&apps);
        }
        is_live
    }

    /// The app was rolled back from what its files have.
    pub fn held_back(&self, app: &Arc<str>, problem: String) {
        let mut apps = self.apps.lock();
        let app = apps.entry(app.clone()).or_default();
        app.problem = Some(problem);
        app.is_rolled_back = true;
    }

    /// Takes back what [`Registry::problem`] noted: the app's present files are the live ones.
    pub fn solved(&self, app: &str) {
        if let Some(app) = self.apps.lock().get_mut(app) {
            app.problem = None;
            app.is_rolled_back = false;
        }
    }

    /// Notes what is wrong with the apps folder now.
    pub fn set_folder(&self, folder: FolderView) {
        *self.folder.lock() = folder;
    }

    pub fn folder(&self) -> FolderView {
        self.folder.lock().clone()
    }

    /// One app, if it is known.
    pub fn app(&self, name: &str) -> Option<AppView> {
        self.apps.lock().get_key_value(name).map(|(name, app)| app.view(name))
    }

    pub fn apps(&self) -> Vec<AppView> {
        let apps = self.apps.lock();
        apps.iter().map(|(name, app)| app.view(name)).collect()
    }

    fn reroute(&self, apps: &BTreeMap<Arc<str>, App>) {
        let live = apps.values().filter_map(|app| app.live.as_ref()).map(route);
        let (router, _) = Router::build(live.chain(starting(apps, "")));
        self.live.store(Arc::new(router));
    }
}

impl App {
    fn view(&self, name: &Arc<str>) -> AppView {
        AppView {
            app: name.clone(),
            live: self.live.clone(),
            problem: self.problem.clone(),
            is_rolled_back: self.is_rolled_back,
        }
    }
}

impl Starting {
    /// Where an app is expected until its config is known: at the path of its name, if it makes one.
    pub fn by_name(app: &str, asked: &Asked) -> Option<(Arc<str>, Starting)> {
        let mount = Mount::of_app(app).ok()?;
        Some((app.into(), Starting { hosts: Vec::new(), mount, asked: asked.clone() }))
    }

    fn is_at(&self, other: &Starting) -> bool {
        self.hosts == other.hosts && self.mount == other.mount && self.asked.is(&other.asked)
    }
}

fn route(release: &Arc<Release>) -> Route<Target> {
    let target = Target::Live(release.clone());
    Route { hosts: release.config.hosts.clone(), mount: release.mount.clone(), target }
}

/// The routes of the apps that are starting, but for one.
fn starting(apps: &BTreeMap<Arc<str>, App>, but: &str) -> impl Iterator<Item = Route<Target>> {
    let others = apps.iter().filter(move |(name, _)| ***name != *but);
    others.filter_map(|(_, app)| {
        let Starting { hosts, mount, asked } = app.starting.clone()?;
        Some(Route { hosts, mount, target: Target::Starting(asked) })
    })
}
