//! The releases on probation: looked at a few times a second, until they have stood it or are rolled back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Deployer;
use super::rollback::Rollback;
use crate::deploy::name::AppName;
use crate::deploy::passing;
use crate::deploy::probation::{is_far_worse, worse};
use crate::deploy::store::record::Standing;
use crate::metrics::{Counted, ReleaseCounters};
use crate::release::Release;

/// How often they are looked at.
pub(super) const INTERVAL: Duration = Duration::from_millis(100);

/// How long after a rollback that came to nothing the next one is begun; each pause is twice as long as the one before.
const UNDONE_AGAIN: Duration = Duration::from_secs(1);
/// The longest of these pauses.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A release on probation, or one that should have been undone and could not be yet.
pub(super) struct Watched {
    counters: Arc<ReleaseCounters>,
    until: Instant,
    /// What it is measured by: how the requests of the release before ended.
    before: Counted,
    undoing: Undoing,
    /// Its time has ended before it could be undone.
    is_overdue: bool,
}

/// How far its rollback is.
#[derive(Default)]
struct Undoing {
    is_under_way: bool,
    /// Rollbacks that have come to nothing.
    failures: u32,
    /// None is begun before then.
    not_before: Option<Instant>,
    /// What the status was told of that.
    problem: Option<String>,
}

/// What a look at one of them has shown.
enum Seen {
    Nothing,
    Stood,
    /// It is to be undone: the release to return to, and why.
    Fails(u64, String),
    Overdue,
}

impl Deployer {
    /// A release has just gone live in place of `before`: it is watched, if it is on probation.
    pub(super) fn watch(&mut self, app: &AppName, release: &Arc<Release>, before: Option<&Arc<Release>>) {
        let watched = self.watched.remove(app);
        let on_probation = self
            .record(app)
            .and_then(|record| record.get(release.number).map(|kept| kept.standing == Standing::Probation));
        if on_probation != Some(true) {
            return;
        }
        let before = match (watched, before) {
            // Measured by what was itself on probation, a row of bad ones would all pass.
            (Some(watched), _) => watched.before,
            (None, Some(before)) => worse(before.counters.tally.recent(), before.counters.tally.all()),
            (None, None) => Counted::default(),
        };
        let until = Instant::now() + release.config.probation;
        let counters = release.counters.clone();
        let watched = Watched { counters, until, before, undoing: Undoing::default(), is_overdue: false };
        self.watched.insert(app.clone(), watched);
    }

    /// Those that fail are rolled back, if there is a proven release, until that has worked; those whose time is over have
    /// stood it, unless they should have been rolled back.
    pub(super) fn review_watched(&mut self) {
        let (now, store) = (Instant::now(), self.builder.store.clone());
        let proven = |app: &AppName| Some(store.as_ref()?.record(app.as_str())?.proven()?.number);
        let look =
            |(app, watched): (&AppName, &mut Watched)| (app.clone(), watched.look(now, || proven(app)));
        for (app, seen) in self.watched.iter_mut().map(look).collect::<Vec<_>>() {
            match (seen, self.live(&app).map(|live| live.number)) {
                (Seen::Nothing, _) => {}
                (Seen::Stood, live) => self.stood(&app, live),
                (Seen::Fails(to, why), Some(from)) => {
                    let rollback = Rollback { from, to, why, waiting: Vec::new() };
                    self.roll_back(app, rollback, None);
                }
                (Seen::Fails(..), None) => self.undo_again(&app),
                (Seen::Overdue, live) => self.end_probation(app, live),
            }
        }
    }

    /// The rollback of a release on probation was not even begun: the next look begins another one.
    pub(super) fn undo_again(&mut self, app: &AppName) {
        if let Some(watched) = self.watched.get_mut(app) {
            watched.undoing.is_under_way = false;
        }
    }

    /// The rollback of a release on probation has come to nothing: it is tried again after a while, and shown until then.
    pub(super) fn not_undone(&mut self, app: &AppName, to: u64, error: &dyn std::fmt::Display) {
        let watched = self.watched.get_mut(app).filter(|watched| watched.undoing.is_under_way);
        let Some(Watched { undoing, .. }) = watched else { return };
        let pause = passing::pause(UNDONE_AGAIN, undoing.failures, LONGEST_PAUSE);
        let problem = format!(
            "should be rolled back to release {to}, can't be: {error}; it is tried again after a while"
        );
        *undoing = Undoing {
            is_under_way: false,
            failures: undoing.failures.saturating_add(1),
            not_before: Some(Instant::now() + pause),
            problem: Some(problem.clone()),
        };
        self.registry.problem(&app.as_str().into(), problem);
    }

