//! The host's own copies of static files: what is served can't change, shrink or vanish, whatever happens to the file
//! that it was.
//!
//! Equal bytes are kept once, however many files and releases have them. Small ones are kept in memory, up to a bound;
//! the others in files of a directory that is this host's alone, beside its code cache. A copy goes when the last
//! release that has it is gone. Copies are for one run: a start makes them anew and believes nothing it finds. What a
//! host that was killed has left is removed by the next one with the same cache directory; a lock tells who lives.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use serde::Serialize;
use tempfile::TempDir;

use crate::pieces::InPieces;
use crate::prepare::{Digest, Hasher};

/// Files of at most this many bytes are kept in memory if there is room.
pub const SMALL: u64 = 64 << 10;

/// Bytes of one read or write.
const BLOCK: usize = 128 << 10;

const PREFIX: &str = "public-";

/// What the copies of all releases together may take, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    pub memory: u64,
    pub disk: u64,
}

/// What the copies take now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Different contents.
    pub files: u64,
    pub memory_bytes: u64,
    pub disk_bytes: u64,
}

/// Why a file could not be copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    #[error("it changed while it was being read")]
    Changed,
    #[error(
        "the static files of all apps together would take more than {limit} bytes of disk; take some out, or raise \
         static_disk under [cache] in hostler.toml"
    )]
    Full { limit: u64 },
    #[error("it can't be read: {0}")]
    Read(#[source] io::Error),
    #[error("its copy can't be written to the cache directory: {0}")]
    Write(#[source] io::Error),
}

/// Keeps copies. One for the host.
#[derive(Debug)]
pub struct Copies {
    cache_dir: PathBuf,
    /// Made when the first copy needs it.
    dir: Mutex<Option<Dir>>,
    room: Room,
    next: AtomicU64,
    books: Arc<Mutex<Books>>,
}

/// One content, kept for as long as somebody has this.
#[derive(Debug)]
pub struct Blob {
    digest: Digest,
    len: u64,
    place: Place,
    books: Arc<Mutex<Books>>,
}

#[derive(Debug)]
enum Place {
    Memory(Bytes),
    Disk(PathBuf),
}

#[derive(Debug, Default)]
struct Books {
    blobs: HashMap<Digest, Weak<Blob>>,
    usage: Usage,
    /// Files of copies that nobody has any more, and their bytes: removing takes time, so [`Copies::sweep`] does it.
    unused: Vec<(PathBuf, u64)>,
}

/// A directory of this process, removed when it is dropped. The lock goes with the process, however it ends.
#[derive(Debug)]
struct Dir {
    _lock: File,
    dir: TempDir,
}

impl Copies {
    /// A place for copies beside the code cache, whose directory is known to be ours alone.
    pub fn open(cache_dir: &Path, room: Room) -> io::Result<Copies> {
        remove_leftovers(cache_dir)?;
        Ok(Copies {
            cache_dir: cache_dir.to_owned(),
            dir: Mutex::new(None),
            room,
            next: AtomicU64::new(0),
            books: Arc::default(),
        })
    }

    /// Copies a file of `size` bytes. Blocks on the file system.
    ///
    /// # Errors
    ///
    /// [`CopyError::Changed`] if it has any other size.
    pub fn keep(&self, file: &File, size: u64) -> Result<Arc<Blob>, CopyError> {
        if size <= SMALL {
            let bytes = read_whole(file, size)?;
            let digest = Digest::of(&bytes);
            return match self.known(digest) {
                Some(blob) => Ok(blob),
                None => self.keep_small(digest, bytes),
            };
        }
        // Most files of a new release are those of the last one: hashing is cheaper than copying them again.
        let digest = pass(file, size, &mut io::sink())?;
        match self.known(digest) {
            Some(blob) => Ok(blob),
            None => self.keep_on_disk(size, |copy| pass(file, size, copy)),
        }
    }

    pub fn usage(&self) -> Usage {
        self.books.lock().usage
    }

    /// Removes the copies that nobody has any more. Blocks on the file system.
    pub fn sweep(&self) {
        let unused = std::mem::take(&mut self.books.lock().unused);
        for (path, len) in unused {
            // What can't be removed takes up its room until the directory goes, but no more of anything.
            match std::fs::remove_file(&path) {
                Ok(()) => self.books.lock().usage.disk_bytes -= len,
                // Somebody else has cleaned up.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.books.lock().usage.disk_bytes -= len;
                }
                Err(error) => tracing::warn!("the copy of a static file can't be removed: {error}"),
            }
        }
    }

    /// The copy that there is already, unless somebody has cleaned it up.
    fn known(&self, digest: Digest) -> Option<Arc<Blob>> {
        let known = self.books.lock().blobs.get(&digest).and_then(Weak::upgrade);
        known.filter(|blob| match &blob.place {
            Place::Memory(_) => true,
            Place::Disk(path) => std::fs::metadata(path).is_ok_and(|found| found.len() == blob.len),
        })
    }

    fn keep_small(&self, digest: Digest, bytes: Bytes) -> Result<Arc<Blob>, CopyError> {
        let len = bytes.len() as u64;
        {
            let mut books = self.books.lock();
            if books.usage.memory_bytes + len <= self.room.memory {
                books.usage.memory_bytes += len;
                drop(books);
                return Ok(self.enter(digest, len, Place::Memory(bytes)));
            }
        }
        self.keep_on_disk(len, |copy| {
            InPieces(copy).write_all(&bytes).map_err(CopyError::Write)?;
            Ok(digest)
        })
    }

    /// What was written is what counts: its digest is the copy's.
    fn keep_on_disk(
        &self,
        len: u64,
        write: impl FnOnce(&mut File) -> Result<Digest, CopyError>,
    ) -> Result<Arc<Blob>, CopyError> {
        self.sweep();
        self.reserve(len)?;
        let created = self.create();
        let written = created.map_err(CopyError::Write).and_then(|(path, mut file)| {
            let written = write(&mut file);
            if written.is_err() {
                // On failure it stays until the directory goes.
                let _ = std::fs::remove_file(&path);
            }
            Ok((path, written?))
        });
        match written {
            Ok((path, digest)) => Ok(self.enter(digest, len, Place::Disk(path))),
            Err(error) => {
                self.books.lock().usage.disk_bytes -= len;
                Err(error)
            }
        }
    }

    fn create(&self) -> io::Result<(PathBuf, File)> {
        let mut dir = self.dir.lock();
        let dir = match &mut *dir {
            Some(dir) if dir.dir.path().exists() => dir,
            none => none.insert(Dir::create(&self.cache_dir)?),
        };
        let path = dir.dir.path().join(self.next.fetch_add(1, Relaxed).to_string());
        let file = OpenOptions::new().write(true).create_new(true).mode(0o400).open(&path)?;
        Ok((path, file))
    }

    fn reserve(&self, len: u64) -> Result<(), CopyError> {
        let mut books = self.books.lock();
        let wanted = books.usage.disk_bytes.saturating_add(len);
        if wanted > self.room.disk {
            return Err(CopyError::Full { limit: self.room.disk });
        }
        books.usage.disk_bytes = wanted;
        Ok(())
    }

    /// Another deploy may have entered the same content meanwhile: then both are kept, and the later one is found.
    fn enter(&self, digest: Digest, len: u64, place: Place) -> Arc<Blob> {
        let blob = Arc::new(Blob { digest, len, place, books: self.books.clone() });
        let mut books = self.books.lock();
        books.usage.files += 1;
        books.blobs.insert(digest, Arc::downgrade(&blob));
        blob
    }
}

