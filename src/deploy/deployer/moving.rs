//! Making live releases again in other engines, when those that they are in are no longer to be used; or in the same
//! ones, when they were rewound and are no longer to be, or had better not be: these serve on until then.

use std::sync::Arc;

use super::{Deployer, Done};
use crate::deploy::builder::DeployError;
use crate::deploy::name::AppName;
use crate::release::Release;

impl Deployer {
    /// The engines were replaced: what is live in others is made again in those that are in use.
    pub(super) fn move_all(&mut self) {
        for release in self.registry.apps().into_iter().filter_map(|app| app.live) {
            self.move_if_needed(&release);
        }
    }

    /// Called after the release was published: whoever replaces the engines closes the pools of what is live after that,
    /// so one of the two sees the other.
    pub(super) fn move_if_needed(&mut self, release: &Arc<Release>) {
        let factory = release.pool.manager();
        if !self.builder.engines.are(factory.engines()) || factory.is_outdated() {
            release.pool.close();
        } else if !factory.is_better_replaced() {
            return;
        }
        // It may be said once more meanwhile; and what it is moved to is looked at in its turn.
        if self.moving.iter().any(|moving| Arc::ptr_eq(moving, release)) {
            return;
        }
        self.moving.push(release.clone());
        let (builder, from) = (self.builder.clone(), release.clone());
        self.jobs.spawn(async move {
            let result = builder.moved(&from).await;
            Done::Moved { from, result }
        });
    }

    pub(super) fn moved(&mut self, from: &Arc<Release>, result: Result<Arc<Release>, DeployError>) {
        self.moving.retain(|moving| !Arc::ptr_eq(moving, from));
        let live = self.registry.app(&from.app).and_then(|app| app.live);
        let is_live = live.is_some_and(|live| Arc::ptr_eq(&live, from));
        let published = result.and_then(|release| {
            if is_live {
                self.registry.publish(release.clone())?;
            }
            Ok(release)
        });
        match (published, AppName::parse(&from.app)) {
            (Ok(release), Ok(app)) if is_live => {
                let (before, now) = (from.number, release.number);
                self.in_store(move |store| {
                    store.change(app.as_str(), |record| record.renumber(before, now));
                });
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
}
