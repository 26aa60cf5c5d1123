//! The permits of all pools together, and the line of pools that wait for some. Who may have how many is for `shares`
//! to say.
//!
//! A permit is held for as long as an instance takes up a place in the allocator, so the budget is set below every
//! limit that the allocator has. Two locks meet here: a pool may ask the budget for a permit while it holds its own
//! lock, never the other way round. So a permit must not be dropped, and a member not be called, under either.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use serde::Serialize;

use super::cores::Cores;
use super::shares::{Account, Shares};

/// The units of all pools together (a cheap handle): what instances may take up, and how many requests may wait.
#[derive(Clone)]
pub struct Budget(Arc<Ledger>);

impl Budget {
    /// `units`: allocator slots that all instances together may take. `queue_size`: requests that may wait for an
    /// instance in all pools together.
    pub fn new(units: u32, queue_size: usize) -> Self {
        let state = State {
            shares: Shares::new(units),
            line: Vec::new(),
            members: Arc::from([]),
            next_id: NonZeroU64::MIN,
            is_serving: false,
            shortage: 0,
            kept: 0,
            searched: 0,
        };
        Self(Arc::new(Ledger {
            units,
            queue_size,
            waiting: AtomicUsize::new(0),
            in_line: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
            pressure: AtomicU8::new(Pressure::None as u8),
            cores: Arc::default(),
            state: Mutex::new(state),
        }))
    }

    /// Units in all.
    pub fn units(&self) -> u32 {
        self.0.units
    }

    /// Units that nobody holds.
    pub fn free(&self) -> u32 {
        self.0.units.saturating_sub(self.0.state.lock().shares.held())
    }

    /// Units that may be held at present.
    pub fn limit(&self) -> u32 {
        self.0.state.lock().shares.limit()
    }

    /// From now on no more than so many units are given out. What is held above that is not taken away: idle instances
    /// go at once, and those at work when they have ended.
    pub fn set_limit(&self, limit: u32) {
        let limit = limit.min(self.0.units);
        let over = || self.0.state.lock().shares.held().saturating_sub(limit);
        let members = {
            let mut state = self.0.state.lock();
            if state.shares.limit() == limit {
                return;
            }
            state.shares.set_limit(limit);
            Arc::clone(&state.members)
        };
        while over() > 0 && self.0.reclaim_one(&members, None) {}
        self.0.serve();
    }

    /// How scarce memory is.
    pub fn pressure(&self) -> Pressure {
        Pressure::from_u8(self.0.pressure.load(Relaxed))
    }

    /// Says how scarce memory is. It counts for the next request; idle instances go at the pools' next upkeep.
    pub fn set_pressure(&self, pressure: Pressure) {
        if self.0.pressure.swap(pressure as u8, Relaxed) == pressure as u8 {
            return;
        }
        let members = Arc::clone(&self.0.state.lock().members);
        for member in members.iter().filter_map(|(_, member)| member.upgrade()) {
            member.press(pressure);
        }
    }

    /// The processors that all pools share.
    pub fn cores(&self) -> &Arc<Cores> {
        &self.0.cores
    }

    /// Requests that wait for an instance in all pools.
    pub fn waiting(&self) -> usize {
        self.0.waiting.load(Relaxed)
    }

    /// Pools that wait for units.
    pub fn in_line(&self) -> usize {
        self.0.in_line.load(Relaxed)
    }

    /// A name for one more pool of an app, whose weight is this one from now on; until [`Budget::close`].
    pub(super) fn open(&self, app: &str, weight: u32) -> Id {
        let mut state = self.0.state.lock();
        let number = state.next_id;
        state.next_id = number.saturating_add(1);
        Id { number, account: state.shares.open(app, weight) }
    }

    /// The pool is gone, with all that it held.
    pub(super) fn close(&self, id: Id) {
        self.0.state.lock().shares.close(id.account);
    }

    /// From now on the pool can be asked to give up idle instances. It is forgotten when it is dropped.
    pub(super) fn register(&self, id: Id, member: Weak<dyn Member>) {
        let mut state = self.0.state.lock();
        let alive = state.members.iter().filter(|(_, member)| member.strong_count() > 0).cloned();
        state.members = alive.chain([(id.account, member)]).collect();
    }

    /// A permit, if the app may have so many units more and no pool waits for some.
    pub(super) fn take(&self, id: Id, units: u32) -> Option<Permit> {
        self.0.take(&mut self.0.state.lock(), id, units)
    }

    /// A permit, or a place in the line: `member` is offered one when its turn comes. After joining, and when the
    /// pool's lock is released, call [`Budget::serve`]: others may have something to spare.
    pub(super) fn take_or_join(&self, id: Id, units: u32, member: Weak<dyn Member>) -> Option<Permit> {
        let mut state = self.0.state.lock();
        if let Some(permit) = self.0.take(&mut state, id, units) {
            return Some(permit);
        }
        if state.line.is_empty() {
            state.shortage += 1;
        }
        state.line.push(InLine { id, units, member });
        self.0.note_line(&state);
        None
    }

