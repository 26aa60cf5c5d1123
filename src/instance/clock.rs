//! The first of the two clocks: time spent inside the guest.
//!
//! Epochs count wall time, so they can't measure a guest; they only give the host the chance to look. What is
//! measured is the time inside the polls of the guest's future ([`Measured`]), summed for the request and compared
//! with its limit at each interruption. The second clock, the deadline on the whole request, is kept by the exchange.
//!
//! The same place knows whether the guest runs or waits for something: while it waits, its request's turn is another's.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;
use wasmtime::UpdateDeadline;

use crate::pool::Turn;

/// The guest used more time than its `cpu_time`.
#[derive(Debug, thiserror::Error)]
#[error("the guest used up its cpu_time of {0:?}")]
pub struct CpuTimeExceeded(pub Duration);

/// The time one instance has spent inside its guest. Written by the task that polls the guest and read, in the same
/// thread, by the interruptions within that poll: the atomics are there for sharing, not for races.
#[derive(Debug)]
pub struct CpuClock {
    origin: Instant,
    limit: Duration,
    /// Nanoseconds of finished polls.
    used: AtomicU64,
    /// The guest was interrupted in the poll under way: it has more to do.
    interrupted: AtomicBool,
    /// Start of the poll under way, in nanoseconds since `origin`.
    entered: AtomicU64,
}

impl CpuClock {
    pub fn new(limit: Duration) -> Arc<CpuClock> {
        Arc::new(CpuClock {
            origin: Instant::now(),
            limit,
            used: AtomicU64::new(0),
            interrupted: AtomicBool::new(false),
            entered: AtomicU64::new(0),
        })
    }

    /// Time inside the guest up to now, in finished polls.
    pub fn used(&self) -> Duration {
        Duration::from_nanos(self.used.load(Relaxed))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn enter(&self) {
        self.interrupted.store(false, Relaxed);
        self.entered.store(self.now(), Relaxed);
    }

    /// The poll is over; returns how long it took.
    fn leave(&self) -> Duration {
        let inside = self.now().saturating_sub(self.entered.load(Relaxed));
        self.used.fetch_add(inside, Relaxed);
        Duration::from_nanos(inside)
    }

    /// What to do at an interruption: let others run and go on, or end the guest.
    pub fn interrupted(&self) -> wasmtime::Result<UpdateDeadline> {
        let inside = self.now().saturating_sub(self.entered.load(Relaxed));
        let used = Duration::from_nanos(self.used.load(Relaxed).saturating_add(inside));
        if used > self.limit {
            return Err(wasmtime::Error::new(CpuTimeExceeded(self.limit)));
        }
        self.interrupted.store(true, Relaxed);
        // Not a plain yield: that would put the guest at the front of the queue again.
        Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
    }
}

/// A guest's future whose polls are measured, and which takes its request's turn only while it runs.
pub struct Measured<F> {
    guest: F,
    clock: Arc<CpuClock>,
    runs: Arc<Runs>,
    /// Wakes `runs`, and by it the task.
    waker: Waker,
}

/// Whether the guest runs, or could.
struct Runs {
    turn: Option<Turn>,
    /// Woken since the last poll began.
    woken: AtomicBool,
    /// It is not polled, whatever wakes it: it was set aside, or its future is gone.
    is_aside: AtomicBool,
    task: AtomicWaker,
}

impl<F: Future + Unpin> Measured<F> {
    pub fn new(guest: F, clock: Arc<CpuClock>, turn: Option<Turn>) -> Self {
        let runs = Arc::new(Runs {
            turn,
            woken: AtomicBool::new(false),
            is_aside: AtomicBool::new(false),
            task: AtomicWaker::new(),
        });
        Measured { guest, clock, waker: Waker::from(runs.clone()), runs }
    }
}

impl<F: Future + Unpin> Future for Measured<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Self { guest, clock, runs, waker } = self.get_mut();
        runs.begin(cx);
        clock.enter();
        let polled = Pin::new(guest).poll(&mut Context::from_waker(waker));
        let inside = clock.leave();
        // An interrupted guest has given way to others and goes on when it can.
        let waits = polled.is_pending() && !clock.interrupted.load(Relaxed);
        runs.end(inside, waits);
        polled
    }
}

impl<F> Measured<F> {
    /// Until its next poll the guest does not run, even if it could: its owner waits for something else.
    pub fn set_aside(&self) {
        self.runs.is_aside.store(true, SeqCst);
        if let Some(turn) = &self.runs.turn {
            turn.pause();
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
    fn begin(&self, cx: &Context<'_>) {
        self.task.register(cx.waker());
        self.woken.store(false, SeqCst);
        self.is_aside.store(false, SeqCst);
        if let Some(turn) = &self.turn {
            turn.resume();
        }
    }

    fn end(&self, inside: Duration, waits: bool) {
        let Some(turn) = &self.turn else { return };
        turn.worked(inside);
        if waits && !self.woken.load(SeqCst) {
            turn.pause();
            // It may have been woken since the look.
            if self.woken.load(SeqCst) {
                turn.resume();
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
        if let Some(turn) = &self.turn
            && !self.is_aside.load(SeqCst)
        {
            turn.resume();
            // It may have been set aside since the look.
            if self.is_aside.load(SeqCst) {
                turn.pause();
            }
        }
        self.task.wake();
    }
}
