//! The code cache's directory: ours alone, and always the one that was checked.
//!
//! All its files are reached through the descriptor that was opened and checked at the start (`/proc/self/fd/N/name`),
//! so that nobody can put another directory in its place later by renaming one further up.

use std::ffi::OsStr;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::CacheError;

const TEMP_PREFIX: &str = "tmp-";

#[derive(Debug)]
pub(super) struct CacheDir {
    handle: File,
}

/// An artifact as the directory shows it.
#[derive(Debug)]
pub(super) struct Entry {
    pub name: String,
    /// Bytes.
    pub size: u64,
    pub used: SystemTime,
}

impl CacheDir {
    /// Makes the directory if there is none, and refuses one that anyone else can reach into.
    pub fn open(path: &Path) -> Result<CacheDir, CacheError> {
        let failed = |source| CacheError::Open { path: path.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        let handle =
            OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(path).map_err(failed)?;
        let found = handle.metadata().map_err(failed)?;
        let (owner, us) = (found.uid(), our_uid());
        if owner != us {
            return Err(CacheError::Owner { path: path.to_owned(), owner, us });
        }
        let mode = found.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(CacheError::Mode { path: path.to_owned(), mode });
        }
        let dir = CacheDir { handle };
        if std::fs::metadata(dir.at(".")).is_err() {
            return Err(CacheError::NoProc);
        }
        Ok(dir)
    }

    /// Opens an artifact for reading, without following a link and without waiting for what is no file.
    pub fn open_artifact(&self, name: &str) -> io::Result<File> {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(self.at(name))?;
        let found = file.metadata()?;
        let ours = found.is_file() && found.uid() == our_uid() && found.permissions().mode() & 0o022 == 0;
        if ours { Ok(file) } else { Err(ErrorKind::InvalidInput.into()) }
    }

    /// Puts a file of these parts in the name's place: whole and synced, or not at all.
    pub fn replace(&self, name: &str, parts: [&[u8]; 2]) -> io::Result<()> {
        let mut temp = Temp::create(self)?;
        for part in parts {
            temp.file.write_all(part)?;
        }
        temp.file.sync_all()?;
        std::fs::rename(self.at(&temp.name), self.at(name))?;
        temp.renamed = true;
        self.handle.sync_all()
    }

    pub fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.at(name))
    }

    /// All artifacts, in no order.
    pub fn artifacts(&self) -> io::Result<Vec<Entry>> {
        let mut found = Vec::new();
        self.each_file(|name, metadata| {
            if is_artifact(name) {
                let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                found.push(Entry { name: name.to_owned(), size: metadata.len(), used });
            }
        })?;
        Ok(found)
    }

    /// Removes temporary files whose writer is gone, and says how many. A writer holds a lock on its file, so this
    /// needs neither ages nor process ids, which mean nothing in another container.
    pub fn remove_leftovers(&self) -> io::Result<usize> {
        let mut names = Vec::new();
        self.each_file(|name, _| {
            if is_temp(name) {
                names.push(name.to_owned());
            }
        })?;
        let abandoned = |name: &&String| self.open_artifact(name).is_ok_and(|file| file.try_lock().is_ok());
        Ok(names.iter().filter(abandoned).filter(|name| self.remove(name).is_ok()).count())
    }

    fn each_file(&self, mut see: impl FnMut(&str, &std::fs::Metadata)) -> io::Result<()> {
        for entry in std::fs::read_dir(self.at("."))? {
            let entry = entry?;
            // What is gone again, or was never ours to name, is not an artifact.
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            if let Some(name) = entry.file_name().to_str()
                && metadata.is_file()
            {
                see(name, &metadata);
            }
        }
        Ok(())
    }

    fn at(&self, name: impl AsRef<OsStr>) -> PathBuf {
        Path::new("/proc/self/fd").join(self.handle.as_raw_fd().to_string()).join(name.as_ref())
    }
}

/// A file that is being written. Unless it was renamed it is removed on drop.
struct Temp<'a> {
    dir: &'a CacheDir,
    name: String,
    file: File,
    renamed: bool,
}

impl Temp<'_> {
    /// The file cannot be written in place once this handle is gone: it is made with mode 0400.
    fn create(dir: &CacheDir) -> io::Result<Temp<'_>> {
        let name = format!("{TEMP_PREFIX}{:016x}", fastrand::u64(..));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o400)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(dir.at(&name))?;
        let temp = Temp { dir, name, file, renamed: false };
        // Between these two lines another process that just starts can take the file for a leftover. Then the rename
        // fails, and the artifact is written another time.
        temp.file.try_lock()?;
        Ok(temp)
    }
}

impl Drop for Temp<'_> {
    fn drop(&mut self) {
        if !self.renamed {
            // On failure it is a leftover, which the next start removes.
            let _ = self.dir.remove(&self.name);
        }
    }
}

fn is_artifact(name: &str) -> bool {
    name.len() == 64 && is_hex(name)
}

fn is_temp(name: &str) -> bool {
    name.strip_prefix(TEMP_PREFIX).is_some_and(|id| id.len() == 16 && is_hex(id))
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn our_uid() -> u32 {
    // SAFETY: geteuid takes nothing, touches no memory of ours and cannot fail.
    unsafe { libc::geteuid() }
}
