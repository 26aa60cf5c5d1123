//! The walk behind [`scan`](super::scan): breadth first, so that a crowded folder deep down never costs an app above it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::{self, FileType};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::name::{AppName, NameError, check_segment};
use super::pace::Pace;
use super::share::{Part, Shares, Taken};
use super::state::{FolderState, Found, Holds, Problem, PublicStamp, Stamp, Trouble};
use super::target::{Root, Target};
use super::{Limits, ScanError};
use crate::prepare::Digest;
use crate::public;
use crate::public::tree::is_looked_at;

pub struct Walk<'a> {
    root: Arc<Path>,
    /// Whose the apps folder is.
    owner: u32,
    limits: &'a Limits,
    /// Of the entries that may be listed.
    entries: Shares,
    /// The same for all `public/`.
    public_entries: Shares,
    state: FolderState,
    /// Names that something already stands for, be it an app or a problem.
    claimed: BTreeSet<AppName>,
    queue: VecDeque<Task>,
    /// What goes beyond the share of its top-level folder in this round.
    later: Vec<Task>,
    pace: Pace,
}

/// What is still to be looked at.
enum Task {
    Folder(Folder),
    /// What is left of an app: its `public/`.
    Public {
        app: AppName,
        found: Found,
        own: PathBuf,
        part: Part,
    },
}

/// A folder still to be listed.
struct Folder {
    part: Part,
    /// As the apps in it are named; empty for the apps folder.
    name: String,
    /// With all links resolved.
    real: PathBuf,
    /// Real paths of the folders above it, by way of the links that were followed.
    above: Vec<PathBuf>,
}

/// What came of listing a folder.
enum Listed {
    All(Vec<(OsString, FileType)>),
    TooMany(Trouble),
    /// It goes beyond the share of its top-level folder.
    BeyondShare,
}

/// What came of looking at an app's `public/`.
enum Public {
    None,
    Stamp(Arc<PublicStamp>),
    BeyondShare,
}

