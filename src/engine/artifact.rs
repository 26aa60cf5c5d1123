//! An artifact: an app's machine code as Wasmtime precompiled it, with a trailer of ours behind it.
//!
//! ```text
//! payload: an ELF file made by Wasmtime, and   | trailer, 88 bytes, numbers little-endian
//! what the host has to know of it (`tail`)      | magic 8 | format u32 | kind u32 | payload length u64 | key 32 | SHA-256 of the payload 32
//! ```
//!
//! The payload comes first because Wasmtime maps the file from its first byte on and wants the ELF header there;
//! what follows the last section does not bother it. So the file in the code cache is itself what is mapped: its
//! pages are the kernel's page cache, read when touched, shared and given back under pressure. A copy in a sealed
//! memfd could be written by nobody, but it stays in memory whole and for good. Measured with a JavaScript
//! component of 12 MB, whose artifact has 34: the mapped file is ready in 43 ms with 6 MB of it resident, a memfd
//! in 112 ms with 33 MB of shared memory. A mapped file must not change while it is mapped, and that is kept up
//! otherwise: artifacts are never written in place but replaced by rename, they have mode 0400, and their directory is
//! ours alone (see [`super::cache`]).
//!
//! Each loaded artifact keeps its file open, for Wasmtime maps the memories' first contents from it: a thousand apps
//! take a thousand descriptors.
//!
//! Loading an artifact means running it. A digest finds torn and rotten files, not forged ones: what protects
//! the code is who may write it.

mod making;
mod tail;
mod trailer;

use std::fmt;
use std::fs::File;
use std::hash::{self, Hash};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use wasmtime::component::Component;
use wasmtime::{Engine, Module};

use super::Reset;
use crate::config::units::{format_duration, format_size};
use crate::pieces::InPieces;
use crate::prepare::instrument::Manifest;
use crate::prepare::preload::Verdict;
use crate::prepare::{self, Digest, Hasher};
use tail::Tail;
use trailer::Trailer;

pub use making::{COMPILE_THREADS, compile, compile_once};
pub(super) use trailer::TRAILER_LEN;

/// What the bytes of an app are compiled to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CodeKind {
    Module,
    Component,
    /// A component that is prepared to be rewound: the line of preparation instruments it first.
    Instrumented,
}

impl CodeKind {
    /// What an app of this kind is compiled as, if its instances are brought back so.
    pub fn of(kind: prepare::Kind, reset: Reset) -> CodeKind {
        match (reset, kind) {
            (Reset::Rewind, _) => CodeKind::Instrumented,
            (Reset::Replace, prepare::Kind::CommandModule) => CodeKind::Module,
            (Reset::Replace, _) => CodeKind::Component,
        }
    }
}

/// Compiled code, ready to be linked. A clone shares the code.
#[derive(Clone)]
pub enum Code {
    Component(Component),
    Module(Module),
    /// And what of it can be put back.
    Instrumented(Component, Manifest),
}

impl Code {
    /// The engine that the code was loaded into, and the only one that can run it.
    pub fn engine(&self) -> &Engine {
        match self {
            Code::Component(component) | Code::Instrumented(component, _) => component.engine(),
            Code::Module(module) => module.engine(),
        }
    }

    /// What it was loaded from: for engines that differ in nothing that shapes code.
    pub fn payload(&self) -> Result<Vec<u8>, CompileError> {
        let (code, manifest) = match self {
            Code::Component(component) => (component.serialize(), None),
            Code::Module(module) => (module.serialize(), None),
            Code::Instrumented(component, manifest) => (component.serialize(), Some(*manifest)),
        };
        let code = code.map_err(|error| CompileError::Load(format!("{error:#}")))?;
        Ok(Tail { manifest, ..Tail::default() }.append(code))
    }
}

/// The name of an artifact: equal keys mean interchangeable code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    kind: CodeKind,
    id: Digest,
}

impl Key {
    /// The key of what `engine` makes of prepared bytes whose SHA-256 is `digest`.
    pub fn new(engine: &Engine, kind: CodeKind, digest: &[u8; 32]) -> Key {
        let mut hasher = KeyHasher::of("hostler artifact");
        hasher.0.update(prepare::recipe());
        if kind == CodeKind::Instrumented {
            hasher.0.update(prepare::rewind_recipe());
        }
        hasher.0.update(kind.tag().to_le_bytes());
        hasher.0.update(digest);
        // Covers Wasmtime's own version, the CPU's features and every setting that shapes code.
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Key { kind, id: hasher.0.finish() }
    }

    pub fn kind(&self) -> CodeKind {
        self.kind
    }
}

/// 64 lower-case hexadecimal digits, which also are the artifact's file name.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.fmt(f)
    }
}

