//! A deploy's way: from an app's files, read once, to a live release, or to the reason why not.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::OwnedSemaphorePermit;
use tokio::task::spawn_blocking;

use super::orders::{self, Waiting};
use super::{Deployer, Done, MAX_APP_SIZE};
use crate::compile::line::Place;
use crate::compile::queue::{Asked, Standing};
use crate::deploy::behind::spawn_behind;
use crate::deploy::builder::{Builder, DeployError, Sources};
use crate::deploy::name::AppName;
use crate::deploy::plan::AfterRead;
use crate::deploy::read::{Digests, LARGE, ReadApp, ReadError, Reading, read};
use crate::deploy::scan::Found;
use crate::deploy::store::record::Record;
use crate::deploy::store::{Deployed, Store};
use crate::metrics::AppCounters;
use crate::prepare::Refusal;
use crate::release::Release;

/// A place among the deploys under way, for as long as the app's bytes are in memory.
pub(super) struct Slot {
    _place: Place,
    _large: Option<OwnedSemaphorePermit>,
}

/// An app's files, read.
pub(super) struct DoneReading {
    pub app: AppName,
    pub found: Found,
    pub result: Result<ReadApp, ReadError>,
    /// Whether a request waits for it.
    pub asked: Asked,
    pub slot: Slot,
    /// The look at which it began.
    pub look: u64,
}

/// A release that could go live.
pub(super) struct Built {
    pub app: AppName,
    pub digests: Digests,
    /// The release, and the record as it was before.
    pub result: Result<(Arc<Release>, Option<Record>), DeployError>,
    pub waiting: Waiting,
}

impl Deployer {
    pub(super) fn start_reading(&mut self, app: AppName, found: Found, asked: Asked) {
        let (slots, builder, look) = (self.lines.deploys.clone(), self.builder.clone(), self.looks);
        let large = (found.wasm.size > LARGE).then(|| self.lines.large_deploys.clone());
        self.jobs.spawn(async move {
            // Both before the slot, so that those who wait for them keep none from apps without static files, or small ones. The
            // large app's place is first: it may be a compilation that it waits for, and nobody's static files wait with it.
            let large = match large {
                Some(places) => places.acquire_owned().await.ok(),
                None => None,
            };
            let copying = match found.public {
                Some(_) => Some(builder.copying.clone().acquire_owned().await),
                None => None,
            };
            // Neither the semaphores nor the line is ever closed.
            let Ok(place) = slots.place(Standing::Other, asked.clone()).await else { return Done::Drained };
            let slot = Slot { _place: place, _large: large };
            let (files, name) = (found.clone(), app.clone());
            let reading = move || {
                let limits = |text: Option<&str>| builder.policy.public_limits(name.as_str(), text);
                let copies = Some(&*builder.copies);
                read(&files, &Reading { max_size: MAX_APP_SIZE, copies, limits: &limits })
            };
            let reading = if copying.is_some() { spawn_behind(reading) } else { spawn_blocking(reading) };
            let result = reading.await.unwrap_or(Err(ReadError::Changed));
            drop(copying);
            Done::Read(DoneReading { app, found, result, asked, slot, look })
        });
    }

    pub(super) fn read(&mut self, DoneReading { app, found, result, asked, slot, look }: DoneReading) {
        let files = match result {
            Ok(files) => files,
            Err(error) => {
                self.planner.unreadable(&app, &found, &error, Instant::now());
                self.registry.unexpect(app.as_str());
                if !matches!(error, ReadError::Changed | ReadError::Gone) {
                    self.failed(&app, &error);
                    self.sweep();
                    let came = Err(self.failure(&app, error.to_string()));
                    orders::answer(self.orders_of(&app), &came);
                    self.tell_all(&app, &came);
                }
                return;
            }
        };
        let digests = files.digests;
        let was_held = self.planner.is_held(&app);
        let after = self.planner.read(&app, &found, &files.after, digests);
        if after != AfterRead::Again {
            self.tell_overtaken(&app, digests, look);
        }
        if after != AfterRead::Deploy {
            self.registry.unexpect(app.as_str());
        }
        match after {
            AfterRead::Deploy => self.start_building(app, found, files, asked, slot),
            AfterRead::Restore => self.start_restoring(app, true),
            AfterRead::Held => {
                self.unsay(app.as_str());
                self.say_held(&app);
                self.tell_of_known(&app, digests);
            }
            AfterRead::Nothing => {
                if self.planner.live(&app) == Some(digests) {
                    // What is live was put back: whatever was wrong in between is over.
                    self.registry.solved(app.as_str());
                    self.unsay(app.as_str());
                    if was_held {
                        let name = app.to_string();
                        let live = self.record(&app).and_then(|record| record.live);
                        self.in_store(move |store| {
                            store.change(&name, |record| {
                                record.held.take_if(|_| record.live == live);
                            });
                        });
                    }
                }
                self.tell_of_known(&app, digests);
            }
            AfterRead::Again => {}
        }
    }

