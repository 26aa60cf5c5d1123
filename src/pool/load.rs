//! Which requests may run at once when the processors are the scarce thing.
//!
//! A request that is ready runs at once, in the task of its connection. So when one app is flooded, the requests of all
//! others stand behind its own in the runtime's line, however few they are. Therefore a pool that keeps the processors
//! *busy* is *gated* while the thread it is asked on has no rest: of its requests only so many run as there are
//! processors for, and the others wait in the pool's queue, which the pools that are not busy pass by. Busy pools share
//! the processors by their weights.
//!
//! A request *runs* from its lease on, except while its guest waits for something: its [`Turn`] is paused then, and
//! resumed when the guest is woken, if not too many run. One that has run for long *cedes* its turn where it is
//! interrupted, if others wait for one: it then goes on in its turn among those that ceded theirs, who alternate with new
//! requests. So a request that takes seconds delays others of its app no longer than a short one does. Whoever waits for a
//! turn is looked at each time one ends or is paused.
//!
//! Requests that take long, and all of a busy pool whose requests do on the average, run in the slow lane
//! ([`super::lane`]): so they keep no other from running for longer than it takes the kernel to change threads.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::cores::Cores;
use meter::Meter;
pub use turn::Turn;

mod meter;
mod turn;

/// How many times more requests than a busy pool's may run in one that is not.
const BURST: u32 = 4;

/// Requests of a busy pool that take no longer than this together may run at once on a thread: so short ones, which keep
/// nobody waiting, need not queue for their turns, which would cost a sixth of what they cost in all.
const BRIEF: Duration = Duration::from_micros(300);

/// That is only so if all that are there take no longer than this on a thread: in a flood they have to queue, one by one.
const FLOOD: Duration = Duration::from_millis(1);

/// What a request takes on its thread besides its guest's time.
const BESIDES: Duration = Duration::from_micros(15);

/// A heavy pool's guests are there from the start if they run for so long on the average: changing threads twice then
/// costs a few hundredths of it.
const LONG_ON_AVERAGE: Duration = Duration::from_micros(500);

/// The weight of one request in the average.
const ONE_OF: u64 = 16;

/// What is told when there is room for one more to run.
pub(super) trait Waits: Send + Sync {
    fn room_to_run(self: Arc<Self>);
}

/// How busy one pool keeps the processors.
pub struct Load {
    cores: Arc<Cores>,
    weight: u32,
    running: AtomicU32,
    /// Requests in the pool's queue.
    queued: AtomicUsize,
    /// Nanoseconds that guests have run, and instances were made, reset and dropped.
    worked: AtomicU64,
    /// Requests whose turns are over.
    served: AtomicU64,
    is_busy: AtomicBool,
    is_heavy: AtomicBool,
    /// It takes more of the processors than its share.
    is_over_share: AtomicBool,
    /// Nanoseconds that a request's guest runs on the average.
    average: AtomicU64,
    meter: Mutex<Meter>,
    /// Guests that have ceded their turns, in order.
    ceded: Mutex<VecDeque<oneshot::Sender<()>>>,
    /// The next turn is a new request's.
    new_is_next: AtomicBool,
    pool: OnceLock<Weak<dyn Waits>>,
}

impl Load {
    pub fn new(cores: Arc<Cores>, weight: u32) -> Arc<Self> {
        Arc::new(Self {
            cores,
            weight,
            running: AtomicU32::new(0),
            queued: AtomicUsize::new(0),
            worked: AtomicU64::new(0),
            served: AtomicU64::new(0),
            is_busy: AtomicBool::new(false),
            is_heavy: AtomicBool::new(false),
            is_over_share: AtomicBool::new(false),
            // As long as it is not known they are not taken for short ones.
            average: AtomicU64::new(nanoseconds(BRIEF)),
            meter: Mutex::default(),
            ceded: Mutex::new(VecDeque::new()),
            new_is_next: AtomicBool::new(true),
            pool: OnceLock::new(),
        })
    }

    pub(super) fn serves(&self, pool: Weak<dyn Waits>) {
        drop(self.pool.set(pool));
    }

    /// Something was done for the pool's app for so long.
    pub fn worked(&self, time: Duration) {
        self.worked.fetch_add(nanoseconds(time), Relaxed);
    }

    /// A request's guest ran for so long in all.
    fn ended(&self, ran: u64) {
        self.served.fetch_add(1, Relaxed);
        // Two that end at once may make one of it: it is an average.
        let average = self.average.load(Relaxed);
        self.average.store(average - average / ONE_OF + ran / ONE_OF, Relaxed);
    }

    /// Are all of its guests to run in the slow lane?
    fn is_for_lane(&self) -> bool {
        self.is_heavy.load(Relaxed) && self.average.load(Relaxed) >= nanoseconds(LONG_ON_AVERAGE)
    }

    pub(super) fn weight(&self) -> u64 {
        u64::from(self.weight)
    }

    /// Is there a turn for one more of the pool's requests?
    pub(super) fn has_turn(&self) -> bool {
        self.running.load(SeqCst) < self.turns()
    }

