//! The permits of all pools together, and the line of pools that wait for some.
//!
//! A permit is held for as long as an instance takes up a place in the allocator, so the budget is set below every
//! limit that the allocator has. Two locks meet here: a pool may ask the budget for a permit while it holds its own
//! lock, never the other way round. So a permit must not be dropped, and a member not be called, under either.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use serde::Serialize;

/// The units of all pools together (a cheap handle): what instances may take up, and how many requests may wait.
#[derive(Clone)]
pub struct Budget(Arc<Ledger>);

impl Budget {
    /// `units`: allocator slots that all instances together may take. `queue_size`: requests that may wait for an
    /// instance in all pools together.
    pub fn new(units: u32, queue_size: usize) -> Self {
        let state = State {
            free: units,
            withheld: 0,
            line: VecDeque::new(),
            members: Arc::from([]),
            next_id: 0,
            is_serving: false,
            shortage: 0,
            searched: 0,
        };
        Self(Arc::new(Ledger {
            units,
            queue_size,
            waiting: AtomicUsize::new(0),
            in_line: AtomicUsize::new(0),
            pressure: AtomicU8::new(Pressure::None as u8),
            state: Mutex::new(state),
        }))
    }

    /// Units in all.
    pub fn units(&self) -> u32 {
        self.0.units
    }

    /// Units that nobody holds.
    pub fn free(&self) -> u32 {
        self.0.state.lock().free
    }

    /// Units that may be in use from now on. Fewer than are in use end no lease: nothing new is taken, and idle
    /// instances are given up until it fits.
    pub fn set_limit(&self, units: u32) {
        let members = {
            let mut state = self.0.state.lock();
            state.withheld = self.0.units.saturating_sub(units);
            Arc::clone(&state.members)
        };
        while self.0.state.lock().is_over() && reclaim_one(&members) {}
        self.0.serve();
    }

    /// Units that may be in use.
    pub fn limit(&self) -> u32 {
        self.0.units - self.0.state.lock().withheld
    }

    /// How scarce memory is. From [`Pressure::Spares`] on, the idle instances above each pool's minimum go.
    pub fn set_pressure(&self, pressure: Pressure) {
        self.0.pressure.store(pressure as u8, Relaxed);
        if pressure >= Pressure::Spares {
            let members = Arc::clone(&self.0.state.lock().members);
            while reclaim_one(&members) {}
        }
    }

    pub fn pressure(&self) -> Pressure {
        let level = self.0.pressure.load(Relaxed);
        let all = [Pressure::None, Pressure::Growth, Pressure::Spares, Pressure::Shed];
        all.into_iter().find(|pressure| *pressure as u8 == level).unwrap_or(Pressure::None)
    }

    /// Requests that wait for an instance in all pools.
    pub fn waiting(&self) -> usize {
        self.0.waiting.load(Relaxed)
    }

    /// Pools that wait for units.
    pub fn in_line(&self) -> usize {
        self.0.in_line.load(Relaxed)
    }

    pub(super) fn new_id(&self) -> Id {
        let mut state = self.0.state.lock();
        state.next_id += 1;
        Id(state.next_id)
    }

    /// From now on the pool can be asked to give up idle instances. It is forgotten when it is dropped.
    pub(super) fn register(&self, member: Weak<dyn Member>) {
        let mut state = self.0.state.lock();
        let alive = state.members.iter().filter(|member| member.strong_count() > 0).cloned();
        state.members = alive.chain([member]).collect();
    }

    /// A permit, if there are units left and no pool waits for some.
    pub(super) fn take(&self, units: u32) -> Option<Permit> {
        self.0.take(&mut self.0.state.lock(), units)
    }

    /// A permit, or a place in the line: `member` is offered one when its turn comes. After joining, and when the
    /// pool's lock is released, call [`Budget::serve`]: others may have something to spare.
    pub(super) fn take_or_join(&self, id: Id, units: u32, member: Weak<dyn Member>) -> Option<Permit> {
        let mut state = self.0.state.lock();
        if let Some(permit) = self.0.take(&mut state, units) {
            return Some(permit);
        }
        if state.line.is_empty() {
            state.shortage += 1;
        }
        state.line.push_back(InLine { id, units, member });
        self.0.note_line(&state);
        None
    }

    /// It is the pool's turn: it is out of the line now, with a permit if it still wants one and is still first.
    ///
    /// The units are free until then, so they are never between the two.
    pub(super) fn take_turn(&self, id: Id, wants: bool) -> Option<Permit> {
        let mut state = self.0.state.lock();
        let place = state.line.iter().position(|place| place.id == id)?;
        let InLine { units, .. } = state.line.remove(place)?;
        self.0.note_line(&state);
        if place > 0 || !wants || units > state.available() {
            return None;
        }
        state.free -= units;
        Some(Permit { ledger: Arc::clone(&self.0), units })
    }

    /// The pool needs no permit any more. Call [`Budget::serve`] when the pool's lock is released: it may have stood
    /// before others who need less.
    pub(super) fn quit_line(&self, id: Id) {
        let mut state = self.0.state.lock();
        state.line.retain(|place| place.id != id);
        self.0.note_line(&state);
    }

    /// Does some pool wait for units? Then nobody keeps idle instances above its minimum.
    ///
    /// No ordering is needed: a pool reads this under its lock, and whoever serves the line looks through the pools
    /// under their locks afterwards. Either it finds what became idle, or the pool sees that it is wanted.
    pub(super) fn is_wanted(&self) -> bool {
        self.0.in_line.load(Relaxed) > 0
    }

    /// Gives free units, and those that other pools hold idle, to the pools in line.
    pub(super) fn serve(&self) {
        self.0.serve();
    }

