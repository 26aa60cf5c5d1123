//! A request's way to an instance and back: idle, or made, or waited for; then reset, kept or dropped.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::{self, Instant};

use super::cores::{gives_way, should_give_way};
use super::load::Turn;
use super::maintenance::make_for_all;
use super::shared::{Books, Grant, Handed, Held, Make, Place, Shared, Waiter, now};
use super::slots::{Ask, Ended, Key, Made, Phase};
use super::{End, LeaseError, Manager, OnEnd};

/// An instance taken from its pool for one request. End it with [`Lease::end`]; dropping it discards the instance.
pub struct Lease<M: Manager> {
    /// `None` once it has ended.
    held: Option<Held<M>>,
    /// How long the request made its instance itself.
    made: Option<Duration>,
}

impl<M: Manager> Lease<M> {
    /// Gives the instance back. Never waits and is cheap: what takes time is done by a task of its own.
    pub fn end(mut self, end: End) {
        if let Some(mut held) = self.held.take() {
            held.life.uses += 1;
            let end = if held.is_spent() { End::Spoiled } else { end };
            held.end(end);
        }
    }

    /// How many leases of this instance have ended before.
    pub fn uses(&self) -> u64 {
        self.held.as_ref().map_or(0, |held| held.life.uses)
    }

    /// The request's turn to run, to be paused while it waits for something and dropped when it has ended; else it runs
    /// until the lease ends.
    pub fn take_turn(&mut self) -> Option<Arc<Turn>> {
        self.held.as_mut()?.place.turn.take()
    }

    /// How long the request made its instance itself; `None` if one was ready.
    pub fn made_in(&self) -> Option<Duration> {
        self.made
    }
}

impl<M: Manager> Deref for Lease<M> {
    type Target = M::Instance;

    fn deref(&self) -> &M::Instance {
        match &self.held {
            Some(held) => &held.instance,
            None => unreachable!("a lease holds its instance until it ends"),
        }
    }
}

impl<M: Manager> DerefMut for Lease<M> {
    fn deref_mut(&mut self) -> &mut M::Instance {
        match &mut self.held {
            Some(held) => &mut held.instance,
            None => unreachable!("a lease holds its instance until it ends"),
        }
    }
}

impl<M: Manager> Drop for Lease<M> {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            held.end(End::Spoiled);
        }
    }
}

impl<M: Manager> Held<M> {
    fn end(mut self, end: End) {
        let turn = self.place.turn.take();
        let pool = &self.place.pool;
        let ended = pool.with(|books| books.slots.end(end, pool.budget.wanted(pool.id, pool.each)));
        match ended {
            Ended::Keep => self.put(),
            Ended::Reset => {
                self.place.phase = Phase::Resetting;
                return self.reset_soon(turn);
            }
            Ended::Discard => {
                self.place.phase = Phase::Leaving;
                self.discard();
            }
        }
        // Last, so that who waits for it finds what was put back.
        drop(turn);
    }
}

/// What a request for an instance comes to at first.
enum Asked<M: Manager> {
    Granted(Grant<M>),
    Queued(Waiting<M>),
    Refused(LeaseError<M::Error>),
    /// There is no permit and no place to wait for one.
    NoPermit(LeaseError<M::Error>),
}

impl<M: Manager> Shared<M> {
    pub(super) async fn lease(self: &Arc<Self>) -> Result<Lease<M>, LeaseError<M::Error>> {
        let now = now();
        let is_gated = self.load.is_gated(now);
        if !(is_gated && should_give_way(now))
            && let Some(lease) = self.lease_idle(now)
        {
            return Ok(lease);
        }
        self.lease_in_time(is_gated).await
    }

    /// The fast path: one short lock, no await. None also if the request has to wait for its turn.
    fn lease_idle(self: &Arc<Self>, now: std::time::Instant) -> Option<Lease<M>> {
        if !self.load.has_turn() {
            return None;
        }
        let (ready, lacks_idle) = self.with(|books| (books.slots.take(), books.slots.lacks_idle()));
        let lease = Lease { held: Some(self.held(Phase::Leased, ready?)), made: None };
        if lacks_idle {
            self.refill(now);
        }
        Some(lease)
    }

    async fn lease_in_time(self: &Arc<Self>, is_gated: bool) -> Result<Lease<M>, LeaseError<M::Error>> {
        let deadline = Instant::now() + self.policy.queue_timeout;
        let grant = self.in_time(deadline, self.granted()).await?;
        if is_gated && gives_way(now()) {
            // To the end of the runtime's line, behind a look at the sockets: those who are ready ask first, so that it is
            // seen who has to wait, and those of other pools pass by. Whoever was just woken would else go before all.
            // Without a time limit: a timer for that moment would cost more than the moment.
            tokio::task::yield_now().await;
        }
        match grant {
            Grant::Ready(handed) => Ok(Lease { held: handed.accept(), made: None }),
            // Cancellation safety: `Making` finishes for others what was begun.
            Grant::Make(place) => self.in_time(deadline, Making::begin(place).lease()).await,
        }
    }

    async fn in_time<T>(
        &self,
        deadline: Instant,
        work: impl Future<Output = Result<T, LeaseError<M::Error>>>,
    ) -> Result<T, LeaseError<M::Error>> {
        time::timeout_at(deadline, work).await.unwrap_or_else(|_| {
            self.with(|books| books.slots.note_timed_out());
            Err(LeaseError::TimedOut)
        })
    }

