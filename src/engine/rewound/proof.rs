//! The proof that it works here: a guest with every kind of state, prepared as an app is and put back a few times in an
//! engine with the host's settings. Some of what is relied on is nothing that Wasmtime promises, such as that a memory may
//! become smaller.

use futures_util::FutureExt;
use wasmtime::component::{Component, Linker, TypedFunc};
use wasmtime::{Engine, Store, Trap};

use super::{Exports, Handles, Images, Rewinder};
use crate::prepare;
use crate::prepare::instrument::{DROP, LEFT, REWIND, SAVE};

/// The guest's first byte that it has only while it has grown.
const BEYOND: u32 = 2 << 16;

const TIMES: usize = 20;

/// Proves it in an engine for apps that are rewound. Compiles the guest, so it takes some tens of milliseconds; blocks.
///
/// # Errors
/// What was not as it should be.
pub fn prove(engine: &Engine) -> Result<(), String> {
    attempt(engine).map_err(|error| format!("{error:#}"))
}

fn attempt(engine: &Engine) -> wasmtime::Result<()> {
    let failed = |error: &dyn std::fmt::Display| wasmtime::format_err!("the guest of the proof: {error}");
    let wasm = wat::parse_str(include_str!("proof.wat")).map_err(|error| failed(&error))?;
    let prepared = prepare::for_rewind(&wasm).map_err(|error| failed(&error))?;
    let component = Component::from_binary(engine, &prepared.wasm)?;
    let pre = Linker::new(engine).instantiate_pre(&component)?;
    let memories = usize::try_from(prepared.manifest.memories)?;
    let droppable = prepared.manifest.droppable;
    let exports = Exports { save: SAVE, rewind: REWIND, left: LEFT, drop: DROP, memories, droppable };
    let mut store = Store::new(engine, ());
    let had = prepared.manifest.handles.unwrap_or_default();
    let handles = Handles { had, beyond: 1 };
    store.set_max_component_handles(usize::try_from(had + 1)?);
    store.set_epoch_deadline(super::NO_INTERRUPTION);
    let images = Images::default();
    let (instance, rewinder) = now(Rewinder::instantiate(&mut store, &pre, &exports, &images, |()| had))??;
    let mut rewinder =
        rewinder.ok_or_else(|| wasmtime::format_err!("the proof does not begin as it does"))?;
    let run: TypedFunc<(), (u32,)> = instance.get_typed_func(&mut store, "run")?;
    let peek: TypedFunc<(u32,), (u32,)> = instance.get_typed_func(&mut store, "peek")?;
    let first = now(run.call_async(&mut store, ()))??;
    if now(run.call_async(&mut store, ()))?? == first {
        return Err(wasmtime::format_err!("the guest of the proof does not see what it left"));
    }
    for time in 1..=TIMES {
        rewinder.rewind(&mut store, handles)?;
        if let Some((memory, byte)) = rewinder.difference(&mut store) {
            return Err(wasmtime::format_err!("byte {byte} of memory {memory} differs after {time} times"));
        }
        if now(run.call_async(&mut store, ()))?? != first {
            return Err(wasmtime::format_err!("the guest sees what it left after {time} times"));
        }
    }
    now(peek.call_async(&mut store, (BEYOND,)))??;
    rewinder.rewind(&mut store, handles)?;
    match now(peek.call_async(&mut store, (BEYOND,)))? {
        Err(trap) if trap.downcast_ref() == Some(&Trap::MemoryOutOfBounds) => Ok(()),
        _ => Err(wasmtime::format_err!("the guest can still read what it had added to its memory")),
    }
}

/// Polls once what never waits.
fn now<F: Future>(future: F) -> wasmtime::Result<F::Output> {
    future.now_or_never().ok_or_else(|| wasmtime::format_err!("the guest of the proof waits for something"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{EngineKind, EngineSettings};

    #[test]
    fn it_works_here_with_guards_and_with_checks() {
        let small = EngineSettings { memory_reservation: 64 << 20, ..EngineSettings::default() };
        for settings in [EngineSettings::default(), small] {
            let engine = settings.compiling_engine(EngineKind::Rewound).expect("an engine");
            assert_eq!(prove(&engine), Ok(()));
        }
    }

    /// In an engine whose memories are not ours there is nothing that could be put back.
    #[test]
    fn it_fails_where_memories_are_not_put_back() {
        let engine = EngineSettings::default().compiling_engine(EngineKind::Plain).expect("an engine");
        assert!(prove(&engine).is_err());
    }
}
