//! The code cache: artifacts in a directory, named by key.
//!
//! It can only make things faster. A file that is missing, torn, rotten, from another version, CPU or setting means
//! that the app is compiled again; a directory that cannot be written means that it is compiled at each start. The
//! one thing it refuses, when it is opened, is a directory that others can write, for its files are run as our code.
//!
//! Several processes may share a directory: every file is whole from the moment it has its name, and a file that is
//! removed stays readable for whoever has it open or mapped.

mod flight;

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use tracing::{debug, warn};
use wasmtime::Engine;

use super::artifact::{self, Code, CodeKind, CompileError, Flaw, Key};
use crate::prepare::preload::Verdict;
use crate::private_dir::{DirError, PrivateDir, is_digest};
use flight::Flights;

/// Why a directory cannot be the code cache.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    #[error("cannot use the code cache {}: {error}; name another place with `dir` under [cache]", path.display())]
    Open { path: PathBuf, error: io::Error },
    #[error(
        "the code cache {} belongs to user {owner}, but this is user {us}, and what is in it would be run: \
         name another place with `dir` under [cache]",
        path.display()
    )]
    Owner { path: PathBuf, owner: u32, us: u32 },
    #[error(
        "the code cache {} is open to other users (mode {mode:o}), and what is in it would be run: \
         empty it and run `chmod 700` on it, or name another place with `dir` under [cache]",
        path.display()
    )]
    Mode { path: PathBuf, mode: u32 },
    #[error("the code cache needs /proc, which is not mounted here: mount it")]
    NoProc,
}

impl CacheError {
    fn of(dir: &Path, error: DirError) -> CacheError {
        let path = dir.to_owned();
        match error {
            DirError::Open(error) => CacheError::Open { path, error },
            DirError::Owner { owner, us } => CacheError::Owner { path, owner, us },
            DirError::Mode(mode) => CacheError::Mode { path, mode },
            DirError::NoProc => CacheError::NoProc,
        }
    }
}

/// Where code came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Cache,
    Compiled,
}

/// Code, where it came from and how long it took from asking to having it.
#[derive(Clone)]
pub struct Loaded {
    pub code: Code,
    /// What has come of preloading, where the key is of an app that was to be.
    pub preload: Option<Verdict>,
    pub source: Source,
    pub took: Duration,
}

/// Code, and what its artifact says of preloading.
type Told = (Code, Option<Verdict>);

pub struct CodeCache {
    dir: PrivateDir,
    max_size: u64,
    /// Bytes of all artifacts, as far as known: other processes' are counted when the directory is looked through,
    /// which happens when this passes `max_size`.
    size: Mutex<u64>,
    flights: Flights,
    /// The last artifact could not be stored. It was warned of; the next that can ends it.
    failing: AtomicBool,
}

impl CodeCache {
    /// Opens the cache in `dir`, which is made (0700) if there is none, removes what a crash left behind, and keeps it
    /// within `max_size` bytes (passed for a moment by the artifact that is just being stored).
    pub fn open(dir: &Path, max_size: u64) -> Result<CodeCache, CacheError> {
        let failed = |error| CacheError::Open { path: dir.to_owned(), error };
        let cache = CodeCache {
            dir: PrivateDir::open(dir).map_err(|error| CacheError::of(dir, error))?,
            max_size,
            size: Mutex::new(0),
            flights: Flights::default(),
            failing: AtomicBool::new(false),
        };
        let leftovers = cache.dir.remove_leftovers().map_err(failed)?;
        let size = cache.make_room(None).map_err(failed)?;
        *cache.size.lock() = size;
        debug!(dir = %dir.display(), size, max_size, leftovers, "code cache opened");
        Ok(cache)
    }

    /// Whether the cache could be opened in `dir`, which is neither made nor changed.
    ///
    /// # Errors
    /// See [`CacheError`].
    pub fn check(dir: &Path) -> Result<(), CacheError> {
        PrivateDir::check(dir).map(drop).map_err(|error| CacheError::of(dir, error))
    }

    /// The runnable code of checked, prepared `bytes` whose SHA-256 is `digest`: out of the cache, or compiled
    /// here and stored. Blocks for as long as a compilation takes. Callers with the same bytes share one compilation.
    pub fn code(
        &self,
        engine: &Engine,
        bytes: &[u8],
        kind: CodeKind,
        digest: &[u8; 32],
    ) -> Result<Loaded, CompileError> {
        self.code_with(engine, kind, digest, || artifact::compile(engine, bytes, kind))
    }

    /// As [`CodeCache::code`], with another way to compile (such as a child process), which returns what
    /// [`artifact::compile`] returns for the same engine settings.
    pub fn code_with(
        &self,
        engine: &Engine,
        kind: CodeKind,
        digest: &[u8; 32],
        compile: impl FnOnce() -> Result<Vec<u8>, CompileError>,
    ) -> Result<Loaded, CompileError> {
        let start = Instant::now();
        let key = Key::new(engine, kind, digest);
        let mut loaded = self.flights.once(key, engine, || {
            let ((code, preload), source) = match self.load_told(engine, &key)? {
                Some(told) => (told, Source::Cache),
                None => (self.make(engine, &key, compile)?, Source::Compiled),
            };
            Ok(Loaded { code, preload, source, took: start.elapsed() })
        })?;
        // For who shared it, the time it waited.
        loaded.took = start.elapsed();
        Ok(loaded)
    }

    /// Loads the artifact of `key`, if there is one that is whole and fits `engine`. One that does not is removed.
    pub fn load(&self, engine: &Engine, key: &Key) -> Option<Code> {
        self.load_told(engine, key).ok().flatten().map(|(code, _)| code)
    }

