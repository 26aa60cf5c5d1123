//! What one look at the apps folder found.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::name::{AppName, NameError};
use crate::prepare::Digest;

/// The apps folder at one moment, as far as can be told without opening files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FolderState {
    /// Device and inode of the folder itself: another folder in its place may be a lost mount.
    pub identity: (u64, u64),
    pub apps: BTreeMap<AppName, Found>,
    pub problems: Vec<Problem>,
    held: BTreeSet<AppName>,
    held_below: BTreeSet<String>,
}

/// One app's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The apps folder with all links resolved; the files are beneath it.
    pub folder: Arc<Path>,
    pub wasm: Stamp,
    pub config: Option<Stamp>,
    pub public: Option<Arc<PublicStamp>>,
}

/// What tells one state of an app's `public/` from another without reading its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicStamp {
    /// The app's own folder, relative to the apps folder, with all links resolved.
    pub beside: PathBuf,
    /// Of all that is in it; or else of what is wrong with it.
    pub fingerprint: Digest,
}

/// What tells one state of a file from another without reading it. Equal stamps don't prove equal bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// With all links resolved.
    pub path: PathBuf,
    /// In bytes.
    pub size: u64,
    /// Seconds and nanoseconds.
    pub mtime: (i64, i64),
    /// Seconds and nanoseconds; unlike `mtime` it can't be set back.
    pub ctime: (i64, i64),
    pub inode: u64,
    pub dev: u64,
}

/// Something that can't be taken as an app, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Relative to the apps folder.
    pub path: PathBuf,
    pub holds: Holds,
    pub trouble: Trouble,
}

/// Which apps stay as they are because of a problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holds {
    Nothing,
    App(AppName),
    /// Every app below this folder, and the one that the folder itself may be.
    Below(String),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("it is {0}, where a regular file is expected; take it out")]
    NotAFile(&'static str),
    #[error("a symbolic link that leads nowhere; take it out, or put there what it names")]
    DanglingLink,
    #[error("a symbolic link that leads out of the apps folder; put the file itself here")]
    LinkLeadsOut,
    #[error(
        "a symbolic link out of its own folder to what somebody else owns; let that one's owner, the apps folder's, or \
         root make the link, or put the file itself here"
    )]
    LinkToAnothers,
    #[error("a symbolic link to itself or to a folder that it is in; take it out")]
    LinkLoop,
    #[error("{name}.wasm and {name}/app.wasm claim the same name; remove one of them")]
    Conflict { name: AppName },
    #[error("it configures no app: there is no {0} beside it; put one there, or take this out")]
    OrphanConfig(String),
    #[error("its files are not served: `public` belongs beside an app's app.wasm, and there is none")]
    OrphanPublic,
    #[error("folders within folders are looked at {0} deep; move it up")]
    TooDeep(usize),
    #[error("more than {0} entries, so it is not looked at; move some of them elsewhere")]
    TooMany(usize),
    #[error(
        "the apps folder has more than {0} entries in all, and its top-level folder more than its share; take some out"
    )]
    TooManyInAll(usize),
    #[error(
        "the public folders of all apps have more than {0} entries, and those of its top-level folder more than their \
         share; take some out"
    )]
    TooManyPublic(u64),
    #[error("it cannot be looked at: {0}; the host must be able to read it")]
    Io(std::io::ErrorKind),
}

impl FolderState {
    pub fn new(identity: (u64, u64)) -> FolderState {
        FolderState { identity, ..FolderState::default() }
    }

    /// Neither apps nor problems.
    pub fn is_empty(&self) -> bool {
        self.apps.is_empty() && self.problems.is_empty()
    }

    /// True for an app that must stay as it is: nothing sure is known about its files.
    pub fn holds(&self, app: &AppName) -> bool {
        let name = app.as_str();
        self.held.contains(name)
            || self.held_below.contains(name)
            || name
                .match_indices('/')
                .any(|(at, _)| name.get(..at).is_some_and(|up| self.held_below.contains(up)))
    }

    /// Takes a problem down. An app that it holds is no longer among those found.
    pub fn report(&mut self, problem: Problem) {
        match &problem.holds {
            Holds::Nothing => {}
            Holds::App(name) => {
                self.apps.remove(name);
                self.held.insert(name.clone());
            }
            Holds::Below(folder) => {
                self.held_below.insert(folder.clone());
            }
        }
        self.problems.push(problem);
    }
}

impl Stamp {
    /// The stamp of the file at `path` (resolved) by its metadata.
    pub fn of(path: &Path, metadata: &Metadata) -> Stamp {
        Stamp {
            path: path.to_owned(),
            size: metadata.len(),
            mtime: (metadata.mtime(), metadata.mtime_nsec()),
            ctime: (metadata.ctime(), metadata.ctime_nsec()),
            inode: metadata.ino(),
            dev: metadata.dev(),
        }
    }
}

/// One line: the path with everything unprintable escaped, and the trouble.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.path, self.trouble)
    }
}
