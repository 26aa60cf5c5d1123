//! A pool with a manager that tests can hold up, break and count.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::pool::{Budget, Lease, LeaseError, Manager, OnEnd, Policy, Pool, Stats, Tended};

pub const UNITS: u32 = 8;
pub const QUEUE_TIMEOUT: Duration = Duration::from_millis(50);
pub const IDLE_TIME: Duration = Duration::from_secs(60);

pub fn policy(max: u32, min_idle: u32, max_idle: u32, on_end: OnEnd) -> Policy {
    Policy {
        min_idle,
        max,
        max_idle,
        queue_size: 8,
        queue_timeout: QUEUE_TIMEOUT,
        idle_time: IDLE_TIME,
        sleep_after: None,
        on_end,
        weight: 1,
        max_lifetime: None,
        max_uses: None,
    }
}

pub fn pooled(max: u32) -> Policy {
    policy(max, 0, max, OnEnd::Reset)
}

pub fn kept(max: u32) -> Policy {
    policy(max, 0, max, OnEnd::Keep)
}

pub struct Rig {
    pub pool: Pool<Fake>,
    pub budget: Budget,
    pub fake: Fake,
}

impl Rig {
    pub fn new(policy: Policy) -> Self {
        Self::within(&Budget::new(UNITS, 64), policy, 1)
    }

    /// A pool of an app of its own.
    pub fn within(budget: &Budget, policy: Policy, each: u32) -> Self {
        // These leases run nothing, so nobody has to wait for a turn.
        budget.cores().set_threads(1_000);
        let fake = Fake::default();
        let app = format!("app {}", fastrand::u64(..));
        let pool = Pool::new(&app, fake.clone(), policy, each, budget).expect("the policy is good");
        Self { pool, budget: budget.clone(), fake }
    }

    pub async fn lease(&self) -> Lease<Fake> {
        self.pool.lease().await.expect("an instance can be had")
    }

    pub fn spawn_lease(&self) -> JoinHandle<Result<Lease<Fake>, LeaseError<&'static str>>> {
        let pool = self.pool.clone();
        tokio::spawn(async move { pool.lease().await })
    }

    /// The upkeep, now.
    pub fn tend(&self) -> Tended {
        self.pool.tend(tokio::time::Instant::now().into_std())
    }

    /// Instances that exist, half made ones and those being reset included.
    pub fn alive(&self) -> usize {
        self.fake.alive()
    }

    /// Closes the pool; nothing is left of it.
    pub async fn ends_whole(&self) {
        self.pool.close();
        until(|| self.pool.stats().leaving == 0).await;
        self.pool.drained().await;
        self.is_gone();
        assert_eq!(self.budget.free(), self.budget.units());
        assert_eq!((self.budget.waiting(), self.budget.in_line()), (0, 0));
    }

    /// Nothing is left of this pool; others may hold units.
    pub fn is_gone(&self) {
        let Stats { idle, preparing, leased, resetting, leaving, waiting, made, discarded, .. } =
            self.pool.stats();
        assert_eq!((idle, preparing, leased, resetting, leaving, waiting), (0, 0, 0, 0, 0, 0));
        assert_eq!(made, discarded);
        assert_eq!(self.alive(), 0);
    }
}

/// A manager; clones share everything.
#[derive(Clone, Default)]
pub struct Fake(Arc<State>);

#[derive(Default)]
pub struct State {
    next_id: AtomicU64,
    /// Slots of an allocator that are taken.
    alive: AtomicUsize,
    most_alive: AtomicUsize,
    rests: AtomicUsize,
    /// The budget to be looked at when an instance is dropped, and the most that was free then.
    pub watched: OnceLock<Budget>,
    most_free: AtomicU32,
    pub make: Gate,
    pub reset: Gate,
    pub make_fails: Switch,
    pub make_panics: Switch,
    pub reset_fails: Switch,
    pub reset_panics: Switch,
    pub drop_panics: Switch,
}

