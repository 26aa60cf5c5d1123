//! A guest's future, as the host polls it: measured, and with its request's turn while it runs.
//!
//! Whether a guest runs or waits for something can only be seen here. While it waits its turn is another's; when it is
//! woken it has it again, at once if not too many run. It has it for as long as its owner has something to do for it, too:
//! a guest that writes its body byte by byte waits after each, and would have to line up as often.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::sync::oneshot;

use super::clock::CpuClock;
use crate::pool::Turn;

/// A guest's future whose polls are measured, and which takes its request's turn only while it runs.
pub struct Measured<F> {
    guest: F,
    clock: Arc<CpuClock>,
    /// None if it is no request's.
    runs: Option<(Arc<Runs>, Waker)>,
    /// It could go on and waits until fewer do.
    place: Option<oneshot::Receiver<()>>,
}

/// Whether the guest runs, or could. It is its own waker, and wakes the task.
struct Runs {
    turn: Arc<Turn>,
    /// The last poll ended with the guest waiting.
    waits: AtomicBool,
    /// Woken since the last poll began.
    woken: AtomicBool,
    /// It is not polled, whatever wakes it: it was set aside, or its future is gone.
    is_aside: AtomicBool,
    task: AtomicWaker,
}

impl<F: Future + Unpin> Measured<F> {
    pub fn new(guest: F, clock: Arc<CpuClock>, turn: Option<Arc<Turn>>) -> Self {
        clock.set_turn(turn.clone());
        let runs = turn.map(|turn| {
            let runs = Arc::new(Runs::new(turn));
            let waker = Waker::from(Arc::clone(&runs));
            (runs, waker)
        });
        Measured { guest, clock, runs, place: None }
    }
}

impl<F: Future + Unpin> Future for Measured<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Self { guest, clock, runs, place } = self.get_mut();
        let Some((runs, waker)) = runs else {
            clock.enter();
            let polled = Pin::new(guest).poll(cx);
            clock.leave();
            return polled;
        };
        runs.begin(cx);
        let mut cx = Context::from_waker(waker);
        if place.is_none() {
            *place = runs.turn.go_on();
        }
        if let Some(next) = place
            && !runs.turn.is_running()
            && Pin::new(next).poll(&mut cx).is_pending()
        {
            return Poll::Pending;
        }
        *place = None;
        runs.turn.resume();
        clock.enter();
        let polled = Pin::new(guest).poll(&mut cx);
        let inside = clock.leave();
        runs.end(inside, polled.is_pending() && !clock.gave_way());
        polled
    }
}

impl<F> Measured<F> {
    /// The turn of the request that it is for.
    pub fn turn(&self) -> Option<&Arc<Turn>> {
        self.runs.as_ref().map(|(runs, _)| &runs.turn)
    }

    /// Its owner has nothing more to do for it: if it waits, its turn is another's until it is woken.
    pub fn rest(&self) {
        if let Some((runs, _)) = &self.runs {
            runs.rest();
        }
    }

    /// Until its next poll the guest does not run, even if it could: its owner waits for something else.
    pub fn set_aside(&self) {
        if let Some((runs, _)) = &self.runs {
            runs.is_aside.store(true, SeqCst);
            runs.turn.pause();
        }
    }
}

impl<F> Drop for Measured<F> {
    /// What the guest waited for may still have its waker.
    fn drop(&mut self) {
        self.set_aside();
        if self.runs.is_some() {
            self.clock.set_turn(None);
        }
    }
}

impl Runs {
    fn new(turn: Arc<Turn>) -> Self {
        Runs {
            turn,
            waits: AtomicBool::new(false),
            woken: AtomicBool::new(false),
            is_aside: AtomicBool::new(false),
            task: AtomicWaker::new(),
        }
    }

    fn begin(&self, cx: &Context<'_>) {
        self.task.register(cx.waker());
        self.waits.store(false, SeqCst);
        self.woken.store(false, SeqCst);
        self.is_aside.store(false, SeqCst);
    }

    fn end(&self, inside: Duration, waits: bool) {
        self.turn.worked(inside, waits);
        self.waits.store(waits, SeqCst);
    }

