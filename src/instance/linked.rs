//! The code of a release, linked to the host: in memory, or on disk while the app is not in use.

use std::sync::Arc;

use parking_lot::Mutex;
use wasmtime::Engine;

use super::factory::AppCode;
use crate::engine::{Code, CompileError, EngineKind, Engines, Loaded};
use crate::prepare::Kind;

/// Where the code of a release comes from when it has left memory.
pub trait Shelf: Send + Sync {
    /// Is it there? Then it may leave memory.
    fn has(&self, engine: &Engine) -> bool;

    /// Loads it. Blocks; if it is not there after all, for as long as it takes to make it again.
    ///
    /// # Errors
    /// It can't be made again.
    fn load(&self, engines: &Engines) -> Result<Loaded, CompileError>;
}

/// Linked code that leaves memory when it is told to, and comes back when it is asked for.
#[derive(Clone)]
pub struct LinkedCode {
    kind: Kind,
    shelf: Option<Arc<dyn Shelf>>,
    here: Arc<Mutex<Option<Arc<AppCode>>>>,
    /// Held by who brings it back.
    coming: Arc<tokio::sync::Mutex<()>>,
}

impl LinkedCode {
    /// `shelf`: `None` if it is to stay in memory.
    pub fn new(code: AppCode, shelf: Option<Arc<dyn Shelf>>) -> Self {
        LinkedCode {
            kind: code.kind(),
            shelf,
            here: Arc::new(Mutex::new(Some(Arc::new(code)))),
            coming: Arc::default(),
        }
    }

    /// As long as it is held it is in memory.
    ///
    /// # Errors
    /// It is on disk no more and can't be made again, or doesn't link.
    pub async fn get(&self, engines: &Arc<Engines>) -> Result<Arc<AppCode>, String> {
        let here = || self.here.lock().clone();
        if let Some(code) = here() {
            return Ok(code);
        }
        let _only = self.coming.lock().await;
        // Another one may have brought it meanwhile.
        if let Some(code) = here() {
            return Ok(code);
        }
        let (this, engines) = (self.clone(), engines.clone());
        // Goes on if nobody waits for it any more: the next request will want it.
        match tokio::task::spawn_blocking(move || this.bring_back(&engines)).await {
            Ok(brought) => brought,
            Err(error) => Err(error.to_string()),
        }
    }

    /// Brings it back from disk, if it is not here. Blocks.
    fn bring_back(&self, engines: &Engines) -> Result<Arc<AppCode>, String> {
        if let Some(code) = self.here.lock().clone() {
            return Ok(code);
        }
        let shelf = self.shelf.as_ref().ok_or("it left memory for nowhere")?;
        let loaded = shelf.load(engines).map_err(|error| error.to_string())?;
        let code = Arc::new(AppCode::link(self.kind, &loaded.code).map_err(|error| format!("{error:#}"))?);
        *self.here.lock() = Some(code.clone());
        tracing::debug!(took = ?loaded.took, "an app's code is in memory again");
        Ok(code)
    }

    /// Lets the code leave memory, if it can come back. What is made of it keeps it there. Returns whether it left.
    pub fn leave(&self) -> bool {
        let (Some(shelf), Some(code)) = (&self.shelf, self.here.lock().clone()) else { return false };
        // Not under the lock: this looks at a disk.
        shelf.has(code.engine()) && self.here.lock().take().is_some()
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
    ) -> wasmtime::Result<LinkedCode> {
        let moved = match self.here.lock().clone() {
            None => None,
            Some(code) => {
                let engine = engines.get(EngineKind::of(self.kind))?;
                Some(Arc::new(AppCode::link(self.kind, &load(engine, &code.code())?)?))
            }
        };
        let (kind, shelf) = (self.kind, self.shelf.clone());
        Ok(LinkedCode { kind, shelf, here: Arc::new(Mutex::new(moved)), coming: Arc::default() })
    }
}
