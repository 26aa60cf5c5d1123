//! Which resident instance has which requests, and which takes more: pure.
//!
//! ```text
//! at work ──worn, spent, too old, idle for too long, a request overdue──> retired ──its requests have ended──> gone
//! ```
//!
//! One that is retired takes no more requests and ends those it has.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// `H` is how an instance at work is reached; it is dropped when the instance is retired, which tells it so.
pub(super) struct Roster<H> {
    bounds: Bounds,
    instances: BTreeMap<Id, Entry<H>>,
    next: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id(u64);

/// One request's place at an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) id: Id,
    number: u64,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Instances at work that are kept even if they are idle; at least 1.
    pub(super) least: usize,
    /// Instances at work.
    pub(super) most: usize,
    /// Requests of one instance at once.
    pub(super) max_concurrent: usize,
    pub(super) idle_time: Duration,
    pub(super) request_timeout: Duration,
}

struct Entry<H> {
    /// `None` when it is retired.
    handle: Option<H>,
    /// The requests that it has, and when they came.
    requests: BTreeMap<u64, Instant>,
    /// Requests that it may still be given.
    left: u64,
    expires: Option<Instant>,
    /// When its last request ended.
    idle_since: Instant,
}

/// What is to be done about an instance whose requests take too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overdue {
    /// It has no requests.
    Never,
    /// Look again then.
    At(Instant),
    /// All its requests have had their time: it is to end.
    All,
}

impl<H> Roster<H> {
    pub(super) fn new(bounds: Bounds) -> Self {
        Roster { bounds, instances: BTreeMap::new(), next: 0 }
    }

    /// A new instance is at work; it may be given so many requests, and is too old then.
    pub(super) fn add(&mut self, handle: H, requests: u64, expires: Option<Instant>, now: Instant) -> Id {
        self.next += 1;
        let id = Id(self.next);
        let entry = Entry {
            handle: Some(handle),
            requests: BTreeMap::new(),
            left: requests,
            expires,
            idle_since: now,
        };
        self.instances.insert(id, entry);
        id
    }

    /// A place for a request, at the instance that has the fewest.
    pub(super) fn take(&mut self, now: Instant) -> Option<(Place, &H)> {
        self.retire_if(|entry| entry.expires.is_some_and(|at| at <= now));
        let most = self.bounds.max_concurrent;
        let at_work = self.instances.iter().filter(|(_, entry)| entry.handle.is_some());
        let (id, busy) =
            at_work.map(|(id, entry)| (*id, entry.requests.len())).min_by_key(|(_, busy)| *busy)?;
        if busy >= most {
            return None;
        }
        self.next += 1;
        let number = self.next;
        let entry = self.instances.get_mut(&id)?;
        entry.requests.insert(number, now);
        entry.left = entry.left.saturating_sub(1);
        Some((Place { id, number }, entry.handle.as_ref()?))
    }

    /// Whether a request would find a place.
    pub(super) fn has_place(&self) -> bool {
        let most = self.bounds.max_concurrent;
        self.instances.values().any(|entry| entry.handle.is_some() && entry.requests.len() < most)
    }

    /// Whether another instance may be begun for a request that found no place.
    pub(super) fn may_add(&self) -> bool {
        self.at_work() < self.bounds.most
    }

    /// Whether there are fewer at work than are kept.
    pub(super) fn is_short(&self) -> bool {
        self.at_work() < self.bounds.least
    }

    /// A request has ended. Its instance is retired if it is worn, or has had all the requests that it may.
    pub(super) fn ended(&mut self, place: Place, is_worn: bool, now: Instant) {
        let Some(entry) = self.instances.get_mut(&place.id) else { return };
        entry.requests.remove(&place.number);
        entry.idle_since = now;
        if is_worn || entry.left == 0 {
            entry.handle = None;
        }
    }

    pub(super) fn retire_all(&mut self) {
        self.retire_if(|_| true);
    }

