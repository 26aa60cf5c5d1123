//! Making the release live again that was live when the host ended: before its app's file is even read, so that a file
//! that is half written, or can't be served any more, takes nothing down across a restart either.
//!
//! The same builds an app anew that was rolled back: from what is kept, since its file has something else.

use std::sync::Arc;
use std::time::Instant;

use super::kept::{As, Copying, RestoreError, build, copying, digests, load};
use super::orders::{self, Answer, Waiting};
use super::{Deployer, Done};
use crate::compile::queue::{Asked, Standing};
use crate::deploy::builder::Builder;
use crate::deploy::name::AppName;
use crate::deploy::read::Digests;
use crate::deploy::store::record::Kept;
use crate::deploy::store::{Deployed, LoadError, Store, Stored};
use crate::metrics::AppCounters;
use crate::release::Release;

/// What it has come to: `None` if nothing is kept.
pub(super) struct Restored {
    pub app: AppName,
    pub result: Result<Option<(Arc<Release>, Digests)>, RestoreError>,
    pub waiting: Waiting,
}

impl Deployer {
    /// `anew`: with a number of its own, as at a restart.
    pub(super) fn start_restoring(&mut self, app: AppName, anew: bool) {
        let Some(store) = self.builder.store.clone() else { return self.planner.nothing_kept(&app) };
        let waiting = self.orders_of(&app);
        let (builder, counters) = (self.builder.clone(), self.registry.counters(&app.as_str().into()));
        let slots = self.lines.restores.clone();
        self.jobs.spawn(async move {
            let copying = copying(&store, &builder.copying, &app).await;
            let _slot = slots.place(Standing::Other, Asked::default()).await;
            let result = restore(&store, &builder, counters, &app, anew, copying).await;
            Done::Restored(Restored { app, result, waiting })
        });
    }

    pub(super) fn restored(&mut self, Restored { app, result, waiting }: Restored) {
        let published = result.and_then(|ready| {
            let Some((release, digests)) = ready else { return Ok(None) };
            let number = release.number;
            let published = self.registry.publish(release.clone());
            let replaced = published.map_err(|taken| RestoreError::Build { number, error: taken.into() })?;
            Ok(Some((release, digests, replaced)))
        });
        let came: Answer = match published {
            Ok(Some((release, digests, replaced))) => {
                self.planner.restored(&app, digests);
                let number = replaced.as_ref().map(|replaced| replaced.number);
                self.watch(&app, &release, replaced.as_ref());
                self.went_live(&app, &release, replaced);
                self.say_held(&app);
                Ok(self.obeyed(&app, &release, number, false))
            }
            Ok(None) => {
                self.planner.nothing_kept(&app);
                Err(self.failure(&app, "nothing is kept of it any more".to_owned()))
            }
            Err(error) => {
                let again = self.planner.not_restored(&app, error.passes(), Instant::now());
                self.sweep();
                self.failed_for_now(&app, &error, again);
                Err(self.failure(&app, error.to_string()))
            }
        };
        orders::answer(waiting, &came);
    }
}

async fn restore(
    store: &Arc<Store>,
    builder: &Arc<Builder>,
    counters: Arc<AppCounters>,
    app: &AppName,
    anew: bool,
    copying: Copying,
) -> Result<Option<(Arc<Release>, Digests)>, RestoreError> {
    let (from, with, name) = (store.clone(), builder.clone(), app.to_string());
    let Some(stored) = tokio::task::spawn_blocking(move || load_live(&from, &with, &name)).await?? else {
        return Ok(None);
    };
    drop(copying);
    let (kept, wasm, config) = (stored.kept.clone(), stored.wasm.clone(), stored.config.clone());
    // Anew it is for who orders it to see whether it is any good; what is live serves on.
    let again = As { number: (!anew).then_some(kept.number), is_proven: !anew, standing: Standing::Other };
    let release = build(builder, counters, app, stored, again).await?;
    let deployed = deployed(&release, &kept, wasm, config);
    let digests = deployed.digests;
    let (noting, name) = (store.clone(), app.to_string());
    let noted = tokio::task::spawn_blocking(move || match anew {
        true => drop(noting.begin(&name, &deployed)),
        false => noting.resume(&name, deployed.number, deployed.on_probation),
    });
    noted.await?;
    Ok(Some((release, digests)))
}

/// The release that was live; or else, if that is torn, the newest good one.
fn load_live(store: &Store, builder: &Builder, app: &str) -> Result<Option<Stored>, LoadError> {
    while let Some(number) = store.record(app).and_then(|record| record.live) {
        match load(store, builder, app, number) {
            // It is forgotten now, so there is an end to this.
            Err(error @ (LoadError::Torn { .. } | LoadError::NotKept(_))) => {
                tracing::warn!(app, "{error}");
                store.change(app, |record| record.retain(|kept| kept.number != number));
            }
            loaded => return loaded.map(Some),
        }
    }
    Ok(None)
}

fn deployed(release: &Release, kept: &Kept, wasm: bytes::Bytes, config: Option<String>) -> Deployed {
    Deployed {
        number: release.number,
        digests: digests(release, kept.digests),
        file: kept.file.clone(),
        config_file: kept.config_file.clone(),
        wasm,
        config,
        public: release.files.clone(),
        keep: release.config.keep_releases,
        on_probation: !release.config.probation.is_zero(),
    }
}
