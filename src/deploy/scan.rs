//! Looking at the apps folder: which apps are there, without opening a single file.
//!
//! - `hello.wasm` is the app `hello`, `api/v1.wasm` the app `api/v1`; `hello.toml` configures `hello.wasm`.
//! - A folder with an `app.wasm` or `app.toml` in it is one app, named as the folder; nothing else in it is looked at.
//! - Names that begin with `.` or end in `.tmp`, `.part`, `~` or `.swp` are not looked at, other files are ignored.
//! - The files of its `public/` are known by what they look like together; what is wrong with them is found when they are
//!   read.
//! - Symbolic links are followed as long as they lead to something in the folder; out of one top-level folder into another
//!   only if who owns the link owns that as well, or is the operator.
//!
//! Whatever looks like an app and can't be taken becomes a [`Problem`]. It *holds* the app of that name, or all apps
//! below that folder: what is live of them stays, neither replaced nor retired.

mod pace;
mod share;
mod state;
mod target;
#[cfg(test)]
mod tests;
mod walk;

use std::io;
use std::path::{Path, PathBuf};

pub use pace::PAUSE;
pub use state::{FolderState, Found, Holds, Problem, PublicStamp, Stamp, Trouble};

use crate::public;

/// Bounds on one look at the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Folders within folders; 1 looks at the apps folder alone.
    pub depth: usize,
    /// Entries of one folder.
    pub folder_entries: usize,
    /// Entries of all folders together, of which each top-level folder has its share.
    pub entries: usize,
    /// What one `public/` may have.
    pub public: public::Limits,
    /// Entries of all `public/` together, shared likewise.
    pub public_entries: u64,
    /// Pause again and again: what is served has the processor meanwhile.
    pub in_stretches: bool,
}

impl Default for Limits {
    fn default() -> Limits {
        let public = public::Limits { entries: 10_000, size: u64::MAX, depth: 16 };
        Limits {
            depth: 8,
            folder_entries: 10_000,
            entries: 100_000,
            public,
            public_entries: 1_000_000,
            in_stretches: false,
        }
    }
}

/// The apps folder as a whole can't be looked at, which says nothing about the apps in it: nothing is retired.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    #[error("the apps folder {} cannot be listed: {source}", path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error("the apps folder {} has more than {limit} entries; move some into folders of their own", path.display())]
    TooMany { path: PathBuf, limit: usize },
}

/// Looks at the whole folder. Blocks on the file system.
///
/// # Errors
///
/// A [`ScanError`] when the folder itself is missing, can't be listed, or has too many entries. Trouble with anything
/// in it is reported in the state.
pub fn scan(folder: &Path, limits: &Limits) -> Result<FolderState, ScanError> {
    walk::Walk::of(folder, limits)
}
