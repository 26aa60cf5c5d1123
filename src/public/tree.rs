//! What is in a `public/`: its files by path, within bounds, without opening one.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, Dir, FileType, Stat, statat};
use rustix::io::Errno;

use super::{Beneath, Trouble};
use crate::prepare::{Digest, Hasher};

/// Bounds on one `public/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Files and folders, those that are not served included.
    pub entries: u64,
    /// Bytes of all files together.
    pub size: u64,
    /// Folders within folders; 1 is `public/` alone.
    pub depth: u64,
}

/// The files of one `public/` as they looked at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// In the order of their paths.
    pub files: Vec<File>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Relative to `public/`, parts joined by `/`.
    pub path: String,
    pub look: Look,
}

/// What tells one state of a file from another without reading it. Equal looks don't prove equal bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    pub size: u64,
    dev: u64,
    inode: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
}

/// Names that begin with a dot, and what editors and copying programs call their unfinished files.
pub fn is_looked_at(name: &[u8]) -> bool {
    const NOT_LOOKED_AT: [&[u8]; 4] = [b".tmp", b".part", b"~", b".swp"];
    !name.starts_with(b".") && !NOT_LOOKED_AT.iter().any(|end| name.ends_with(end))
}

/// Looks through a whole `public/`. Blocks on the file system.
///
/// # Errors
///
/// The first [`Trouble`] on the way. What is gone between two steps is none: another look will tell.
pub fn tree(public: &Beneath, limits: Limits) -> Result<Tree, Trouble> {
    tree_if(public, limits, &mut || Ok(()))
}

/// The same; `each` is called for each entry that is listed, and may refuse it, which ends the look.
pub fn tree_if(
    public: &Beneath,
    limits: Limits,
    each: &mut dyn FnMut() -> Result<(), Trouble>,
) -> Result<Tree, Trouble> {
    let tree = Tree { files: Vec::new() };
    let mut walk = Walk { public, limits, tree, entries: 0, size: 0, each };
    let root =
        Look::of(&rustix::fs::fstat(public.as_fd()).map_err(|error| io_trouble(Path::new(""), error))?);
    let mut folders = vec![Folder { path: String::new(), above: vec![root.identity()] }];
    while let Some(folder) = folders.pop() {
        walk.list(&folder, &mut folders)?;
    }
    walk.tree.files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(walk.tree)
}

impl Tree {
    /// Bytes of all files together.
    pub fn size(&self) -> u64 {
        self.files.iter().map(|file| file.look.size).sum()
    }

    /// Equal for trees that look the same.
    pub fn fingerprint(&self) -> Digest {
        let mut hasher = Hasher::default();
        for File { path, look } in &self.files {
            hasher.update(path);
            // No path has a NUL in it.
            hasher.update([0]);
            look.hash(&mut hasher);
        }
        hasher.finish()
    }
}

impl Look {
    pub fn of(stat: &Stat) -> Look {
        Look {
            size: u64::try_from(stat.st_size).unwrap_or(0),
            dev: stat.st_dev,
            inode: stat.st_ino,
            mtime: (stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or(0)),
            ctime: (stat.st_ctime, i64::try_from(stat.st_ctime_nsec).unwrap_or(0)),
        }
    }

    /// When the file last changed, in whole seconds as HTTP has them. Not its modification time: that can be set back,
    /// so that an older file in a newer one's place would pass for unchanged.
    pub fn changed(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(self.ctime.0).unwrap_or(0))
    }

    fn identity(&self) -> (u64, u64) {
        (self.dev, self.inode)
    }

    fn hash(&self, hasher: &mut Hasher) {
        for number in [self.size, self.dev, self.inode] {
            hasher.update(number.to_le_bytes());
        }
        for number in [self.mtime.0, self.mtime.1, self.ctime.0, self.ctime.1] {
            hasher.update(number.to_le_bytes());
        }
    }
}

struct Walk<'w> {
    public: &'w Beneath,
    limits: Limits,
    tree: Tree,
    entries: u64,
    size: u64,
    each: &'w mut dyn FnMut() -> Result<(), Trouble>,
}