    /// It has stood its probation.
    fn stood(&mut self, app: &AppName, live: Option<u64>) {
        let shown = self.watched.remove(app).and_then(|watched| watched.undoing.problem);
        let is_shown = |shown: &String| {
            self.registry.app(app.as_str()).is_some_and(|view| view.problem.as_ref() == Some(shown))
        };
        if shown.as_ref().is_some_and(is_shown) {
            self.registry.solved(app.as_str());
        }
        let (Some(number), name) = (live, app.to_string()) else { return };
        tracing::debug!(app = name, release = number, "has stood its probation");
        self.in_store(move |store| store.change(&name, |record| record.prove(number)));
    }

    /// It should be undone and can't be: a host that ends from now on says nothing more against it.
    fn end_probation(&mut self, app: AppName, live: Option<u64>) {
        let Some(number) = live else { return };
        self.in_store(move |store| store.change(app.as_str(), |record| record.end_probation(number)));
    }
}

impl Watched {
    /// `proven`: the release that would be returned to, if there is one.
    fn look(&mut self, now: Instant, proven: impl Fn() -> Option<u64>) -> Seen {
        let (seen, is_over) = (self.counters.tally.all(), self.until <= now);
        let back_to = is_far_worse(seen, self.before).then(proven).flatten();
        if let Some(to) = back_to.filter(|_| self.undoing.is_due(now)) {
            self.undoing.is_under_way = true;
            return Seen::Fails(to, why(seen, self.before));
        }
        if back_to.is_none() && is_over && !self.undoing.is_under_way {
            return Seen::Stood;
        }
        if is_over && !self.is_overdue {
            self.is_overdue = true;
            return Seen::Overdue;
        }
        Seen::Nothing
    }
}

impl Undoing {
    fn is_due(&self, now: Instant) -> bool {
        !self.is_under_way && self.not_before.is_none_or(|at| at <= now)
    }
}

fn why(seen: Counted, before: Counted) -> String {
    format!(
        "{} of its first {} requests failed, of the release before {} of {}",
        seen.failed, seen.ended, before.failed, before.ended
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::AppCounters;

    /// A release that has failed all of its requests, and is on probation until the time that is returned.
    fn failing() -> (Watched, Instant) {
        let until = Instant::now() + Duration::from_secs(60);
        let counters = ReleaseCounters::new(AppCounters::new("shop".into()));
        (0..30).for_each(|_| counters.tally.ended(true));
        let (before, undoing) = (Counted::default(), Undoing::default());
        (Watched { counters, until, before, undoing, is_overdue: false }, until)
    }

    #[test]
    fn a_release_that_could_not_be_undone_is_not_proven_and_no_longer_on_probation() {
        let (mut watched, until) = failing();
        let earlier = until - Duration::from_secs(30);
        assert!(matches!(watched.look(earlier, || Some(1)), Seen::Fails(1, _)));
        assert!(matches!(watched.look(earlier, || Some(1)), Seen::Nothing), "it is under way");
        assert!(matches!(watched.look(until, || Some(1)), Seen::Overdue), "it takes its time");
        watched.undoing.is_under_way = false;
        assert!(matches!(watched.look(until, || Some(1)), Seen::Fails(1, _)), "once more");
        watched.undoing = Undoing { not_before: Some(until + UNDONE_AGAIN), ..Undoing::default() };
        assert!(matches!(watched.look(until, || Some(1)), Seen::Nothing), "not at once");
        assert!(matches!(watched.look(until + UNDONE_AGAIN, || Some(1)), Seen::Fails(1, _)));
    }

    #[test]
    fn a_release_that_has_recovered_while_it_could_not_be_undone_has_stood_it() {
        let (mut watched, until) = failing();
        watched.undoing.not_before = Some(until + UNDONE_AGAIN);
        assert!(matches!(watched.look(until, || Some(1)), Seen::Overdue));
        (0..10_000).for_each(|_| watched.counters.tally.ended(false));
        assert!(matches!(watched.look(until, || Some(1)), Seen::Stood));
        // As has one that nothing could take the place of.
        let (mut watched, until) = failing();
        assert!(matches!(watched.look(until, || None), Seen::Stood));
    }
}