    /// Retires instances that have been idle for too long, as long as enough stay.
    pub(super) fn trim(&mut self, now: Instant) {
        let mut surplus = self.at_work().saturating_sub(self.bounds.least);
        let idle_time = self.bounds.idle_time;
        self.retire_if(|entry| {
            let is_idle = entry.requests.is_empty() && entry.idle_since + idle_time <= now;
            let goes = is_idle && surplus > 0;
            surplus -= usize::from(goes);
            goes
        });
    }

    /// Nothing is left of it.
    pub(super) fn remove(&mut self, id: Id) {
        self.instances.remove(&id);
    }

    /// Retires an instance as soon as one of its requests has had its time: it can't be ended by itself. Also whether it
    /// was retired just now.
    pub(super) fn overdue(&mut self, id: Id, now: Instant) -> (Overdue, bool) {
        let Some(entry) = self.instances.get_mut(&id) else { return (Overdue::Never, false) };
        // They are in the order in which they came.
        let mut came = entry.requests.values();
        let Some(first) = came.next() else { return (Overdue::Never, false) };
        let timeout = self.bounds.request_timeout;
        let (first, last) = (*first + timeout, *came.next_back().unwrap_or(first) + timeout);
        let was_retired = first <= now && entry.handle.take().is_some();
        let overdue = match () {
            () if last <= now => Overdue::All,
            () if entry.handle.is_none() => Overdue::At(last),
            () => Overdue::At(first),
        };
        (overdue, was_retired)
    }

    /// Instances that take requests.
    pub(super) fn at_work(&self) -> usize {
        self.instances.values().filter(|entry| entry.handle.is_some()).count()
    }