    /// Has other pools' spare idle instances dropped until `units` are free or there are no more: for a request that
    /// can't wait in line.
    pub(super) fn reclaim(&self, units: u32) {
        let members = Arc::clone(&self.0.state.lock().members);
        while self.0.state.lock().available() < units && reclaim_one(&members) {}
    }

    /// One more request waits, unless there are too many in all pools together.
    pub(super) fn enter_queue(&self) -> bool {
        let within = |waiting| (waiting < self.0.queue_size).then_some(waiting + 1);
        self.0.waiting.fetch_update(Relaxed, Relaxed, within).is_ok()
    }

    /// So many wait no more.
    pub(super) fn leave_queue(&self, count: usize) {
        self.0.waiting.fetch_sub(count, Relaxed);
    }
}

/// How scarce memory is on the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Pressure {
    None,
    /// No new spare instances.
    Growth,
    /// Spare and idle instances go, and idle time halves.
    Spares,
    /// Requests that would need a new instance are refused.
    Shed,
}

impl fmt::Display for Pressure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Growth => "growth",
            Self::Spares => "spares",
            Self::Shed => "shed",
        })
    }
}

/// A pool as the budget sees it. Called with no lock held.
pub(super) trait Member: Send + Sync {
    /// Idle instances above the pool's minimum.
    fn spare(&self) -> u32;
    /// Drops the oldest of these, and with it its permit. Without one it does nothing.
    fn give_up(self: Arc<Self>);
    /// There are units for this pool, which is first in line: it has to call [`Budget::take_turn`].
    fn take_turn(self: Arc<Self>);
}

/// A pool's name in the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Id(u64);

/// Units taken from the budget; dropping it gives them back, and to whoever is first in line.
pub(super) struct Permit {
    ledger: Arc<Ledger>,
    units: u32,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.ledger.state.lock().free += self.units;
        self.ledger.serve();
    }
}

struct Ledger {
    units: u32,
    queue_size: usize,
    waiting: AtomicUsize,
    /// The line's length, for reading without the lock.
    in_line: AtomicUsize,
    pressure: AtomicU8,
    state: Mutex<State>,
}

struct State {
    free: u32,
    /// Units above the limit.
    withheld: u32,
    /// First come, first served: a pool that needs many units is not passed by those that need few. Shares and
    /// weights among the pools would be decided here, by the order in which the line is served.
    line: VecDeque<InLine>,
    members: Arc<[Weak<dyn Member>]>,
    next_id: u64,
    /// Somebody serves the line and will see what changes meanwhile.
    is_serving: bool,
    /// Counts the times that the line began to form.
    shortage: u64,
    /// The shortage in which no spare instance was left. While it lasts none can become spare, so nobody looks again.
    searched: u64,
}

impl State {
    /// Free units within the limit.
    fn available(&self) -> u32 {
        self.free.saturating_sub(self.withheld)
    }

    fn is_over(&self) -> bool {
        self.free < self.withheld
    }
}

struct InLine {
    id: Id,
    units: u32,
    member: Weak<dyn Member>,
}

/// What the one who serves the line does next.
enum Step {
    Turn(Arc<dyn Member>),
    /// The first in line needs more than is free: look for spare instances.
    Search {
        shortage: u64,
        members: Arc<[Weak<dyn Member>]>,
    },
    Done,
}

impl Ledger {
    fn take(self: &Arc<Self>, state: &mut State, units: u32) -> Option<Permit> {
        if !state.line.is_empty() || state.available() < units {
            return None;
        }
        state.free -= units;
        Some(Permit { ledger: Arc::clone(self), units })
    }

    /// One thread at a time: what it does frees units and lets pools join the line, which would lead back here,
    /// deeper each time.
    fn serve(&self) {
        {
            let mut state = self.state.lock();
            if state.is_serving || state.line.is_empty() {
                return;
            }
            state.is_serving = true;
        }
        let serving = Serving(self);
        loop {
            match self.next_step() {
                Step::Turn(member) => member.take_turn(),
                Step::Search { shortage, members } => {
                    if !reclaim_one(&members) {
                        self.found_nothing(shortage);
                    }
                }
                Step::Done => return std::mem::forget(serving),
            }
        }
    }

    fn next_step(&self) -> Step {
        let mut state = self.state.lock();
        while let Some(first) = state.line.front() {
            // Not yet by upgrading: the last handle of a pool must not be dropped under this lock.
            let is_alive = first.member.strong_count() > 0;
            if is_alive && first.units > state.available() {
                if state.searched == state.shortage {
                    break;
                }
                return Step::Search { shortage: state.shortage, members: Arc::clone(&state.members) };
            }
            if let Some(member) = first.member.upgrade() {
                return Step::Turn(member);
            }
            // The pool was dropped while it stood here.
            state.line.pop_front();
            self.note_line(&state);
        }
        // In the same breath as the look at the line: who changes it from now on serves it.
        state.is_serving = false;
        Step::Done
    }

    fn found_nothing(&self, shortage: u64) {
        self.state.lock().searched = shortage;
    }

    fn note_line(&self, state: &State) {
        self.in_line.store(state.line.len(), Relaxed);
    }
}

/// Lets others serve the line if an instance's destructor panics; forgotten otherwise.
struct Serving<'a>(&'a Ledger);

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        self.0.state.lock().is_serving = false;
    }
}

/// The simple rule: whoever has most to spare gives one up. False: nobody has.
fn reclaim_one(members: &[Weak<dyn Member>]) -> bool {
    let alive = members.iter().filter_map(Weak::upgrade);
    let Some((spare, member)) = alive.map(|member| (member.spare(), member)).max_by_key(|(spare, _)| *spare)
    else {
        return false;
    };
    if spare == 0 {
        return false;
    }
    member.give_up();
    true
}

#[cfg(test)]
mod tests;
