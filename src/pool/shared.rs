//! The books under their lock, and the guards that keep them right.
//!
//! Whatever is taken out of the books is at once in a [`Place`], whose drop repairs them: a request that is cancelled,
//! a task that panics, a runtime that goes down need no code of their own.
//!
//! Rules of this file: no instance, permit, turn or manager is dropped or called under the lock, and nothing awaits.

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::budget::{Budget, Id, Member, Permit, Pressure};
use super::load::{Load, Turn, Waits};
use super::slots::{Comes, Next, Phase, Put, Slots};
use super::{LeaseError, Manager, Policy, Stats};

pub(super) struct Shared<M: Manager> {
    pub(super) manager: M,
    pub(super) policy: Policy,
    pub(super) budget: Budget,
    pub(super) load: Arc<Load>,
    /// Units of the budget that each instance takes.
    pub(super) each: u32,
    pub(super) id: Id,
    books: Mutex<Books<M>>,
    /// Told when the pool is drained.
    pub(super) emptied: Notify,
}

/// An instance that is being made.
pub(super) type Make<M> =
    Pin<Box<dyn Future<Output = Result<<M as Manager>::Instance, <M as Manager>::Error>> + Send>>;

/// What the lock guards.
pub(super) struct Books<M: Manager> {
    pub(super) slots: Slots<Ready<M::Instance>, Waiter<M>, M::Error>,
    line: Line,
}

/// How the pool stands with the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Out,
    /// In line since a moment ago: the budget has to be told when the lock is released.
    Joined,
    Waiting,
}

/// A ready instance. It is dropped before its permit: the permit stands for a place in the allocator.
pub(super) struct Ready<I> {
    pub(super) instance: I,
    pub(super) life: Life,
    permit: Permit,
}

/// How long an instance may live.
#[derive(Debug, Clone, Copy)]
pub(super) struct Life {
    /// How many leases it has ended.
    pub(super) uses: u64,
    /// Leases after which it is spent.
    pub(super) max_uses: u64,
    /// When it has lived for long enough.
    pub(super) expires: Option<Instant>,
}

/// An instance out of the books, with its place in them. It is dropped before its place.
pub(super) struct Held<M: Manager> {
    pub(super) instance: M::Instance,
    pub(super) life: Life,
    pub(super) place: Place<M>,
}

/// A slot that is neither idle nor gone. Dropping it makes it gone.
pub(super) struct Place<M: Manager> {
    pub(super) pool: Arc<Shared<M>>,
    /// Where the books count it.
    pub(super) phase: Phase,
    /// The turn to run of the request that it is for.
    pub(super) turn: Option<Arc<Turn>>,
    begun: Instant,
    /// `None` once the place has been put back into the books.
    permit: Option<Permit>,
}

/// A queued request, as the books hold it.
pub(super) struct Waiter<M: Manager> {
    pub(super) answer: oneshot::Sender<Result<Grant<M>, LeaseError<M::Error>>>,
}

/// What a request is given. One that is dropped unused goes on to the next waiter, or back.
pub(super) enum Grant<M: Manager> {
    Ready(Handed<M>),
    /// The request makes its instance itself.
    Make(Place<M>),
}

/// An instance on its way to a request.
pub(super) struct Handed<M: Manager>(Option<Held<M>>);

impl<M: Manager> Shared<M> {
    pub(super) fn new(app: &str, manager: M, policy: Policy, each: u32, budget: &Budget) -> Arc<Self> {
        let shared = Arc::new(Self {
            manager,
            budget: budget.clone(),
            load: Load::new(Arc::clone(budget.cores()), policy.weight),
            each,
            id: budget.open(app, policy.weight),
            books: Mutex::new(Books { slots: Slots::new(policy.clone()), line: Line::Out }),
            policy,
            emptied: Notify::new(),
        });
        let member: Weak<Self> = Arc::downgrade(&shared);
        budget.register(shared.id, member.clone());
        shared.press(budget.pressure());
        shared.load.serves(member);
        shared
    }

    pub(super) fn stats(&self) -> Stats {
        let stats = self.books.lock().slots.stats();
        Stats { running: self.load.running(), is_busy: self.load.is_busy(), ..stats }
    }

    /// The only way to the books. Afterwards, with the lock released, the budget learns what concerns it.
    pub(super) fn with<R>(&self, change: impl FnOnce(&mut Books<M>) -> R) -> R {
        let mut books = self.books.lock();
        let waited = books.slots.waiting();
        let result = change(&mut books);
        let waiting = books.slots.waiting();
        if waiting != waited {
            self.load.set_queued(waiting);
            self.budget.leave_queue(waited.saturating_sub(waiting));
        }
        if books.line == Line::Out {
            return result;
        }
        let has_joined = books.line == Line::Joined;
        let must_quit = books.slots.waiting() == 0;
        books.line = if must_quit { Line::Out } else { Line::Waiting };
        if must_quit {
            // Under the lock, so that a place taken a moment later is not given up by mistake.
            self.budget.quit_line(self.id);
        }
        drop(books);
        if has_joined || must_quit {
            self.budget.serve();
        }
        result
    }

