//! The processors that all pools share: how many requests of busy pools may run at once, and what is left to the slow lane.

use std::cell::Cell;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::lane::Lane;
use super::load::Load;

/// A thread that has been awake for so long has more to do than it can.
const NO_REST: Duration = Duration::from_millis(1);

/// How long gated requests may keep a thread before the others have a look in. Beside the flood of a small app another
/// one's requests took about as long as this: with half of it, half as long, and both together were as many a second.
const LOOK: Duration = Duration::from_micros(100);

/// For how long the busy pools have the processors that the slow lane wants, too. Long enough that it shows whether a
/// thread has no rest.
const SPELL: Duration = Duration::from_millis(2);

/// The part of a processor from which on what is to be done in the slow lane gets on well enough beside them.
const ENOUGH: f64 = 0.2;

/// For how long after that the slow lane has them: longer, for much of what busy pools cost is not in their turns.
const LANE_SPELL: Duration = Duration::from_millis(6);

thread_local! {
    static AWAKE: Cell<Option<Instant>> = const { Cell::new(None) };
    static LOOKED: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Is it time for a gated request on this thread to let others go before?
pub(super) fn gives_way(now: Instant) -> bool {
    let is_time = should_give_way(now);
    if is_time {
        thread_looked(now);
    }
    is_time
}

/// The runtime has just looked at its sockets on this thread, and nobody need give way for that for a while.
pub fn thread_looked(now: Instant) {
    LOOKED.set(Some(now));
}

/// Would it be time for that, if the request had its turn?
pub(super) fn should_give_way(now: Instant) -> bool {
    LOOKED.get().is_none_or(|looked| now.saturating_duration_since(looked) >= LOOK)
}

/// A thread of the runtime that serves requests has slept and is awake again: to be called by itself. On a thread that
/// never does it is not known whether it has no rest.
pub fn thread_awoke() {
    AWAKE.set(Some(Instant::now()));
}

/// Has this thread more to do than it can?
pub fn thread_has_no_rest(now: Instant) -> bool {
    AWAKE.get().is_some_and(|awake| now.saturating_duration_since(awake) >= NO_REST)
}

/// From now on this thread has no rest.
#[cfg(test)]
pub fn keep_thread_awake() {
    AWAKE.set(Instant::now().checked_sub(2 * NO_REST));
}

/// This thread was last awake from then on.
#[cfg(test)]
pub(super) fn thread_awoke_at(at: Instant) {
    AWAKE.set(Some(at));
}

pub struct Cores {
    /// Threads that run guests.
    threads: AtomicU32,
    /// Of all busy pools.
    pub(super) weight: AtomicU64,
    busy: Mutex<Vec<Weak<Load>>>,
    lane: Lane,
    /// Threads that the busy pools leave to the slow lane now.
    pub(super) left: AtomicU32,
    /// A thread was seen that has no rest.
    without_rest: AtomicBool,
}

impl Default for Cores {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        Self {
            threads: u32::try_from(cores).unwrap_or(u32::MAX).into(),
            weight: AtomicU64::new(0),
            busy: Mutex::default(),
            lane: Lane::default(),
            left: AtomicU32::new(0),
            without_rest: AtomicBool::new(false),
        }
    }
}

impl Cores {
    pub fn set_threads(&self, threads: u32) {
        self.threads.store(threads.max(1), Relaxed);
    }

    pub(super) fn threads(&self) -> u32 {
        self.threads.load(Relaxed)
    }

    /// Where what takes long is done.
    pub fn lane(&self) -> &Lane {
        &self.lane
    }

    /// Turns that a busy pool of this weight has.
    pub(super) fn turns(&self, weight: u32) -> u32 {
        turns(self.threads(), weight, self.weight.load(Relaxed))
    }

    /// The part of all processors that is a busy pool's of this weight: beside the slow lane it is half at most.
    pub(super) fn share(&self, weight: u64) -> f64 {
        let busy = self.weight.load(Relaxed).max(2 * weight).max(1);
        weight as f64 / busy as f64
    }

    /// Turns of one that takes more than its share, and whose requests run in the serving threads, so many of them on each at
    /// once: none, where these are left to the slow lane.
    pub(super) fn turns_beside_lane(&self, weight: u32, each: u32) -> u32 {
        let left = self.left.load(SeqCst);
        if left == 0 {
            self.turns(weight).saturating_mul(each)
        } else {
            self.turns(weight).min(self.threads().saturating_sub(left))
        }
    }

    /// Are requests of busy pools to wait for turns, on this thread?
    pub(super) fn are_scarce(&self, now: Instant) -> bool {
        if thread_has_no_rest(now) {
            self.without_rest.store(true, Relaxed);
            return true;
        }
        self.left.load(Relaxed) > 0 || self.lane.present() >= self.threads()
    }

    pub(super) fn becomes_busy(&self, load: &Arc<Load>) {
        self.weight.fetch_add(load.weight(), Relaxed);
        self.busy.lock().push(Arc::downgrade(load));
    }

