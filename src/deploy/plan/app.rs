//! One app as the planner knows it.

use std::time::{Duration, Instant};

use super::{AfterRead, Outcome, READ_AGAIN};
use crate::deploy::passing;
use crate::deploy::read::Digests;
use crate::deploy::scan::Found;

/// The longest pause before another try.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Whether what has failed may succeed later, although nothing about the app has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passes {
    /// There is nothing wrong with the app.
    Surely,
    /// The reason may be the machine or the app. As long as nothing of the app is live it is tried at growing intervals;
    /// else what is live stays.
    Perhaps,
    Never,
}

#[derive(Debug)]
pub(super) struct App {
    pub presence: Presence,
    pub work: Work,
    /// The files as they were when what was read of them had been dealt with.
    pub taken: Option<Found>,
    /// `taken` doesn't count from then on.
    pub again_at: Option<Instant>,
    pub live: Option<Digests>,
    pub outcome: Option<Outcome>,
    /// What is there is deployed whatever came of it before.
    pub anew: bool,
    /// What is there is read once more, from a look after now on.
    pub reread: bool,
    /// What has failed before is tried again.
    pub retry: bool,
    /// From then on a release that is kept goes live again.
    pub restore_at: Option<Instant>,
    /// Contents of its files that are not deployed: the app was rolled back from them.
    pub held: Vec<Digests>,
    /// Something of it is in the store, or may be: nothing is to be left of it once its file is gone.
    pub is_kept: bool,
    /// Failures of [`Passes::Perhaps`] since something of it was live, or since its files had other bytes.
    pub failures: u32,
}

#[derive(Debug)]
pub(super) enum Presence {
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
pub(super) enum Work {
    Idle,
    Reading(Found),
    Deploying(Digests),
    /// A release that is kept is made live again, whatever the files say.
    Restoring,
}

impl App {
    pub fn new() -> App {
        App {
            presence: Presence::Held,
            work: Work::Idle,
            taken: None,
            again_at: None,
            live: None,
            outcome: None,
            anew: false,
            reread: false,
            retry: false,
            restore_at: None,
            held: Vec::new(),
            is_kept: false,
            failures: 0,
        }
    }

    /// A release of these bytes is live, and kept.
    pub fn went_live(&mut self, digests: Digests) {
        self.live = Some(digests);
        self.restore_at = None;
        self.is_kept = true;
        self.failures = 0;
    }

    /// How long until what has just failed is tried again; `None` if it is not.
    pub fn pause(&mut self, passes: Passes) -> Option<Duration> {
        match passes {
            Passes::Surely => Some(READ_AGAIN),
            Passes::Perhaps if self.live.is_none() => {
                let pause = passing::pause(READ_AGAIN, self.failures, LONGEST_PAUSE);
                self.failures = self.failures.saturating_add(1);
                Some(pause)
            }
            Passes::Perhaps | Passes::Never => None,
        }
    }

    /// What follows from these bytes of its files.
    pub fn judge(&mut self, digests: Digests) -> AfterRead {
        let (anew, retry) = (std::mem::take(&mut self.anew), std::mem::take(&mut self.retry));
        if self.held.contains(&digests) {
            self.outcome = Some(Outcome::Held(digests));
            if !anew {
                return AfterRead::Held;
            }
            self.work = Work::Restoring;
            return AfterRead::Restore;
        }
        let known = !anew && self.is_known(digests, retry);
        if self.live == Some(digests) {
            // The files have what the app was rolled back to: they are in step again.
            self.held.clear();
        }
        if known {
            return AfterRead::Nothing;
        }
        if self.file() != Some(digests) {
            self.failures = 0;
        }
        self.work = Work::Deploying(digests);
        AfterRead::Deploy
    }

    /// These bytes are live, or have failed before.
    fn is_known(&mut self, digests: Digests, retry: bool) -> bool {
        if self.live == Some(digests) {
            self.outcome = Some(Outcome::Deployed(digests));
            return true;
        }
        if retry {
            return false;
        }
        matches!(&self.outcome, Some(Outcome::Failed(tried, _) | Outcome::Incomplete(tried)) if *tried == digests)
    }

    pub fn seen(&mut self, found: &Found, now: Instant) {
        if !matches!(&self.presence, Presence::Seen { found: seen, .. } if seen == found) {
            self.presence = Presence::Seen { found: found.clone(), since: now };
        }
    }

    /// Unless a look has seen as much already.
    pub fn changed_while_read(&mut self, before: &Found) {
        if let Presence::Seen { found, since } = &self.presence
            && found == before
        {
            self.presence = Presence::Changed { since: *since };
        }
    }

    /// Not there at this look. True when the app may be forgotten.
    pub fn missed(&mut self, settle_time: Duration, now: Instant) -> bool {
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

    /// True if it is to be restored, which has begun then.
    pub fn start_restoring(&mut self, now: Instant) -> bool {
        let due = matches!(self.work, Work::Idle) && self.restore_at.is_some_and(|at| at <= now);
        if due {
            self.restore_at = None;
            self.work = Work::Restoring;
        }
        due
    }

    /// What its files had when they were last read, as far as they could be.
    pub fn file(&self) -> Option<Digests> {
        match self.outcome.as_ref()? {
            Outcome::Deployed(digests)
            | Outcome::Failed(digests, _)
            | Outcome::Incomplete(digests)
            | Outcome::Held(digests)
            | Outcome::Postponed(digests, _) => Some(*digests),
            Outcome::Unreadable(_) => None,
        }
    }

    pub fn start_reading(&mut self, settle_time: Duration, now: Instant) -> Option<Found> {
        let due = self.reading_due(settle_time)?;
        match &self.presence {
            // Seen first at this very look, one look is not two.
            Presence::Seen { found, since } if *since < now && due <= now => {
                let found = found.clone();
                self.reread = false;
                self.work = Work::Reading(found.clone());
                Some(found)
            }
            _ => None,
        }
    }

    /// When there will be something to do about this app if it stays as it is.
    pub fn due(&self, settle_time: Duration) -> Option<Instant> {
        let due = self.reading_due(settle_time);
        let restore = self.restore_at.filter(|_| matches!(self.work, Work::Idle) && self.is_there());
        due.into_iter().chain(restore).min()
    }

    fn is_there(&self) -> bool {
        !matches!(self.presence, Presence::Gone { .. })
    }

    fn reading_due(&self, settle_time: Duration) -> Option<Instant> {
        match (&self.work, &self.presence) {
            (Work::Idle, Presence::Seen { found, since }) => {
                let quiet = *since + settle_time;
                if self.taken.as_ref() == Some(found) && !self.anew && !self.reread {
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

    pub fn take(&mut self, found: &Found) {
        self.taken = Some(found.clone());
        self.again_at = None;
    }
}
