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
//! and an app whose file is gone for a while is retired once it is idle. Two things decide: a file's *stamp* says
//! whether it is worth reading, the *digests* of what was read say whether there is anything to deploy. So a touched
//! file costs one reading and no release, and bytes that failed are not tried again until they change.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::name::AppName;
use super::read::{Digests, ReadError};
use super::scan::{FolderState, Found};

/// How long until a file that could not be read for reasons of the file system is tried again, or an app that found no
/// room.
const READ_AGAIN: Duration = Duration::from_secs(5);

/// Something to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Read these files and feed the result back with [`Planner::read`] or [`Planner::unreadable`].
    Read { app: AppName, found: Found },
    /// The app's file is gone: drain what is live of it. Nothing is fed back.
    Retire { app: AppName },
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
    /// There is nothing wrong with it, so it is tried again after a while.
    Postponed(String),
}

/// What is known of every app.
#[derive(Debug)]
pub struct Planner {
    settle_time: Duration,
    apps: BTreeMap<AppName, App>,
    /// Device and inode of the folder that the apps were seen in.
    folder: Option<(u64, u64)>,
}

#[derive(Debug)]
struct App {
    presence: Presence,
    work: Work,
    /// The files as they were when what was read of them had been dealt with.
    taken: Option<Found>,
    /// `taken` doesn't count from then on.
    again_at: Option<Instant>,
    live: Option<Digests>,
    outcome: Option<Outcome>,
    /// What is there is deployed whatever came of it before.
    anew: bool,
}

#[derive(Debug)]
enum Presence {
    /// Seen like this at every look since then.
    Seen { found: Found, since: Instant },
    /// Not there at any look since then.
    Gone { since: Instant },
    /// It changed while it was read: the next look, which is due since then, sees it anew.
    Changed { since: Instant },
    /// There is a problem with it, so that nothing sure is known. Also before the first look.
    Held,
}

#[derive(Debug)]
enum Work {
    Idle,
    Reading(Found),
    Deploying(Digests),
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
            if forget && app.live.is_some() {
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
        if !std::mem::take(&mut app.anew) && app.is_known(digests) {
            return AfterRead::Nothing;
        }
        app.work = Work::Deploying(digests);
        AfterRead::Deploy
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
            | ReadError::Public(_)
            | ReadError::ConfigEncoding { .. } => app.take(before),
        }
        app.anew = false;
        app.outcome = Some(Outcome::Unreadable(error.to_string()));
    }

    /// A release of these bytes is live.
    pub fn deployed(&mut self, name: &AppName, digests: Digests) {
        if let Some(app) = self.deploying(name, digests) {
            app.live = Some(digests);
            app.outcome = Some(Outcome::Deployed(digests));
        }
    }

    /// These bytes can't be deployed: what was live before stays, and they are not tried again.
    pub fn failed(&mut self, name: &AppName, digests: Digests, reason: String) {
        if let Some(app) = self.deploying(name, digests) {
            app.outcome = Some(Outcome::Failed(digests, reason));
        }
    }

    /// These bytes can't be deployed now, for a reason that passes: what was live before stays.
    pub fn postponed(&mut self, name: &AppName, digests: Digests, reason: String, now: Instant) {
        if let Some(app) = self.deploying(name, digests) {
            app.outcome = Some(Outcome::Postponed(reason));
            app.again_at = Some(now + READ_AGAIN);
        }
    }

    /// These bytes are the beginning of something: what was live before stays, and they are not tried again.
    pub fn incomplete(&mut self, name: &AppName, digests: Digests) {
        if let Some(app) = self.deploying(name, digests) {
            app.outcome = Some(Outcome::Incomplete(digests));
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
        let Some(app) = self.apps.get_mut(name) else { return Anew::Unknown };
        match app.presence {
            Presence::Gone { .. } => Anew::Unknown,
            Presence::Held => Anew::Held,
            Presence::Seen { .. } | Presence::Changed { .. } => {
                app.anew = true;
                Anew::Due
            }
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
        state.is_empty() && self.folder.is_some_and(|folder| folder != state.identity)
    }

    fn reading(&mut self, name: &AppName, before: &Found) -> Option<&mut App> {
        let app = self.apps.get_mut(name)?;
        matches!(&app.work, Work::Reading(found) if found == before).then_some(app)
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

impl App {
    fn new() -> App {
        App {
            presence: Presence::Held,
            work: Work::Idle,
            taken: None,
            again_at: None,
            live: None,
            outcome: None,
            anew: false,
        }
    }

    /// These bytes are live, or have failed before.
    fn is_known(&mut self, digests: Digests) -> bool {
        if self.live == Some(digests) {
            self.outcome = Some(Outcome::Deployed(digests));
            return true;
        }
        matches!(&self.outcome, Some(Outcome::Failed(tried, _) | Outcome::Incomplete(tried)) if *tried == digests)
    }

    fn seen(&mut self, found: &Found, now: Instant) {
        if !matches!(&self.presence, Presence::Seen { found: seen, .. } if seen == found) {
            self.presence = Presence::Seen { found: found.clone(), since: now };
        }
    }

    /// Unless a look has seen as much already.
    fn changed_while_read(&mut self, before: &Found) {
        if let Presence::Seen { found, since } = &self.presence
            && found == before
        {
            self.presence = Presence::Changed { since: *since };
        }
    }

    /// Not there at this look. True when the app may be forgotten.
    fn missed(&mut self, settle_time: Duration, now: Instant) -> bool {
        match self.presence {
            Presence::Gone { since } => {
                matches!(self.work, Work::Idle) && now.saturating_duration_since(since) >= settle_time
            }
            Presence::Seen { .. } | Presence::Changed { .. } | Presence::Held => {
                self.presence = Presence::Gone { since: now };
                false
            }
        }
    }

    fn start_reading(&mut self, settle_time: Duration, now: Instant) -> Option<Found> {
        let due = self.due(settle_time)?;
        match &self.presence {
            // Seen first at this very look, one look is not two.
            Presence::Seen { found, since } if *since < now && due <= now => {
                let found = found.clone();
                self.work = Work::Reading(found.clone());
                Some(found)
            }
            _ => None,
        }
    }

    /// When there will be something to do about this app if it stays as it is.
    fn due(&self, settle_time: Duration) -> Option<Instant> {
        match (&self.work, &self.presence) {
            (Work::Idle, Presence::Seen { found, since }) => {
                let quiet = *since + settle_time;
                if self.taken.as_ref() == Some(found) && !self.anew {
                    self.again_at.map(|at| at.max(quiet))
                } else {
                    Some(quiet)
                }
            }
            (Work::Idle, Presence::Gone { since }) => Some(*since + settle_time),
            (Work::Idle, Presence::Changed { since }) => Some(*since),
            _ => None,
        }
    }

    fn take(&mut self, found: &Found) {
        self.taken = Some(found.clone());
        self.again_at = None;
    }
}