    async fn granted(self: &Arc<Self>) -> Result<Grant<M>, LeaseError<M::Error>> {
        let asked = match self.ask() {
            Asked::NoPermit(_) => {
                self.budget.reclaim(self.each);
                self.ask()
            }
            asked => asked,
        };
        match asked {
            Asked::Granted(grant) => Ok(grant),
            // Cancellation safety: `Waiting` leaves the queue, and a grant that has come is passed on.
            Asked::Queued(waiting) => waiting.answer().await,
            Asked::Refused(error) | Asked::NoPermit(error) => {
                self.with(|books| books.slots.note_refused());
                Err(error)
            }
        }
    }

    fn ask(self: &Arc<Self>) -> Asked<M> {
        let now = now();
        let asked = self.with(|books| match books.slots.ask(now, self.load.has_turn()) {
            Ask::Idle(ready) => Ok(Grant::Ready(Handed::new(self.held(Phase::Leased, ready)))),
            Ask::Wait => Err(self.queue(books).map_or_else(Asked::Refused, Asked::Queued)),
            Ask::Room => match self.permit_or_join(books) {
                Some(permit) => {
                    books.slots.begin();
                    Ok(Grant::Make(self.place_to_make(permit)))
                }
                None => Err(self.queue(books).map_or_else(Asked::NoPermit, Asked::Queued)),
            },
            Ask::Closed => Err(Asked::Refused(LeaseError::Closed)),
            Ask::NoMemory => Err(Asked::Refused(LeaseError::NoMemory)),
            Ask::Failing { error, retry_after } => {
                Err(Asked::Refused(LeaseError::Failing { error, retry_after }))
            }
        });
        if matches!(asked, Err(Asked::Queued(_))) {
            // The last turn may just have ended, with nobody in the queue yet; and the oldest there may have waited for
            // too long.
            self.settle();
        }
        asked.map_or_else(|asked| asked, Asked::Granted)
    }

    fn queue(self: &Arc<Self>, books: &mut Books<M>) -> Result<Waiting<M>, LeaseError<M::Error>> {
        if !self.budget.enter_queue() {
            return Err(LeaseError::Saturated);
        }
        let (sender, receiver) = oneshot::channel();
        match books.slots.enqueue(Waiter { answer: sender }, now()) {
            Ok(key) => Ok(Waiting { pool: Arc::clone(self), key: Some(key), answer: receiver }),
            Err(_) => {
                self.budget.leave_queue(1);
                Err(LeaseError::Full)
            }
        }
    }
}

/// A queued request, as the request holds it. Dropping it leaves the queue.
struct Waiting<M: Manager> {
    pool: Arc<Shared<M>>,
    /// `None` once it has been answered.
    key: Option<Key>,
    answer: oneshot::Receiver<Result<Grant<M>, LeaseError<M::Error>>>,
}

impl<M: Manager> Waiting<M> {
    async fn answer(mut self) -> Result<Grant<M>, LeaseError<M::Error>> {
        let answer = (&mut self.answer).await;
        self.key = None;
        answer.unwrap_or(Err(LeaseError::Closed))
    }
}

impl<M: Manager> Drop for Waiting<M> {
    fn drop(&mut self) {
        // First out of the queue, then the receiver goes: who finds a waiter in the queue can nearly always reach it.
        if let Some(key) = self.key.take() {
            drop(self.pool.with(|books| books.slots.leave(key)));
        }
    }
}

/// An instance that is being made in a request's own task. If the request goes away it is finished for others:
/// otherwise an app that starts more slowly than its clients give up would never be ready.
struct Making<M: Manager> {
    make: Option<(Make<M>, Place<M>)>,
}

impl<M: Manager> Making<M> {
    fn begin(place: Place<M>) -> Self {
        Self { make: Some((place.make(), place)) }
    }

    async fn lease(mut self) -> Result<Lease<M>, LeaseError<M::Error>> {
        let begun = Instant::now();
        let made = match &mut self.make {
            Some((make, _)) => make.await,
            None => unreachable!("it is taken below or when this is dropped"),
        };
        let Some((_, place)) = self.make.take() else { return Err(LeaseError::Closed) };
        match made {
            Ok(instance) => place.lease(instance, begun.elapsed()),
            Err(error) => Err(LeaseError::Failing { retry_after: place.failed(error.clone()), error }),
        }
    }
}

impl<M: Manager> Drop for Making<M> {
    fn drop(&mut self) {
        let Some((make, mut place)) = self.make.take() else { return };
        let is_useful = place.pool.policy.max_idle > 0 || place.pool.policy.on_end != OnEnd::Drop;
        // A future that panicked must not be polled again.
        if is_useful
            && !std::thread::panicking()
            && let Ok(runtime) = Handle::try_current()
        {
            // There is no request any more that could run.
            drop(place.turn.take());
            runtime.spawn(make_for_all(place, make));
            return;
        }
        drop(make);
    }
}

impl<M: Manager> Place<M> {
    /// A caller's own instance is ready.
    fn lease(mut self, instance: M::Instance, took: Duration) -> Result<Lease<M>, LeaseError<M::Error>> {
        let (made, waiting) = self.pool.with(|books| (books.slots.made(), books.slots.waiting() > 0));
        let pool = Arc::clone(&self.pool);
        self.phase = match made {
            Made::Leased => Phase::Leased,
            Made::Closed => Phase::Leaving,
        };
        let held = Held::new(instance, self);
        if made == Made::Closed {
            held.discard();
            return Err(LeaseError::Closed);
        }
        let lease = Lease { held: Some(held), made: Some(took) };
        if waiting {
            // A success ends the pause after a failure: others may make theirs now.
            pool.settle();
        }
        Ok(lease)
    }
}