    /// A permit for a waiting request, or a place in the budget's line.
    pub(super) fn permit_or_join(self: &Arc<Self>, books: &mut Books<M>) -> Option<Permit> {
        if books.line != Line::Out {
            return None;
        }
        let me: Weak<Self> = Arc::downgrade(self);
        let permit = self.budget.take_or_join(self.id, self.each, me);
        if permit.is_none() {
            books.line = Line::Joined;
        }
        permit
    }

    /// A place for an instance that nobody waits for, if `is_needed` and there is a permit.
    pub(super) fn begin_if(self: &Arc<Self>, is_needed: impl FnOnce(&Books<M>) -> bool) -> Option<Place<M>> {
        let permit = self.with(|books| {
            if !is_needed(books) {
                return None;
            }
            let permit = self.budget.take(self.id, self.each)?;
            books.slots.begin();
            Some(permit)
        })?;
        Some(self.place(Phase::Preparing, permit))
    }

    pub(super) fn place(self: &Arc<Self>, phase: Phase, permit: Permit) -> Place<M> {
        Place { pool: Arc::clone(self), phase, turn: None, begun: now(), permit: Some(permit) }
    }

    /// A place for an instance that a request makes for itself.
    pub(super) fn place_to_make(self: &Arc<Self>, permit: Permit) -> Place<M> {
        let mut place = self.place(Phase::Preparing, permit);
        place.turn = Some(self.load.turn());
        place
    }

    pub(super) fn held(self: &Arc<Self>, phase: Phase, ready: Ready<M::Instance>) -> Held<M> {
        let Ready { instance, life, permit } = ready;
        let mut place = self.place(phase, permit);
        if phase == Phase::Leased {
            place.turn = Some(self.load.turn());
        }
        Held { instance, life, place }
    }

    /// Does for the waiters what can be done: an instance, room for one, or a refusal when none will come in time.
    pub(super) fn settle(self: &Arc<Self>) {
        let now = now();
        loop {
            let step = self.with(|books| match books.slots.next(now, self.load.has_turn()) {
                Next::Rest => Settle::Rest,
                Next::Hand(waiter, ready) => Settle::Hand(waiter, self.held(Phase::Leased, ready)),
                Next::Shed(waiter) => Settle::Refuse(waiter, LeaseError::Overloaded),
                Next::Refuse { waiter, error, retry_after } => {
                    Settle::Refuse(waiter, LeaseError::Failing { error, retry_after })
                }
                Next::Room => match self.permit_or_join(books) {
                    None => Settle::Rest,
                    Some(permit) => Settle::Grant(books.slots.grant(now, self.load.has_turn()), permit),
                },
            });
            match step {
                Settle::Rest => return,
                Settle::Hand(waiter, held) => waiter.hand(held),
                Settle::Refuse(waiter, error) => drop(waiter.answer.send(Err(error))),
                Settle::Grant(Some(waiter), permit) => self.send_room(waiter, permit),
                Settle::Grant(None, permit) => return drop(permit),
            }
        }
    }

    /// Makes up for a slot that is gone: first the waiters, then the idle instances.
    fn vacate(self: &Arc<Self>, phase: Phase, permit: Permit) {
        // First, so that who sees the pool drained sees the units too.
        drop(permit);
        let now = now();
        // An attempt that came to nothing is not repeated here: it would be for ever if the runtime is going down.
        let may_refill = phase != Phase::Preparing;
        let (waiting, is_short) = self.with(|books| {
            books.slots.gone(phase);
            (books.slots.waiting() > 0, may_refill && books.slots.is_short(now))
        });
        self.note_drained();
        if waiting {
            self.settle();
        }
        if is_short {
            self.refill(now);
        }
    }

    /// An instance was made or reset, which was begun at that time.
    pub(super) fn took(&self, begun: Instant) {
        let time = now().saturating_duration_since(begun);
        self.load.worked(time);
        self.with(|books| books.slots.took(time));
    }

    pub(super) fn note_drained(&self) {
        if self.with(|books| books.slots.is_drained()) {
            self.emptied.notify_waiters();
        }
    }

    fn send_room(self: &Arc<Self>, waiter: Waiter<M>, permit: Permit) {
        // A waiter that has just left returns the place, and its drop settles with the next one.
        drop(waiter.answer.send(Ok(Grant::Make(self.place_to_make(permit)))));
    }
}

impl<M: Manager> Drop for Shared<M> {
    fn drop(&mut self) {
        self.budget.close(self.id);
    }
}

impl<M: Manager> Waits for Shared<M> {
    fn room_to_run(self: Arc<Self>) {
        self.settle();
    }
}

impl<M: Manager> Waiter<M> {
    fn hand(self, held: Held<M>) {
        // A waiter that has just left returns it, and its drop puts it back.
        drop(self.answer.send(Ok(Grant::Ready(Handed(Some(held))))));
    }
}

