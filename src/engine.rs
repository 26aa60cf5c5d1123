//! The engines: how guest code is compiled, where instances are allocated, and what interrupts a guest.
//!
//! Three Wasmtime engines serve all apps. The *plain* one has no support for concurrent calls into one store, which
//! makes a clean call about a third cheaper; the *concurrent* one is made when the first wasi:http 0.3 app comes; the
//! *rewound* one, whose linear memories are ours, when the first app comes that is to be rewound. All get their settings
//! from one place, so that the code cache's keys can't drift. All `unsafe` code of the host is below this module.

mod address_space;
mod artifact;
mod cache;
mod descriptors;
pub mod rewound;
mod settings;
mod thread;
mod ticker;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};

pub use address_space::{AllocatorSize, Footprint, plan};
pub use artifact::{
    COMPILE_THREADS, Code, CodeKind, CompileError, Key, compatibility, compile, compile_once, load_bytes,
    with_verdict,
};
pub use cache::{CacheError, CodeCache, Loaded, Source};
pub use descriptors::close_inherited;
pub use settings::{Allocation, EngineSettings, units};
#[cfg(test)]
pub use thread::gives_way_to_all;
pub use thread::{
    NICEST, ThreadClock, give_way_to_all, give_way_to_the_nicest, let_others_first, run_promptly,
    thread_cpu_time,
};

use crate::prepare::Kind;
pub use ticker::EpochTicker;

/// Which of the engines an app runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EngineKind {
    /// Without concurrent calls: wasi:http 0.2 and commands.
    Plain,
    /// With them: wasi:http 0.3.
    Concurrent,
    /// As the plain one, with linear memories of our own: apps that are rewound.
    Rewound,
}

/// How a used instance is brought back to its first-ready state: a property of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reset {
    /// It is dropped and the app instantiated again.
    Replace,
    /// It is put back in place.
    Rewind,
}

impl EngineKind {
    pub const ALL: [EngineKind; 3] = [EngineKind::Plain, EngineKind::Concurrent, EngineKind::Rewound];

    /// The engine that an app of this kind runs in.
    pub fn of(kind: Kind, reset: Reset) -> EngineKind {
        match reset {
            Reset::Rewind => EngineKind::Rewound,
            Reset::Replace if kind.concurrency() => EngineKind::Concurrent,
            Reset::Replace => EngineKind::Plain,
        }
    }

    /// How instances in it are brought back.
    pub fn reset(self) -> Reset {
        match self {
            EngineKind::Rewound => Reset::Rewind,
            EngineKind::Plain | EngineKind::Concurrent => Reset::Replace,
        }
    }

    /// A kind of app that runs in it.
    fn example(self) -> Kind {
        match self {
            EngineKind::Plain | EngineKind::Rewound => Kind::Http02,
            EngineKind::Concurrent => Kind::Http03,
        }
    }
}

impl fmt::Display for Reset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reset::Replace => "replace",
            Reset::Rewind => "rewind",
        })
    }
}

/// The engines of a host and the thread that advances their epochs.
pub struct Engines {
    settings: EngineSettings,
    ticker: EpochTicker,
    plain: wasmtime::Engine,
    concurrent: OnceLock<wasmtime::Engine>,
    rewound: OnceLock<wasmtime::Engine>,
    /// An instance that was rewound was not as it was first ready: nothing is rewound any more.
    rewind_is_distrusted: AtomicBool,
    rewind_was_proven: OnceLock<bool>,
    #[cfg(debug_assertions)]
    reset_is_broken: AtomicBool,
    /// Memories are not put back.
    #[cfg(debug_assertions)]
    rewind_is_broken: AtomicBool,
}

impl Engines {
    /// Makes the plain engine and starts the epoch ticker.
    pub fn new(settings: EngineSettings) -> wasmtime::Result<Arc<Engines>> {
        let plain = wasmtime::Engine::new(&settings.config(EngineKind::Plain))?;
        let ticker = EpochTicker::start(settings.epoch_tick)
            .map_err(|error| wasmtime::Error::msg(format!("cannot start the epoch thread: {error}")))?;
        ticker.watch(&plain);
        Ok(Arc::new(Engines {
            #[cfg(debug_assertions)]
            reset_is_broken: AtomicBool::new(settings.reset_is_broken),
            settings,
            ticker,
            plain,
            concurrent: OnceLock::new(),
            rewound: OnceLock::new(),
            rewind_is_distrusted: AtomicBool::new(false),
            rewind_was_proven: OnceLock::new(),
            #[cfg(debug_assertions)]
            rewind_is_broken: AtomicBool::new(false),
        }))
    }

