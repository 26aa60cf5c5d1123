//! Taking one app's files into memory, once, so that nothing that is served depends on them staying there.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::scan::{Found, Stamp};
use crate::pieces::InPieces;
use crate::prepare::{self, Digest, Refusal};
use crate::public::manifest::ManifestError;
use crate::public::{self, Copies, Manifest};

/// Bytes that an app's config may have.
const CONFIG_MAX: u64 = 64 << 10;

/// Bytes of a `.wasm` above which it is looked at how it begins before it is read, and few such are in memory at once.
pub const LARGE: u64 = 32 << 20;

/// An app's files as they were read.
#[derive(Debug)]
pub struct ReadApp {
    pub wasm: Bytes,
    /// The text of the app's `.toml`.
    pub config: Option<String>,
    /// The files of its `public/`, copied.
    pub public: Option<Manifest>,
    pub digests: Digests,
    /// The stamps when everything had been read; equal to those before.
    pub after: Found,
}

/// What identifies an app's release: the bytes, never their times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Digests {
    pub wasm: Digest,
    pub config: Option<Digest>,
    pub public: Option<Digest>,
}

impl Digests {
    /// Is the code the same, and its config? Who puts an app in place does not know what is in its `public/`.
    pub fn are_of_code(self, other: Digests) -> bool {
        (self.wasm, self.config) == (other.wasm, other.config)
    }
}

/// How an app's files are read.
pub struct Reading<'r> {
    /// Bytes that the `.wasm` may have.
    pub max_size: u64,
    /// Where its `public/` is copied to; `None`: it is looked at only.
    pub copies: Option<&'r Copies>,
    /// What its `public/` may have, by the text of its config; `None`: it is not served.
    pub limits: &'r dyn Fn(Option<&str>) -> Option<public::Limits>,
}

/// Why an app's files could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("it changed while it was being read")]
    Changed,
    #[error("it has gone")]
    Gone,
    #[error("{path:?} has {size} bytes; at most {max} are allowed")]
    TooLarge { path: PathBuf, size: u64, max: u64 },
    #[error("{path:?} is not a regular file")]
    NotAFile { path: PathBuf },
    #[error("{path:?} is not in the apps folder")]
    Outside { path: PathBuf },
    #[error("{path:?} is not valid UTF-8")]
    ConfigEncoding { path: PathBuf },
    #[error("{path:?} cannot be read: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Public(#[from] public::Trouble),
    #[error("{0}")]
    Copy(ManifestError),
}

/// Reads an app's files. Blocks on the file system.
///
/// # Errors
///
/// [`ReadError::Changed`] unless every file is, before and after, what `found` says.
pub fn read(found: &Found, reading: &Reading<'_>) -> Result<ReadApp, ReadError> {
    let mut wasm_file = open(&found.folder, &found.wasm, reading.max_size)?;
    if found.wasm.size > LARGE {
        let head = read_up_to(&mut wasm_file, &found.wasm, prepare::HEAD as u64, Vec::new())?;
        prepare::check_head(&head)?;
        wasm_file.rewind().map_err(|source| ReadError::Io { path: found.wasm.path.clone(), source })?;
    }
    let wasm = read_whole(&mut wasm_file, &found.wasm)?;
    let config = found.config.as_ref().map(|stamp| {
        let mut file = open(&found.folder, stamp, CONFIG_MAX)?;
        let bytes = read_whole(&mut file, stamp)?;
        Ok::<_, ReadError>((file, bytes))
    });
    let config = config.transpose()?;
    let mut digests = Digests {
        wasm: Digest::of(&wasm),
        config: config.as_ref().map(|(_, bytes)| Digest::of(bytes)),
        public: None,
    };
    let mut text = None;
    let mut config_file = None;
    if let (Some((file, bytes)), Some(stamp)) = (config, &found.config) {
        let decoded = String::from_utf8(bytes);
        text = Some(decoded.map_err(|_| ReadError::ConfigEncoding { path: stamp.path.clone() })?);
        config_file = Some((file, stamp));
    }
    let public = read_public(found, text.as_deref(), reading)?;
    digests.public = public.as_ref().map(Manifest::digest);
    // Only now: all files are one app, and what was read of the first must still hold after the last.
    unchanged(&wasm_file, &found.wasm)?;
    if let Some((file, stamp)) = config_file {
        unchanged(&file, stamp)?;
    }
    Ok(ReadApp { wasm: wasm.into(), config: text, public, digests, after: found.clone() })
}

