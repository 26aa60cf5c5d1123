//! The thread that advances the epoch, by which guests are interrupted.
//!
//! It is an operating-system thread of its own: a task of the runtime could not run while guests that spin hold all
//! of the runtime's threads, which is just when it is needed.

use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::thread::run_promptly;

/// Advances the epoch of each watched engine at an interval, until it is dropped.
pub struct EpochTicker {
    engines: Arc<Mutex<Vec<wasmtime::EngineWeak>>>,
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl EpochTicker {
    pub fn start(tick: Duration) -> std::io::Result<EpochTicker> {
        let engines: Arc<Mutex<Vec<wasmtime::EngineWeak>>> = Arc::default();
        let watched = engines.clone();
        let (stop, stopped) = sync_channel::<()>(0);
        let thread = std::thread::Builder::new().name("epoch".into()).spawn(move || {
            run_promptly();
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(tick) {
                let engines = watched.lock().unwrap_or_else(PoisonError::into_inner);
                for engine in engines.iter().filter_map(wasmtime::EngineWeak::upgrade) {
                    engine.increment_epoch();
                }
            }
        })?;
        Ok(EpochTicker { engines, stop: Some(stop), thread: Some(thread) })
    }

    pub fn watch(&self, engine: &wasmtime::Engine) {
        self.engines.lock().unwrap_or_else(PoisonError::into_inner).push(engine.weak());
    }
}

impl Drop for EpochTicker {
    fn drop(&mut self) {
        // Closing the channel ends the thread's wait at once.
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