impl Walk<'_> {
    pub fn of(folder: &Path, limits: &Limits) -> Result<FolderState, ScanError> {
        let failed = |source| ScanError::Folder { path: folder.to_owned(), source };
        let root = fs::canonicalize(folder).map_err(failed)?;
        let metadata = fs::metadata(&root).map_err(failed)?;
        let mut walk = Walk {
            root: Arc::from(root.as_path()),
            owner: metadata.uid(),
            limits,
            entries: Shares::of(limits.entries as u64),
            public_entries: Shares::of(limits.public_entries),
            state: FolderState::new((metadata.dev(), metadata.ino())),
            claimed: BTreeSet::new(),
            queue: VecDeque::new(),
            later: Vec::new(),
            pace: if limits.in_stretches { Pace::even() } else { Pace::Fast },
        };
        let apps = Folder { part: Part::ROOT, name: String::new(), real: root, above: Vec::new() };
        match walk.list(&apps).map_err(failed)? {
            Listed::All(names) => walk.look_at(&apps, names),
            Listed::TooMany(_) | Listed::BeyondShare => {
                let limit = limits.folder_entries.min(limits.entries);
                return Err(ScanError::TooMany { path: folder.to_owned(), limit });
            }
        }
        walk.rounds();
        Ok(walk.state)
    }

    /// Each top-level folder has its share of what may be looked at; those that need more have what the others left, more
    /// and more of it, so that a crowd in one of them costs only itself.
    fn rounds(&mut self) {
        let parts = self.queue.len();
        for shares in [&mut self.entries, &mut self.public_entries] {
            shares.divide(parts);
        }
        loop {
            while let Some(task) = self.queue.pop_front() {
                match task {
                    Task::Folder(folder) => self.enter(folder),
                    Task::Public { app, found, own, part } => self.finish(app, found, &own, part),
                }
            }
            self.queue.extend(self.later.drain(..));
            if self.queue.is_empty() {
                return;
            }
            for shares in [&mut self.entries, &mut self.public_entries] {
                shares.grow();
            }
        }
    }

    /// A folder below the apps folder: one app, or a place for apps.
    fn enter(&mut self, folder: Folder) {
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
                self.app(&folder.name, wasm, config, Some((&folder.real, folder.part)));
                return;
            }
            Err(error) => return self.hold_folder(&folder, Trouble::Io(error.kind())),
        }
        if folder.above.len() >= self.limits.depth {
            return self.hold_folder(&folder, Trouble::TooDeep(self.limits.depth));
        }
        match self.list(&folder) {
            Ok(Listed::All(names)) => self.look_at(&folder, names),
            Ok(Listed::TooMany(trouble)) => self.hold_folder(&folder, trouble),
            Ok(Listed::BeyondShare) => self.later.push(Task::Folder(folder)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.hold_folder(&folder, Trouble::Io(error.kind())),
        }
    }

    /// The names in a folder that are looked at, sorted.
    fn list(&mut self, folder: &Folder) -> io::Result<Listed> {
        let mut names = Vec::new();
        for (count, entry) in fs::read_dir(&folder.real)?.enumerate() {
            if count >= self.limits.folder_entries {
                return Ok(Listed::TooMany(Trouble::TooMany(self.limits.folder_entries)));
            }
            match self.entries.take(folder.part) {
                Taken::Yes => {}
                Taken::NotInThisRound => {
                    self.entries.begins_anew(folder.part, count as u64);
                    return Ok(Listed::BeyondShare);
                }
                Taken::NothingLeft => {
                    return Ok(Listed::TooMany(Trouble::TooManyInAll(self.limits.entries)));
                }
            }
            let entry = entry?;
            self.pace.step();
            let name = entry.file_name();
            if is_looked_at(name.as_bytes()) {
                names.push((name, entry.file_type()?));
            }
        }
        names.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(Listed::All(names))
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
        match self.target(path) {
            Target::Folder(real) if above.contains(&real) => {
                self.report(Path::new(&name), Holds::Below(name.clone()), Trouble::LinkLoop);
            }
            Target::Folder(real) => {
                let part = match parent.part {
                    Part::ROOT => Part::numbered(self.queue.len()),
                    part => part,
                };
                self.queue.push_back(Task::Folder(Folder { part, name, real, above }));
            }
            Target::File(_) | Target::Gone | Target::Bad(Trouble::NotAFile(_)) => {}
            Target::Bad(trouble) => self.report(Path::new(&name), Holds::Below(name.clone()), trouble),
        }
    }

    /// One app by its files, each of which is known to be there; `own`: the folder that is the app's alone, and what it is
    /// part of.
    fn app(
        &mut self,
        name: &str,
        wasm: Option<PathBuf>,
        config: Option<PathBuf>,
        own: Option<(&Path, Part)>,
    ) {
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
        let found = Found { folder: self.root.clone(), wasm, config, public: None };
        match own {
            None => drop(self.state.apps.insert(app, found)),
            Some((own, part)) => self.finish(app, found, own, part),
        }
    }

    /// An app in a folder of its own is whole with its `public/`.
    fn finish(&mut self, app: AppName, found: Found, own: &Path, part: Part) {
        match self.public(own, part) {
            Ok(Public::None) => drop(self.state.apps.insert(app, found)),
            Ok(Public::Stamp(stamp)) => {
                self.state.apps.insert(app, Found { public: Some(stamp), ..found });
            }
            Ok(Public::BeyondShare) => {
                self.later.push(Task::Public { app, found, own: own.to_owned(), part })
            }
            Err(trouble) => {
                let relative = own.join("app.wasm");
                let relative = relative.strip_prefix(&self.root).unwrap_or(&relative).to_owned();
                self.report(&relative, Holds::App(app), trouble);
            }
        }
    }

    /// What an app's `public/` looks like. What is wrong in it is for whoever reads it to say.
    fn public(&mut self, own: &Path, part: Part) -> Result<Public, Trouble> {
        match fs::symlink_metadata(own.join(public::FOLDER)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Public::None),
            Err(error) => return Err(Trouble::Io(error.kind())),
        }
        let beside = own.strip_prefix(&self.root).unwrap_or(own).to_owned();
        let (mut taken, mut had, limit) = (Taken::Yes, 0, self.limits.public_entries);
        let (pace, shares) = (&mut self.pace, &mut self.public_entries);
        let mut each = || {
            taken = shares.take(part);
            had += u64::from(taken == Taken::Yes);
            pace.step();
            match taken {
                Taken::Yes => Ok(()),
                Taken::NotInThisRound | Taken::NothingLeft => Err(public::Trouble::TooMany { limit }),
            }
        };
        let tree = public::open(&self.root, &beside)
            .and_then(|public| public::tree_if(&public, self.limits.public, &mut each));
        let fingerprint = match (tree, taken) {
            (_, Taken::NotInThisRound) => {
                self.public_entries.begins_anew(part, had);
                return Ok(Public::BeyondShare);
            }
            (_, Taken::NothingLeft) => return Err(Trouble::TooManyPublic(limit)),
            (Ok(tree), Taken::Yes) => tree.fingerprint(),
            (Err(trouble), Taken::Yes) => Digest::of(trouble.to_string().as_bytes()),
        };
        Ok(Public::Stamp(Arc::new(PublicStamp { beside, fingerprint })))
    }

    /// The stamp of one of an app's files; `None` when it can't be taken, which then is reported.
    fn file(&mut self, app: &AppName, path: &Path) -> Option<Stamp> {
        let trouble = match self.target(path) {
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

    fn target(&self, path: &Path) -> Target {
        Root { path: &self.root, owner: self.owner }.resolve(path)
    }

    fn hold_folder(&mut self, folder: &Folder, trouble: Trouble) {
        self.report(Path::new(&folder.name), Holds::Below(folder.name.clone()), trouble);
    }

    fn report(&mut self, path: &Path, holds: Holds, trouble: Trouble) {
        self.state.report(Problem { path: path.to_owned(), holds, trouble });
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
