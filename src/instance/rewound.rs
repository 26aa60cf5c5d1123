//! Instances that are put back in place: `reset = "rewind"`.
//!
//! What Wasmtime has of an instance is put back by [`crate::engine::rewound`]; here the host's state is made anew, as it is
//! for a new instance, and it is judged whether an instance may be put back at all. It may if its request has ended well
//! and it holds no resource of the host: what the guest has left by then is dropped for it, if its type can be found out
//! ([`leftovers`]). And its state from before the first request must be nobody's secret: an app that draws random numbers or
//! looks at a clock when it starts is not rewound, for each request of an instance would find the same.

mod leftovers;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::Notify;
use wasmtime::Store;
use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime_wasi::clocks::WasiClocks;
use wasmtime_wasi::p2::bindings::clocks::{monotonic_clock, wall_clock};
use wasmtime_wasi::p2::bindings::random::{insecure, insecure_seed, random};
use wasmtime_wasi::random::WasiRandom;
use wasmtime_wasi_http::p2::bindings::ProxyIndices;

use super::factory::component_linker;
use super::limits::Limits;
use super::state::{HostState, InstancePolicy};
use super::{Entry, Instance};
use crate::config;
use crate::engine::Engines;
use crate::engine::rewound::{Exports, Handles, Images, NotRewound, Rewinder};
use crate::prepare::instrument::{DROP, LEFT, Manifest, ORDER, REWIND, SAVE};
use leftovers::Guesses;

/// What took no longer than this the last time is done by the task that ends the lease: its connection's next request has
/// to wait for it, and a guest keeps its thread for as long before it is interrupted.
const SOON: Duration = Duration::from_millis(1);

/// Handles beyond those that were had, of which a full comparison looks whether they are in order.
const BEYOND: u32 = 32;

/// The same for a guest that makes handles itself, at every rewind: there are no more than these.
const OWN_BEYOND: u32 = 1;

/// Failures from which on it is said, if they are more than half: by then it should be known what its requests leave.
const MANY_FAILURES: u64 = 256;

/// An app's code that is prepared to be rewound, linked to the host.
pub struct RewoundCode {
    pub(super) pre: InstancePre<HostState>,
    indices: ProxyIndices,
    pub(super) manifest: Manifest,
    images: Images,
}

/// What an instance has that is rewound.
pub(super) struct Rewound {
    rewinder: Rewinder,
    /// See [`Manifest::handles`].
    handles: Option<u32>,
    /// As they were when it was first ready.
    limits: Limits,
    /// What the last time took.
    took: Duration,
}

/// Why an instance was not put back; it is dropped.
#[derive(Debug, thiserror::Error)]
pub enum Unclean {
    #[error(
        "its guest keeps resources of the host beyond a request, such as streams, which can't be dropped for it"
    )]
    Resources,
    #[error("it did not begin as the release's first instance did")]
    BeganOtherwise,
    #[error("a resource that its guest kept is of another type than was thought")]
    WrongGuess,
    #[error("{0}")]
    NotRewound(NotRewound),
    #[error("{0}")]
    Differs(#[from] Difference),
}

/// How an instance that was put back is not as it was first ready: it should never be.
#[derive(Debug, thiserror::Error)]
pub enum Difference {
    #[error("byte {byte} of its memory {memory} is another")]
    Byte { memory: usize, byte: usize },
    #[error("its handles come in another order, since it had more of them than was thought")]
    Handles,
}

impl From<NotRewound> for Unclean {
    fn from(reason: NotRewound) -> Unclean {
        match reason {
            NotRewound::Refused(bits) if bits & ORDER != 0 => Unclean::Differs(Difference::Handles),
            reason => Unclean::NotRewound(reason),
        }
    }
}

impl RewoundCode {
    /// Handles that the store must let the guest have, those of the restorer among them, if the host gives it so many.
    pub(super) fn handles(&self, resource_limit: usize) -> usize {
        match self.manifest.handles {
            Some(handles) => usize::try_from(handles.saturating_add(OWN_BEYOND)).unwrap_or(usize::MAX),
            None => resource_limit.saturating_add(BEYOND as usize),
        }
    }

    pub fn link(component: &Component, manifest: Manifest) -> wasmtime::Result<RewoundCode> {
        let mut linker = component_linker(component.engine())?;
        note_what_is_drawn(&mut linker)?;
        let pre = linker.instantiate_pre(component)?;
        let indices = ProxyIndices::new(&pre)?;
        Ok(RewoundCode { pre, indices, manifest, images: Images::default() })
    }

