//! A directory of flat files that is ours alone, and always the one that was checked: what the code cache and the store
//! of releases are kept in.
//!
//! All its files are reached through the descriptor that was opened and checked at the start (`/proc/self/fd/N/name`),
//! so that nobody can put another directory in its place later by renaming one further up. A file has its name only
//! once it is whole, and synced unless many are synced together; what a crash leaves behind has a temporary name and is
//! removed at the next start.

use std::ffi::OsStr;
use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::pieces::InPieces;

const TEMP_PREFIX: &str = "tmp-";

/// Why a directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DirError {
    #[error(transparent)]
    Open(#[from] io::Error),
    #[error("it belongs to user {owner}, but this is user {us}")]
    Owner { owner: u32, us: u32 },
    #[error("it is open to other users (mode {0:o})")]
    Mode(u32),
    #[error("/proc is not mounted here")]
    NoProc,
}

#[derive(Debug)]
pub struct PrivateDir {
    handle: File,
}

/// A file as the directory shows it.
#[derive(Debug)]
pub struct Entry {
    pub name: String,
    /// Bytes.
    pub size: u64,
    pub used: SystemTime,
}

impl PrivateDir {
    /// Makes the directory (0700) if there is none, and refuses one that anyone else can reach into.
    ///
    /// # Errors
    /// See [`DirError`].
    pub fn open(path: &Path) -> Result<PrivateDir, DirError> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let handle = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(path)?;
        PrivateDir::of(handle)
    }

    /// The same for a directory that is where its path says: not behind a symbolic link, which others may have made.
    /// Those above it are there.
    ///
    /// # Errors
    /// See [`DirError`].
    pub fn open_real(path: &Path) -> Result<PrivateDir, DirError> {
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error.into()),
            _ => {}
        }
        let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
        match OpenOptions::new().read(true).custom_flags(flags).open(path) {
            Ok(handle) => PrivateDir::of(handle),
            Err(_) if std::fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink()) => {
                Err(io::Error::other("it is a symbolic link").into())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn of(handle: File) -> Result<PrivateDir, DirError> {
        let found = handle.metadata()?;
        let (owner, us) = (found.uid(), our_uid());
        if owner != us {
            return Err(DirError::Owner { owner, us });
        }
        let mode = found.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(DirError::Mode(mode));
        }
        let dir = PrivateDir { handle };
        if std::fs::metadata(dir.at(".")).is_err() {
            return Err(DirError::NoProc);
        }
        Ok(dir)
    }

    /// What [`PrivateDir::open`] would say of the directory, which is not made if there is none: then it is `None`, and its
    /// place one where this user could make it.
    ///
    /// # Errors
    /// See [`DirError`].
    pub fn check(path: &Path) -> Result<Option<PrivateDir>, DirError> {
        match path.metadata() {
            Ok(_) => return PrivateDir::open(path).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        let above = |folder: &&Path| !folder.as_os_str().is_empty() && folder.exists();
        let parent = path.ancestors().find(above).unwrap_or(Path::new("."));
        can_be_written(parent)?;
        Ok(None)
    }

    /// Whether files can be put into it, without doing so.
    ///
    /// # Errors
    /// Why they can't.
    pub fn can_be_written(&self) -> io::Result<()> {
        can_be_written(&self.at("."))
    }

    /// Opens a file for reading, without following a link and without waiting for what is no file.
    pub fn open_file(&self, name: &str) -> io::Result<File> {
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
        let temp = Temp::create(self)?;
        for part in parts {
            InPieces(&temp.file).write_all(part)?;
        }
        temp.file.sync_all()?;
        temp.rename(name)?;
        self.handle.sync_all()
    }

    /// Puts a file of what `write` writes in the name's place, whole or not at all. That it is still there after a crash
    /// of the machine is sure only after [`PrivateDir::sync`], for many files at once.
    pub fn add(&self, name: &str, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
        let mut temp = Temp::create(self)?;
        write(&mut temp.file)?;
        temp.rename(name)
    }

    /// Waits until all that was added is on disk: the whole file system, which costs less than file by file.
    pub fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(&self.handle)?)
    }

    /// Whether a file is there that begins so.
    pub fn starts_with(&self, name: &str, mark: &[u8]) -> bool {
        let mut bytes = vec![0; mark.len()];
        self.open_file(name).is_ok_and(|mut file| file.read_exact(&mut bytes).is_ok()) && bytes == mark
    }

    /// Whether there is nothing in it but temporary files, and what is `allowed`.
    pub fn has_only(&self, allowed: impl Fn(&str) -> bool) -> io::Result<bool> {
        for entry in std::fs::read_dir(self.at("."))? {
            if !entry?.file_name().to_str().is_some_and(|name| is_temp(name) || allowed(name)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Bytes of a file; `None` if there is none that could be opened.
    pub fn size(&self, name: &str) -> Option<u64> {
        Some(self.open_file(name).ok()?.metadata().ok()?.len())
    }

    pub fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.at(name))
    }

    /// All files with a name that is `wanted`, in no order.
    pub fn files(&self, wanted: impl Fn(&str) -> bool) -> io::Result<Vec<Entry>> {
        let mut found = Vec::new();
        self.each_file(|name, metadata| {
            if wanted(name) {
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
        let abandoned = |name: &&String| self.open_file(name).is_ok_and(|file| file.try_lock().is_ok());
        Ok(names.iter().filter(abandoned).filter(|name| self.remove(name).is_ok()).count())
    }

    /// Locks the directory against other processes that ask for the same, for as long as this lives. False if one of
    /// them has it.
    pub fn try_lock(&self) -> io::Result<bool> {
        match self.handle.try_lock() {
            Ok(()) => Ok(true),
            Err(std::fs::TryLockError::WouldBlock) => Ok(false),
            Err(std::fs::TryLockError::Error(error)) => Err(error),
        }
    }

    /// Ends what [`PrivateDir::try_lock`] began.
    pub fn unlock(&self) {
        // It ends with the process at the latest.
        let _ = self.handle.unlock();
    }

    fn each_file(&self, mut see: impl FnMut(&str, &Metadata)) -> io::Result<()> {
        for entry in std::fs::read_dir(self.at("."))? {
            let entry = entry?;
            // What is gone again, or was never ours to name, is none of the directory's files.
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

fn can_be_written(folder: &Path) -> io::Result<()> {
    use rustix::fs::{Access, access};
    if !folder.is_dir() {
        return Err(ErrorKind::NotADirectory.into());
    }
    Ok(access(folder, Access::WRITE_OK | Access::EXEC_OK)?)
}

/// A file that is being written. Unless it was renamed it is removed on drop.
struct Temp<'a> {
    dir: &'a PrivateDir,
    name: String,
    file: File,
    renamed: bool,
}

impl Temp<'_> {
    /// The file cannot be written in place once this handle is gone: it is made with mode 0400.
    fn create(dir: &PrivateDir) -> io::Result<Temp<'_>> {
        let name = format!("{TEMP_PREFIX}{:016x}", fastrand::u64(..));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o400)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(dir.at(&name))?;
        let temp = Temp { dir, name, file, renamed: false };
        // Between these two lines another process that just starts can take the file for a leftover. Then the rename
        // fails, and it is written another time.
        temp.file.try_lock()?;
        Ok(temp)
    }

    fn rename(mut self, name: &str) -> io::Result<()> {
        std::fs::rename(self.dir.at(&self.name), self.dir.at(name))?;
        self.renamed = true;
        Ok(())
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

/// Whether a name is that of a digest.
pub fn is_digest(name: &str) -> bool {
    name.len() == 64 && is_hex(name)
}

fn is_temp(name: &str) -> bool {
    name.strip_prefix(TEMP_PREFIX).is_some_and(|id| id.len() == 16 && is_hex(id))
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn our_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}