/// Why bytes did not become runnable code. The text is Wasmtime's, with its causes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// What the app's check found.
    #[error("{0}")]
    Refused(String),
    #[error("it can't be rewound: {0}; use reset = \"replace\"")]
    Ineligible(String),
    #[error("the code cannot be compiled: {0}")]
    Compile(String),
    #[error("the compiled code cannot be loaded: {0}")]
    Load(String),
    #[error(
        "compiling it takes more than {} of memory: make the app smaller, or have the operator raise memory_limit \
         under [compile]", format_size(*.0)
    )]
    Memory(u64),
    #[error(
        "compiling it takes more than {} of processor time: make the app smaller, or have the operator raise \
         cpu_time under [compile]", format_duration(*.0)
    )]
    CpuTime(Duration),
    #[error(
        "compiling it takes longer than {}: deploy it again when the machine is less busy, or have the operator \
         raise time_limit or lower nice under [compile]", format_duration(*.0)
    )]
    Time(Duration),
    /// The process that compiles could not do so, for a reason that may be the app's or not.
    #[error("the compiler {0}; `hostler restart` tries it again")]
    Process(String),
    #[error("the host is stopping")]
    Stopped,
}

/// What two engines have in common whose code is interchangeable, as hexadecimal digits: Wasmtime's version, the CPU's
/// features and every setting that shapes code.
pub fn compatibility(engine: &Engine) -> String {
    let mut hasher = KeyHasher::of("hostler compatibility");
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.0.finish().to_string()
}

/// What is stored instead of code of a component that can't be instrumented, for this reason.
pub(super) fn without_code(reason: &str) -> Vec<u8> {
    Tail { ineligible: Some(reason.to_owned()), ..Tail::default() }.append(Vec::new())
}

/// The same payload, which says what has come of preloading the app that is in it.
///
/// # Errors
/// It is no payload of [`compile`]'s.
pub fn with_verdict(payload: Vec<u8>, verdict: &Verdict) -> Result<Vec<u8>, CompileError> {
    let (code, tail) = Tail::split(&payload).map_err(|error| CompileError::Load(format!("{error:#}")))?;
    let length = code.len();
    let mut code = payload;
    code.truncate(length);
    Ok(Tail { preload: Some(verdict.clone()), ..tail }.append(code))
}

/// What a payload says of preloading.
pub(super) fn verdict(payload: &[u8]) -> Option<Verdict> {
    Tail::split(payload).ok().and_then(|(_, tail)| tail.preload)
}

/// The same of the open artifact, which was loaded.
pub(super) fn verdict_in(file: &File) -> Option<Verdict> {
    let payload_length = file.metadata().ok()?.len().checked_sub(TRAILER_LEN as u64)?;
    Tail::read(file, payload_length).ok()?.preload
}

/// Loads a payload that this process has made with [`compile`] (or had its own compile child make). Nothing
/// from elsewhere may come in here: the bytes will be run.
pub fn load_bytes(engine: &Engine, payload: &[u8], kind: CodeKind) -> Result<Code, CompileError> {
    deserialize(engine, payload, kind).map_err(|error| CompileError::Load(format!("{error:#}")))
}