    /// An error if it is known that there can be none.
    fn load_told(&self, engine: &Engine, key: &Key) -> Result<Option<Told>, CompileError> {
        let name = key.to_string();
        let flaw = match self.dir.open_file(&name) {
            Ok(file) => match artifact::load(engine, &file, key) {
                Ok(code) => {
                    // Marks it as used. On a read-only file system nothing is evicted either.
                    let _ = file.set_modified(SystemTime::now());
                    return Ok(Some((code, artifact::verdict_in(&file))));
                }
                Err(Flaw::Ineligible(reason)) => {
                    let _ = file.set_modified(SystemTime::now());
                    return Err(CompileError::Ineligible(reason));
                }
                Err(flaw) => flaw,
            },
            Err(error) => Flaw::Unreadable(error),
        };
        self.reject(&name, &flaw);
        Ok(None)
    }

    /// Forgets the artifact of `key` if preloading could not be tried when it was made.
    pub fn try_again(&self, key: &Key) {
        let name = key.to_string();
        let untried = |file| matches!(artifact::verdict_in(&file), Some(Verdict::Untried { .. }));
        if self.dir.open_file(&name).is_ok_and(untried) {
            let removed = self.dir.remove(&name);
            debug!(artifact = name, removed = removed.is_ok(), "preloading is tried again");
        }
    }

    /// Is there an artifact of `key`? It may still turn out to be torn.
    pub fn has(&self, key: &Key) -> bool {
        self.dir.size(&key.to_string()).is_some()
    }

    /// Stores a payload made by [`artifact::compile`] under `key`, in place of any that is there, and makes room by
    /// removing the least recently used others.
    pub fn store(&self, key: &Key, payload: &[u8]) -> io::Result<()> {
        let trailer = artifact::trailer(key, payload);
        let size = (payload.len() + trailer.len()) as u64;
        if size > self.max_size {
            let message = format!("its {size} bytes exceed the cache's max_size of {}", self.max_size);
            return Err(io::Error::new(ErrorKind::FileTooLarge, message));
        }
        let name = key.to_string();
        self.dir.replace(&name, [payload, &trailer])?;
        self.account(size, &name);
        Ok(())
    }

    /// Bytes of all artifacts, as far as this process knows.
    pub fn size(&self) -> u64 {
        *self.size.lock()
    }

    /// Compiles and stores. The code is then loaded from the file, so that it lies in the page cache and not in
    /// memory of ours; from memory only if it could not be stored.
    fn make(
        &self,
        engine: &Engine,
        key: &Key,
        compile: impl FnOnce() -> Result<Vec<u8>, CompileError>,
    ) -> Result<Told, CompileError> {
        let payload = match compile() {
            Err(CompileError::Ineligible(reason)) => {
                let stored = self.store(key, &artifact::without_code(&reason));
                self.report(key, &stored);
                return Err(CompileError::Ineligible(reason));
            }
            compiled => compiled?,
        };
        let stored = self.store(key, &payload);
        self.report(key, &stored);
        match stored.ok().and_then(|()| self.load_told(engine, key).ok().flatten()) {
            Some(told) => Ok(told),
            None => {
                let code = artifact::load_bytes(engine, &payload, key.kind())?;
                Ok((code, artifact::verdict(&payload)))
            }
        }
    }

    /// Warns once when artifacts can no longer be stored, not for each of a thousand apps.
    fn report(&self, key: &Key, stored: &io::Result<()>) {
        match stored {
            Ok(()) => self.failing.store(false, Ordering::Relaxed),
            Err(error) if self.failing.swap(true, Ordering::Relaxed) => {
                debug!(%key, %error, "artifact not stored");
            }
            Err(error) => warn!(
                %key, %error,
                "compiled code cannot be stored in the code cache: apps are served, but will be compiled again at the next start"
            ),
        }
    }

    fn reject(&self, name: &str, flaw: &Flaw) {
        if let Flaw::Unreadable(error) = flaw {
            match error.raw_os_error() {
                Some(libc::ENOENT) => return,
                // Says something about this process, not about the file.
                Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM) => {
                    debug!(artifact = name, %error, "artifact not read");
                    return;
                }
                _ => {}
            }
        }
        let removed = self.dir.remove(name);
        debug!(artifact = name, reason = %flaw, removed = removed.is_ok(), "artifact not used");
    }

    fn account(&self, added: u64, stored: &str) {
        let mut size = self.size.lock();
        *size += added;
        if *size <= self.max_size {
            return;
        }
        match self.make_room(Some(stored)) {
            Ok(left) => *size = left,
            Err(error) => debug!(%error, "the code cache cannot be looked through"),
        }
    }

    /// Looks through the directory and, if it holds more than `max_size`, removes least recently used artifacts but
    /// not `spared`. Some extra room is made, so that not each artifact stored after this needs a look of its own.
    /// Returns the bytes that are left.
    fn make_room(&self, spared: Option<&str>) -> io::Result<u64> {
        let mut found = self.dir.files(is_digest)?;
        let mut left: u64 = found.iter().map(|artifact| artifact.size).sum();
        if left <= self.max_size {
            return Ok(left);
        }
        let goal = self.max_size - self.max_size / 8;
        found.sort_by_key(|artifact| artifact.used);
        for artifact in found.iter().filter(|artifact| Some(artifact.name.as_str()) != spared) {
            if left <= goal {
                break;
            }
            if self.dir.remove(&artifact.name).is_ok() {
                left -= artifact.size;
                debug!(artifact = artifact.name, size = artifact.size, "artifact evicted");
            }
        }
        Ok(left)
    }
}

#[cfg(test)]
mod tests;
