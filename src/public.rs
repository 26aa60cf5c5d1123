//! Static files: the `public/` folder of an app, as one release has it.
//!
//! A release never serves what another one has, so nothing of `public/` is read when it is asked for. At deploy its
//! files are looked through, opened beneath the folder, and copied to a place that is the host's alone; the release
//! gets a [`Manifest`] of the copies, by path and digest. What happens in the folder afterwards is the next release's.
//!
//! Reading order: [`beneath`] opens files that are surely in a folder; [`tree`] is what is in one, with bounds;
//! [`copies`] keeps the copies, equal ones once; [`manifest`] is what a release knows of them.

pub mod beneath;
pub mod copies;
pub mod manifest;
pub mod tree;

use std::path::{Path, PathBuf};

use crate::logging::path_text;

pub use beneath::Beneath;
pub use copies::{Blob, Copies, CopyError, OpenBlob};
pub use manifest::{Copied, Encoding, Hit, Manifest, Page, Version, manifest};
pub use tree::{Limits, Tree, tree, tree_if};

/// The name of the folder beside an app's `app.wasm`.
pub const FOLDER: &str = "public";

/// What is wrong with a `public/`, and what would be right. Paths are relative to it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    #[error("public/{}: it is {kind}, where a file or a folder is expected; take it out", path_text(path))]
    NotAFile { path: PathBuf, kind: &'static str },
    #[error("public is not a folder; make it one or take it out")]
    NotAFolder,
    #[error("public/{}: a symbolic link that leads nowhere; take it out", path_text(path))]
    DanglingLink { path: PathBuf },
    #[error(
        "public/{}: a symbolic link that leads out of public/; put the file itself there",
        path_text(path)
    )]
    LinkLeadsOut { path: PathBuf },
    #[error("public leads out of the app's folder; put the folder itself there")]
    FolderLeadsOut,
    #[error(
        "public/{}: a symbolic link to itself or to a folder that it is in; take it out",
        path_text(path)
    )]
    LinkLoop { path: PathBuf },
    #[error("public/{}: the name is not valid UTF-8 or has a control character; rename it", path_text(path))]
    Name { path: PathBuf },
    #[error(
        "public/ has more than {limit} files and folders; take some out, or the operator can allow more with \
         static.max_files"
    )]
    TooMany { limit: u64 },
    #[error(
        "public/ has more than {limit} bytes in all; take some out, or the operator can allow more with static.max_size"
    )]
    TooLarge { limit: u64 },
    #[error(
        "public/{}: folders within folders are served {limit} deep; move it up, or the operator can allow more with \
         static.max_depth",
        path_text(path)
    )]
    TooDeep { path: PathBuf, limit: u64 },
    #[error("public/{}: it cannot be looked at: {kind}; the host must be able to read it", path_text(path))]
    Io { path: PathBuf, kind: std::io::ErrorKind },
}

/// Opens the `public/` of an app whose own folder is `beside`, relative to the apps folder. Blocks on the file system.
///
/// # Errors
///
/// [`Trouble`] unless it is a folder in the app's own one.
pub fn open(apps: &Path, beside: &Path) -> Result<Beneath, Trouble> {
    let own = Beneath::open(apps).and_then(|apps| apps.beneath(beside));
    let public = own.and_then(|own| own.beneath(Path::new(FOLDER)));
    public.map_err(|error| match error.kind() {
        _ if Beneath::leads_out(&error) => Trouble::FolderLeadsOut,
        std::io::ErrorKind::NotADirectory => Trouble::NotAFolder,
        kind => Trouble::Io { path: PathBuf::new(), kind },
    })
}
