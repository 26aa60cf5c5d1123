//! Going back to a release that is kept: by an order, or because the live one fails on probation.

use std::sync::Arc;
use std::time::Instant;

use super::kept::{As, Copying, RestoreError, build, copying, digests, load};
use super::orders::{self, Answer, OrderError, Sender, Waiting};
use super::{Deployer, Done};
use crate::compile::queue::{Asked, Standing};
use crate::deploy::builder::Builder;
use crate::deploy::name::AppName;
use crate::deploy::plan::Passes;
use crate::deploy::read::Digests;
use crate::deploy::store::Store;
use crate::deploy::store::record::{self, Record};
use crate::metrics::AppCounters;
use crate::release::Release;

/// A rollback that begins as soon as nothing else is under way for the app.
pub(super) struct Rollback {
    /// The release that is live, and is to be undone: if another one is when it could begin, it doesn't.
    pub from: u64,
    pub to: u64,
    pub why: String,
    pub waiting: Waiting,
}

/// What a rollback has come to.
pub(super) struct RolledBack {
    pub app: AppName,
    pub rollback: Rollback,
    pub result: Result<Ready, RestoreError>,
}

/// A release that could be live again.
pub(super) struct Ready {
    pub release: Arc<Release>,
    pub digests: Digests,
    /// The record as it was before.
    pub before: Record,
}

impl Deployer {
    /// Begins a rollback now or as soon as it can be.
    pub(super) fn roll_back(&mut self, app: AppName, mut rollback: Rollback, sender: Option<Sender>) {
        match self.rollbacks.get_mut(&app) {
            Some(pending) if pending.to == rollback.to => pending.waiting.extend(sender),
            Some(pending) => {
                let busy = Err(OrderError::Busy(pending.to));
                orders::answer(sender.into_iter().collect(), &busy);
                self.undo_again(&app);
            }
            None => {
                tracing::info!(
                    app = app.as_str(),
                    from = rollback.from,
                    to = rollback.to,
                    "rolling back: {}",
                    rollback.why
                );
                rollback.waiting.extend(sender);
                self.rollbacks.insert(app, rollback);
            }
        }
        self.start_rollbacks();
    }

    /// Begins those rollbacks whose apps have nothing else under way.
    pub(super) fn start_rollbacks(&mut self) {
        for app in self.rollbacks.keys().cloned().collect::<Vec<_>>() {
            let live = self.live(&app).map(|live| live.number);
            let changed = self.rollbacks.get(&app).is_some_and(|rollback| live != Some(rollback.from));
            if !changed && !self.planner.begin_rollback(&app) {
                continue;
            }
            let Some(rollback) = self.rollbacks.remove(&app) else { continue };
            match (&self.builder.store, changed) {
                (Some(store), false) => self.start_rollback(app, rollback, store.clone()),
                (_, true) => {
                    orders::answer(rollback.waiting, &Err(OrderError::Changed));
                    self.undo_again(&app);
                }
                // Without a store there is none to begin with.
                (None, false) => self.not_restored(&app),
            }
        }
    }

    fn start_rollback(&mut self, app: AppName, rollback: Rollback, store: Arc<Store>) {
        let (builder, counters) = (self.builder.clone(), self.registry.counters(&app.as_str().into()));
        let (slots, file) = (self.lines.rollbacks.clone(), self.planner.file(&app));
        let places = self.lines.rollbacks_copying.clone();
        self.jobs.spawn(async move {
            let copying = copying(&store, &places, &app).await;
            let _slot = slots.place(Standing::Other, Asked::default()).await;
            let result = roll_back(&store, &builder, counters, &app, &rollback, file, copying).await;
            Done::RolledBack(RolledBack { app, rollback, result })
        });
    }

