//! The walk behind [`scan`](super::scan): breadth first, so that a crowded folder deep down never costs an app above it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::{self, FileType, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::name::{AppName, NameError, check_segment};
use super::pace::Pace;
use super::state::{FolderState, Found, Holds, Problem, PublicStamp, Stamp, Trouble};
use super::{Limits, ScanError};
use crate::prepare::Digest;
use crate::public;
use crate::public::tree::is_looked_at;

pub struct Walk<'a> {
    root: Arc<Path>,
    limits: &'a Limits,
    /// Entries that may still be listed.
    budget: usize,
    /// The same for all `public/`.
    public_budget: u64,
    state: FolderState,
    /// Names that something already stands for, be it an app or a problem.
    claimed: BTreeSet<AppName>,
    queue: VecDeque<Folder>,
    pace: Pace,
}

/// A folder still to be listed.
struct Folder {
    /// As the apps in it are named; empty for the apps folder.
    name: String,
    /// With all links resolved.
    real: PathBuf,
    /// Real paths of the folders above it, by way of the links that were followed.
    above: Vec<PathBuf>,
}

/// What a name leads to, links resolved.
enum Target {
    File(Stamp),
    Folder(PathBuf),
    /// Was there a moment ago.
    Gone,
    Bad(Trouble),
}