    fn retire_if(&mut self, mut goes: impl FnMut(&Entry<H>) -> bool) {
        for entry in self.instances.values_mut().filter(|entry| entry.handle.is_some()) {
            if goes(entry) {
                entry.handle = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::{Rc, Weak};

    use proptest::prelude::*;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);
    const IDLE_TIME: Duration = Duration::from_secs(60);

    fn roster(least: usize, most: usize, max_concurrent: usize) -> Roster<Rc<()>> {
        let bounds = Bounds { least, most, max_concurrent, idle_time: IDLE_TIME, request_timeout: TIMEOUT };
        Roster::new(bounds)
    }

    fn add(
        roster: &mut Roster<Rc<()>>,
        requests: u64,
        expires: Option<Instant>,
        now: Instant,
    ) -> (Id, Weak<()>) {
        let handle = Rc::new(());
        let weak = Rc::downgrade(&handle);
        (roster.add(handle, requests, expires, now), weak)
    }

    #[test]
    fn a_request_goes_to_the_instance_with_the_fewest_and_none_has_more_than_it_may() {
        let now = Instant::now();
        let mut roster = roster(1, 2, 2);
        assert!(roster.take(now).is_none() && roster.may_add() && roster.is_short());
        add(&mut roster, 10, None, now);
        add(&mut roster, 10, None, now);
        assert!(!roster.may_add() && !roster.is_short());
        let places: Vec<_> = (0..4).map(|_| roster.take(now).expect("a place").0).collect();
        assert_eq!(places.iter().filter(|place| place.id == places[0].id).count(), 2);
        assert!(roster.take(now).is_none());
        roster.ended(places[3], false, now);
        assert_eq!(roster.take(now).map(|(place, _)| place.id), Some(places[3].id));
    }

    #[test]
    fn one_that_is_spent_worn_or_old_takes_no_more_and_is_told() {
        let now = Instant::now();
        let mut roster = roster(1, 5, 2);
        let (_, spent) = add(&mut roster, 1, None, now);
        let place = roster.take(now).expect("a place").0;
        roster.ended(place, false, now);
        assert!(spent.upgrade().is_none() && roster.take(now).is_none());
        let (_, worn) = add(&mut roster, 10, None, now);
        let place = roster.take(now).expect("a place").0;
        roster.ended(place, true, now);
        assert!(worn.upgrade().is_none() && roster.take(now).is_none());
        let (_, old) = add(&mut roster, 10, Some(now + IDLE_TIME), now);
        assert!(roster.take(now).is_some() && roster.take(now + IDLE_TIME).is_none());
        assert!(old.upgrade().is_none());
    }

    #[test]
    fn an_instance_with_an_overdue_request_ends_when_all_its_requests_have_had_their_time() {
        let now = Instant::now();
        let second = now + Duration::from_secs(1);
        let mut roster = roster(1, 1, 2);
        let (id, handle) = add(&mut roster, 10, None, now);
        let overdue = |roster: &mut Roster<Rc<()>>, at| roster.overdue(id, at);
        assert_eq!(overdue(&mut roster, now), (Overdue::Never, false));
        let first = roster.take(now).expect("a place").0;
        let last = roster.take(second).expect("a place").0;
        assert_eq!(overdue(&mut roster, now), (Overdue::At(now + TIMEOUT), false));
        assert!(handle.upgrade().is_some());
        assert_eq!(overdue(&mut roster, now + TIMEOUT), (Overdue::At(second + TIMEOUT), true));
        assert!(handle.upgrade().is_none() && roster.may_add());
        assert_eq!(overdue(&mut roster, second + TIMEOUT), (Overdue::All, false));
        roster.ended(first, false, second + TIMEOUT);
        roster.ended(last, false, second + TIMEOUT);
        assert_eq!(overdue(&mut roster, second + TIMEOUT), (Overdue::Never, false));
    }

    #[test]
    fn those_that_are_idle_for_long_go_as_long_as_enough_stay() {
        let now = Instant::now();
        let mut roster = roster(1, 3, 1);
        let handles: Vec<_> = (0..3).map(|_| add(&mut roster, 10, None, now).1).collect();
        let busy = roster.take(now).expect("a place").0;
        roster.trim(now + IDLE_TIME - Duration::from_millis(1));
        assert!(handles.iter().all(|handle| handle.upgrade().is_some()));
        roster.trim(now + IDLE_TIME);
        assert_eq!(handles.iter().filter(|handle| handle.upgrade().is_some()).count(), 1);
        roster.ended(busy, false, now);
        roster.trim(now + IDLE_TIME);
        assert!(!roster.is_short());
    }

    proptest! {
        #[test]
        fn whatever_happens_no_instance_has_too_many_and_there_are_never_too_many(
            steps in proptest::collection::vec((0_u8..7, 0_usize..8), 0..80),
        ) {
            let mut now = Instant::now();
            let mut roster = roster(1, 3, 2);
            let (mut ids, mut places) = (Vec::new(), Vec::<Place>::new());
            for (step, which) in steps {
                now += Duration::from_secs(7);
                match step {
                    0 if roster.may_add() => ids.push(add(&mut roster, 3, None, now).0),
                    1 | 2 => {
                        let found = roster.take(now).map(|(place, _)| place);
                        places.extend(found);
                    }
                    3 if !places.is_empty() => {
                        let place = places.swap_remove(which % places.len());
                        roster.ended(place, which == 0, now);
                    }
                    4 => roster.trim(now),
                    5 if !ids.is_empty() => {
                        let id = ids[which % ids.len()];
                        if roster.overdue(id, now).0 == Overdue::All {
                            roster.remove(id);
                            places.retain(|place| place.id != id);
                        }
                    }
                    6 => roster.retire_if(|_| which == 0),
                    _ => {}
                }
                prop_assert!(roster.at_work() <= 3);
                for entry in roster.instances.values() {
                    prop_assert!(entry.requests.len() <= 2);
                }
                let held: usize = roster.instances.values().map(|entry| entry.requests.len()).sum();
                prop_assert_eq!(held, places.len());
            }
        }
    }
}
