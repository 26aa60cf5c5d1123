//! What goes on beside the requests: making, resetting and dropping instances, opening and closing the pool.
//!
//! Every task here owns the place of the instance that it works on, so it may end at any point.

use std::sync::Arc;
use std::time::Instant;

use tokio::runtime::Handle;

use super::load::Turn;
use super::shared::{Held, Life, Make, Place, Shared, now};
use super::slots::Phase;
use super::{AtOnce, LeaseError, Manager, PrewarmError, Tended};
use crate::after_poll;

impl<M: Manager> Shared<M> {
    pub(super) async fn prewarm(self: &Arc<Self>) -> Result<(), PrewarmError<M::Error>> {
        while self.with(|books| books.slots.lacks_idle()) {
            let place = self.place_to_prewarm()?;
            let make = place.make();
            // Cancellation safety: the place is given up.
            make_for_all(place, make).await.map_err(PrewarmError::Make)?;
        }
        match self.with(|books| books.slots.is_closed()) {
            true => Err(PrewarmError::Closed),
            false => Ok(()),
        }
    }

    fn place_to_prewarm(self: &Arc<Self>) -> Result<Place<M>, PrewarmError<M::Error>> {
        // An order to try is obeyed, also in the pause after a failure.
        let begin = || self.begin_if(|books| books.slots.lacks_idle());
        let place = begin().or_else(|| {
            self.budget.reclaim(self.each);
            begin()
        });
        place.ok_or(PrewarmError::NoRoom)
    }

    /// Makes one instance in the background, if too few are idle.
    pub(super) fn refill(self: &Arc<Self>, now: Instant) {
        let Ok(runtime) = Handle::try_current() else { return };
        if let Some(place) = self.begin_if(|books| books.slots.is_short(now)) {
            let make = place.make();
            runtime.spawn(make_for_all(place, make));
        }
    }

    pub(super) fn tend(self: &Arc<Self>, now: Instant) -> Tended {
        self.load.assess(now);
        self.with(|books| books.slots.tick(now));
        let leaving: Vec<_> = std::iter::from_fn(|| self.with(|books| books.slots.retire(now)))
            .map(|ready| self.held(Phase::Leaving, ready))
            .collect();
        let (retired, begun) = (leaving.len(), self.top_up(now));
        discard_all(leaving);
        // Whoever has waited for too long while nothing else happened.
        self.settle();
        self.budget.look_again(self.id);
        if self.with(|books| books.slots.is_at_rest()) {
            self.manager.rest();
        }
        Tended { retired, begun }
    }

    fn top_up(self: &Arc<Self>, now: Instant) -> usize {
        let Ok(runtime) = Handle::try_current() else { return 0 };
        // Bounded by itself: a runtime that goes down drops each task at once, and nothing is ever topped up.
        let places = (0..self.policy.max).map_while(|_| self.begin_if(|books| books.slots.is_short(now)));
        places
            .map(|place| {
                let make = place.make();
                runtime.spawn(make_for_all(place, make));
            })
            .count()
    }

    pub(super) fn close(self: &Arc<Self>) {
        let (idle, waiters) = self.with(|books| books.slots.close());
        for waiter in waiters {
            drop(waiter.answer.send(Err(LeaseError::Closed)));
        }
        discard_all(idle.into_iter().map(|ready| self.held(Phase::Leaving, ready)).collect());
        self.note_drained();
    }

    pub(super) async fn drained(&self) {
        loop {
            let emptied = self.emptied.notified();
            tokio::pin!(emptied);
            // Before the look at the books, so that nothing is missed in between.
            emptied.as_mut().enable();
            if self.with(|books| books.slots.is_drained()) {
                return;
            }
            emptied.await;
        }
    }
}

impl<M: Manager> Held<M> {
    /// Resets the instance: when the poll that ends its lease has sent the answer off, if that is soon done, else in a task
    /// of its own. The request's turn ends when its instance can be had again, or at once.
    pub(super) fn reset_soon(self, turn: Option<Arc<Turn>>) {
        let manager = &self.place.pool.manager;
        if after_poll::can_put_off() && manager.is_soon_reset(&self.instance) {
            after_poll::put_off(move || {
                self.reset_now();
                drop(turn);
            });
        } else {
            after_requests(reset(self));
        }
    }

    fn reset_now(self) {
        let Held { instance, life, place } = self;
        let begun = now();
        match place.pool.manager.reset_at_once(instance) {
            AtOnce::Later(instance) => after_requests(reset(Held { instance, life, place })),
            AtOnce::Done(instance) => {
                place.pool.took(begun);
                Held::reset(instance, life, place).put();
            }
        }
    }

    /// An instance that was just reset: as new, but for the count of its leases.
    fn reset(instance: M::Instance, before: Life, place: Place<M>) -> Self {
        let mut held = Held::new(instance, place);
        held.life.uses = before.uses;
        held
    }

    /// Drops the instance in a task of its own: that takes as long as a small request.
    pub(super) fn discard(self) {
        after_requests(async move { drop(self) });
    }
}

fn discard_all<M: Manager>(leaving: Vec<Held<M>>) {
    if leaving.is_empty() {
        return;
    }
    after_requests(async move {
        for held in leaving {
            drop(held);
            tokio::task::yield_now().await;
        }
    });
}

/// Does work in a task of its own, behind the requests that are ready: Tokio runs a task that was just spawned before
/// all others, so each reset would delay the next request of its thread by as long as a small request takes.
///
/// Outside a runtime the work is dropped on the spot, and the instance with it.
fn after_requests(work: impl Future<Output = ()> + Send + 'static) {
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(async move {
            tokio::task::yield_now().await;
            work.await;
        });
    }
}

/// Makes an instance for the first waiter or to be idle.
///
/// The place is the first argument, so that it is dropped after the other if this is never polled.
pub(super) async fn make_for_all<M: Manager>(place: Place<M>, make: Make<M>) -> Result<(), M::Error> {
    match make.await {
        Ok(instance) => {
            Held::new(instance, place).put();
            Ok(())
        }
        Err(error) => {
            place.failed(error.clone());
            Err(error)
        }
    }
}

async fn reset<M: Manager>(used: Held<M>) {
    let Held { instance, life, place } = used;
    let begun = now();
    let result = place.pool.manager.reset(instance).await;
    place.pool.took(begun);
    if let Ok(instance) = result {
        Held::reset(instance, life, place).put();
    }
    // Else the place is given up here, and a waiter or the minimum has another instance made.
}
