//! Where the store is, and that it is one: what it leads to is cleaned of all that no record names.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Store;
use crate::config;
use crate::private_dir::{DirError, PrivateDir};

/// The state directory's name within the apps folder, if no other place is named for it.
pub const STATE_FOLDER: &str = ".hostler";

/// How long a host that is just ending may still have the store.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

/// Says what the directory is, and shows that it can be written.
const README: (&str, &[u8]) = (
    "README",
    b"The releases that Hostler keeps, to be able to return to them. It can be deleted while the host does not run:\n\
      then the apps folder alone says what is served.\n",
);

/// What its first line begins with, in whatever version: a directory with files and without it is somebody else's.
const MARK: &[u8] = b"The releases that Hostler keeps";

/// What is in a file system that is mounted for it.
const LOST_AND_FOUND: &str = "lost+found";

/// Why a directory can't be the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("releases can't be kept in {}: {error}", path.display())]
    Dir { path: PathBuf, error: DirError },
    #[error("releases can't be kept in {}: another host uses it", path.display())]
    InUse { path: PathBuf },
    #[error(
        "releases can't be kept in {}: it is not empty, and none of Hostler's (there is no {} of its in it)",
        path.display(), README.0
    )]
    NotOurs { path: PathBuf },
    /// The operator has named it.
    #[error("{0}; name another place with state_dir under [apps]")]
    Named(Box<StoreError>),
}

impl Store {
    /// Opens the store, which is made (0700) if there is none, and removes what is torn or left over. What was on
    /// probation when a host ended without warning is held back.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn open(path: &Path) -> Result<Store, StoreError> {
        Store::open_in(path, PrivateDir::open(path))
    }

    /// The store of a host: in the place that was named for it, or else in the apps folder, if that can be written.
    /// Without such a place apps are served all the same.
    ///
    /// # Errors
    /// The place that was named is no good.
    pub fn of(apps: &config::Apps) -> Result<Option<Store>, StoreError> {
        if let Some(dir) = &apps.state_dir {
            return Store::open(dir).map(Some).map_err(|error| StoreError::Named(Box::new(error)));
        }
        // The folder itself is not made: it may be a mount that is yet to come.
        let opened = match apps.folder.is_dir() {
            true => Store::open_within(&apps.folder).map_err(|error| error.to_string()),
            false => Err(format!("the apps folder {} is not there", apps.folder.display())),
        };
        let lost = |reason: &String| {
            tracing::warn!(
                "{reason}: nothing can be rolled back, not even a release that fails on probation, and after a \
                 restart only what is whole in the apps folder is served; name a place with state_dir under [apps]"
            );
        };
        Ok(opened.inspect_err(lost).ok())
    }

    /// Whether the place that the operator has named could be the store, and is neither made nor changed. Another host may
    /// use it.
    ///
    /// # Errors
    /// It is no good.
    pub fn check(path: &Path) -> Result<(), StoreError> {
        Store::checked(path).map_err(|error| StoreError::Named(Box::new(error)))
    }

    fn checked(path: &Path) -> Result<(), StoreError> {
        let failed = |error| StoreError::Dir { path: path.to_owned(), error };
        let Some(dir) = PrivateDir::check(path).map_err(failed)? else { return Ok(()) };
        if !is_ours(&dir).map_err(|error| failed(error.into()))? {
            return Err(StoreError::NotOurs { path: path.to_owned() });
        }
        dir.can_be_written().map_err(|error| failed(error.into()))
    }

    /// In the apps folder. Who may put files there has no say in where else something is written and deleted: so no link
    /// is followed.
    pub(super) fn open_within(folder: &Path) -> Result<Store, StoreError> {
        let path = folder.join(STATE_FOLDER);
        Store::open_in(&path, PrivateDir::open_real(&path))
    }

    fn open_in(path: &Path, dir: Result<PrivateDir, DirError>) -> Result<Store, StoreError> {
        let failed = |error| StoreError::Dir { path: path.to_owned(), error };
        let dir = dir.map_err(failed)?;
        let since = Instant::now();
        while !dir.try_lock().map_err(|error| failed(error.into()))? {
            if since.elapsed() >= LOCK_PATIENCE {
                return Err(StoreError::InUse { path: path.to_owned() });
            }
            std::thread::sleep(LOCK_PATIENCE / 100);
        }
        let io = |error: io::Error| failed(error.into());
        if !is_ours(&dir).map_err(io)? {
            return Err(StoreError::NotOurs { path: path.to_owned() });
        }
        dir.remove_leftovers().map_err(io)?;
        dir.replace(README.0, [README.1, b""]).map_err(io)?;
        let store = Store {
            dir,
            records: Mutex::default(),
            writing: Mutex::default(),
            failing: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        };
        store.take_in().map_err(io)?;
        Ok(store)
    }
}

/// It was a store before, or has nothing in it.
fn is_ours(dir: &PrivateDir) -> io::Result<bool> {
    if dir.starts_with(README.0, MARK) {
        return Ok(true);
    }
    // A host may have ended before it had written anything.
    dir.has_only(|name| name == LOST_AND_FOUND)
}