    /// An instance, and how it is put back: not at all if it does not begin as the first one did.
    pub(super) async fn enter(
        &self,
        store: &mut Store<HostState>,
    ) -> wasmtime::Result<(Entry, Option<Rewound>)> {
        let memories = usize::try_from(self.manifest.memories)?;
        let droppable = self.manifest.droppable;
        let exports = Exports { save: SAVE, rewind: REWIND, left: LEFT, drop: DROP, memories, droppable };
        let handles = self.manifest.handles;
        let had = |data: &mut HostState| had(handles, data);
        let (instance, rewinder) =
            Rewinder::instantiate(store, &self.pre, &exports, &self.images, had).await?;
        if !store.data().has_no_resources() {
            return Err(wasmtime::format_err!(
                "it keeps resources of the host from its start on, which can't be rewound; use reset = \"replace\""
            ));
        }
        if let Some(source) = store.data().drawn {
            return Err(wasmtime::format_err!(
                "it {source} at its start, and each request would find the same; use reset = \"replace\""
            ));
        }
        let entry = Entry::Http02(self.indices.load(&mut *store, &instance)?);
        let limits = store.data().limits.clone();
        // Not known yet, so not soon.
        Ok((entry, rewinder.map(|rewinder| Rewound { rewinder, handles, limits, took: Duration::MAX })))
    }
}

/// Has the host's state know when its guest takes what differs each time.
fn note_what_is_drawn(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    wall_clock::add_to_linker::<_, WasiClocks>(linker, HostState::drawing_time)?;
    monotonic_clock::add_to_linker::<_, WasiClocks>(linker, HostState::drawing_time)?;
    random::add_to_linker::<_, WasiRandom>(linker, HostState::drawing_random)?;
    insecure::add_to_linker::<_, WasiRandom>(linker, HostState::drawing_random)?;
    insecure_seed::add_to_linker::<_, WasiRandom>(linker, HostState::drawing_random)?;
    linker.allow_shadowing(false);
    Ok(())
}

impl Instance {
    /// Puts the instance back in place, if it is one that can be. It must not be used after an error.
    ///
    /// # Errors
    /// See [`Unclean`].
    fn put_back(&mut self, rewinds: &Rewinds, compare: bool) -> Result<(), Unclean> {
        let begun = Instant::now();
        let Instance { store, rewound: Some(rewound), policy, .. } = self else {
            return Err(NotRewound::Spoiled.into());
        };
        let had = had(rewound.handles, store.data_mut());
        if !store.data().has_no_resources() {
            rewound.drop_left(store, had, rewinds)?;
        }
        let beyond = match rewound.handles {
            Some(_) => OWN_BEYOND,
            None if compare => BEYOND,
            None => 0,
        };
        rewound.rewinder.rewind(store, Handles { had, beyond })?;
        let compared = if compare { rewound.rewinder.difference(store) } else { None };
        if let Some((memory, byte)) = compared {
            return Err(Difference::Byte { memory, byte }.into());
        }
        store.data_mut().renew(policy, rewound.limits.clone());
        rewound.took = begun.elapsed();
        policy.counters.add_upkeep(rewound.took);
        Ok(())
    }

    pub(super) fn can_be_put_back(&self) -> bool {
        self.rewound.is_some()
    }

    /// Whether it is likely to be put back in no time.
    pub(super) fn is_soon_put_back(&self) -> bool {
        self.rewound.as_ref().is_some_and(|rewound| rewound.took <= SOON)
    }
}

impl Rewound {
    /// Drops the handles that the last request has left, and with them the host's resources.
    fn drop_left(
        &mut self,
        store: &mut Store<HostState>,
        had: u32,
        rewinds: &Rewinds,
    ) -> Result<(), Unclean> {
        let types = store.data_mut().types_of_resources();
        let mut left = self.rewinder.left(store, had)?;
        // The highest first: what was made later may hang on what was there before.
        while let Some(bit) = left.checked_ilog2() {
            left &= !(1 << bit);
            let handle = bit + 1;
            let guess = rewinds.guesses.lock().of((types, handle), self.rewinder.droppable());
            let Some(guess) = guess else { return Err(Unclean::Resources) };
            if self.rewinder.drop_left(store, guess, handle).is_err() {
                rewinds.guesses.lock().was_wrong((types, handle), guess);
                return Err(Unclean::WrongGuess);
            }
            rewinds.dropped.fetch_add(1, Relaxed);
        }
        if store.data().has_no_resources() { Ok(()) } else { Err(Unclean::Resources) }
    }
}