    fn start_building(&mut self, app: AppName, found: Found, files: ReadApp, asked: Asked, slot: Slot) {
        let name: Arc<str> = app.as_str().into();
        let relative = |path: &std::path::Path| path.strip_prefix(&found.folder).unwrap_or(path).to_owned();
        let config = found.config.as_ref().zip(files.config);
        let number = self.builder.store.as_ref().and_then(|store| store.number_of(&name, files.digests));
        let is_new = self.live(&app).is_none();
        let sources = Sources {
            app: name.clone(),
            file: relative(&found.wasm.path).display().to_string(),
            wasm: files.wasm,
            config: config.map(|(stamp, text)| (relative(&stamp.path).into_boxed_path(), text)),
            public: files.public.map(Arc::new),
            asked,
            standing: Standing::Other,
            // What was live when the host ended is the same release.
            number: number.filter(|_| is_new),
            is_proven: false,
        };
        let (builder, counters, digests) =
            (self.builder.clone(), self.registry.counters(&name), files.digests);
        let (store, waiting) = (self.builder.store.clone(), self.orders_of(&app));
        self.jobs.spawn(async move {
            let result = build(builder, sources, counters, digests, store).await;
            drop(slot);
            Done::Built(Built { app, digests, result, waiting })
        });
    }

    pub(super) fn built(&mut self, Built { app, digests, result, waiting }: Built) {
        let published = result.and_then(|(release, kept)| match self.registry.publish(release.clone()) {
            Ok(before) => Ok((release, before)),
            Err(taken) => {
                kept.into_iter().for_each(|before| self.withdraw(before, release.number));
                Err(taken.into())
            }
        });
        let came = match published {
            Ok((release, before)) => {
                self.planner.deployed(&app, digests);
                let replaced = before.as_ref().map(|before| before.number);
                self.watch(&app, &release, before.as_ref());
                self.went_live(&app, &release, before);
                Ok(self.obeyed(&app, &release, replaced, false))
            }
            Err(DeployError::Refused(Refusal::Incomplete(cut))) => {
                self.planner.incomplete(&app, digests);
                self.failed(&app, &format_args!("{cut}; it is looked at again when it changes"));
                Err(self.failure(&app, cut.to_string()))
            }
            Err(error) => {
                let (reason, passes) = (error.to_string(), error.passes());
                let again = self.planner.postponed(&app, digests, reason, passes, Instant::now());
                self.failed_for_now(&app, &error, again);
                Err(self.failure(&app, error.to_string()))
            }
        };
        if came.is_err() {
            self.sweep();
        }
        orders::answer(waiting, &came);
        self.tell(&app, digests, &came);
    }
}

/// Builds what was read, and keeps it: on disk before anybody is served by it. Returns also the record as it was before.
async fn build(
    builder: Arc<Builder>,
    sources: Sources,
    counters: Arc<AppCounters>,
    digests: Digests,
    store: Option<Arc<Store>>,
) -> Result<(Arc<Release>, Option<Record>), DeployError> {
    let (app, file) = (sources.app.clone(), sources.file.clone());
    let (wasm, config) = (sources.wasm.clone(), sources.config.clone());
    let release = builder.build(sources, counters).await?;
    let Some(store) = store else { return Ok((release, None)) };
    let (config_file, config) = config.unzip();
    let deployed = Deployed {
        number: release.number,
        digests,
        file,
        config_file: config_file.map(|file| file.display().to_string()),
        wasm,
        config,
        public: release.files.clone(),
        keep: release.config.keep_releases,
        on_probation: !release.config.probation.is_zero(),
    };
    let before = spawn_blocking(move || store.begin(&app, &deployed)).await?;
    Ok((release, Some(before)))
}