    /// Also one that is about to go is no more among the busy ones.
    pub(super) fn is_not_busy(&self, load: *const Load, weight: u64) {
        self.weight.fetch_sub(weight, Relaxed);
        self.busy.lock().retain(|busy| busy.as_ptr() != load);
    }

    /// Leaves the slow lane its share of the processors, for as long as it is polled.
    ///
    /// Where serving threads have no rest, what is in the slow lane would stand still: so where it does, the busy pools that
    /// take more than their shares have by turns all threads, and as many less as there is work in the slow lane. Others
    /// notice nothing of that.
    pub async fn share_with_lane(&self) {
        loop {
            self.lane.came().await;
            loop {
                let was_left = self.left.load(SeqCst) > 0;
                let (began, had) = (tokio::time::Instant::now(), self.lane.time());
                tokio::time::sleep(if was_left { LANE_SPELL } else { SPELL }).await;
                let wanted = self.lane.take_peak().min(self.threads());
                let enough = began.elapsed().mul_f64(ENOUGH) * wanted;
                // Also a thread that had to wait for the processor itself seems to have no rest.
                let is_short =
                    self.without_rest.swap(false, Relaxed) && self.lane.time().saturating_sub(had) < enough;
                let left = if is_short && !was_left { wanted } else { 0 };
                self.left.store(left, SeqCst);
                if was_left {
                    self.admit();
                }
                if wanted == 0 {
                    break;
                }
            }
        }
    }

    fn admit(&self) {
        let busy: Vec<Arc<Load>> = self.busy.lock().iter().filter_map(Weak::upgrade).collect();
        for load in busy {
            load.room_to_run();
        }
    }
}

/// A quarter more than there are threads, so that none stands still while a request is handed over, shared among busy
/// pools of this weight together.
fn turns(threads: u32, weight: u32, busy: u64) -> u32 {
    let all = u64::from(threads + threads / 4);
    let weight = u64::from(weight);
    let share = if busy > weight { (all * weight + busy / 2) / busy } else { all };
    u32::try_from(share).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A busy pool whose thread has no rest.
    fn busy(cores: &Arc<Cores>) -> Arc<Load> {
        let load = Load::new(cores.clone(), 1);
        let start = Instant::now();
        keep_thread_awake();
        load.assess(start);
        load.worked(Duration::from_secs(1));
        assert!(load.assess(start + Duration::from_millis(10)));
        load
    }

    async fn spell(cores: &Cores, load: &Arc<Load>) -> bool {
        cores.are_scarce(Instant::now());
        tokio::time::advance(LANE_SPELL).await;
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        load.has_turn()
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_pool_and_the_slow_lane_have_the_only_processor_by_turns() {
        let cores = Arc::<Cores>::default();
        cores.set_threads(1);
        let (sharing, other) = (cores.clone(), Load::new(cores.clone(), 1));
        let task = tokio::spawn(async move { sharing.share_with_lane().await });
        let load = busy(&cores);
        assert!(spell(&cores, &load).await && spell(&cores, &load).await, "there is nothing in the lane");
        let present = cores.lane().enter();
        tokio::task::yield_now().await;
        let mut turns = Vec::new();
        for _ in 0..6 {
            turns.push(spell(&cores, &load).await);
            assert!(other.has_turn(), "it is not busy");
        }
        assert!(turns.windows(2).all(|pair| pair[0] != pair[1]), "{turns:?}");
        thread_awoke();
        drop(present);
        for _ in 0..3 {
            spell(&cores, &load).await;
        }
        assert!(spell(&cores, &load).await && spell(&cores, &load).await);
        task.abort();
    }

    #[test]
    fn nobody_gives_way_soon_after_a_look() {
        let now = Instant::now();
        assert!(gives_way(now) && !gives_way(now));
        assert!(gives_way(now + LOOK));
        thread_looked(now + 2 * LOOK);
        assert!(!should_give_way(now + 2 * LOOK) && should_give_way(now + 3 * LOOK));
    }

    #[test]
    fn busy_pools_share_the_turns_by_their_weights() {
        assert_eq!(turns(8, 100, 0), 10, "alone");
        assert_eq!(turns(8, 100, 100), 10, "the only busy one");
        assert_eq!((turns(8, 100, 400), turns(8, 300, 400)), (3, 8));
        assert_eq!(turns(1, 1, 1_000), 1, "nobody has none");
    }

    #[test]
    fn what_is_left_to_the_lane_is_taken_from_those_beside_it_alone() {
        let cores = Cores::default();
        cores.set_threads(4);
        assert_eq!(
            (cores.turns(1), cores.turns_beside_lane(1, 1), cores.turns_beside_lane(1, 3)),
            (5, 5, 15)
        );
        cores.left.store(1, SeqCst);
        assert_eq!((cores.turns(1), cores.turns_beside_lane(1, 1), cores.turns_beside_lane(1, 3)), (5, 3, 3));
        cores.left.store(9, SeqCst);
        assert_eq!(cores.turns_beside_lane(1, 3), 0);
    }
}