/// A folder still to be listed.
struct Folder {
    path: String,
    /// Device and inode of it and of those above it, by way of the links that were followed.
    above: Vec<(u64, u64)>,
}

impl Walk<'_> {
    fn list(&mut self, folder: &Folder, folders: &mut Vec<Folder>) -> Result<(), Trouble> {
        let at = Path::new(if folder.path.is_empty() { "." } else { &folder.path });
        let open = match self.public.folder(at) {
            Ok(open) => open,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(trouble(at, &error)),
        };
        let listing = Dir::read_from(&open).map_err(|error| io_trouble(at, error))?;
        for entry in listing {
            let entry = entry.map_err(|error| io_trouble(at, error))?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            (self.each)()?;
            self.entries += 1;
            if self.entries > self.limits.entries {
                return Err(Trouble::TooMany { limit: self.limits.entries });
            }
            if !is_looked_at(name) {
                continue;
            }
            let path = join(&folder.path, name)?;
            match statat(&open, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => self.entry(folder, path, &stat, folders)?,
                Err(Errno::NOENT) => {}
                Err(error) => return Err(io_trouble(Path::new(&path), error)),
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        parent: &Folder,
        path: String,
        stat: &Stat,
        folders: &mut Vec<Folder>,
    ) -> Result<(), Trouble> {
        let followed;
        let mut stat = stat;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
            followed = self.public.stat(Path::new(&path)).map_err(|error| link_trouble(&path, &error))?;
            stat = &followed;
        }
        let look = Look::of(stat);
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => return self.file(path, look),
            FileType::Directory => return self.folder(parent, path, look, folders),
            FileType::Fifo => "a FIFO",
            FileType::Socket => "a socket",
            _ => "a device",
        };
        Err(Trouble::NotAFile { path: path.into(), kind })
    }

    fn file(&mut self, path: String, look: Look) -> Result<(), Trouble> {
        self.size = self.size.saturating_add(look.size);
        if self.size > self.limits.size {
            return Err(Trouble::TooLarge { limit: self.limits.size });
        }
        self.tree.files.push(File { path, look });
        Ok(())
    }

    fn folder(
        &mut self,
        parent: &Folder,
        path: String,
        look: Look,
        folders: &mut Vec<Folder>,
    ) -> Result<(), Trouble> {
        if parent.above.contains(&look.identity()) {
            return Err(Trouble::LinkLoop { path: path.into() });
        }
        if parent.above.len() as u64 >= self.limits.depth {
            return Err(Trouble::TooDeep { path: path.into(), limit: self.limits.depth });
        }
        let above = parent.above.iter().copied().chain([look.identity()]).collect();
        folders.push(Folder { path, above });
        Ok(())
    }
}

/// The path of a name in a folder. What could deceive in a log line or in a header is not served.
fn join(folder: &str, name: &[u8]) -> Result<String, Trouble> {
    let plain = std::str::from_utf8(name).ok().filter(|name| !name.contains(char::is_control));
    match plain {
        Some(name) if folder.is_empty() => Ok(name.to_owned()),
        Some(name) => Ok(format!("{folder}/{name}")),
        None => Err(Trouble::Name { path: PathBuf::from(folder).join(OsStr::from_bytes(name)) }),
    }
}

fn link_trouble(path: &str, error: &io::Error) -> Trouble {
    match Errno::from_io_error(error) {
        Some(Errno::NOENT) => Trouble::DanglingLink { path: path.into() },
        Some(Errno::LOOP) => Trouble::LinkLoop { path: path.into() },
        _ => trouble(Path::new(path), error),
    }
}

pub(super) fn trouble(path: &Path, error: &io::Error) -> Trouble {
    if Beneath::leads_out(error) {
        return Trouble::LinkLeadsOut { path: path.to_owned() };
    }
    Trouble::Io { path: path.to_owned(), kind: error.kind() }
}

fn io_trouble(path: &Path, error: Errno) -> Trouble {
    trouble(path, &error.into())
}

#[cfg(test)]
mod tests;
