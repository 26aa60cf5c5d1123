//! The first of the two clocks: time spent inside the guest.
//!
//! Epochs count wall time, so they can't measure a guest; they only give the host the chance to look. What is
//! measured is the time inside the polls of the guest's future ([`super::measured`]), summed for the request and compared
//! with its limit at each interruption. The second clock, the deadline on the whole request, is kept by the exchange.
//!
//! There are two rulers. A poll is measured by wall time, which costs next to nothing, as long as the guest has not
//! been interrupted; where that took longer than a guest runs without an interruption, it is taken for no more than what
//! the thread has had of the processor since that was last asked, a moment before. One that was interrupted uses the
//! processor in earnest: from then on its polls are measured by the thread's processor time. So a busy machine neither
//! ends it early nor makes its account wrong.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use wasmtime::UpdateDeadline;

use crate::engine::thread_cpu_time;
use crate::pool::{Turn, nanoseconds};

/// What a guest may use of the processor before it cedes its turn to others that wait for one. Most requests need less,
/// and end sooner if they run without a break.
const LONG: Duration = Duration::from_millis(50);

/// Wall time in which the kernel may well have run something else.
const DOUBTFUL: Duration = Duration::from_millis(4);

/// How old may be what is known of a thread's processor time: so a stretch may be taken for so much longer than it was.
const STALE: Duration = Duration::from_millis(1);

thread_local! {
    /// What this thread had had of the processor, and when that was asked.
    static HAD: Cell<Option<(Instant, Duration)>> = const { Cell::new(None) };
}

/// What this thread has had of the processor, as of a moment ago: that costs next to nothing.
fn thread_had(now: Instant) -> Duration {
    if let Some((asked, had)) = HAD.get()
        && now.saturating_duration_since(asked) < STALE
    {
        return had;
    }
    let had = thread_cpu_time();
    HAD.set(Some((now, had)));
    had
}

/// The guest used more time than its `cpu_time`.
#[derive(Debug, thiserror::Error)]
#[error("the guest used up its cpu_time of {0:?}")]
pub struct CpuTimeExceeded(pub Duration);

/// The time one instance has spent inside its guest. Written by the task that polls the guest and read, in the same
/// thread, by the interruptions within that poll: the atomics are there for sharing, not for races.
pub struct CpuClock {
    origin: Instant,
    limit: Duration,
    /// Nanoseconds of finished polls.
    used: AtomicU64,
    /// Start of the poll under way, by its ruler.
    entered: AtomicU64,
    /// What the thread had had of the processor a moment before, if the ruler is not that.
    had: AtomicU64,
    /// The poll under way is measured by the thread's processor time.
    by_thread: AtomicBool,
    /// The guest was interrupted: the next polls are.
    was_interrupted: AtomicBool,
    /// It was interrupted in the stretch under way: it has more to do.
    gave_way: AtomicBool,
    /// The request's turn to run, and the time used when it began.
    turn: Mutex<Option<(Arc<Turn>, Duration)>>,
}

impl CpuClock {
    pub fn new(limit: Duration) -> Arc<CpuClock> {
        Arc::new(CpuClock {
            origin: Instant::now(),
            limit,
            used: AtomicU64::new(0),
            entered: AtomicU64::new(0),
            had: AtomicU64::new(0),
            by_thread: AtomicBool::new(false),
            was_interrupted: AtomicBool::new(false),
            gave_way: AtomicBool::new(false),
            turn: Mutex::new(None),
        })
    }

    /// Time inside the guest up to now, in finished polls; the clock stands at zero then.
    pub fn take(&self) -> Duration {
        self.was_interrupted.store(false, Relaxed);
        Duration::from_nanos(self.used.swap(0, Relaxed))
    }

    /// A request's turn begins, or it is over.
    pub fn set_turn(&self, turn: Option<Arc<Turn>>) {
        *self.turn.lock() = turn.map(|turn| (turn, Duration::from_nanos(self.used.load(Relaxed))));
    }