pub struct Creature {
    pub id: u64,
    pub is_dirty: bool,
    pub is_worn: bool,
    slot: Slot,
}

/// A slot of an allocator.
struct Slot(Fake);

impl std::ops::Deref for Fake {
    type Target = State;

    fn deref(&self) -> &State {
        &self.0
    }
}

impl State {
    pub fn alive(&self) -> usize {
        self.alive.load(SeqCst)
    }

    pub fn most_alive(&self) -> usize {
        self.most_alive.load(SeqCst)
    }

    /// How often the pool has said since this was last asked that it needs nothing now.
    pub fn take_rests(&self) -> usize {
        self.rests.swap(0, SeqCst)
    }

    pub fn most_free(&self) -> u32 {
        self.most_free.load(SeqCst)
    }
}

impl Manager for Fake {
    type Instance = Creature;
    type Error = &'static str;

    async fn make(&self) -> Result<Creature, &'static str> {
        let slot = Slot::take(self);
        self.make.pass().await;
        assert!(!self.make_panics.is_on(), "make panics");
        if self.make_fails.is_on() {
            return Err("broken");
        }
        let id = self.next_id.fetch_add(1, SeqCst) + 1;
        Ok(Creature { id, is_dirty: false, is_worn: false, slot })
    }

    async fn reset(&self, mut used: Creature) -> Result<Creature, &'static str> {
        self.reset.pass().await;
        assert!(!self.reset_panics.is_on(), "reset panics");
        if self.reset_fails.is_on() {
            return Err("stuck");
        }
        used.is_dirty = false;
        Ok(used)
    }

    fn is_worn(&self, creature: &mut Creature) -> bool {
        creature.is_worn
    }

    fn rest(&self) {
        self.rests.fetch_add(1, SeqCst);
    }
}

impl Slot {
    fn take(fake: &Fake) -> Self {
        let alive = fake.alive.fetch_add(1, SeqCst) + 1;
        fake.most_alive.fetch_max(alive, SeqCst);
        Self(fake.clone())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.alive.fetch_sub(1, SeqCst);
    }
}

impl Drop for Creature {
    fn drop(&mut self) {
        let fake = &self.slot.0;
        let free = fake.watched.get().map_or(0, Budget::free);
        fake.most_free.fetch_max(free, SeqCst);
        assert!(!fake.drop_panics.is_on() || std::thread::panicking(), "drop panics");
    }
}

#[derive(Default)]
pub struct Switch(AtomicBool);

impl Switch {
    pub fn set(&self, on: bool) {
        self.0.store(on, SeqCst);
    }

    fn is_on(&self) -> bool {
        self.0.load(SeqCst)
    }
}

/// Where a manager's call can be held up; open at first.
#[derive(Default)]
pub struct Gate {
    is_shut: watch::Sender<bool>,
    waiting: AtomicUsize,
}

impl Gate {
    pub fn hold(&self) {
        self.is_shut.send_replace(true);
    }

    pub fn open(&self) {
        self.is_shut.send_replace(false);
    }

    /// Calls that are held up.
    pub fn waiting(&self) -> usize {
        self.waiting.load(SeqCst)
    }

    async fn pass(&self) {
        struct Here<'a>(&'a AtomicUsize);
        impl Drop for Here<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, SeqCst);
            }
        }
        self.waiting.fetch_add(1, SeqCst);
        let _here = Here(&self.waiting);
        let passed = self.is_shut.subscribe().wait_for(|is_shut| !is_shut).await.is_ok();
        assert!(passed, "the gate outlives its calls");
    }
}

/// Lets tasks run until this is so.
pub async fn until(is_so: impl Fn() -> bool) {
    for _ in 0..1_000_000 {
        if is_so() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("it never came to be so");
}

/// Polls once; what is not ready is dropped.
pub fn now_or_never<T>(future: impl Future<Output = T>) -> Option<T> {
    match poll_once(pin!(future)) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

pub fn poll_once<T>(future: Pin<&mut impl Future<Output = T>>) -> Poll<T> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}
