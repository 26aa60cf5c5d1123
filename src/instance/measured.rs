//! A guest's future, as the host polls it: measured, and with its request's turn while it runs.
//!
//! Whether a guest runs or waits for something can only be seen here. While it waits its turn is another's; when it is
//! woken it has it again at once, and the others have one less.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_util::task::AtomicWaker;

use super::clock::CpuClock;
use crate::pool::Turn;

/// A guest's future whose polls are measured, and which takes its request's turn only while it runs.
pub struct Measured<F> {
    guest: F,
    clock: Arc<CpuClock>,
    /// None if it is no request's.
    runs: Option<(Arc<Runs>, Waker)>,
}

/// Whether the guest runs, or could. It is its own waker, and wakes the task.
struct Runs {
    turn: Turn,
    /// Woken since the last poll began.
    woken: AtomicBool,
    /// It is not polled, whatever wakes it: it was set aside, or its future is gone.
    is_aside: AtomicBool,
    task: AtomicWaker,
}

impl<F: Future + Unpin> Measured<F> {
    pub fn new(guest: F, clock: Arc<CpuClock>, turn: Option<Turn>) -> Self {
        let runs = turn.map(|turn| {
            let runs = Arc::new(Runs::new(turn));
            let waker = Waker::from(Arc::clone(&runs));
            (runs, waker)
        });
        Measured { guest, clock, runs }
    }
}

impl<F: Future + Unpin> Future for Measured<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Self { guest, clock, runs } = self.get_mut();
        let Some((runs, waker)) = runs else {
            clock.enter();
            let polled = Pin::new(guest).poll(cx);
            clock.leave();
            return polled;
        };
        runs.begin(cx);
        clock.enter();
        let polled = Pin::new(guest).poll(&mut Context::from_waker(waker));
        let inside = clock.leave();
        runs.end(inside, polled.is_pending() && !clock.gave_way());
        polled
    }
}

impl<F> Measured<F> {
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
    }
}

impl Runs {
    fn new(turn: Turn) -> Self {
        let (woken, is_aside) = (AtomicBool::new(false), AtomicBool::new(false));
        Runs { turn, woken, is_aside, task: AtomicWaker::new() }
    }

    fn begin(&self, cx: &Context<'_>) {
        self.task.register(cx.waker());
        self.woken.store(false, SeqCst);
        self.is_aside.store(false, SeqCst);
        self.turn.resume();
    }

    fn end(&self, inside: Duration, waits: bool) {
        self.turn.worked(inside);
        if waits && !self.woken.load(SeqCst) {
            self.turn.pause();
            // It may have been woken since the look.
            if self.woken.load(SeqCst) {
                self.turn.resume();
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
            self.turn.resume();
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
    use std::future::poll_fn;

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
            assert!(Pin::new(measured).poll(&mut Context::from_waker(Waker::noop())).is_pending());
        };
        assert_eq!(load.running(), 1);
        poll(&mut measured);
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
}