/// Handles that a guest may have had at once: each that the host gives has a resource in the host's table, for longer than
/// it lives. For those that it makes itself see [`Manifest::handles`].
fn had(own: Option<u32>, data: &mut HostState) -> u32 {
    own.unwrap_or_else(|| u32::try_from(data.most_resources()).unwrap_or(u32::MAX))
}

/// How the instances of a release have been put back.
#[derive(Debug, Default)]
pub struct Rewinds {
    done: AtomicU64,
    dropped: AtomicU64,
    guesses: Mutex<Guesses>,
    failed: AtomicU64,
    differing: AtomicU64,
    /// Most could not be put back, and nobody had said that they should be.
    given_up: AtomicBool,
    /// Told when instances that were rewound are to be made otherwise.
    pub(super) moves: Arc<Notify>,
}

/// A snapshot of [`Rewinds`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct RewindStatus {
    /// Instances that were put back.
    pub rewound: u64,
    /// Handles that requests had left and that were dropped for them.
    pub dropped: u64,
    /// Instances that could not be put back, and were replaced.
    pub failed: u64,
    /// Those of them that were not as they were first ready after they had been put back: it should never be.
    pub differing: u64,
}

impl Rewinds {
    pub fn snapshot(&self) -> RewindStatus {
        RewindStatus {
            rewound: self.done.load(Relaxed),
            dropped: self.dropped.load(Relaxed),
            failed: self.failed.load(Relaxed),
            differing: self.differing.load(Relaxed),
        }
    }

    /// An instance was made that can't be put back.
    pub(super) fn note_other_begin(&self, instance: &Instance, engines: &Engines) {
        self.note(&instance.policy, &Unclean::BeganOtherwise, engines);
    }

    /// Whether the instance is as it was first ready again; else it is for the drop alone.
    pub(super) fn put_back(&self, instance: &mut Instance, engines: &Engines) -> bool {
        if !engines.may_rewind() {
            return false;
        }
        let compare = self.done.load(Relaxed).is_multiple_of(engines.settings().compared.get());
        #[cfg(debug_assertions)]
        if let Some(rewound) = &mut instance.rewound {
            rewound.rewinder.is_broken = engines.rewind_is_broken();
        }
        match instance.put_back(self, compare) {
            Ok(()) => {
                self.done.fetch_add(1, Relaxed);
                true
            }
            Err(unclean) => {
                instance.rewound = None;
                self.note(&instance.policy, &unclean, engines);
                false
            }
        }
    }

    /// Whether instances that are put back should be made otherwise from now on.
    pub(super) fn are_given_up(&self) -> bool {
        self.given_up.load(Relaxed)
    }

    fn note(&self, policy: &InstancePolicy, unclean: &Unclean, engines: &Engines) {
        let app = &policy.app;
        let (failed, done) = (self.failed.fetch_add(1, Relaxed) + 1, self.done.load(Relaxed));
        if let Unclean::Differs(_) = unclean {
            self.differing.fetch_add(1, Relaxed);
            if engines.distrust_rewind() {
                tracing::error!(
                    %app, "an instance was NOT rewound as it should be: {unclean}; it is dropped, and from now on \
                    all instances are replaced"
                );
                self.moves.notify_one();
            }
        } else if failed != MANY_FAILURES || done >= failed {
            tracing::debug!(%app, "an instance was not rewound: {unclean}");
        } else if policy.config.reset == config::Reset::Auto {
            tracing::info!(
                %app, "its instances can mostly not be rewound, so from now on they are replaced: {unclean}"
            );
            self.given_up.store(true, Relaxed);
            self.moves.notify_one();
        } else {
            tracing::warn!(
                %app, "its instances can mostly not be rewound and are replaced, which costs more than reset = \
                \"replace\" does: {unclean}"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prepare::instrument::{HANDLES, TABLE_SIZE};

    #[test]
    fn handles_that_are_left_are_no_difference_and_ones_out_of_order_are() {
        for (bits, differs) in
            [(HANDLES, false), (TABLE_SIZE, false), (ORDER, true), (TABLE_SIZE | ORDER, true)]
        {
            let unclean = Unclean::from(NotRewound::Refused(bits));
            assert_eq!(matches!(unclean, Unclean::Differs(_)), differs, "{bits}");
        }
    }
}
