//! The releases on probation: looked at a few times a second, until they have stood it or are rolled back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Deployer;
use super::rollback::Rollback;
use crate::deploy::name::AppName;
use crate::deploy::probation::{is_far_worse, worse};
use crate::deploy::store::record::Standing;
use crate::metrics::{Counted, ReleaseCounters};
use crate::release::Release;

/// How often they are looked at.
pub(super) const INTERVAL: Duration = Duration::from_millis(100);

/// A release on probation.
pub(super) struct Watched {
    counters: Arc<ReleaseCounters>,
    until: Instant,
    /// What it is measured by: how the requests of the release before ended.
    before: Counted,
}

impl Deployer {
    /// A release has just gone live in place of `before`: it is watched, if it is on probation.
    pub(super) fn watch(&mut self, app: &AppName, release: &Arc<Release>, before: Option<&Arc<Release>>) {
        let watched = self.watched.remove(app);
        let on_probation = self
            .record(app)
            .and_then(|record| record.get(release.number).map(|kept| kept.standing == Standing::Probation));
        if on_probation != Some(true) {
            return;
        }
        let before = match (watched, before) {
            // Measured by what was itself on probation, a row of bad ones would all pass.
            (Some(watched), _) => watched.before,
            (None, Some(before)) => worse(before.counters.tally.recent(), before.counters.tally.all()),
            (None, None) => Counted::default(),
        };
        let until = Instant::now() + release.config.probation;
        self.watched.insert(app.clone(), Watched { counters: release.counters.clone(), until, before });
    }

    /// Those that fail are rolled back, if there is a proven release; those whose time is over have stood it.
    pub(super) fn review_watched(&mut self) {
        let (now, store) = (Instant::now(), self.builder.store.clone());
        let (mut failed, mut stood) = (Vec::new(), Vec::new());
        self.watched.retain(|app, watched| {
            let seen = watched.counters.tally.all();
            let proven = || store.as_ref()?.record(app.as_str())?.proven().map(|proven| proven.number);
            if is_far_worse(seen, watched.before)
                && let Some(to) = proven()
            {
                failed.push((app.clone(), to, why(seen, watched.before)));
                return false;
            }
            if watched.until <= now {
                stood.push(app.clone());
            }
            watched.until > now
        });
        for app in stood {
            self.prove(app);
        }
        for (app, to, why) in failed {
            if let Some(live) = self.live(&app) {
                let rollback = Rollback { from: live.number, to, why, waiting: Vec::new() };
                self.roll_back(app, rollback, None);
            }
        }
    }

    fn prove(&mut self, app: AppName) {
        let Some(number) = self.live(&app).map(|live| live.number) else { return };
        tracing::debug!(app = app.as_str(), release = number, "has stood its probation");
        self.in_store(move |store| store.change(app.as_str(), |record| record.prove(number)));
    }
}

fn why(seen: Counted, before: Counted) -> String {
    format!(
        "{} of its first {} requests failed, of the release before {} of {}",
        seen.failed, seen.ended, before.failed, before.ended
    )
}
