//! Instrumenting an app: the same app with two more exports, by which an instance of it is put back in place.
//!
//! ```text
//! wiring (and each module) -> what state there is, or why not
//! restorer                 -> a module that copies that state and puts it back
//! attach                   -> the component with the restorer in it
//! ```
//!
//! What an instance of a component on Wasmtime 48 can remember from one call to the next, and who puts it back:
//!
//! | state | put back by |
//! |---|---|
//! | bytes and size of linear memories | the host; the restorer has Wasmtime read the size again, and compares it |
//! | mutable globals | the restorer |
//! | function tables | the restorer, if any code writes them; a changed size is reported |
//! | numbers of handles, and the order they come in | the restorer; one that is left is reported |
//! | handles that a request left | the host, which asks the restorer for their numbers and has it drop them |
//! | dropped segments | nobody: refused |
//! | heap of objects and exceptions, shared memory, asynchronous tasks, streams | nobody: refused |
//! | lazily filled table entries and function references | they come out the same each time |
//! | may-leave flags, scopes of borrowed handles | the end of a call that went well |
//! | host state: WASI context, resources | the host, which makes it anew |
//!
//! An allow-list decides: what it does not name is refused, so what a later Wasmtime adds is, too. An app may be hostile:
//! all is done in one pass over its bytes, and what it can make large is bounded by its size.

mod attach;
mod ineligible;
mod module;
mod operators;
mod restorer;
#[cfg(test)]
mod tests;
mod wiring;

use std::fmt::Debug;

use serde::{Deserialize, Serialize};

pub use ineligible::Ineligible;
use restorer::Step;
pub use restorer::{HANDLES, MEMORY_SIZE, ORDER, TABLE_SIZE};
use wiring::Wiring;

use super::refusal::shown;

/// The export that takes the present state as the one to return to: `func(had: u32, beyond: u32) -> u32`, 0 when it could,
/// else the bits of what stood in the way. It settles the order in which handles are given out, too, so what comes after
/// it is what comes after each rewind. To be called before handles are in use; a second time only just after a rewind.
/// The parameters are those of [`REWIND`].
pub const SAVE: &str = "hostler-save";

/// The export that puts the state back, after the host has done so with the memories: `func(had: u32, beyond: u32) -> u32`,
/// 0 when all was, else the bits of what was not: [`MEMORY_SIZE`], [`TABLE_SIZE`], [`HANDLES`], [`ORDER`]. An instance for
/// which it is not 0, or traps, is to be discarded.
///
/// `had`: handles that the instance may have had at once since it was put back last, no fewer. `beyond`: handles of which
/// it is looked at besides that they are in order. The store must let it have so many more than it had.
pub const REWIND: &str = "hostler-rewind";

/// The export that says which handles a request has left: `func(had: u32) -> u64`, a bit for each number, that of number 1
/// first. `had`: as for [`REWIND`], at most [`MOST_LEFT`]; the store must let it have one more. Only where
/// [`Manifest::droppable`] is not 0.
pub const LEFT: &str = "hostler-left";

/// The export that drops such a handle: `func(type: u32, handle: u32)`. The type is one of the first
/// [`Manifest::droppable`] numbers; it traps if the handle is of another one.
pub const DROP: &str = "hostler-drop";

/// Exports that no app may have.
const RESERVED: [&str; 4] = [SAVE, REWIND, LEFT, DROP];

/// Types of resources whose handles can be dropped; twice as many as there are in WASI 0.2.
const MOST_DROPPABLE: usize = 64;

/// Handles of which it can be said which are left: one for each bit of the answer.
pub const MOST_LEFT: u32 = 64;

/// Globals that are put back; far more than any toolchain makes.
const MOST: usize = 10_000;
/// Tables that are put back: the restorer has two for each, and 100 is what the validator allows it.
const MOST_TABLES: usize = 50;
/// Handles of an app that makes some of its own. Each is made and dropped at every rewind.
const MOST_HANDLES: u32 = 1 << 16;

/// An app that can be rewound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instrumented {
    pub wasm: Vec<u8>,
    pub manifest: Manifest,
}

/// What the host has to know of an instrumented app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Linear memories that one instance has. The restorer has none.
    pub memories: u32,
    /// Handles that an instance may have had at once: no more than the host has given it where this is `None`, else it makes
    /// some itself, and there may have been so many.
    pub handles: Option<u32>,
    /// Globals that are put back.
    pub globals: u32,
    /// Tables that are put back.
    pub tables: u32,
    /// Types of the host's resources whose handles the restorer can drop, if a request leaves one.
    pub droppable: u32,
}

/// What the host decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Handles that an instance may have at once which makes some itself, 1 to 65,536.
    pub handles: u32,
}

/// Rewrites an app that passed the check, so that an instance of it can be put back in place.
///
/// Functions' bodies are copied as they are and are not validated here.
///
/// # Errors
///
/// When the app has anything whose state is not known to be put back.
pub fn instrument(component: &[u8], options: &Options) -> Result<Instrumented, Ineligible> {
    instrument_by(component, options, &Step::ALL)
}

/// The same with some steps of the rewind, or all.
fn instrument_by(component: &[u8], options: &Options, steps: &[Step]) -> Result<Instrumented, Ineligible> {
    let wiring = wiring::take(component)?;
    let state = restorer::state(&wiring, options.handles > 0);
    let handles = bounded(options.handles as usize, "handles", MOST_HANDLES as usize)?;
    let manifest = Manifest {
        memories: bounded(state.memories.len(), "memories", MOST)?,
        handles: wiring.makes_handles.then_some(handles),
        globals: bounded(state.globals.len(), "globals", MOST)?,
        tables: bounded(state.tables.len(), "tables", MOST_TABLES)?,
        droppable: bounded(state.droppable.len(), "types of resources", MOST_DROPPABLE)?,
    };
    let wasm = attach::attach(component, &wiring, &state, steps)?;
    wiring::validate(&wasm)?;
    Ok(Instrumented { wasm, manifest })
}

fn bounded(count: usize, what: &'static str, most: usize) -> Result<u32, Ineligible> {
    match u32::try_from(count) {
        Ok(fits) if count <= most => Ok(fits),
        _ => Err(Ineligible::TooMuch { what, most }),
    }
}

/// The first word of what something of the parser's is called.
fn first_word(of: &impl Debug) -> String {
    let text = format!("{of:?}");
    shown(text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default())
}
