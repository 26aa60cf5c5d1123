//! What a name in the apps folder leads to.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::state::{Stamp, Trouble};

/// What a name leads to, links resolved.
#[derive(Debug, PartialEq, Eq)]
pub enum Target {
    File(Stamp),
    Folder(PathBuf),
    /// Was there a moment ago.
    Gone,
    Bad(Trouble),
}

/// The apps folder, as far as links in it are concerned.
#[derive(Debug, Clone, Copy)]
pub struct Root<'a> {
    /// With all links resolved.
    pub path: &'a Path,
    /// Whose it is.
    pub owner: u32,
}

const SUPERUSER: u32 = 0;

impl Root<'_> {
    /// Where `path` leads to: a name in a folder whose links are resolved.
    pub fn resolve(self, path: &Path) -> Target {
        let link = match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_symlink() => metadata,
            metadata => return Target::of(path, metadata),
        };
        match fs::canonicalize(path) {
            Ok(real) if !real.starts_with(self.path) => Target::Bad(Trouble::LinkLeadsOut),
            Ok(real) => {
                let there = fs::symlink_metadata(&real);
                match &there {
                    Ok(there) if !self.lets_lead(path, &link, &real, there) => {
                        Target::Bad(Trouble::LinkToAnothers)
                    }
                    _ => Target::of(&real, there),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Target::Bad(Trouble::DanglingLink),
            Err(error) if error.raw_os_error() == Some(libc::ELOOP) => Target::Bad(Trouble::LinkLoop),
            Err(error) => Target::failed(&error),
        }
    }

    /// The host can read what the owner of a link may not, so a link out of one folder of the apps folder into what is
    /// beside it takes somebody whose that is, or the operator.
    fn lets_lead(self, path: &Path, link: &Metadata, real: &Path, there: &Metadata) -> bool {
        let top = |path: &Path| {
            Some(path.strip_prefix(self.path).ok()?.components().next()?.as_os_str().to_owned())
        };
        match path.parent().and_then(top) {
            None => true,
            Some(own) if top(real).as_ref() == Some(&own) => true,
            Some(_) => [SUPERUSER, self.owner, there.uid()].contains(&link.uid()),
        }
    }
}

impl Target {
    fn of(path: &Path, metadata: io::Result<Metadata>) -> Target {
        let metadata = match metadata {
            Ok(metadata) => metadata,
            Err(error) => return Target::failed(&error),
        };
        let kind = metadata.file_type();
        if kind.is_file() {
            return Target::File(Stamp::of(path, &metadata));
        }
        if kind.is_dir() {
            return Target::Folder(path.to_owned());
        }
        Target::Bad(Trouble::NotAFile(if kind.is_fifo() {
            "a FIFO"
        } else if kind.is_socket() {
            "a socket"
        } else if kind.is_symlink() {
            "a symbolic link"
        } else {
            "a device"
        }))
    }

    fn failed(error: &io::Error) -> Target {
        match error.kind() {
            io::ErrorKind::NotFound => Target::Gone,
            kind => Target::Bad(Trouble::Io(kind)),
        }
    }
}