impl Walk<'_> {
    pub fn of(folder: &Path, limits: &Limits) -> Result<FolderState, ScanError> {
        let failed = |source| ScanError::Folder { path: folder.to_owned(), source };
        let root = fs::canonicalize(folder).map_err(failed)?;
        let metadata = fs::metadata(&root).map_err(failed)?;
        let mut walk = Walk {
            root: Arc::from(root.as_path()),
            limits,
            budget: limits.entries,
            public_budget: limits.public_entries,
            state: FolderState::new((metadata.dev(), metadata.ino())),
            claimed: BTreeSet::new(),
            queue: VecDeque::new(),
            pace: if limits.in_stretches { Pace::even() } else { Pace::Fast },
        };
        let apps = Folder { name: String::new(), real: root, above: Vec::new() };
        match walk.list(&apps).map_err(failed)? {
            Some(names) => walk.look_at(&apps, names),
            None => {
                let limit = limits.folder_entries.min(limits.entries);
                return Err(ScanError::TooMany { path: folder.to_owned(), limit });
            }
        }
        while let Some(folder) = walk.queue.pop_front() {
            walk.enter(&folder);
        }
        Ok(walk.state)
    }

    /// A folder below the apps folder: one app, or a place for apps.
    fn enter(&mut self, folder: &Folder) {
        let (wasm, config) = (folder.real.join("app.wasm"), folder.real.join("app.toml"));
        let there = |path: &Path| match fs::symlink_metadata(path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        };
        match there(&wasm).and_then(|wasm| Ok((wasm, there(&config)?))) {
            Ok((false, false)) => {}
            Ok((wasm_there, config_there)) => {
                let (wasm, config) = (wasm_there.then_some(wasm), config_there.then_some(config));
                self.app(&folder.name, wasm, config, Some(&folder.real));
                return;
            }
            Err(error) => return self.hold_folder(folder, Trouble::Io(error.kind())),
        }
        if folder.above.len() >= self.limits.depth {
            return self.hold_folder(folder, Trouble::TooDeep(self.limits.depth));
        }
        match self.list(folder) {
            Ok(Some(names)) => self.look_at(folder, names),
            Ok(None) => self
                .hold_folder(folder, Trouble::TooMany(self.limits.folder_entries.min(self.limits.entries))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.hold_folder(folder, Trouble::Io(error.kind())),
        }
    }

    /// The names in a folder that are looked at, sorted; `None` when there are too many.
    fn list(&mut self, folder: &Folder) -> io::Result<Option<Vec<(OsString, FileType)>>> {
        let mut names = Vec::new();
        let limit = self.limits.folder_entries.min(self.budget);
        for (count, entry) in fs::read_dir(&folder.real)?.enumerate() {
            if count >= limit {
                return Ok(None);
            }
            let entry = entry?;
            self.pace.step();
            let name = entry.file_name();
            self.budget = self.budget.saturating_sub(1);
            if is_looked_at(name.as_bytes()) {
                names.push((name, entry.file_type()?));
            }
        }
        names.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(Some(names))
    }

    fn look_at(&mut self, folder: &Folder, names: Vec<(OsString, FileType)>) {
        let mut wasm: BTreeMap<String, PathBuf> = BTreeMap::new();
        let mut config: BTreeMap<String, PathBuf> = BTreeMap::new();
        let mut others = false;
        for (name, kind) in names {
            self.pace.step();
            let path = folder.real.join(&name);
            let (stem, role) = match name.as_bytes() {
                bytes if let Some(stem) = bytes.strip_suffix(b".wasm") => (stem, Some(&mut wasm)),
                bytes if let Some(stem) = bytes.strip_suffix(b".toml") => (stem, Some(&mut config)),
                bytes => (bytes, None),
            };
            // Neither an app nor a place for apps: what it is called doesn't matter.
            if role.is_none() && !kind.is_dir() && !kind.is_symlink() {
                others = true;
                continue;
            }
            match (named(&folder.name, stem), role) {
                (Ok(stem), Some(role)) => {
                    role.insert(stem, path);
                }
                (Ok(name), None) => self.subfolder(folder, name, &path),
                (Err(trouble), _) => self.report(&join(&folder.name, &name), Holds::Nothing, trouble),
            }
        }
        if others && wasm.is_empty() && folder.real.file_name().is_some_and(|name| name == public::FOLDER) {
            self.report(Path::new(&folder.name), Holds::Nothing, Trouble::OrphanPublic);
        }
        for (name, path) in wasm {
            let config = config.remove(&name);
            self.app(&name, Some(path), config, None);
        }
        for (name, path) in config {
            self.app(&name, None, Some(path), None);
        }
    }

    fn subfolder(&mut self, parent: &Folder, name: String, path: &Path) {
        let mut above = parent.above.clone();
        above.push(parent.real.clone());
        match self.resolve(path) {
            Target::Folder(real) if above.contains(&real) => {
                self.report(Path::new(&name), Holds::Below(name.clone()), Trouble::LinkLoop);
            }
            Target::Folder(real) => self.queue.push_back(Folder { name, real, above }),
            Target::File(_) | Target::Gone | Target::Bad(Trouble::NotAFile(_)) => {}
            Target::Bad(trouble) => self.report(Path::new(&name), Holds::Below(name.clone()), trouble),
        }
    }

    /// One app by its files, each of which is known to be there; `own`: the folder that is the app's alone.
    fn app(&mut self, name: &str, wasm: Option<PathBuf>, config: Option<PathBuf>, own: Option<&Path>) {
        self.pace.step();
        let Some(path) = wasm.as_ref().or(config.as_ref()) else { return };
        let relative = path.strip_prefix(&self.root).unwrap_or(path).to_owned();
        let app = match AppName::parse(name) {
            Ok(app) => app,
            Err(error) => return self.report(&relative, Holds::Nothing, error.into()),
        };
        let Some(wasm) = wasm else {
            let wanted = relative.with_extension("wasm");
            let wanted = wanted.file_name().unwrap_or_default().to_string_lossy().into_owned();
            return self.report(&relative, Holds::Nothing, Trouble::OrphanConfig(wanted));
        };
        if !self.claimed.insert(app.clone()) {
            return self.report(&relative, Holds::App(app.clone()), Trouble::Conflict { name: app });
        }
        let Some(wasm) = self.file(&app, &wasm) else { return };
        let config = match config {
            None => None,
            Some(config) => match self.file(&app, &config) {
                Some(stamp) => Some(stamp),
                // Without its config an app is another app: it waits until the config can be had, or is gone.
                None => return,
            },
        };
        let public = match own.map(|own| self.public(own)) {
            None => None,
            Some(Ok(public)) => public,
            Some(Err(trouble)) => return self.report(&relative, Holds::App(app), trouble),
        };
        self.state.apps.insert(app, Found { folder: self.root.clone(), wasm, config, public });
    }

    /// What an app's `public/` looks like, if there is one. What is wrong in it is for whoever reads it to say.
    fn public(&mut self, own: &Path) -> Result<Option<Arc<PublicStamp>>, Trouble> {
        match fs::symlink_metadata(own.join(public::FOLDER)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Trouble::Io(error.kind())),
        }
        let beside = own.strip_prefix(&self.root).unwrap_or(own).to_owned();
        let mut listed = 0;
        let pace = &mut self.pace;
        let mut each = || {
            listed += 1;
            pace.step();
        };
        let tree = public::open(&self.root, &beside)
            .and_then(|public| public::tree_counted(&public, self.limits.public, &mut each));
        let left = self.public_budget.checked_sub(listed);
        self.public_budget = left.ok_or(Trouble::TooManyPublic(self.limits.public_entries))?;
        let fingerprint = match tree {
            Ok(tree) => tree.fingerprint(),
            Err(trouble) => Digest::of(trouble.to_string().as_bytes()),
        };
        Ok(Some(Arc::new(PublicStamp { beside, fingerprint })))
    }

    /// The stamp of one of an app's files; `None` when it can't be taken, which then is reported.
    fn file(&mut self, app: &AppName, path: &Path) -> Option<Stamp> {
        let trouble = match self.resolve(path) {
            Target::File(stamp) => return Some(stamp),
            // As if it had not been listed; a config that has just gone makes the app wait for the next look.
            Target::Gone => return None,
            Target::Folder(_) => Trouble::NotAFile("a folder"),
            Target::Bad(trouble) => trouble,
        };
        let relative = path.strip_prefix(&self.root).unwrap_or(path).to_owned();
        self.report(&relative, Holds::App(app.clone()), trouble);
        None
    }

    fn resolve(&self, path: &Path) -> Target {
        match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_symlink() => {}
            metadata => return Target::of(path, metadata),
        }
        match fs::canonicalize(path) {
            Ok(real) if real.starts_with(&self.root) => Target::of(&real, fs::symlink_metadata(&real)),
            Ok(_) => Target::Bad(Trouble::LinkLeadsOut),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Target::Bad(Trouble::DanglingLink),
            Err(error) if error.raw_os_error() == Some(libc::ELOOP) => Target::Bad(Trouble::LinkLoop),
            Err(error) => Target::failed(&error),
        }
    }

    fn hold_folder(&mut self, folder: &Folder, trouble: Trouble) {
        self.report(Path::new(&folder.name), Holds::Below(folder.name.clone()), trouble);
    }

    fn report(&mut self, path: &Path, holds: Holds, trouble: Trouble) {
        self.state.report(Problem { path: path.to_owned(), holds, trouble });
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

/// The name of `segment` in the folder of that name.
fn named(folder: &str, segment: &[u8]) -> Result<String, Trouble> {
    let segment = str::from_utf8(segment).map_err(|_| NameError::NotUtf8)?;
    check_segment(segment)?;
    Ok(if folder.is_empty() { segment.to_owned() } else { format!("{folder}/{segment}") })
}

fn join(folder: &str, name: &OsStr) -> PathBuf {
    Path::new(folder).join(name)
}
