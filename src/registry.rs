//! What is live: which release answers at which host and path.
//!
//! Deploys change the registry under a lock; requests read an immutable snapshot by one pointer and never wait.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;

use crate::metrics::AppCounters;
use crate::release::Release;
use crate::router::{Conflict, Route, Router};

/// The live releases as requests see them.
pub type Live = Router<Arc<Release>>;

#[derive(Default)]
pub struct Registry {
    live: ArcSwap<Live>,
    apps: Mutex<BTreeMap<Arc<str>, App>>,
}

#[derive(Default)]
struct App {
    live: Option<Arc<Release>>,
    counters: Option<Arc<AppCounters>>,
    /// Why the app's present files are not live.
    problem: Option<String>,
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
        let (router, conflicts) = Router::build(all.iter().map(|release| route(release)));
        if let Some(conflict) = conflicts.first() {
            let owner = all.get(conflict.holder).map_or("", |holder| &holder.app);
            return Err(RouteTaken::of(conflict, owner));
        }
        let app = apps.entry(release.app.clone()).or_default();
        app.problem = None;
        let before = app.live.replace(release);
        self.live.store(Arc::new(router));
        Ok(before)
    }

    /// Takes an app out of service and returns its release, to be drained.
    pub fn retire(&self, app: &str) -> Option<Arc<Release>> {
        let mut apps = self.apps.lock();
        let retired = apps.remove(app).and_then(|app| app.live);
        if retired.is_some() {
            let (router, _) = Router::build(apps.values().filter_map(|app| app.live.as_ref()).map(route));
            self.live.store(Arc::new(router));
        }
        retired
    }

    /// Notes why an app's present files are not live; what is live stays so. True if something is.
    pub fn problem(&self, app: &Arc<str>, problem: String) -> bool {
        let mut apps = self.apps.lock();
        let app = apps.entry(app.clone()).or_default();
        app.problem = Some(problem);
        app.live.is_some()
    }

    /// Takes back what [`Registry::problem`] noted: the app's present files are the live ones.
    pub fn solved(&self, app: &str) {
        if let Some(app) = self.apps.lock().get_mut(app) {
            app.problem = None;
        }
    }

    pub fn apps(&self) -> Vec<AppView> {
        let apps = self.apps.lock();
        apps.iter()
            .map(|(name, app)| AppView {
                app: name.clone(),
                live: app.live.clone(),
                problem: app.problem.clone(),
            })
            .collect()
    }
}

fn route(release: &Arc<Release>) -> Route<Arc<Release>> {
    Route { hosts: release.config.hosts.clone(), mount: release.mount.clone(), target: release.clone() }
}