    fn turns(&self) -> u32 {
        match self.is_busy.load(Relaxed) {
            true if self.is_for_lane() => self.cores.turns(self.weight),
            true if self.is_over_share.load(Relaxed) => {
                self.cores.turns_beside_lane(self.weight, self.brief())
            }
            true => self.cores.turns(self.weight).saturating_mul(self.brief()),
            // So that not too many of a burst are under way before it is seen to be one.
            false => self.cores.turns(self.weight).saturating_mul(BURST.max(self.brief())),
        }
    }

    /// How many requests together are brief, by what they take on the average; at least 1.
    fn brief(&self) -> u32 {
        let each = self.average.load(Relaxed).saturating_add(nanoseconds(BESIDES));
        let there = self.queued.load(Relaxed) as u64 + u64::from(self.running.load(Relaxed));
        if there.saturating_mul(each) > nanoseconds(FLOOD).saturating_mul(u64::from(self.cores.threads())) {
            return 1;
        }
        u32::try_from(nanoseconds(BRIEF) / each).unwrap_or(u32::MAX).max(1)
    }

    /// Have the pool's requests to wait for a turn on this thread?
    pub(super) fn is_gated(self: &Arc<Self>, now: Instant) -> bool {
        self.cores.are_scarce(now) && self.assess(now)
    }

    /// Looks whether the pool is busy, if the last look is long enough ago.
    pub(super) fn assess(self: &Arc<Self>, now: Instant) -> bool {
        if self.measure(now) {
            // It may have had no turns, left to the slow lane. It has some now, and nobody whose end would tell of it.
            self.room_to_run();
        }
        self.is_busy.load(Relaxed)
    }

    /// Whether the pool is to leave less to others than before.
    fn measure(self: &Arc<Self>, now: Instant) -> bool {
        let mut meter = self.meter.lock();
        let besides = self.served.load(Relaxed).saturating_mul(nanoseconds(BESIDES));
        if !meter.look(now, self.worked.load(Relaxed), besides, self.cores.threads()) {
            return false;
        }
        self.is_heavy.store(meter.is_heavy(now), Relaxed);
        let (was_busy, is_busy) = (self.is_busy.load(Relaxed), meter.is_busy());
        self.set_busy(was_busy, is_busy);
        let is_over = meter.lately() > self.cores.share(self.weight());
        let was_over = self.is_over_share.swap(is_over, Relaxed);
        (was_busy && !is_busy) || (was_over && !is_over)
    }

    fn set_busy(self: &Arc<Self>, was: bool, is: bool) {
        self.is_busy.store(is, Relaxed);
        match (was, is) {
            (false, true) => self.cores.becomes_busy(self),
            (true, false) => self.cores.is_not_busy(Arc::as_ptr(self), self.weight()),
            _ => {}
        }
    }

    /// A request runs from now on, whether there was a turn for it or not.
    pub fn turn(self: &Arc<Self>) -> Arc<Turn> {
        self.running.fetch_add(1, SeqCst);
        Arc::new(Turn::of(Arc::clone(self)))
    }

    pub(super) fn set_queued(&self, waiting: usize) {
        self.queued.store(waiting, SeqCst);
    }

    pub fn running(&self) -> u32 {
        self.running.load(Relaxed)
    }

    pub fn is_busy(&self) -> bool {
        self.is_busy.load(Relaxed)
    }

    /// One runs no more. Who queues looks whether there is a turn after it has said so, and this looks whether somebody
    /// queues after the turn is free: one of the two sees the other.
    fn leave(&self) {
        self.running.fetch_sub(1, SeqCst);
        if self.new_is_next.fetch_xor(true, SeqCst) {
            self.admit();
            self.go_on();
        } else {
            self.go_on();
            self.admit();
        }
    }

    /// Lets those run that queue, as far as there are turns.
    fn admit(&self) {
        if self.queued.load(SeqCst) > 0
            && let Some(pool) = self.pool.get().and_then(Weak::upgrade)
        {
            pool.room_to_run();
        }
    }

    /// There may be turns again.
    pub(super) fn room_to_run(&self) {
        self.admit();
        self.go_on();
    }

    /// Lets those run that ceded their turns.
    fn go_on(&self) {
        while self.has_turn() {
            let Some(next) = self.ceded.lock().pop_front() else { return };
            // That wakes the guest, which resumes its turn. One that is gone has no use for it.
            let _ = next.send(());
        }
    }

    /// A place among those that have ceded their turns, if anybody would have this one or there are too many.
    fn line_up(&self) -> Option<oneshot::Receiver<()>> {
        let mut ceded = self.ceded.lock();
        let too_many = self.running.load(SeqCst) > self.turns();
        if self.queued.load(SeqCst) == 0 && ceded.is_empty() && !too_many {
            return None;
        }
        Some(place(&mut ceded))
    }
}

/// The last place among those that have ceded their turns.
fn place(ceded: &mut VecDeque<oneshot::Sender<()>>) -> oneshot::Receiver<()> {
    let (sender, place) = oneshot::channel();
    ceded.push_back(sender);
    place
}

impl Drop for Load {
    fn drop(&mut self) {
        if self.is_busy.load(Relaxed) {
            self.cores.is_not_busy(self, self.weight());
        }
    }
}

/// A time as an atomic number can have it.
pub fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