    pub(super) fn rolled_back(&mut self, RolledBack { app, rollback, result }: RolledBack) {
        let Rollback { from, to, why, waiting } = rollback;
        let published = result.and_then(|ready| match self.registry.publish(ready.release.clone()) {
            Ok(replaced) => Ok((ready, replaced)),
            Err(taken) => {
                self.withdraw(ready.before, to);
                Err(RestoreError::Build { number: to, error: taken.into() })
            }
        });
        let came: Answer = match published {
            Ok((Ready { release, digests, .. }, replaced)) => {
                let held = self.record(&app).and_then(|record| record.held);
                self.planner.rolled_back(&app, digests, held.map(|held| held.digests).unwrap_or_default());
                self.watched.remove(&app);
                release.counters.app.rolled_back();
                tracing::warn!(app = app.as_str(), from, to, "rolled back: {why}");
                let number = replaced.as_ref().map(|replaced| replaced.number);
                self.went_live(&app, &release, replaced);
                self.say_held(&app);
                Ok(self.obeyed(&app, &release, number, false))
            }
            Err(error) => {
                self.not_restored(&app);
                self.sweep();
                tracing::error!(app = app.as_str(), from, to, "not rolled back: {error}");
                self.not_undone(&app, to, &error);
                Err(self.failure(&app, error.to_string()))
            }
        };
        orders::answer(waiting, &came);
    }

    /// What a rollback has come to that failed: what is live stays so.
    fn not_restored(&mut self, app: &AppName) {
        self.planner.not_restored(app, Passes::Never, Instant::now());
    }

    /// A release that was kept did not go live after all.
    pub(super) fn withdraw(&mut self, before: Record, number: u64) {
        self.in_store(move |store| store.withdraw(&before, number));
    }

    /// Does something with the store that takes time.
    pub(super) fn in_store(&mut self, act: impl FnOnce(&Store) + Send + 'static) {
        let Some(store) = self.builder.store.clone() else { return };
        self.jobs.spawn(async move {
            // It is not waited for when the host stops: whatever is written is whole.
            let _ = tokio::task::spawn_blocking(move || act(&store)).await;
            Done::Drained
        });
    }

    pub(super) fn record(&self, app: &AppName) -> Option<Record> {
        self.builder.store.as_ref()?.record(app.as_str())
    }

    pub(super) fn why_held(&self, app: &AppName) -> String {
        let held = self.record(app).and_then(|record| record.held);
        held.map_or_else(String::new, |held| held.why)
    }

    /// Status shows that the app's file is not what is live, and why; unless it is.
    pub(super) fn say_held(&mut self, app: &AppName) {
        let Some(record) = self.record(app) else { return };
        if let (Some(held), Some(live)) = (record.held, record.live) {
            let from = held.from.map_or_else(String::new, |from| format!(" from release {from}"));
            let problem = format!(
                "rolled back{from} to release {live}: {}; it stays so until the app's file changes",
                held.why
            );
            self.registry.held_back(&app.as_str().into(), problem);
        }
    }
}

/// Makes a kept release ready, and notes on disk that it is live, before it is.
async fn roll_back(
    store: &Arc<Store>,
    builder: &Arc<Builder>,
    counters: Arc<AppCounters>,
    app: &AppName,
    rollback: &Rollback,
    file: Option<Digests>,
    copying: Copying,
) -> Result<Ready, RestoreError> {
    let (from, with, name, to) = (store.clone(), builder.clone(), app.to_string(), rollback.to);
    let stored = tokio::task::spawn_blocking(move || load(&from, &with, &name, to)).await??;
    drop(copying);
    let kept = stored.kept.digests;
    let is_proven = stored.kept.standing == record::Standing::Proven;
    let again = As { number: Some(to), is_proven, standing: Standing::Back };
    let release = build(builder, counters, app, stored, again).await?;
    let digests = digests(&release, kept);
    let (noted, name, why) = (store.clone(), app.to_string(), rollback.why.clone());
    let before = tokio::task::spawn_blocking(move || {
        let before = noted.record(&name).unwrap_or_else(|| Record::of(&name));
        noted.change(&name, |record| record.roll_back(to, file, &why));
        before
    });
    Ok(Ready { release, digests, before: before.await? })
}
