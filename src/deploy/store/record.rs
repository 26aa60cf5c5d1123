//! What is kept of one app: its releases, which of them is live, and which contents of its file are held back. No
//! files and no clock.
//!
//! ```text
//!              deployed                 its time is over, or `probation` is "0s"
//!   (nothing) ──────────> on probation ─────────────────────────────────────────> proven
//!                           │     │ the host stopped in order, a newer one came, or it can't be undone
//!                           │     └──────────────────────────────────────────> unproven
//!                           └── undone, by an order or by itself ──> rolled back <── (any of them, by an order)
//! ```
//!
//! A host that ended without warning leaves its releases on probation as they are: the next one takes that for a sign
//! against them.

use serde::{Deserialize, Serialize};

use super::static_files::StaticFiles;
use crate::deploy::read::Digests;

/// Bytes of a record that the lists of static files of all its releases may have: five releases of 10,000 files with
/// paths of 250 bytes. So many bytes are read and written whenever something about the app changes.
pub const LARGEST_LISTS: u64 = 32 << 20;

/// Contents of an app's file that are held back at once: what goes beyond is forgotten, the oldest first.
const MOST_HELD: usize = 32;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub app: String,
    /// In the order in which they were last deployed.
    pub releases: Vec<Kept>,
    /// The number of the one that is live, or was when the host ended.
    pub live: Option<u64>,
    pub held: Option<Held>,
}

/// A release that can be made again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    pub number: u64,
    pub digests: Digests,
    /// Bytes of its code.
    pub size: u64,
    /// The files, as they were named below the apps folder.
    pub file: String,
    pub config_file: Option<String>,
    /// Those of its `public/`.
    #[serde(default, skip_serializing_if = "StaticFiles::is_empty")]
    pub static_files: StaticFiles,
    /// Seconds since 1970.
    pub deployed: u64,
    #[serde(flatten)]
    pub standing: Standing,
}

/// What is known of how good a release is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "standing", content = "why", rename_all = "snake_case")]
pub enum Standing {
    Probation,
    Unproven,
    Proven,
    /// It was undone, and why.
    RolledBack(String),
}

/// After a rollback: what the app's file may hold without being deployed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    pub digests: Vec<Digests>,
    /// The release that was undone.
    pub from: Option<u64>,
    pub why: String,
}

/// Why there is nothing to roll back to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoTarget {
    #[error("no release before the live one is kept that was not rolled back itself")]
    NoneBefore,
    #[error("release {0} is not kept, see `hostler releases`")]
    NotKept(u64),
    #[error("release {0} is live already")]
    Live(u64),
}

impl Record {
    pub fn of(app: &str) -> Record {
        Record { app: app.to_owned(), ..Record::default() }
    }

    pub fn get(&self, number: u64) -> Option<&Kept> {
        self.releases.iter().find(|kept| kept.number == number)
    }

    pub fn live(&self) -> Option<&Kept> {
        self.get(self.live?)
    }

    /// The newest release that has stood its probation.
    pub fn proven(&self) -> Option<&Kept> {
        self.releases.iter().rev().find(|kept| kept.standing == Standing::Proven)
    }

    /// A release goes live. It takes the place of an older one of the same bytes; of the others the newest stay, `keep`
    /// in all and fewer if their lists of static files are long, but always the live one and the newest proven one.
    pub fn begin(&mut self, mut release: Kept, keep: usize) {
        if self.live().is_none_or(|live| live.digests != release.digests) {
            self.held = None;
        }
        let same = self.releases.iter().position(|kept| kept.digests == release.digests);
        if let Some(same) = same.map(|at| self.releases.remove(at))
            && Some(same.number) == self.live
            && same.standing == Standing::Proven
        {
            // It has proven itself, and still does.
            release.standing = Standing::Proven;
        }
        self.releases.iter_mut().for_each(Kept::no_longer_on_probation);
        self.live = Some(release.number);
        self.releases.push(release);
        self.trim(keep);
    }

    /// A release that is kept goes live again at the start of the host; `standing`: what it has, unless it is proven.
    pub fn resume(&mut self, number: u64, standing: &Standing) {
        self.live = Some(number);
        for kept in self.releases.iter_mut().filter(|kept| kept.number == number) {
            if kept.standing != Standing::Proven {
                kept.standing = standing.clone();
            }
        }
    }

    /// The same release has another number from now on.
    pub fn renumber(&mut self, from: u64, to: u64) {
        for number in self.releases.iter_mut().map(|kept| &mut kept.number).chain(self.live.as_mut()) {
            if *number == from {
                *number = to;
            }
        }
    }

