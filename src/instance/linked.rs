//! The code of a release, linked to the host: in memory, or on disk while the app is not in use.

use std::sync::Arc;

use parking_lot::Mutex;
use wasmtime::Engine;

use super::factory::AppCode;
use crate::engine::{Code, CompileError, EngineKind, Engines, Loaded, Reset};
use crate::prepare::Kind;

/// Where the code of a release comes from when it has left memory.
pub trait Shelf: Send + Sync {
    /// Is it there? Then it may leave memory.
    fn has(&self, engine: &Engine, reset: Reset) -> bool;

    /// Loads it. Blocks; if it is not there after all, for as long as it takes to make it again.
    ///
    /// # Errors
    /// It can't be made again.
    fn load(&self, engines: &Engines, reset: Reset) -> Result<Loaded, CompileError>;
}

/// Linked code that leaves memory when it is told to, and comes back when it is asked for.
pub struct LinkedCode {
    kind: Kind,
    /// How instances of it are brought back.
    reset: Reset,
    shelf: Option<Arc<dyn Shelf>>,
    here: Mutex<Option<Arc<AppCode>>>,
    /// Held while it is brought back.
    coming: Arc<tokio::sync::Mutex<()>>,
}

impl LinkedCode {
    /// `shelf`: `None` if it is to stay in memory.
    pub fn new(code: AppCode, shelf: Option<Arc<dyn Shelf>>) -> Arc<Self> {
        Self::with(code.kind(), code.reset(), shelf, Some(code))
    }

    fn with(kind: Kind, reset: Reset, shelf: Option<Arc<dyn Shelf>>, code: Option<AppCode>) -> Arc<Self> {
        let here = Mutex::new(code.map(Arc::new));
        Arc::new(LinkedCode { kind, reset, shelf, here, coming: Arc::default() })
    }

    pub fn reset(&self) -> Reset {
        self.reset
    }

    /// As long as it is held it is in memory.
    ///
    /// # Errors
    /// It is on disk no more and can't be made again, or doesn't link.
    pub async fn get(self: &Arc<Self>, engines: &Arc<Engines>) -> Result<Arc<AppCode>, String> {
        if let Some(code) = self.in_memory() {
            return Ok(code);
        }
        let only = self.coming.clone().lock_owned().await;
        // Another one may have brought it meanwhile.
        if let Some(code) = self.in_memory() {
            return Ok(code);
        }
        let (this, engines) = (self.clone(), engines.clone());
        // Goes on if nobody waits for it any more: the next request will want it.
        let bringing = tokio::task::spawn_blocking(move || {
            let _only = only;
            this.bring_back(&engines)
        });
        bringing.await.unwrap_or_else(|error| Err(error.to_string()))
    }

    fn in_memory(&self) -> Option<Arc<AppCode>> {
        self.here.lock().clone()
    }

    /// Brings it back from disk. Blocks.
    fn bring_back(&self, engines: &Engines) -> Result<Arc<AppCode>, String> {
        let shelf = self.shelf.as_ref().ok_or("it left memory for nowhere")?;
        let loaded = shelf.load(engines, self.reset).map_err(|error| error.to_string())?;
        let code = Arc::new(AppCode::link(self.kind, &loaded.code).map_err(|error| format!("{error:#}"))?);
        *self.here.lock() = Some(code.clone());
        tracing::debug!(took = ?loaded.took, "an app's code is in memory again");
        Ok(code)
    }

    /// Lets the code leave memory, if it can come back. What is made of it keeps it there.
    pub fn leave(&self) {
        let (Some(shelf), Some(code)) = (&self.shelf, self.in_memory()) else { return };
        // Not under the lock: this looks at a disk.
        if shelf.has(code.engine(), self.reset) {
            let _left = self.here.lock().take();
        }
    }

    pub fn is_here(&self) -> bool {
        self.here.lock().is_some()
    }

    /// The same in other engines, whose code `load` gets from what was linked here; it is not taken there if it is not
    /// in memory here. Blocks.
    ///
    /// # Errors
    /// The engines can't have the code.
    pub fn moved(
        &self,
        engines: &Engines,
        load: impl FnOnce(&Engine, &Code) -> wasmtime::Result<Code>,
    ) -> wasmtime::Result<Arc<LinkedCode>> {
        let moved = match self.in_memory() {
            None => None,
            Some(code) => {
                let engine = engines.get(EngineKind::of(self.kind, self.reset))?;
                Some(AppCode::link(self.kind, &load(engine, &code.code())?)?)
            }
        };
        Ok(Self::with(self.kind, self.reset, self.shelf.clone(), moved))
    }

    /// The same for instances that are brought back by `replace`: other code, so it comes from disk when it is first
    /// asked for.
    ///
    /// # Errors
    /// There is no other place to have it from than memory.
    pub fn replaced(&self) -> wasmtime::Result<Arc<LinkedCode>> {
        let shelf = self.shelf.clone().ok_or_else(|| wasmtime::format_err!("its bytes are kept nowhere"))?;
        Ok(Self::with(self.kind, Reset::Replace, Some(shelf), None))
    }
}