impl<M: Manager> Member for Shared<M> {
    fn spare(&self) -> u32 {
        self.books.lock().slots.spare()
    }

    fn each(&self) -> u32 {
        self.each
    }

    fn give_up(self: Arc<Self>) {
        if let Some(ready) = self.with(|books| books.slots.give_up()) {
            drop(self.held(Phase::Leaving, ready));
        }
    }

    fn press(&self, pressure: Pressure) {
        self.with(|books| books.slots.set_pressure(pressure));
    }

    fn take_turn(self: Arc<Self>) {
        let now = now();
        let granted = self.with(|books| {
            if books.line == Line::Out {
                // It has just left the line.
                return None;
            }
            books.line = Line::Out;
            let has_turn = self.load.has_turn();
            let wants = books.slots.can_grant(now, has_turn);
            let permit = self.budget.take_turn(self.id, wants)?;
            Some((books.slots.grant(now, has_turn), permit))
        });
        if let Some((Some(waiter), permit)) = granted {
            self.send_room(waiter, permit);
        }
        // The next waiter joins the line again, at its end.
        self.settle();
    }
}

impl<M: Manager> Held<M> {
    /// An instance that was just made.
    pub(super) fn new(instance: M::Instance, place: Place<M>) -> Self {
        let life = Life::begin(&place.pool.policy, now());
        Self { instance, life, place }
    }

    /// Has it done, or grown, as much as it may?
    pub(super) fn is_spent(&mut self) -> bool {
        let Self { instance, life, place } = self;
        life.uses >= life.max_uses || place.pool.manager.is_worn(instance)
    }

    /// Puts a ready instance into the books: idle, to the next waiter, or away.
    pub(super) fn put(self) {
        let Self { instance, life, place } = self;
        let Some((pool, phase, permit)) = place.dissolve() else { return };
        let ready = Ready { instance, life, permit };
        let (put, waiting) = pool.with(|books| {
            let comes = Comes {
                now: now(),
                has_turn: pool.load.has_turn(),
                wanted: pool.budget.wanted(pool.id, pool.each),
                expires: life.expires,
            };
            let put = books.slots.put(phase, ready, comes);
            (put, books.slots.waiting() > 0)
        });
        match put {
            Put::Idle => pool.budget.keeps(pool.each),
            Put::Hand(waiter, ready) => waiter.hand(pool.held(Phase::Leased, ready)),
            Put::Surplus(ready) => pool.held(Phase::Leaving, ready).discard(),
        }
        if waiting && phase == Phase::Preparing {
            // A success ends the pause after a failure: others may make theirs now.
            pool.settle();
        }
    }
}

impl Life {
    fn begin(policy: &Policy, now: Instant) -> Self {
        Self {
            uses: 0,
            max_uses: policy.max_uses.clone().map_or(u64::MAX, fastrand::u64),
            expires: policy.max_lifetime.map(|time| expiry(now, time)),
        }
    }
}

impl<M: Manager> Place<M> {
    /// The future that makes this place's instance.
    pub(super) fn make(&self) -> Make<M> {
        let pool = Arc::clone(&self.pool);
        Box::pin(async move {
            let begun = now();
            let made = pool.manager.make().await;
            pool.took(begun);
            made
        })
    }

    /// Making has failed: nobody tries for a while, which is returned. The place is given up.
    pub(super) fn failed(self, error: M::Error) -> Duration {
        let now = now();
        let took = now.saturating_duration_since(self.begun);
        self.pool.with(|books| books.slots.failed(error, took, now))
    }

    /// The place is put back into the books by the caller; its drop ends no more than the turn then.
    fn dissolve(mut self) -> Option<(Arc<Shared<M>>, Phase, Permit)> {
        let permit = self.permit.take()?;
        Some((Arc::clone(&self.pool), self.phase, permit))
    }
}

impl<M: Manager> Drop for Place<M> {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            self.pool.vacate(self.phase, permit);
        }
    }
}

impl<M: Manager> Handed<M> {
    pub(super) fn new(held: Held<M>) -> Self {
        Self(Some(held))
    }

    pub(super) fn accept(mut self) -> Option<Held<M>> {
        self.0.take()
    }
}

impl<M: Manager> Drop for Handed<M> {
    fn drop(&mut self) {
        if let Some(held) = self.0.take() {
            held.put();
        }
    }
}

enum Settle<M: Manager> {
    Rest,
    Hand(Waiter<M>, Held<M>),
    Refuse(Waiter<M>, LeaseError<M::Error>),
    Grant(Option<Waiter<M>>, Permit),
}

/// When an instance that is made now has lived for long enough: give or take a tenth, so that not all expire at once.
pub fn expiry(now: Instant, max_lifetime: Duration) -> Instant {
    now + max_lifetime.mul_f64(0.9 + 0.2 * fastrand::f64())
}

/// The runtime's clock, so that tests can stop it.
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