    /// What an order to roll back leads to: that release, or else the one before the live one.
    ///
    /// # Errors
    /// See [`NoTarget`].
    pub fn target(&self, asked: Option<u64>) -> Result<&Kept, NoTarget> {
        if let Some(number) = asked {
            if self.live == Some(number) {
                return Err(NoTarget::Live(number));
            }
            return self.get(number).ok_or(NoTarget::NotKept(number));
        }
        let live = self.releases.iter().position(|kept| Some(kept.number) == self.live);
        let before = self.releases.get(..live.unwrap_or(self.releases.len())).unwrap_or_default();
        let sound = |kept: &&Kept| !matches!(kept.standing, Standing::RolledBack(_));
        before.iter().rev().find(sound).ok_or(NoTarget::NoneBefore)
    }

    /// The release `to` is live again. What was live and what is in the app's `file` are held back until the file has
    /// other bytes; unless the file has just those of `to`.
    pub fn roll_back(&mut self, to: u64, file: Option<Digests>, why: &str) {
        let Some(target) = self.get(to).map(|kept| kept.digests) else { return };
        let from = self.live.filter(|from| *from != to);
        let mut digests = self.held.take().map(|held| held.digests).unwrap_or_default();
        for kept in &mut self.releases {
            if Some(kept.number) == from {
                kept.standing = Standing::RolledBack(why.to_owned());
                digests.push(kept.digests);
            } else if kept.number == to && kept.standing != Standing::Proven {
                kept.standing = Standing::Unproven;
            }
        }
        digests.extend(file);
        let mut held: Vec<Digests> = Vec::new();
        for digests in digests.into_iter().rev().filter(|digests| *digests != target) {
            if !held.contains(&digests) && held.len() < MOST_HELD {
                held.push(digests);
            }
        }
        self.live = Some(to);
        if file != Some(target) && !held.is_empty() {
            self.held = Some(Held { digests: held, from, why: why.to_owned() });
        }
    }

    /// A release has stood its probation.
    pub fn prove(&mut self, number: u64) {
        for kept in self.releases.iter_mut().filter(|kept| kept.number == number) {
            if kept.standing == Standing::Probation || kept.standing == Standing::Unproven {
                kept.standing = Standing::Proven;
            }
        }
    }

    /// The time of a release on probation is over that should have been undone, and could not be.
    pub fn end_probation(&mut self, number: u64) {
        let of_it = |kept: &&mut Kept| kept.number == number;
        self.releases.iter_mut().filter(of_it).for_each(Kept::no_longer_on_probation);
    }

    /// The host stops in order: that says nothing against what is on probation, which is begun anew.
    pub fn stop(&mut self) {
        self.releases.iter_mut().for_each(Kept::no_longer_on_probation);
    }

    /// The host before this one ended without warning: what was on probation then may be why, so the last proven
    /// release is taken instead, if there is one. Returns both numbers.
    pub fn recover(&mut self) -> Option<(u64, u64)> {
        let live = self.live().filter(|live| live.standing == Standing::Probation)?.number;
        let proven = self.proven()?.number;
        self.roll_back(proven, None, "the host ended without warning while it was on probation");
        Some((live, proven))
    }

    /// Forgets the releases that can't be made again. If one of them was live, the newest good one takes its place.
    pub fn retain(&mut self, is_whole: impl Fn(&Kept) -> bool) {
        self.releases.retain(is_whole);
        if self.live.is_some() && self.live().is_none() {
            let unproven = |kept: &&Kept| kept.standing == Standing::Unproven;
            let good = self.proven().or_else(|| self.releases.iter().rev().find(unproven));
            self.live = good.map(|kept| kept.number);
        }
        if self.live.is_none() {
            // There is nothing to be live instead of what is held back.
            self.held = None;
        }
    }

    /// Its lists of static files are too long to be read again.
    pub fn is_too_large(&self) -> bool {
        self.releases.iter().map(|kept| kept.static_files.bytes()).sum::<u64>() > LARGEST_LISTS
    }

    /// The same without the lists of static files, for people.
    pub fn without_lists(mut self) -> Record {
        self.releases.iter_mut().for_each(|kept| kept.static_files = StaticFiles::default());
        self
    }

    fn trim(&mut self, keep: usize) {
        let needed = [self.live, self.proven().map(|kept| kept.number)];
        while self.releases.len() > keep || self.is_too_large() {
            let spare = self.releases.iter().position(|kept| !needed.contains(&Some(kept.number)));
            let Some(spare) = spare else { return };
            self.releases.remove(spare);
        }
    }
}

impl Kept {
    fn no_longer_on_probation(&mut self) {
        if self.standing == Standing::Probation {
            self.standing = Standing::Unproven;
        }
    }
}

impl Standing {
    pub fn as_str(&self) -> &'static str {
        match self {
            Standing::Probation => "on probation",
            Standing::Unproven => "unproven",
            Standing::Proven => "proven",
            Standing::RolledBack(_) => "rolled back",
        }
    }
}

impl Held {
    pub fn has(&self, digests: Digests) -> bool {
        self.digests.contains(&digests)
    }
}

#[cfg(test)]
mod tests;
