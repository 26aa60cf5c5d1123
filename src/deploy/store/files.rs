//! The store's files: how blobs and records are written and read.

use std::collections::BTreeMap;
use std::io::{self, Read};

use bytes::Bytes;

use super::named::Named;
use super::record::{Kept, Record};
use super::{Deployed, LARGEST_RECORD, LoadError, Store};
use crate::deploy::MAX_APP_SIZE;
use crate::deploy::name::AppName;
use crate::pieces::InPieces;
use crate::prepare::Digest;
use crate::private_dir::is_digest;

/// Bytes that a config text may have: more than any has that is read.
const LARGEST_CONFIG: u64 = 1 << 20;

impl Store {
    /// `None` if it is torn, or not the store's. That it can't be read at present says nothing of it.
    pub(super) fn read_record(&self, name: &str) -> io::Result<Option<Record>> {
        let is_no_record = |error: &io::Error| {
            matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput)
                || error.raw_os_error() == Some(libc::ELOOP)
        };
        match self.read(name, LARGEST_RECORD) {
            Ok(bytes) => Ok(whole_record(name, &bytes)),
            Err(error) if is_no_record(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn read_release(&self, kept: &Kept) -> Result<(Bytes, Option<String>), LoadError> {
        let number = kept.number;
        let blob = |digest: Digest, largest: u64, what: &'static str| {
            use io::ErrorKind::{InvalidData, InvalidInput, NotFound};
            self.read_blob(digest, largest).map_err(|source| match source.kind() {
                NotFound | InvalidInput | InvalidData => LoadError::Torn { number, what },
                _ => LoadError::Io { number, source },
            })
        };
        let wasm = blob(kept.digests.wasm, kept.size, "its code")?;
        let config =
            kept.digests.config.map(|digest| blob(digest, LARGEST_CONFIG, "its config")).transpose()?;
        let torn = |_| LoadError::Torn { number, what: "its config" };
        let config = config.map(|bytes| String::from_utf8(bytes).map_err(torn)).transpose()?;
        Ok((wasm.into(), config))
    }

    /// An app's code, as far as can be told without reading it.
    pub fn has(&self, digest: Digest) -> bool {
        self.dir.size(&digest.to_string()).is_some()
    }

    /// An app's code that is kept. Blocks.
    ///
    /// # Errors
    /// It can't be read, or is torn.
    pub fn code(&self, digest: Digest) -> io::Result<Bytes> {
        self.read_blob(digest, MAX_APP_SIZE).map(Bytes::from)
    }

    /// [`io::ErrorKind::InvalidData`] if it is torn, or has more than `largest` bytes.
    fn read_blob(&self, digest: Digest, largest: u64) -> io::Result<Vec<u8>> {
        let bytes = self.read(&digest.to_string(), largest)?;
        match Digest::of(&bytes) == digest {
            true => Ok(bytes),
            false => Err(io::Error::new(io::ErrorKind::InvalidData, "it is torn")),
        }
    }

    /// At most one byte more than `largest`.
    pub(super) fn read(&self, name: &str, largest: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        InPieces(self.dir.open_file(name)?).take(largest.saturating_add(1)).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// `named`: what needs no further care if it is there.
    pub(super) fn write_blobs(&self, deployed: &Deployed, named: &Named) -> io::Result<()> {
        self.write_blob(deployed.digests.wasm, &deployed.wasm)?;
        if let (Some(digest), Some(text)) = (deployed.digests.config, &deployed.config) {
            self.write_blob(digest, text.as_bytes())?;
        }
        deployed.public.as_deref().map_or(Ok(()), |public| self.write_static_files(public, named))
    }

    pub(super) fn write_blob(&self, digest: Digest, bytes: &[u8]) -> io::Result<()> {
        let name = digest.to_string();
        match self.read(&name, bytes.len() as u64) {
            Ok(there) if there == bytes => Ok(()),
            _ => self.dir.replace(&name, [bytes, b""]),
        }
    }

    pub(super) fn write(&self, record: &Record) -> io::Result<()> {
        let json = serde_json::to_vec(record)?;
        self.dir.replace(&record_name(&record.app), [format!("{}\n", Digest::of(&json)).as_bytes(), &json])
    }

    pub(super) fn remove(&self, app: &str) -> io::Result<()> {
        match self.dir.remove(&record_name(app)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Sizes of all blobs.
    pub(super) fn blobs(&self) -> io::Result<BTreeMap<Digest, u64>> {
        let entries = self.dir.files(is_digest)?.into_iter();
        Ok(entries.filter_map(|entry| Some((Digest::parse(&entry.name)?, entry.size))).collect())
    }
}

pub(super) fn record_name(app: &str) -> String {
    format!("app-{}", Digest::of(app.as_bytes()))
}

pub(super) fn is_record(name: &str) -> bool {
    name.strip_prefix("app-").is_some_and(is_digest)
}

/// As far as can be told without reading: blobs are checked when they are read. `size`: that of a blob, if it is there.
pub(super) fn is_whole(kept: &Kept, size: impl Fn(Digest) -> Option<u64>) -> bool {
    let config = kept.digests.config.is_none_or(|digest| size(digest).is_some());
    let files = kept.static_files.iter();
    let public = kept.digests.public.is_none() || !kept.static_files.is_empty();
    size(kept.digests.wasm) == Some(kept.size)
        && config
        && public
        && files.into_iter().all(|file| size(file.digest) == Some(file.size))
}

/// What is in the record of that name, if it is whole.
fn whole_record(name: &str, bytes: &[u8]) -> Option<Record> {
    let (digest, json) = bytes.split_at_checked(64)?;
    let digest = Digest::parse(std::str::from_utf8(digest).ok()?)?;
    let json = json.strip_prefix(b"\n")?;
    let record: Record = serde_json::from_slice(json).ok().filter(|_| Digest::of(json) == digest)?;
    (record_name(&record.app) == name && AppName::parse(&record.app).is_ok()).then_some(record)
}