    /// The engine of this kind; all but the plain one are made at their first use.
    pub fn get(&self, kind: EngineKind) -> wasmtime::Result<&wasmtime::Engine> {
        let place = match kind {
            EngineKind::Plain => return Ok(&self.plain),
            EngineKind::Concurrent => &self.concurrent,
            EngineKind::Rewound => &self.rewound,
        };
        if let Some(engine) = place.get() {
            return Ok(engine);
        }
        // Two deploys may race here; the loser's engine is dropped before anything was made in it.
        let engine = wasmtime::Engine::new(&self.settings.config(kind))?;
        Ok(place.get_or_init(|| {
            self.ticker.watch(&engine);
            engine
        }))
    }

    /// The engine of this kind, if something has used it.
    pub fn made(&self, kind: EngineKind) -> Option<&wasmtime::Engine> {
        match kind {
            EngineKind::Plain => Some(&self.plain),
            EngineKind::Concurrent => self.concurrent.get(),
            EngineKind::Rewound => self.rewound.get(),
        }
    }

    pub fn settings(&self) -> &EngineSettings {
        &self.settings
    }

    /// Whether apps may be rewound.
    pub fn may_rewind(&self) -> bool {
        self.settings.can_rewind() && !self.rewind_is_distrusted.load(Ordering::Relaxed)
    }

    /// The same, after it was proven, once; blocks meanwhile. For a deploy: what can't be proven is not used.
    pub fn proves_rewind(&self) -> bool {
        let prove = || {
            let engine = self.get(EngineKind::Rewound).map_err(|error| format!("{error:#}"));
            let proven = engine.and_then(rewound::prove);
            if let Err(error) = &proven {
                self.distrust_rewind();
                tracing::error!(
                    "nothing is rewound, since the proof of it failed: {error}; apps are replaced"
                );
            }
            proven.is_ok()
        };
        self.may_rewind() && *self.rewind_was_proven.get_or_init(prove)
    }

    /// From now on nothing is rewound. Returns whether something was before.
    pub fn distrust_rewind(&self) -> bool {
        !self.rewind_is_distrusted.swap(true, Ordering::Relaxed)
    }

    /// From now on memories are not put back, for the tests that have to find just that.
    #[cfg(debug_assertions)]
    pub fn break_rewind(&self) {
        self.rewind_is_broken.store(true, Ordering::Relaxed);
    }

    #[cfg(debug_assertions)]
    pub(crate) fn rewind_is_broken(&self) -> bool {
        self.rewind_is_broken.load(Ordering::Relaxed)
    }

    /// From now on it is as with `reset_is_broken` in the settings.
    #[cfg(debug_assertions)]
    pub fn break_reset(&self) {
        self.reset_is_broken.store(true, Ordering::Relaxed);
    }

    #[cfg(debug_assertions)]
    pub(crate) fn reset_is_broken(&self) -> bool {
        self.reset_is_broken.load(Ordering::Relaxed)
    }
}

/// The engines that releases are made in now. The settings of an engine can't be changed, so safer ones come with
/// other engines; the ones before live on for as long as a release is in them.
pub struct EnginesInUse {
    engines: ArcSwap<Engines>,
    /// No engines are good enough.
    withdrawn: AtomicBool,
}

impl EnginesInUse {
    pub fn new(engines: Arc<Engines>) -> Arc<EnginesInUse> {
        Arc::new(EnginesInUse { engines: ArcSwap::new(engines), withdrawn: AtomicBool::new(false) })
    }

    pub fn now(&self) -> Arc<Engines> {
        self.engines.load_full()
    }

    /// From now on releases are made in these.
    pub fn replace(&self, engines: Arc<Engines>) {
        self.engines.store(engines);
    }

    /// From now on releases are made in none.
    pub fn withdraw(&self) {
        self.withdrawn.store(true, Ordering::SeqCst);
    }

    pub fn are_withdrawn(&self) -> bool {
        self.withdrawn.load(Ordering::SeqCst)
    }

    /// Whether these are the ones that instances may be in.
    pub fn are(&self, engines: &Arc<Engines>) -> bool {
        !self.are_withdrawn() && Arc::ptr_eq(&self.engines.load(), engines)
    }
}