impl Blob {
    pub fn digest(&self) -> Digest {
        self.digest
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes, if they are in memory.
    pub fn bytes(&self) -> Option<&Bytes> {
        match &self.place {
            Place::Memory(bytes) => Some(bytes),
            Place::Disk(_) => None,
        }
    }

    /// Opens the copy, for as long as somebody reads it. Blocks on the file system.
    pub fn open(&self) -> io::Result<OpenBlob> {
        Ok(match &self.place {
            Place::Memory(bytes) => OpenBlob::Memory(bytes.clone()),
            Place::Disk(path) => OpenBlob::Disk(File::open(path)?),
        })
    }
}

/// A copy that is being read.
#[derive(Debug)]
pub enum OpenBlob {
    Memory(Bytes),
    Disk(File),
}

impl OpenBlob {
    /// So many bytes from there, all of them or an error. Blocks on the file system.
    pub fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        match self {
            OpenBlob::Memory(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let end = start.saturating_add(len);
                if end > bytes.len() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Ok(bytes.slice(start..end))
            }
            OpenBlob::Disk(file) => {
                let mut bytes = BytesMut::zeroed(len);
                file.read_exact_at(&mut bytes, offset)?;
                Ok(bytes.freeze())
            }
        }
    }
}

impl Drop for Blob {
    fn drop(&mut self) {
        let mut books = self.books.lock();
        // A later copy of the same content may be the one that is found.
        if books.blobs.get(&self.digest).is_some_and(|blob| blob.strong_count() == 0) {
            books.blobs.remove(&self.digest);
        }
        books.usage.files -= 1;
        match &mut self.place {
            Place::Memory(_) => books.usage.memory_bytes -= self.len,
            Place::Disk(path) => books.unused.push((std::mem::take(path), self.len)),
        }
    }
}

impl Dir {
    fn create(cache_dir: &Path) -> io::Result<Dir> {
        loop {
            let ours = std::fs::Permissions::from_mode(0o700);
            let dir = tempfile::Builder::new().prefix(PREFIX).permissions(ours).tempdir_in(cache_dir)?;
            // Until it is locked another host that starts may take it for a leftover.
            let Ok(lock) = File::open(dir.path()) else { continue };
            if lock.try_lock().is_ok() && dir.path().exists() {
                return Ok(Dir { _lock: lock, dir });
            }
        }
    }
}

/// Removes the directories of hosts that are no more.
fn remove_leftovers(cache_dir: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(cache_dir)? {
        let entry = entry?;
        let is_ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        if !is_ours || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if let Ok(dir) = File::open(entry.path())
            && dir.try_lock().is_ok()
        {
            // Another host may be at it, too.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}

fn read_whole(file: &File, size: u64) -> Result<Bytes, CopyError> {
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    // One byte more than there should be, to see a file that grows.
    InPieces(file).take(size + 1).read_to_end(&mut bytes).map_err(CopyError::Read)?;
    if bytes.len() as u64 == size { Ok(bytes.into()) } else { Err(CopyError::Changed) }
}

/// Reads a file of `size` bytes from its beginning, writes it to `copy`, and says what was read.
fn pass(file: &File, size: u64, copy: &mut impl Write) -> Result<Digest, CopyError> {
    let mut hasher = Hasher::default();
    let mut block = vec![0; BLOCK];
    let mut at = 0;
    loop {
        let read = match file.read_at(&mut block, at) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(CopyError::Read(error)),
        };
        let bytes = block.get(..read).unwrap_or_default();
        at += read as u64;
        if at > size || (read == 0 && at < size) {
            return Err(CopyError::Changed);
        }
        if read == 0 {
            return Ok(hasher.finish());
        }
        hasher.update(bytes);
        copy.write_all(bytes).map_err(CopyError::Write)?;
    }
}

#[cfg(test)]
mod tests;