/// The files of `public/`, if they are to be served: copied from what was looked at, which they still are.
fn read_public(
    found: &Found,
    config: Option<&str>,
    reading: &Reading<'_>,
) -> Result<Option<Manifest>, ReadError> {
    let Some(stamp) = &found.public else { return Ok(None) };
    let Some(limits) = (reading.limits)(config) else { return Ok(None) };
    let folder = public::open(&found.folder, &stamp.beside)?;
    let look = || {
        let tree = public::tree(&folder, limits)?;
        if tree.fingerprint() == stamp.fingerprint { Ok(tree) } else { Err(ReadError::Changed) }
    };
    let tree = look()?;
    let Some(copies) = reading.copies else { return Ok(None) };
    let manifest = public::manifest(&folder, &tree, copies).map_err(|error| match error {
        ManifestError::Changed => ReadError::Changed,
        ManifestError::Trouble(trouble) => ReadError::Public(trouble),
        error @ ManifestError::Copy { .. } => ReadError::Copy(error),
    })?;
    look()?;
    // An empty folder is none: nothing is served of either.
    Ok(Some(manifest).filter(|manifest| manifest.files() > 0))
}

fn open(folder: &Path, stamp: &Stamp, max: u64) -> Result<File, ReadError> {
    let path = &stamp.path;
    let failed = |source: io::Error| ReadError::Io { path: path.clone(), source };
    // The path was resolved when the folder was looked at, so a link here is new; not to block, should it be a FIFO.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(ReadError::Gone),
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => return Err(ReadError::Changed),
        Err(error) => return Err(failed(error)),
    };
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(ReadError::NotAFile { path: path.clone() });
    }
    beneath(&file, folder, path)?;
    unchanged(&file, stamp)?;
    if stamp.size > max {
        return Err(ReadError::TooLarge { path: path.clone(), size: stamp.size, max });
    }
    Ok(file)
}

fn read_whole(file: &mut File, stamp: &Stamp) -> Result<Vec<u8>, ReadError> {
    let bytes = Vec::with_capacity(usize::try_from(stamp.size).unwrap_or(0));
    // One byte more than there should be, to see a file that grows.
    let bytes = read_up_to(file, stamp, stamp.size.saturating_add(1), bytes)?;
    if bytes.len() as u64 == stamp.size { Ok(bytes) } else { Err(ReadError::Changed) }
}

fn read_up_to(file: &mut File, stamp: &Stamp, most: u64, mut bytes: Vec<u8>) -> Result<Vec<u8>, ReadError> {
    let failed = |source| ReadError::Io { path: stamp.path.clone(), source };
    InPieces(file).take(most).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// A folder on the way may have become a link since it was looked at: where the open file really is decides.
fn beneath(file: &File, folder: &Path, path: &Path) -> Result<(), ReadError> {
    let real = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
        .map_err(|source| ReadError::Io { path: path.to_owned(), source })?;
    if real.starts_with(folder) { Ok(()) } else { Err(ReadError::Outside { path: path.to_owned() }) }
}

fn unchanged(file: &File, stamp: &Stamp) -> Result<(), ReadError> {
    let metadata = file.metadata().map_err(|source| ReadError::Io { path: stamp.path.clone(), source })?;
    if Stamp::of(&stamp.path, &metadata) == *stamp { Ok(()) } else { Err(ReadError::Changed) }
}

#[cfg(test)]
mod tests;
