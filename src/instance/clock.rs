//! The first of the two clocks: time spent inside the guest.
//!
//! Epochs count wall time, so they can't measure a guest; they only give the host the chance to look. What is
//! measured is the time inside the polls of the guest's future ([`Measured`]), summed for the request and compared
//! with its limit at each interruption. The second clock, the deadline on the whole request, is kept by the exchange.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use wasmtime::UpdateDeadline;

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
    /// Start of the poll under way, in nanoseconds since `origin`.
    entered: AtomicU64,
}

impl CpuClock {
    pub fn new(limit: Duration) -> Arc<CpuClock> {
        Arc::new(CpuClock {
            origin: Instant::now(),
            limit,
            used: AtomicU64::new(0),
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
        self.entered.store(self.now(), Relaxed);
    }

    fn leave(&self) {
        let inside = self.now().saturating_sub(self.entered.load(Relaxed));
        self.used.fetch_add(inside, Relaxed);
    }

    /// What to do at an interruption: let others run and go on, or end the guest.
    pub fn interrupted(&self) -> wasmtime::Result<UpdateDeadline> {
        let inside = self.now().saturating_sub(self.entered.load(Relaxed));
        let used = Duration::from_nanos(self.used.load(Relaxed).saturating_add(inside));
        if used > self.limit {
            return Err(wasmtime::Error::new(CpuTimeExceeded(self.limit)));
        }
        // Not a plain yield: that would put the guest at the front of the queue again.
        Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
    }
}

/// A guest's future whose polls are measured.
pub struct Measured<F> {
    guest: F,
    clock: Arc<CpuClock>,
}

impl<F: Future + Unpin> Measured<F> {
    pub fn new(guest: F, clock: Arc<CpuClock>) -> Self {
        Measured { guest, clock }
    }
}

impl<F: Future + Unpin> Future for Measured<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.clock.enter();
        let polled = Pin::new(&mut self.guest).poll(cx);
        self.clock.leave();
        polled
    }
}
