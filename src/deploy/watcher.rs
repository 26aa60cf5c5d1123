//! When to look at the apps folder again.
//!
//! A [`Watcher`] gives hints and nothing but hints: notified ones through inotify, and timed ones whatever happens. It
//! never fails: a folder that doesn't exist yet, one that was replaced, a full queue or an exhausted watch limit only
//! mean that the timer alone is left until the folder can be watched again. Any number of notifications between two
//! calls makes one hint, so nothing here grows.

#[cfg(test)]
mod tests;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{Config, Event, INotifyWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::store::STATE_FOLDER;

/// The shortest time between two hints: a file that is written all the time must not mean looking all the time.
const MIN_GAP: Duration = Duration::from_millis(50);

/// How long until watching is tried again after it failed for a reason that a folder which comes back doesn't cure.
const WATCH_AGAIN: Duration = Duration::from_secs(60);

/// Says when to look at a folder.
pub struct Watcher {
    folder: PathBuf,
    scan_interval: Duration,
    signal: Arc<Signal>,
    watch: Watch,
    /// The last hint; `None` before the first.
    hinted: Option<Instant>,
    /// It is time for a hint that no call has given yet.
    owed: bool,
    /// A failure was logged and no success came after it.
    complained: bool,
}

/// What inotify's thread says: a bit for each thing, whatever the number of events.
#[derive(Default)]
struct Signal {
    changed: Notify,
    /// Events were lost, or the folder itself is no longer the one that is watched.
    broken: AtomicBool,
}

enum Watch {
    /// Tried again at this time.
    Off {
        again_at: Instant,
    },
    Starting(JoinHandle<Result<Watch, Failure>>),
    On {
        /// Held for its drop, which ends inotify's thread.
        _inotify: INotifyWatcher,
        /// Device and inode of the folder that is watched.
        identity: (u64, u64),
    },
}

/// Why a folder is not watched.
enum Failure {
    Missing,
    Other(notify::Error),
}

impl Watcher {
    /// A watcher of `folder` and everything below it. Does nothing before the first call of [`Watcher::changed`].
    ///
    /// `scan_interval` is how long a hint may be away when nothing is notified.
    pub fn start(folder: impl Into<PathBuf>, scan_interval: Duration) -> Watcher {
        Watcher {
            folder: folder.into(),
            scan_interval,
            signal: Arc::default(),
            watch: Watch::Off { again_at: Instant::now() },
            hinted: None,
            owed: true,
            complained: false,
        }
    }

    /// True when changes are notified; false when the timer alone gives hints.
    pub fn is_watching(&self) -> bool {
        matches!(self.watch, Watch::On { .. }) && !self.signal.broken.load(Ordering::Acquire)
    }

    /// Waits until it is time to look at the folder. The first call returns at once, every further one after at most
    /// the scan interval.
    ///
    /// Cancellation safety: a call that is dropped loses no hint, the next one gives it.
    pub async fn changed(&mut self) {
        if let Some(last) = self.hinted
            && !self.owed
        {
            tokio::time::sleep_until(last + MIN_GAP.min(self.scan_interval)).await;
            tokio::select! {
                () = self.signal.changed.notified() => {}
                () = tokio::time::sleep_until(last + self.scan_interval) => {}
            }
            self.owed = true;
        }
        // Watch first and look then: what happens in between is notified.
        self.keep_watching().await;
        self.owed = false;
        self.hinted = Some(Instant::now());
    }

    /// Watches the folder if it is not, or no longer, watched.
    async fn keep_watching(&mut self) {
        let broken = self.signal.broken.load(Ordering::Acquire);
        match &self.watch {
            Watch::Off { again_at } if *again_at > Instant::now() => return,
            Watch::On { identity, .. } if !broken && identify(&self.folder).await == Some(*identity) => {
                return;
            }
            Watch::Starting(_) => {}
            Watch::Off { .. } | Watch::On { .. } => {
                // A signal of its own for each watch: a late event of the old one must not count for the new.
                self.signal = Arc::default();
                let (folder, signal) = (self.folder.clone(), self.signal.clone());
                self.watch = Watch::Starting(tokio::task::spawn_blocking(move || watch(&folder, signal)));
            }
        }
        let Watch::Starting(start) = &mut self.watch else { return };
        // Cancellation safety: the start goes on, and the next call waits for the same one.
        let started = start.await;
        self.watch = match started {
            Ok(Ok(watch)) => {
                self.complained = false;
                watch
            }
            Ok(Err(failure)) => self.failed(&failure),
            // The runtime is shutting down.
            Err(_) => Watch::Off { again_at: Instant::now() + WATCH_AGAIN },
        };
    }

    fn failed(&mut self, failure: &Failure) -> Watch {
        let (reason, again_after) = match failure {
            Failure::Missing => ("it does not exist".to_owned(), Duration::ZERO),
            Failure::Other(error) => (error.to_string(), WATCH_AGAIN),
        };
        if !self.complained {
            tracing::warn!(
                folder = %self.folder.display(),
                interval = ?self.scan_interval,
                "the apps folder cannot be watched, so it is looked at on a timer: {reason}"
            );
            self.complained = true;
        }
        Watch::Off { again_at: Instant::now() + again_after }
    }
}

/// Watches a folder and all folders below it. Blocks on the file system.
fn watch(folder: &Path, signal: Arc<Signal>) -> Result<Watch, Failure> {
    // inotify watches what a path leads to: the folder itself, should it be named by a link.
    let real = std::fs::canonicalize(folder).map_err(|_| Failure::Missing)?;
    let metadata = std::fs::metadata(&real).map_err(|_| Failure::Missing)?;
    let root = real.clone();
    let handler = move |event: notify::Result<Event>| signal.take(&root, event);
    // Links are followed beneath the folder only, and what is beneath it is watched anyway.
    let config = Config::default().with_follow_symlinks(false);
    let mut inotify = INotifyWatcher::new(handler, config).map_err(Failure::Other)?;
    inotify.watch(&real, RecursiveMode::Recursive).map_err(Failure::Other)?;
    Ok(Watch::On { _inotify: inotify, identity: (metadata.dev(), metadata.ino()) })
}

async fn identify(folder: &Path) -> Option<(u64, u64)> {
    let folder = folder.to_owned();
    let metadata = tokio::task::spawn_blocking(move || std::fs::metadata(folder)).await;
    metadata.ok()?.ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

impl Signal {
    /// Called on inotify's thread for each event.
    fn take(&self, root: &Path, event: notify::Result<Event>) {
        let broken = match &event {
            // The store of releases, if it is in the folder, is written by ourselves.
            Ok(event) if is_ours(root, event) => return,
            Ok(event) => match event.kind {
                // Our own looks and reads open files too; only the end of a writing is news.
                EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
                EventKind::Access(_) => return,
                EventKind::Remove(_) => event.paths.iter().any(|path| path == root),
                _ => event.need_rescan(),
            },
            Err(_) => true,
        };
        if broken {
            self.broken.store(true, Ordering::Release);
        }
        self.changed.notify_one();
    }
}

fn is_ours(root: &Path, event: &Event) -> bool {
    let state = root.join(STATE_FOLDER);
    !event.paths.is_empty() && event.paths.iter().all(|path| path.starts_with(&state))
}
