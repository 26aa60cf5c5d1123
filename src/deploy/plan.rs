//! The plan: from what the apps folder looks like to what is to be done about it. No clock, no files, no tasks.
//!
//! Each app goes its own way, one thing at a time:
//!
//! ```text
//!                   quiet, not what was read last
//!            ┌────────────────────────────────────────> Reading
//!          Idle <── same bytes, changed, unreadable ───────┤
//!            ^                                             │ other bytes
//!            └────────── deployed, failed ──────────── Deploying
//! ```
//!
//! or, at the start of the host, by an order or for a release that fails, from idle to *restoring*, a release that is
//! kept, and back. What the files of an app had when it was rolled back is *held*: it is not deployed. An app whose file
//! is gone for a while is retired once it is idle. Two things decide: a file's *stamp* says whether it is worth reading,
//! the *digests* of what was read say whether there is anything to deploy. So a touched file costs one reading and no
//! release, and bytes that failed are not tried again until they change.

mod app;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::name::AppName;
use super::read::{Digests, ReadError};
use super::scan::{FolderState, Found};
pub use app::Passes;
use app::{App, Presence, Work};

/// How long until a file that could not be read for reasons of the file system is tried again, or an app that found no
/// room. The first pause of [`Passes::Perhaps`], each of which is twice as long as the one before.
const READ_AGAIN: Duration = Duration::from_secs(5);

/// Something to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Read these files and feed the result back with [`Planner::read`] or [`Planner::unreadable`].
    Read { app: AppName, found: Found },
    /// The app's file is gone: drain what is live of it, and keep nothing of it. Nothing is fed back.
    Retire { app: AppName },
    /// Make the release live again that was when the host ended, and feed the result back with [`Planner::restored`] or
    /// [`Planner::not_restored`].
    Restore { app: AppName },
}

/// What follows from one look at the folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the order of names. No step waits for another.
    pub steps: Vec<Step>,
    /// When to look again although nothing is notified; `None` when nothing is pending.
    pub next_look: Option<Instant>,
}

/// What to do with an app that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterRead {
    /// Deploy it and feed the result back with [`Planner::deployed`], [`Planner::failed`] or [`Planner::incomplete`].
    Deploy,
    /// These bytes are live, or have failed before.
    Nothing,
    /// The app was rolled back from these bytes.
    Held,
    /// The same, but it is to be built anew: restore what is live, as for [`Step::Restore`].
    Restore,
    /// It changed meanwhile; it is read again once it is quiet.
    Again,
}

/// Whether an app can be deployed anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anew {
    /// It is read at the next look, or once it is quiet.
    Due,
    /// There is no such app.
    Unknown,
    /// There is a problem with its files.
    Held,
}

/// What came of the bytes that were last read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Deployed(Digests),
    /// Will not be tried again before it changes.
    Failed(Digests, String),
    /// Perhaps still being written; tried again when it changes.
    Incomplete(Digests),
    /// Nothing could be read.
    Unreadable(String),
    /// There may be nothing wrong with it, so it is tried again after a while.
    Postponed(Digests, String),
    /// The app was rolled back from it.
    Held(Digests),
}

/// What is known of every app.
#[derive(Debug)]
pub struct Planner {
    settle_time: Duration,
    apps: BTreeMap<AppName, App>,
    /// Device and inode of the folder that the apps were seen in.
    folder: Option<(u64, u64)>,
}

impl Planner {
    /// A file must have looked the same for `settle_time`, and at two looks at least, before it is read.
    pub fn new(settle_time: Duration) -> Planner {
        Planner { settle_time, apps: BTreeMap::new(), folder: None }
    }

    /// Takes in one look at the folder. When the folder can't be looked at, this is not called at all: then nothing
    /// happens to any app.
    ///
    /// Look again at [`Planner::next_look`], which a result that is fed back may bring forward, and when the watcher
    /// says so. Each look must be one: the same state taken in twice would count as two.
    pub fn look(&mut self, state: &FolderState, now: Instant) -> Plan {
        if self.is_lost(state) {
            return Plan::default();
        }
        self.folder = Some(state.identity);
        for (name, found) in &state.apps {
            self.apps.entry(name.clone()).or_insert_with(App::new).seen(found, now);
        }
        let mut steps = Vec::new();
        self.apps.retain(|name, app| {
            let is_there = state.apps.contains_key(name) || state.holds(name);
            if is_there && app.start_restoring(now) {
                steps.push(Step::Restore { app: name.clone() });
            }
            if state.apps.contains_key(name) {
                if let Some(found) = app.start_reading(self.settle_time, now) {
                    steps.push(Step::Read { app: name.clone(), found });
                }
                return true;
            }
            if state.holds(name) {
                app.presence = Presence::Held;
                return true;
            }
            let forget = app.missed(self.settle_time, now);
            if forget && app.is_kept {
                steps.push(Step::Retire { app: name.clone() });
            }
            !forget
        });
        Plan { steps, next_look: self.next_look() }
    }