    /// Begins a stretch of time: a poll of the guest, or something else that is done for it.
    pub fn enter(&self) {
        self.gave_way.store(false, Relaxed);
        if self.was_interrupted.load(Relaxed) {
            self.by_thread.store(true, Relaxed);
            self.entered.store(nanoseconds(thread_cpu_time()), Relaxed);
        } else {
            let now = Instant::now();
            self.by_thread.store(false, Relaxed);
            self.entered.store(nanoseconds(now - self.origin), Relaxed);
            self.had.store(nanoseconds(thread_had(now)), Relaxed);
        }
    }

    /// What the stretch has taken so far.
    pub fn inside(&self) -> Duration {
        let since = |from: &AtomicU64, to| nanoseconds(to).saturating_sub(from.load(Relaxed));
        if self.by_thread.load(Relaxed) {
            return Duration::from_nanos(since(&self.entered, thread_cpu_time()));
        }
        let wall = since(&self.entered, self.origin.elapsed());
        Duration::from_nanos(if wall <= nanoseconds(DOUBTFUL) {
            wall
        } else {
            wall.min(since(&self.had, thread_cpu_time()))
        })
    }

    /// Ends the stretch and returns what it took.
    pub fn leave(&self) -> Duration {
        let inside = self.inside();
        self.used.fetch_add(nanoseconds(inside), Relaxed);
        inside
    }

    /// Was the guest interrupted in the last stretch? Then it gave way to others and goes on when it can.
    pub fn gave_way(&self) -> bool {
        self.gave_way.load(Relaxed)
    }

    /// What to do at an interruption: let others run and go on, or end the guest.
    pub fn interrupted(&self) -> wasmtime::Result<UpdateDeadline> {
        self.was_interrupted.store(true, Relaxed);
        let used = Duration::from_nanos(self.used.load(Relaxed)) + self.inside();
        if used > self.limit {
            return Err(wasmtime::Error::new(CpuTimeExceeded(self.limit)));
        }
        self.gave_way.store(true, Relaxed);
        // Not a plain yield: that would put the guest at the front of the queue again.
        Ok(UpdateDeadline::YieldCustom(
            1,
            match &mut *self.turn.lock() {
                Some((turn, began)) if used.saturating_sub(*began) > LONG => {
                    *began = used;
                    Box::pin(Arc::clone(turn).cede())
                }
                _ => Box::pin(tokio::task::yield_now()),
            },
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_was_interrupted_is_measured_by_what_its_thread_had_of_the_processor() {
        let clock = CpuClock::new(Duration::from_secs(1));
        clock.enter();
        assert!(clock.interrupted().is_ok());
        clock.leave();
        let before = clock.take();
        clock.enter();
        assert!(clock.interrupted().is_ok());
        clock.leave();
        clock.enter();
        // As if the kernel had run something else for that long.
        let away = Duration::from_millis(50);
        std::thread::park_timeout(away);
        clock.leave();
        assert!(before < away);
        assert!(clock.take() < away);
    }

    #[test]
    fn a_guest_that_the_kernel_kept_from_running_before_its_first_interruption_is_not_ended_for_that() {
        let clock = CpuClock::new(Duration::from_millis(20));
        let away = Duration::from_millis(50);
        clock.enter();
        std::thread::park_timeout(away);
        assert!(clock.interrupted().is_ok());
        clock.leave();
        assert!(clock.take() < away);
        clock.enter();
        std::thread::park_timeout(away);
        clock.leave();
        assert!(clock.take() < away, "nor is it counted if there was none");
    }

    #[test]
    fn what_was_taken_is_not_counted_twice_and_the_limit_holds() {
        let clock = CpuClock::new(Duration::from_millis(5));
        clock.enter();
        while clock.inside() < Duration::from_millis(4) {}
        clock.leave();
        assert!(clock.take() >= Duration::from_millis(4));
        assert_eq!(clock.take(), Duration::ZERO);
        clock.enter();
        assert!(clock.interrupted().is_ok());
        while clock.inside() < Duration::from_millis(6) {}
        let exceeded = clock.interrupted().err().map(|error| error.is::<CpuTimeExceeded>());
        assert_eq!(exceeded, Some(true));
    }
}
