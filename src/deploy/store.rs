//! The store: what was deployed, kept so that it can be undone, and so that a good release serves whatever becomes of
//! its file.
//!
//! A state directory of flat files: a *blob* for each code, each config text and each static file, named by its SHA-256,
//! and for each app a *record* of its releases ([`record`]), whose first line is the SHA-256 of the rest. Blobs are
//! written before the record that names them, each under a temporary name, renamed, and synced before the record is
//! written; so whenever the host ends, what is there is the state before or the state after. All is checked when it is
//! read: a record that is torn is as none, a release whose blobs are torn is forgotten. Files that no record names are
//! removed.
//!
//! A record that can't be written, as on a full disk, stops no deploy and no rollback: they hold while the host runs.

mod files;
mod named;
mod place;
pub mod record;
pub mod static_files;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use parking_lot::Mutex;

use super::name::AppName;
use super::read::Digests;
use crate::prepare::Digest;
use crate::private_dir::PrivateDir;
use crate::public::{self, Manifest};
use files::{is_record, is_whole};
use named::Named;
pub use place::{STATE_FOLDER, StoreError};
use record::{Kept, LARGEST_LISTS, Record, Standing};
use static_files::{StaticFiles, To};

/// Bytes that a record may have: what its lists of static files may, and for all else far more than it has.
const LARGEST_RECORD: u64 = LARGEST_LISTS + (1 << 20);

/// Why a kept release can't be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("release {0} is not kept any more")]
    NotKept(u64),
    #[error("release {number} can't be read from the store any more ({what} is torn)")]
    Torn { number: u64, what: &'static str },
    #[error("release {number} has static files that may not be served any more: {trouble}")]
    NotAllowed { number: u64, trouble: public::Trouble },
    #[error("the static files of release {number} can't be copied: {source}")]
    Copy { number: u64, source: public::CopyError },
    #[error("release {number} can't be read from the store: {source}")]
    Io { number: u64, source: io::Error },
}

/// The files of a kept release.
#[derive(Debug)]
pub struct Stored {
    pub kept: Kept,
    pub wasm: Bytes,
    pub config: Option<String>,
    /// Its static files, copied, if it has any and they may be served.
    pub public: Option<Manifest>,
}

/// What a release that goes live is made of.
#[derive(Debug, Clone)]
pub struct Deployed {
    pub number: u64,
    pub digests: Digests,
    pub file: String,
    pub config_file: Option<String>,
    pub wasm: Bytes,
    pub config: Option<String>,
    pub public: Option<Arc<Manifest>>,
    /// How many releases of the app are kept.
    pub keep: usize,
    pub on_probation: bool,
}

impl Deployed {
    /// What is kept of it beside the record.
    fn blobs(&self) -> impl Iterator<Item = Digest> + '_ {
        let own = [Some(self.digests.wasm), self.digests.config].into_iter().flatten();
        let public = self.public.iter().flat_map(|public| public.copied());
        own.chain(public.map(|(_, version)| version.blob.digest()))
    }
}

pub struct Store {
    dir: PrivateDir,
    /// What is on disk, or would be if it could be written. Held for short: never while a file is written.
    records: Mutex<BTreeMap<String, Record>>,
    /// Held by who changes records or removes blobs: one after the other.
    writing: Mutex<Named>,
    /// The last write failed. It was warned of; the next that succeeds ends it.
    failing: AtomicBool,
    /// The host stops: what goes live from now on is not on probation, since it is not watched to the end.
    stopping: AtomicBool,
}

impl Store {
    /// What is kept of an app.
    pub fn record(&self, app: &str) -> Option<Record> {
        self.records.lock().get(app).cloned()
    }

    /// The apps of which something is kept.
    pub fn apps(&self) -> Vec<AppName> {
        self.records.lock().keys().filter_map(|app| AppName::parse(app).ok()).collect()
    }