    /// An app was read: `before` is what the step said, `after` how its files looked when everything had been read.
    pub fn read(&mut self, name: &AppName, before: &Found, after: &Found, digests: Digests) -> AfterRead {
        let Some(app) = self.reading(name, before) else {
            return AfterRead::Again;
        };
        app.work = Work::Idle;
        if before != after {
            app.changed_while_read(before);
        }
        if !matches!(&app.presence, Presence::Seen { found, .. } if found == before) {
            return AfterRead::Again;
        }
        app.take(before);
        app.judge(digests)
    }

    /// An app could not be read.
    pub fn unreadable(&mut self, name: &AppName, before: &Found, error: &ReadError, now: Instant) {
        let Some(app) = self.reading(name, before) else { return };
        app.work = Work::Idle;
        match error {
            ReadError::Changed | ReadError::Gone => return app.changed_while_read(before),
            ReadError::Io { .. } | ReadError::Copy(_) => {
                app.take(before);
                app.again_at = Some(now + READ_AGAIN);
            }
            ReadError::TooLarge { .. }
            | ReadError::NotAFile { .. }
            | ReadError::Outside { .. }
            | ReadError::Refused(_)
            | ReadError::Public(_)
            | ReadError::ConfigEncoding { .. } => app.take(before),
        }
        app.anew = false;
        app.outcome = Some(Outcome::Unreadable(error.to_string()));
    }

    /// A release of these bytes is live.
    pub fn deployed(&mut self, name: &AppName, digests: Digests) {
        if let Some(app) = self.deploying(name, digests) {
            app.went_live(digests);
            app.held.clear();
            app.outcome = Some(Outcome::Deployed(digests));
        }
    }

    /// These bytes can't be deployed: what was live before stays, and they are not tried again.
    pub fn failed(&mut self, name: &AppName, digests: Digests, reason: String) {
        if let Some(app) = self.deploying(name, digests) {
            app.outcome = Some(Outcome::Failed(digests, reason));
        }
    }

    /// These bytes can't be deployed now, for a reason that may pass: what was live before stays. Returns how long it is
    /// until they are tried again, if they are.
    pub fn postponed(
        &mut self,
        name: &AppName,
        digests: Digests,
        reason: String,
        passes: Passes,
        now: Instant,
    ) -> Option<Duration> {
        let app = self.deploying(name, digests)?;
        let pause = app.pause(passes);
        app.outcome = Some(match pause {
            Some(_) => Outcome::Postponed(digests, reason),
            None => Outcome::Failed(digests, reason),
        });
        app.again_at = pause.map(|pause| now + pause);
        pause
    }

    /// These bytes are the beginning of something: what was live before stays, and they are not tried again.
    pub fn incomplete(&mut self, name: &AppName, digests: Digests) {
        if let Some(app) = self.deploying(name, digests) {
            app.outcome = Some(Outcome::Incomplete(digests));
        }
    }

    /// At the start: an app of which a release is kept that goes live again, if there are files of it, and what those
    /// may have without being deployed.
    pub fn remember(&mut self, name: AppName, held: Vec<Digests>, now: Instant) {
        self.apps.insert(name, App { restore_at: Some(now), held, is_kept: true, ..App::new() });
    }

    /// A release of these bytes is live again, whatever the files have.
    pub fn restored(&mut self, name: &AppName, digests: Digests) {
        if let Some(app) = self.restoring(name) {
            app.went_live(digests);
        }
    }

    /// It can't be made live again. What was live stays. Unless the files have what is held back, they are deployed.
    /// Returns how long it is until it is tried again, if it is.
    pub fn not_restored(&mut self, name: &AppName, passes: Passes, now: Instant) -> Option<Duration> {
        let app = self.restoring(name).filter(|app| app.live.is_none())?;
        let pause = app.pause(passes)?;
        app.restore_at = Some(now + pause);
        Some(pause)
    }

    /// There is nothing that could be live instead of what is held back.
    pub fn nothing_kept(&mut self, name: &AppName) {
        if let Some(app) = self.restoring(name) {
            app.held.clear();
            app.taken = None;
            app.is_kept = false;
        }
    }

    /// Begins a rollback, unless something else is under way. To be ended with [`Planner::rolled_back`] or
    /// [`Planner::not_restored`].
    pub fn begin_rollback(&mut self, name: &AppName) -> bool {
        match self.apps.get_mut(name) {
            Some(app) if matches!(app.work, Work::Idle) => {
                app.work = Work::Restoring;
                true
            }
            _ => false,
        }
    }

