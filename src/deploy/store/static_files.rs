//! The static files of a kept release: a list in its record, and a blob for each content. They are copied out of the
//! store before they are served, like those of an app folder, and known by the same manifest.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize, Serializer};

use super::named::Named;
use super::record::Kept;
use super::{LoadError, Store};
use crate::prepare::{Digest, Hasher};
use crate::public::{Copied, Copies, CopyError, Limits, Manifest, OpenBlob, Trouble};

/// Bytes that are written or compared at once.
const BLOCK: u64 = 128 << 10;

/// The list. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "Vec<StaticFile>")]
pub struct StaticFiles(Arc<[StaticFile]>);

/// What a page is made of again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaticFile {
    /// Relative to `public/`.
    pub path: String,
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    /// Seconds since 1970, as its answers say.
    pub modified: u64,
}

/// Where the static files of a kept release are copied to.
pub struct To<'t> {
    pub copies: &'t Copies,
    /// What they may be, by the text of the app's config; `None`: they are not served any more.
    pub limits: &'t dyn Fn(Option<&str>) -> Option<Limits>,
}

impl StaticFiles {
    /// In the order of the paths.
    pub fn of(public: &Manifest) -> StaticFiles {
        let file = |(path, version): (&str, &crate::public::Version)| StaticFile {
            path: path.to_owned(),
            digest: version.blob.digest(),
            size: version.blob.len(),
            modified: version
                .modified
                .duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
        };
        let mut files: Vec<StaticFile> = public.copied().map(file).collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files.into()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &StaticFile> {
        self.0.iter()
    }

    /// What the list takes up in a record, at most.
    pub fn bytes(&self) -> u64 {
        // Names, digest, two numbers; and each character of the path may have to be escaped.
        self.iter().map(|file| 160 + 2 * file.path.len() as u64).sum()
    }

    /// # Errors
    /// There are more or larger files than the operator allows now.
    fn are_within(&self, limits: Limits) -> Result<(), Trouble> {
        let size = self.iter().fold(0, |size: u64, file| size.saturating_add(file.size));
        let depth = |file: &&StaticFile| file.path.split('/').count() as u64 > limits.depth;
        match self.iter().find(depth) {
            _ if self.0.len() as u64 > limits.entries => Err(Trouble::TooMany { limit: limits.entries }),
            _ if size > limits.size => Err(Trouble::TooLarge { limit: limits.size }),
            Some(deep) => Err(Trouble::TooDeep { path: deep.path.clone().into(), limit: limits.depth }),
            None => Ok(()),
        }
    }
}

impl From<Vec<StaticFile>> for StaticFiles {
    fn from(files: Vec<StaticFile>) -> StaticFiles {
        StaticFiles(files.into())
    }
}

impl Serialize for StaticFiles {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.as_ref().serialize(serializer)
    }
}

impl Store {
    /// Keeps what a release serves, each content once, all on disk when this returns.
    pub(super) fn write_static_files(&self, public: &Manifest, named: &Named) -> io::Result<()> {
        let mut is_new = false;
        for (_, version) in public.copied() {
            let (blob, name) = (&version.blob, version.blob.digest().to_string());
            let copy = blob.open()?;
            if !self.is_there(&name, &copy, blob.len()).unwrap_or(false) {
                self.dir.add(&name, |file| write_copy(file, &copy, blob.len(), blob.digest()))?;
                is_new = true;
            }
            // One that is there and that nobody names was left there, perhaps before it was synced.
            is_new |= !named.has(blob.digest());
        }
        if is_new { self.dir.sync() } else { Ok(()) }
    }

    /// The static files of a kept release, copied, if they are to be served.
    pub(super) fn read_static_files(
        &self,
        kept: &Kept,
        config: Option<&str>,
        to: &To<'_>,
    ) -> Result<Option<Manifest>, LoadError> {
        let number = kept.number;
        let Some(digest) = kept.digests.public else { return Ok(None) };
        let Some(limits) = (to.limits)(config) else { return Ok(None) };
        let not_allowed = |trouble| LoadError::NotAllowed { number, trouble };
        kept.static_files.are_within(limits).map_err(not_allowed)?;
        let copied = kept.static_files.iter().map(|file| self.read_static_file(number, file, to.copies));
        let manifest = Manifest::of(copied.collect::<Result<_, _>>()?);
        let torn = LoadError::Torn { number, what: "the list of its static files" };
        if manifest.digest() == digest { Ok(Some(manifest)) } else { Err(torn) }
    }

    fn read_static_file(&self, number: u64, file: &StaticFile, copies: &Copies) -> Result<Copied, LoadError> {
        let torn = || LoadError::Torn { number, what: "a static file of it" };
        let open = self.dir.open_file(&file.digest.to_string()).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::InvalidInput => torn(),
            _ => LoadError::Io { number, source },
        })?;
        let blob = copies.keep(&open, file.size).map_err(|error| match error {
            CopyError::Changed => torn(),
            CopyError::Read(source) => LoadError::Io { number, source },
            source => LoadError::Copy { number, source },
        })?;
        if blob.digest() != file.digest {
            return Err(torn());
        }
        let modified = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(file.modified));
        Ok(Copied { path: file.path.clone(), blob, modified: modified.ok_or_else(torn)? })
    }

    /// The blob is there and has these bytes, so that one that is torn is written anew.
    fn is_there(&self, name: &str, copy: &OpenBlob, len: u64) -> io::Result<bool> {
        let mut there = self.dir.open_file(name)?;
        if there.metadata()?.len() != len {
            return Ok(false);
        }
        let mut block = Vec::new();
        for bytes in blocks(copy, len) {
            let bytes = bytes?;
            block.resize(bytes.len(), 0);
            there.read_exact(&mut block)?;
            if block != bytes {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Writes a copy, unless it is not any more what it was.
fn write_copy(file: &mut File, copy: &OpenBlob, len: u64, digest: Digest) -> io::Result<()> {
    let mut hasher = Hasher::default();
    for bytes in blocks(copy, len) {
        let bytes = bytes?;
        hasher.update(&bytes);
        file.write_all(&bytes)?;
    }
    if hasher.finish() == digest {
        Ok(())
    } else {
        Err(io::Error::other("the copy of a static file is torn"))
    }
}

fn blocks(copy: &OpenBlob, len: u64) -> impl Iterator<Item = io::Result<bytes::Bytes>> {
    let block = move |at: u64| copy.read_at(at, usize::try_from(BLOCK.min(len - at)).unwrap_or(0));
    (0..len).step_by(usize::try_from(BLOCK).unwrap_or(1)).map(block)
}