    fn rest(&self) {
        if self.waits.load(SeqCst) && !self.woken.load(SeqCst) {
            self.turn.pause();
            // It may have been woken since the look.
            if self.woken.load(SeqCst) {
                self.turn.woken();
            }
        }
    }
}

impl Wake for Runs {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, SeqCst);
        if !self.is_aside.load(SeqCst) {
            self.turn.woken();
            // It may have been set aside since the look.
            if self.is_aside.load(SeqCst) {
                self.turn.pause();
            }
        }
        self.task.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::poll_fn;
    use std::rc::Rc;

    use super::*;
    use crate::pool::{Cores, Load};

    /// A guest that waits, with a waker that it leaves behind.
    #[test]
    fn a_turn_is_had_by_a_guest_that_runs_or_could_and_by_no_other() {
        let load = Load::new(Arc::<Cores>::default(), 1);
        let kept: Arc<std::sync::Mutex<Option<Waker>>> = Arc::default();
        let keeps = Arc::clone(&kept);
        let guest = poll_fn(move |cx| {
            *keeps.lock().unwrap() = Some(cx.waker().clone());
            Poll::<()>::Pending
        });
        let clock = CpuClock::new(Duration::from_secs(1));
        let mut measured = Measured::new(guest, clock, Some(load.turn()));
        let poll = |measured: &mut Measured<_>| {
            assert!(Pin::new(&mut *measured).poll(&mut Context::from_waker(Waker::noop())).is_pending());
            measured.rest();
        };
        assert_eq!(load.running(), 1);
        assert!(Pin::new(&mut measured).poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert_eq!(load.running(), 1, "there may be something to be done for it");
        measured.rest();
        assert_eq!(load.running(), 0, "it waits");
        let waker = kept.lock().unwrap().clone().unwrap();
        waker.wake_by_ref();
        waker.wake_by_ref();
        assert_eq!(load.running(), 1, "it could run");
        poll(&mut measured);
        waker.wake_by_ref();
        measured.set_aside();
        waker.wake_by_ref();
        assert_eq!(load.running(), 0, "nobody polls it");
        poll(&mut measured);
        waker.wake_by_ref();
        drop(measured);
        assert_eq!(load.running(), 0);
        waker.wake();
        assert_eq!(load.running(), 0);
    }

    /// Guests that wait, woken all at once: each goes on once, and of a pool with one processor never more than four.
    #[test]
    fn those_that_are_woken_together_go_on_a_few_at_a_time() {
        let cores = Arc::<Cores>::default();
        cores.set_threads(1);
        let load = Load::new(cores, 1);
        let polls = Rc::new(Cell::new(0));
        let mut guests: Vec<_> = (0..20)
            .map(|_| {
                let polls = polls.clone();
                let guest = poll_fn(move |_| {
                    polls.set(polls.get() + 1);
                    Poll::<()>::Pending
                });
                Measured::new(guest, CpuClock::new(Duration::from_secs(1)), Some(load.turn()))
            })
            .collect();
        let poll = |guest: &mut Measured<_>| {
            assert!(Pin::new(&mut *guest).poll(&mut Context::from_waker(Waker::noop())).is_pending());
            guest.rest();
        };
        guests.iter_mut().for_each(poll);
        assert_eq!((polls.get(), load.running()), (20, 0), "all wait");
        for guest in &guests {
            guest.runs.as_ref().unwrap().1.wake_by_ref();
        }
        assert_eq!(load.running(), 4);
        // The later ones first: they have to wait for those that were woken before.
        guests.iter_mut().rev().take(16).for_each(poll);
        assert_eq!((polls.get(), load.running()), (20, 4));
        for round in 0..5 {
            guests.iter_mut().filter(|guest| guest.runs.as_ref().unwrap().0.turn.is_running()).for_each(poll);
            assert!(load.running() <= 4, "in round {round}");
        }
        assert_eq!((polls.get(), load.running()), (40, 0), "each went on");
        for guest in &guests {
            guest.runs.as_ref().unwrap().1.wake_by_ref();
        }
        guests.iter_mut().rev().take(16).for_each(poll);
        drop(guests);
        assert_eq!(load.running(), 0, "also if they are gone before");
    }
}