    /// It is the pool's turn: it is out of the line now, with a permit if it still wants one and it is still its turn.
    ///
    /// The units are free until then, so they are never between the two.
    pub(super) fn take_turn(&self, id: Id, wants: bool) -> Option<Permit> {
        let mut state = self.0.state.lock();
        let place = state.line.iter().position(|place| place.id == id)?;
        let is_next = state.next() == Some(place);
        let InLine { units, .. } = state.line.remove(place);
        self.0.note_line(&state);
        if !is_next || !wants || !state.shares.take(id.account, units) {
            return None;
        }
        Some(Permit { ledger: Arc::clone(&self.0), account: id.account, units })
    }

    /// The pool needs no permit any more. Call [`Budget::serve`] when the pool's lock is released: it may have stood
    /// before others who need less.
    pub(super) fn quit_line(&self, id: Id) {
        let mut state = self.0.state.lock();
        state.line.retain(|place| place.id != id);
        self.0.note_line(&state);
    }

    /// Do others want the units of an instance of this pool, which takes so many?
    ///
    /// No ordering is needed: a pool reads this under its lock, and whoever serves the line looks through the pools
    /// under their locks afterwards. Either it finds what became idle, or the pool sees that it is wanted.
    pub(super) fn wanted(&self, id: Id, units: u32) -> Wanted {
        let mut wanted = match self.pressure() {
            Pressure::None | Pressure::Growth => Wanted::No,
            Pressure::Spares | Pressure::Shed => Wanted::Spare,
        };
        if self.0.in_line.load(Relaxed) == 0 && !self.0.is_over.load(Relaxed) {
            return wanted;
        }
        let state = self.0.state.lock();
        if state.shares.held() > state.shares.limit() {
            wanted = Wanted::Spare;
        }
        let Some(next) = state.next().map(|place| &state.line[place]) else { return wanted };
        if state.shares.only_fills_reserve(next.id.account, next.units, units) {
            return wanted;
        }
        match state.shares.yields(id.account, next.id.account, next.units) && next.id.account != id.account {
            true => Wanted::ByPoorer,
            false => Wanted::Spare,
        }
    }

    /// Gives free units, and those that other pools hold idle, to the pools in line.
    pub(super) fn serve(&self) {
        self.0.serve();
    }

    /// A pool keeps an instance of so many units idle. Where they would only have filled the reserve, the line is served
    /// once what was kept so may together be enough for who is next.
    pub(super) fn keeps(&self, units: u32) {
        if self.0.in_line.load(Relaxed) == 0 {
            return;
        }
        {
            let mut state = self.0.state.lock();
            let Some(InLine { id, units: needs, .. }) = state.next().map(|place| &state.line[place]) else {
                return;
            };
            let (account, needs, kept) = (id.account, *needs, state.kept.saturating_add(units));
            if !state.shares.only_fills_reserve(account, needs, units) {
                return;
            }
            if state.shares.only_fills_reserve(account, needs, kept) {
                state.kept = kept;
                return;
            }
            state.search_anew();
        }
        self.0.serve();
    }

    /// The pool's regular upkeep: if it is next in line, the others are looked through once more. What was idle at the last
    /// search was too little then, and what was kept since is not counted with it.
    pub(super) fn look_again(&self, id: Id) {
        if self.0.in_line.load(Relaxed) == 0 {
            return;
        }
        {
            let mut state = self.0.state.lock();
            if state.next().is_none_or(|place| state.line[place].id != id) {
                return;
            }
            state.search_anew();
        }
        self.0.serve();
    }

    /// Has other pools' spare idle instances dropped until `units` are free or there are no more: for a request that
    /// can't wait in line.
    pub(super) fn reclaim(&self, units: u32) {
        let members = Arc::clone(&self.0.state.lock().members);
        let free = || self.0.state.lock().shares.free();
        while free() < units && self.0.reclaim_one(&members, None) {}
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

/// A pool as the budget sees it. Called with no lock held.
pub(super) trait Member: Send + Sync {
    /// Idle instances above the pool's minimum.
    fn spare(&self) -> u32;
    /// Units that each instance takes.
    fn each(&self) -> u32;
    /// Drops the oldest of these, and with it its permit. Without one it does nothing.
    fn give_up(self: Arc<Self>);
    /// Memory is so scarce now.
    fn press(&self, pressure: Pressure);
    /// There are units for this pool, which is first in line: it has to call [`Budget::take_turn`].
    fn take_turn(self: Arc<Self>);
}

/// A pool's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Id {
    number: NonZeroU64,
    account: Account,
}

impl Id {
    pub(super) fn number(self) -> NonZeroU64 {
        self.number
    }
}

/// Who wants an instance's units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    No,
    /// Somebody who gets them if no request of this pool waits and it has its minimum.
    Spare,
    /// An app that stands so much lower that it goes before this pool's own requests.
    ByPoorer,
}

/// How scarce memory is, as the machine says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Pressure {
    #[default]
    None,
    /// No spare instances are made.
    Growth,
    /// Idle instances go, and nobody keeps any.
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

impl Pressure {
    fn from_u8(byte: u8) -> Self {
        [Self::None, Self::Growth, Self::Spares].get(usize::from(byte)).copied().unwrap_or(Self::Shed)
    }
}