    /// How good a release is known to be, in a word.
    pub fn standing(&self, app: &str, number: u64) -> Option<&'static str> {
        let records = self.records.lock();
        Some(records.get(app)?.get(number)?.standing.as_str())
    }

    /// The greatest number of a release so far.
    pub fn last_number(&self) -> u64 {
        let records = self.records.lock();
        let numbers = records.values().flat_map(|record| record.releases.iter().map(|kept| kept.number));
        numbers.max().unwrap_or(0)
    }

    /// The number under which the same bytes are live, or were when the host ended.
    pub fn number_of(&self, app: &str, digests: Digests) -> Option<u64> {
        let records = self.records.lock();
        records.get(app)?.live().filter(|live| live.digests == digests).map(|live| live.number)
    }

    /// Reads a kept release; one that is torn is forgotten. Its static files are copied. Blocks.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn load(&self, app: &str, number: u64, to: &To<'_>) -> Result<Stored, LoadError> {
        let kept = self.record(app).and_then(|record| record.get(number).cloned());
        let kept = kept.ok_or(LoadError::NotKept(number))?;
        let read = self.read_release(&kept).and_then(|(wasm, config)| {
            let public = self.read_static_files(&kept, config.as_deref(), to)?;
            Ok((wasm, config, public))
        });
        if let Err(LoadError::Torn { .. }) = &read {
            self.change(app, |record| record.retain(|kept| kept.number != number));
        }
        let (wasm, config, public) = read?;
        Ok(Stored { kept, wasm, config, public })
    }

    /// Keeps a release that is about to go live, on disk before anybody is served by it. Returns the record as it was
    /// before, for [`Store::withdraw`]. Blocks.
    pub fn begin(&self, app: &str, deployed: &Deployed) -> Record {
        let mut named = self.writing.lock();
        let before = self.record(app).unwrap_or_else(|| Record::of(app));
        let mut record = before.clone();
        let release = Kept {
            number: deployed.number,
            digests: deployed.digests,
            size: deployed.wasm.len() as u64,
            file: deployed.file.clone(),
            config_file: deployed.config_file.clone(),
            static_files: deployed.public.as_deref().map(StaticFiles::of).unwrap_or_default(),
            deployed: SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs()),
            standing: self.standing_at_first(deployed.on_probation),
        };
        record.begin(release, deployed.keep);
        let is_kept = before.live().is_some_and(|live| live.digests == deployed.digests);
        let stored = match record.is_too_large() {
            true => Err(io::Error::other("they have more static files than can be listed; take some out")),
            false if is_kept => Ok(()),
            false => self.write_blobs(deployed, &named),
        };
        let is_stored = stored.is_ok();
        if !is_stored {
            // It is live, and can't be returned to.
            record.releases.retain(|kept| kept.number != deployed.number);
        }
        let written = stored.and_then(|()| self.write(&record));
        self.exchange(&mut named, &before, record, &written);
        if !is_stored {
            self.remove_blobs(deployed.blobs().filter(|digest| !named.has(*digest)));
        }
        before
    }

    /// A release that is kept is about to go live again at the start of the host. Blocks.
    pub fn resume(&self, app: &str, number: u64, on_probation: bool) {
        // Within, under the lock: else it could be on probation after all were said not to be.
        self.change(app, |record| record.resume(number, &self.standing_at_first(on_probation)));
    }

    /// The release `number`, which was noted as live, did not become it after all: everything is as before, unless it has
    /// changed since. Blocks.
    pub fn withdraw(&self, before: &Record, number: u64) {
        let mut named = self.writing.lock();
        let begun = self.record(&before.app).unwrap_or_default();
        if begun.live != Some(number) {
            return;
        }
        let mut record = before.clone();
        record.retain(|kept| is_whole(kept, |digest| self.dir.size(&digest.to_string())));
        let written = if record.releases.is_empty() { self.remove(&record.app) } else { self.write(&record) };
        self.exchange(&mut named, &begun, record, &written);
    }

    /// Changes what is kept of an app, if that makes a difference. Blocks.
    pub fn change(&self, app: &str, change: impl FnOnce(&mut Record)) {
        let mut named = self.writing.lock();
        let Some(before) = self.record(app) else { return };
        let mut record = before.clone();
        change(&mut record);
        if record == before {
            return;
        }
        let written = self.write(&record);
        self.exchange(&mut named, &before, record, &written);
    }

    /// The app's file was deleted while this release was live: nothing of it is kept, unless it is there again. Blocks.
    pub fn forget(&self, app: &str, live: Option<u64>) {
        let mut named = self.writing.lock();
        let Some(before) = self.record(app).filter(|before| before.live == live) else { return };
        let removed = self.remove(app);
        self.exchange(&mut named, &before, Record::of(app), &removed);
    }

    /// The host stops in order. To be said once more when nothing goes live any more. Blocks.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        for app in self.apps() {
            self.change(app.as_str(), Record::stop);
        }
    }

    /// Another host may have it from now on. Nothing is to be kept after that.
    pub fn close(&self) {
        self.dir.unlock();
    }

    /// Reads all records, and brings them in order.
    fn take_in(&self) -> io::Result<()> {
        let mut named = self.writing.lock();
        let present = self.blobs()?;
        for entry in self.dir.files(is_record)? {
            let Some(read) = self.read_record(&entry.name)? else {
                tracing::warn!(
                    file = entry.name,
                    "a record of the store is torn: what it said is not known any more"
                );
                self.dir.remove(&entry.name)?;
                continue;
            };
            let mut record = read.clone();
            record.retain(|kept| is_whole(kept, |digest| present.get(&digest).copied()));
            if let Some((from, to)) = record.recover() {
                tracing::warn!(
                    app = record.app,
                    "the host ended without warning while release {from} was on probation: release {to} is taken instead"
                );
            }
            if record.releases.is_empty() {
                self.dir.remove(&entry.name)?;
                continue;
            }
            if record != read {
                self.write(&record)?;
            }
            named.add(&record);
            self.install(record);
        }
        self.remove_blobs(present.into_keys().filter(|digest| !named.has(*digest)));
        Ok(())
    }

    fn install(&self, record: Record) {
        let mut records = self.records.lock();
        if record.releases.is_empty() && record.live.is_none() {
            records.remove(&record.app);
        } else {
            records.insert(record.app.clone(), record);
        }
    }

    /// That of a release that goes live now. Under the lock of who writes.
    fn standing_at_first(&self, on_probation: bool) -> Standing {
        match on_probation {
            true if self.stopping.load(Ordering::Relaxed) => Standing::Unproven,
            true => Standing::Probation,
            false => Standing::Proven,
        }
    }

    /// Puts a record in the old one's place, and removes what only that one named, unless it is still what is on disk.
    fn exchange(&self, named: &mut Named, before: &Record, record: Record, written: &io::Result<()>) {
        self.report(&record.app, written);
        let unnamed = named.exchange(before, &record, written.is_ok());
        self.install(record);
        self.remove_blobs(unnamed);
    }

    fn remove_blobs(&self, digests: impl IntoIterator<Item = Digest>) {
        for digest in digests {
            // What can't be removed now is removed at the next start.
            let _ = self.dir.remove(&digest.to_string());
        }
    }

    /// Warns once when nothing can be written any more, not for each of a thousand apps.
    fn report(&self, app: &str, written: &io::Result<()>) {
        match written {
            Ok(()) => self.failing.store(false, Ordering::Relaxed),
            Err(error) if self.failing.swap(true, Ordering::Relaxed) => {
                tracing::debug!(app, %error, "not kept")
            }
            Err(error) => tracing::warn!(
                app,
                "releases can't be kept ({error}): apps are deployed all the same, but can't be returned to, and a \
                 rollback ends with the host"
            ),
        }
    }
}

#[cfg(test)]
mod tests;