    /// A release of the bytes `to` is live, and these contents of the app's files are not deployed: until they have
    /// others.
    pub fn rolled_back(&mut self, name: &AppName, to: Digests, held: Vec<Digests>) {
        let Some(app) = self.restoring(name) else { return };
        app.went_live(to);
        if let Some(file) = app.file() {
            if held.contains(&file) {
                app.outcome = Some(Outcome::Held(file));
            } else if file == to {
                app.outcome = Some(Outcome::Deployed(to));
            }
        }
        app.held = held;
    }

    /// What the app's files had when they were last read.
    pub fn file(&self, name: &AppName) -> Option<Digests> {
        self.apps.get(name).and_then(App::file)
    }

    /// Something of it is held back.
    pub fn is_held(&self, name: &AppName) -> bool {
        self.apps.get(name).is_some_and(|app| !app.held.is_empty())
    }

    /// The files of an app are read once more, if there are any, and tried again if they have failed.
    pub fn look_again(&mut self, name: &AppName) {
        if let Some(app) = self.apps.get_mut(name) {
            app.reread = true;
            app.retry = !matches!(app.work, Work::Deploying(_));
        }
    }

    /// When to look again as things stand: what [`Plan::next_look`] said, and what came of results fed back since. It
    /// may be in the past: then it is time. `None` when nothing is pending.
    pub fn next_look(&self) -> Option<Instant> {
        self.apps.values().filter_map(|app| app.due(self.settle_time)).min()
    }

    /// Forgets what failed, for when the reason may be gone with something else than the files: it is read and tried
    /// again as if it were new.
    pub fn retry_failed(&mut self) {
        for app in self.apps.values_mut() {
            if let (Work::Idle, Some(Outcome::Failed(..))) = (&app.work, &app.outcome) {
                app.taken = None;
                app.outcome = None;
            }
        }
    }

    /// The present files of an app are read and deployed once more, even if they are live or have failed.
    pub fn deploy_anew(&mut self, name: &AppName) -> Anew {
        let presence = self.presence(name);
        if let (Anew::Due, Some(app)) = (presence, self.apps.get_mut(name)) {
            app.anew = true;
        }
        presence
    }

    /// Whether an app's files are there, so that something comes of them.
    pub fn presence(&self, name: &AppName) -> Anew {
        match self.apps.get(name).map(|app| &app.presence) {
            None | Some(Presence::Gone { .. }) => Anew::Unknown,
            Some(Presence::Held) => Anew::Held,
            Some(Presence::Seen { .. } | Presence::Changed { .. }) => Anew::Due,
        }
    }

    /// Takes back what [`Planner::deploy_anew`] asked for, unless it has begun.
    pub fn not_anew(&mut self, name: &AppName) {
        if let Some(app) = self.apps.get_mut(name) {
            app.anew = false;
        }
    }

    /// What is live of an app, as far as it was fed back.
    pub fn live(&self, name: &AppName) -> Option<Digests> {
        self.apps.get(name).and_then(|app| app.live)
    }

    /// Whether an app is still kept in mind: its files are there, or went only just now.
    pub fn knows(&self, name: &AppName) -> bool {
        self.apps.contains_key(name)
    }

    /// What came of the bytes that were last read of an app.
    pub fn outcome(&self, name: &AppName) -> Option<&Outcome> {
        self.apps.get(name).and_then(|app| app.outcome.as_ref())
    }

    /// Another folder in the old one's place, and nothing in it: more likely a mount that was lost than an order to
    /// retire everything. The first file in it shows that it is meant.
    pub(super) fn is_lost(&self, state: &FolderState) -> bool {
        let is_another = match self.folder {
            Some(folder) => folder != state.identity,
            // The first look, and apps are remembered that were in it.
            None => !self.apps.is_empty(),
        };
        state.is_empty() && is_another
    }

    fn reading(&mut self, name: &AppName, before: &Found) -> Option<&mut App> {
        let app = self.apps.get_mut(name)?;
        matches!(&app.work, Work::Reading(found) if found == before).then_some(app)
    }

    fn restoring(&mut self, name: &AppName) -> Option<&mut App> {
        let app = self.apps.get_mut(name).filter(|app| matches!(app.work, Work::Restoring))?;
        app.work = Work::Idle;
        Some(app)
    }

    /// The app whose deploy this ends. A result that belongs to no deploy under way changes nothing.
    fn deploying(&mut self, name: &AppName, digests: Digests) -> Option<&mut App> {
        let app = self.apps.get_mut(name)?;
        if !matches!(&app.work, Work::Deploying(under_way) if *under_way == digests) {
            return None;
        }
        app.work = Work::Idle;
        Some(app)
    }
}
