//! Preparing an app: bytes in, checked bytes and facts out.
//!
//! A deploy is a line of pure steps over bytes:
//!
//! ```text
//! check -> [snapshot] -> [instrument] -> compile
//! ```
//!
//! `check` is this module, `snapshot` is [`preload`], of which the part that runs the guest is elsewhere (see
//! `compile::preload`). The steps in brackets turn prepared bytes into other prepared bytes and have their place
//! between `check` and `compile`; whatever changes what the line does to the same bytes raises [`recipe`], which is part
//! of the code cache's key, so that no artifact of an older line is ever taken for one of this line.
//!
//! Reading order: `envelope` looks at the raw bytes (is it WebAssembly, is it whole), `survey` takes the facts
//! out of it, `kind` decides what it is from its imports and exports, and the validator has the last word.
//! Nothing here touches a file, a clock or an engine.

pub mod digest;
mod envelope;
pub mod instrument;
mod kind;
mod nesting;
pub mod preload;
mod refusal;
mod survey;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::Serialize;
use wasmparser::types::EntityType;
use wasmparser::{Validator, WasmFeatures};

use instrument::{Ineligible, Instrumented, Options, instrument};

pub use digest::{Digest, Hasher};
pub use kind::Kind;
pub use refusal::{Cut, Reason, Refusal};
pub use survey::{Facts, Format, Listed, Memory, Table};

/// The version of the line of steps; part of every artifact's key in the code cache.
pub fn recipe() -> &'static str {
    "prepare-1"
}

/// Handles that the guest of an app that is rewound can have at once if it makes some itself: how many it had is not known
/// then. Their numbers are part of the state that is put back, which takes some 40 ns for each.
const REWOUND_HANDLES: u32 = 64;

/// The version of what is done in addition to an app that is to be rewound; part of its artifact's key.
pub fn rewind_recipe() -> String {
    format!("rewind-4, {REWOUND_HANDLES} handles")
}

/// The step that makes a checked component one whose instances can be rewound.
///
/// # Errors
/// Something in it can't be put back.
pub fn for_rewind(component: &[u8]) -> Result<Instrumented, Ineligible> {
    instrument(component, &Options { handles: REWOUND_HANDLES })
}

/// An app that passed the check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checked {
    pub kind: Kind,
    /// SHA-256 of the bytes as they were given.
    pub digest: Digest,
    pub facts: Facts,
}

/// The WebAssembly features that an app of this kind may use: what the three kinds need and no more, and the same set
/// that the engines are built with.
pub fn features(kind: Kind) -> WasmFeatures {
    let features = WasmFeatures::MUTABLE_GLOBAL
        | WasmFeatures::FLOATS
        | WasmFeatures::SATURATING_FLOAT_TO_INT
        | WasmFeatures::SIGN_EXTENSION
        | WasmFeatures::MULTI_VALUE
        | WasmFeatures::BULK_MEMORY
        | WasmFeatures::REFERENCE_TYPES
        | WasmFeatures::SIMD
        | WasmFeatures::EXTENDED_CONST
        | WasmFeatures::COMPONENT_MODEL;
    if !kind.concurrency() {
        return features;
    }
    features | WasmFeatures::CM_ASYNC | WasmFeatures::CM_ASYNC_STACKFUL | WasmFeatures::CM_MORE_ASYNC_BUILTINS
}

/// Checks an app's bytes: what they are, whether they are whole and valid, and which kind of app they make.
///
/// # Errors
///
/// [`Refusal::Incomplete`] when the bytes look like the beginning of a file that is still being written,
/// [`Refusal::Refused`] when they are something that cannot be served, named for what it is.
pub fn check(bytes: &[u8]) -> Result<Checked, Refusal> {
    let checked = check_known(bytes)?;
    validate(bytes, checked.kind)?;
    Ok(checked)
}

/// The same without the validator, which takes most of the time: for bytes that passed [`check`] before, such as those
/// whose artifact is in the code cache. Bytes that pass this alone must not be compiled.
///
/// # Errors
///
/// As [`check`], except for what only the validator finds.
pub fn check_known(bytes: &[u8]) -> Result<Checked, Refusal> {
    envelope::look(bytes)?;
    let survey = survey::take(bytes)?;
    let kind = kind::decide(&survey)?;
    let facts = survey.into_facts(bytes.len() as u64);
    Ok(Checked { kind, digest: Digest::of(bytes), facts })
}

/// Checks how a file begins that is too large to be read for nothing: `head`, its first [`HEAD`] bytes.
///
/// # Errors
/// [`Refusal::Refused`]: it is something else than WebAssembly.
pub fn check_head(head: &[u8]) -> Result<(), Refusal> {
    Ok(envelope::look_at_head(head)?)
}

/// How much of a file [`check_head`] wants to see.
pub const HEAD: usize = envelope::SNIFF;

/// One fact a line, as `hostler inspect` prints them.
impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Checked { kind, digest, facts } = self;
        writeln!(f, "kind           {kind} ({})", facts.format)?;
        writeln!(f, "sha-256        {digest}")?;
        writeln!(f, "size           {} bytes", facts.size)?;
        writeln!(f, "core modules   {} ({} instantiations)", facts.core_modules, facts.core_instances)?;
        for memory in &facts.memories {
            writeln!(f, "memory         {memory}")?;
        }
        for table in &facts.tables {
            writeln!(f, "table          {table}")?;
        }
        writeln!(f, "imports        {}", facts.imports.total)?;
        write!(f, "{}", facts.imports)?;
        writeln!(f, "exports        {}", facts.exports.total)?;
        write!(f, "{}", facts.exports)
    }
}

fn validate(bytes: &[u8], kind: Kind) -> Result<(), Reason> {
    let types = Validator::new_with_features(features(kind)).validate_all(bytes)?;
    if kind != Kind::CommandModule {
        return Ok(());
    }
    let types = types.as_ref();
    let start = types.core_exports().into_iter().flatten().find(|(name, _)| *name == "_start");
    let Some((_, EntityType::Func(id) | EntityType::FuncExact(id))) = start else {
        return Err(Reason::NoStart);
    };
    let ty = types[id].unwrap_func();
    if ty.params().is_empty() && ty.results().is_empty() { Ok(()) } else { Err(Reason::StartType) }
}