/// Units taken from the budget; dropping it gives them back, and to whoever is next in line.
pub(super) struct Permit {
    ledger: Arc<Ledger>,
    account: Account,
    units: u32,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.ledger.state.lock();
        state.shares.give_back(self.account, self.units);
        self.ledger.note_line(&state);
        drop(state);
        self.ledger.serve();
    }
}

struct Ledger {
    units: u32,
    queue_size: usize,
    waiting: AtomicUsize,
    /// The line's length, for reading without the lock.
    in_line: AtomicUsize,
    /// Is more held than the limit? For reading without the lock.
    is_over: AtomicBool,
    pressure: AtomicU8,
    cores: Arc<Cores>,
    state: Mutex<State>,
}

struct State {
    shares: Shares,
    /// Those who wait, in the order in which they came. Whose turn it is, is not passed by those that need fewer units.
    line: Vec<InLine>,
    members: Members,
    next_id: NonZeroU64,
    /// Somebody serves the line and will see what changes meanwhile.
    is_serving: bool,
    /// Counts the times that the line began to form, much was kept, or it was time to look again.
    shortage: u64,
    /// Units, no fewer, that pools have kept since they were last looked for, since each alone would have been of no use.
    kept: u32,
    /// The shortage in which no spare instance was left. While it lasts none can become spare but what is `kept`, so
    /// nobody looks again.
    searched: u64,
}

/// The pools and their accounts, to be called with no lock held.
type Members = Arc<[(Account, Weak<dyn Member>)]>;

struct InLine {
    id: Id,
    units: u32,
    member: Weak<dyn Member>,
}

/// What the one who serves the line does next.
enum Step {
    Turn(Arc<dyn Member>),
    /// The next in line can't have what it needs: look for spare instances.
    Search {
        shortage: u64,
        members: Members,
        /// Who it is, and the units that it needs.
        needy: (Account, u32),
    },
    Done,
}

impl State {
    /// There may be more to be found than at the last search.
    fn search_anew(&mut self) {
        self.kept = 0;
        self.shortage += 1;
    }

    /// The place in line of whoever stands lowest; of equals, who came first.
    fn next(&self) -> Option<usize> {
        let standing = |place: &usize| self.shares.standing(self.line[*place].id.account);
        (0..self.line.len()).min_by_key(standing)
    }
}

impl Ledger {
    fn take(self: &Arc<Self>, state: &mut State, id: Id, units: u32) -> Option<Permit> {
        if !state.line.is_empty() || !state.shares.take(id.account, units) {
            return None;
        }
        self.note_line(state);
        Some(Permit { ledger: Arc::clone(self), account: id.account, units })
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
                Step::Search { shortage, members, needy } => {
                    if !self.reclaim_one(&members, Some(needy)) {
                        self.found_nothing(shortage);
                    }
                }
                Step::Done => return std::mem::forget(serving),
            }
        }
    }

    fn next_step(&self) -> Step {
        let mut state = self.state.lock();
        while let Some(place) = state.next() {
            let next = &state.line[place];
            // Not yet by upgrading: the last handle of a pool must not be dropped under this lock.
            let is_alive = next.member.strong_count() > 0;
            if is_alive && !state.shares.may_take(next.id.account, next.units) {
                if state.searched == state.shortage {
                    break;
                }
                let needy = (next.id.account, next.units);
                return Step::Search { shortage: state.shortage, members: Arc::clone(&state.members), needy };
            }
            if let Some(member) = next.member.upgrade() {
                return Step::Turn(member);
            }
            // The pool was dropped while it stood here.
            state.line.remove(place);
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
        self.is_over.store(state.shares.held() > state.shares.limit(), Relaxed);
    }

    /// Of the pools that have an instance to spare, that of the app which stands highest gives one up; of several of
    /// one app, that with most. False: nobody has any, or all of them together are of no use to who needs them.
    fn reclaim_one(&self, members: &[(Account, Weak<dyn Member>)], needy: Option<(Account, u32)>) -> bool {
        let alive = members.iter().filter_map(|(account, member)| Some((*account, member.upgrade()?)));
        let spare: Vec<_> = alive.map(|(account, member)| (member.spare(), account, member)).collect();
        let units = spare.iter().map(|(spare, _, member)| spare.saturating_mul(member.each()));
        let units = units.fold(0, u32::saturating_add);
        let richest = {
            let state = self.state.lock();
            if needy.is_some_and(|(account, needs)| state.shares.only_fills_reserve(account, needs, units)) {
                return false;
            }
            let having = spare.iter().filter(|(spare, ..)| *spare > 0);
            having.max_by_key(|(spare, account, _)| (state.shares.standing(*account), *spare))
        };
        let Some((.., member)) = richest else { return false };
        Arc::clone(member).give_up();
        true
    }
}

/// Lets others serve the line if an instance's destructor panics; forgotten otherwise.
struct Serving<'a>(&'a Ledger);

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        self.0.state.lock().is_serving = false;
    }
}

#[cfg(test)]
mod tests;