/// Why an artifact is not used. None of them is an error to anyone: the app is compiled again.
#[derive(Debug, thiserror::Error)]
pub(super) enum Flaw {
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    #[error("it is shorter than a trailer")]
    Short,
    #[error("its {0} is not the expected one")]
    Mismatch(&'static str),
    #[error("it does not fit this engine: {0:#}")]
    Unfit(wasmtime::Error),
    /// There is none, and it is as it should be: see [`without_code`].
    #[error("there is no code of it: {0}")]
    Ineligible(String),
}

/// The trailer that makes an artifact of `payload` under `key`.
pub(super) fn trailer(key: &Key, payload: &[u8]) -> [u8; TRAILER_LEN] {
    Trailer::expected(key, payload.len() as u64, *Digest::of(payload).as_bytes()).encode()
}

/// Verifies the open artifact and loads this same file: whatever happens to its name meanwhile, what was checked is
/// what is run. The caller vouches that only we can have written it.
pub(super) fn load(engine: &Engine, file: &File, key: &Key) -> Result<Code, Flaw> {
    let payload_len = verify(file, key)?;
    if key.kind == CodeKind::Instrumented
        && let Some(reason) = Tail::read(file, payload_len).map_err(Flaw::Unfit)?.ineligible
    {
        return Err(Flaw::Ineligible(reason));
    }
    match map(engine, file, key.kind, payload_len) {
        Ok(code) => Ok(code),
        // Executable mappings of files can be forbidden where anonymous ones are not: on a `noexec` mount or by
        // a security module. Then the code is copied.
        Err(denied) => copy(engine, file, key, payload_len).map_err(|flaw| match flaw {
            Flaw::Unfit(_) => Flaw::Unfit(denied),
            other => other,
        }),
    }
}

/// Returns the payload's length when every byte of the file is as it was stored under `key`.
fn verify(file: &File, key: &Key) -> Result<u64, Flaw> {
    let len = file.metadata()?.len();
    let payload_len = len.checked_sub(TRAILER_LEN as u64).ok_or(Flaw::Short)?;
    let mut bytes = [0; TRAILER_LEN];
    file.read_exact_at(&mut bytes, payload_len)?;
    let found = Trailer::decode(&bytes);
    // The digest costs a read of the whole file, so it comes after all that can be told without.
    found.compare(&Trailer::expected(key, payload_len, found.digest))?;
    if digest(file, payload_len)?.as_bytes() != &found.digest {
        return Err(Flaw::Mismatch("digest"));
    }
    Ok(payload_len)
}

fn digest(file: &File, len: u64) -> io::Result<Digest> {
    let mut hasher = Hasher::default();
    let mut chunk = vec![0; 64 * 1024];
    let mut at = 0;
    while at < len {
        let want = usize::try_from(len - at).map_or(chunk.len(), |left| left.min(chunk.len()));
        let part = &mut chunk[..want];
        file.read_exact_at(part, at)?;
        hasher.update(part);
        at += want as u64;
    }
    Ok(hasher.finish())
}

/// Maps the verified file itself: privately, so that nothing written to the mapping reaches the file.
fn map(engine: &Engine, file: &File, kind: CodeKind, payload_len: u64) -> wasmtime::Result<Code> {
    // A component can be loaded from a path only. This one leads to the open file, not to what now has its name.
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    // SAFETY: the file holds the unchanged output of `precompile_component` or `precompile_module`: its digest was
    // just verified on this open file, which `file` keeps open (so the descriptor's number stays its own), and only
    // this program can have written it (owner and mode were checked, the directory is 0700). It does not change while
    // it is mapped, because artifacts are replaced by rename only. Output for another engine is refused by Wasmtime.
    unsafe {
        match kind {
            CodeKind::Component => Component::deserialize_file(engine, path).map(Code::Component),
            CodeKind::Module => Module::deserialize_file(engine, path).map(Code::Module),
            CodeKind::Instrumented => {
                let manifest = Tail::read(file, payload_len)?.manifest()?;
                Component::deserialize_file(engine, path)
                    .map(|component| Code::Instrumented(component, manifest))
            }
        }
    }
}

/// Loads the verified file through memory. The digest is taken again, of the very bytes that are run.
fn copy(engine: &Engine, file: &File, key: &Key, payload_len: u64) -> Result<Code, Flaw> {
    let mut payload = Vec::new();
    InPieces(ReadAt { file, at: 0 }).take(payload_len).read_to_end(&mut payload)?;
    let mut stored = [0; TRAILER_LEN];
    file.read_exact_at(&mut stored, payload_len)?;
    if trailer(key, &payload) != stored {
        return Err(Flaw::Mismatch("content since it was verified"));
    }
    deserialize(engine, &payload, key.kind).map_err(Flaw::Unfit)
}

fn deserialize(engine: &Engine, payload: &[u8], kind: CodeKind) -> wasmtime::Result<Code> {
    let (payload, tail) = Tail::split(payload)?;
    // SAFETY: both callers pass the unchanged output of `precompile_component` or `precompile_module`: `load_bytes`
    // by its contract, `copy` by the digest of a file that only we can have written. It is copied, so nobody else
    // has these bytes. Output for another engine, version or kind is refused by Wasmtime.
    unsafe {
        match kind {
            CodeKind::Component => Component::deserialize(engine, payload).map(Code::Component),
            CodeKind::Module => Module::deserialize(engine, payload).map(Code::Module),
            CodeKind::Instrumented => {
                let manifest = tail.manifest()?;
                Component::deserialize(engine, payload)
                    .map(|component| Code::Instrumented(component, manifest))
            }
        }
    }
}

/// Takes what is hashed into SHA-256, since the 64 bits of a [`hash::Hasher`] are too few for a name.
struct KeyHasher(Hasher);

impl KeyHasher {
    /// `what` the digest is of, so that it is no other one's.
    fn of(what: &str) -> KeyHasher {
        let mut hasher = Hasher::default();
        hasher.update(what);
        KeyHasher(hasher)
    }
}

impl hash::Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Never asked for: the key is the SHA-256 itself.
    fn finish(&self) -> u64 {
        0
    }
}

/// Reads on from `at` without moving the descriptor's own position.
struct ReadAt<'a> {
    file: &'a File,
    at: u64,
}

impl Read for ReadAt<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read_at(buf, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests;
