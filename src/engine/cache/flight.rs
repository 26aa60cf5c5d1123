//! One maker per key: who asks for the same code meanwhile waits for it and shares the result.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use wasmtime::Engine;

use super::{CompileError, Key, Loaded};

/// The code that is being made right now. It holds as many entries as there are threads in [`Flights::once`].
#[derive(Default)]
pub(super) struct Flights {
    slots: Mutex<HashMap<Key, Arc<Slot>>>,
}

/// Locked while its code is made.
type Slot = Mutex<Option<Result<Loaded, CompileError>>>;

impl Flights {
    /// Runs `make`, or waits for another thread that is doing so for the same key and engine. Blocks. If `make`
    /// panics, a waiting thread takes over.
    pub fn once(
        &self,
        key: Key,
        engine: &Engine,
        make: impl FnOnce() -> Result<Loaded, CompileError>,
    ) -> Result<Loaded, CompileError> {
        let seat = self.join(key);
        let mut result = seat.slot.lock();
        match &*result {
            Some(Err(error)) => return Err(error.clone()),
            // Keys name settings, code belongs to one engine: another one with the same settings needs its own.
            Some(Ok(loaded)) if Engine::same(loaded.code.engine(), engine) => {
                return Ok(loaded.clone());
            }
            Some(Ok(_)) | None => {}
        }
        let made = make();
        *result = Some(made.clone());
        made
    }

    fn join(&self, key: Key) -> Seat<'_> {
        let slot = Arc::clone(self.slots.lock().entry(key).or_default());
        Seat { flights: self, key, slot }
    }

    /// Threads that are making or waiting for this key's code.
    #[cfg(test)]
    pub fn aboard(&self, key: &Key) -> usize {
        self.slots.lock().get(key).map_or(0, |slot| Arc::strong_count(slot) - 1)
    }
}

/// A place in a flight; the last one to leave clears the books.
struct Seat<'a> {
    flights: &'a Flights,
    key: Key,
    slot: Arc<Slot>,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut slots = self.flights.slots.lock();
        // Ours and the map's. Nobody can join while the map is locked.
        if Arc::strong_count(&self.slot) == 2 {
            slots.remove(&self.key);
        }
    }
}
