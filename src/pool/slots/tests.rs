use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn policy(max: u32, on_end: OnEnd) -> Policy {
    Policy {
        min_idle: 0,
        max,
        weight: 100,
        max_idle: max,
        queue_size: 4,
        queue_timeout: Duration::from_secs(1),
        idle_time: Duration::from_secs(60),
        max_lifetime: None,
        on_end,
    }
}

type Books = Slots<u32, u32, &'static str>;

/// Books with these instances idle, the last one the most recent.
fn with_idle(policy: Policy, idle: &[u32], now: Instant) -> Books {
    let mut books = Books::new(policy);
    for &instance in idle {
        books.begin();
        assert_eq!(books.put(Phase::Preparing, instance, now, false), Put::Idle);
    }
    books
}

#[test]
fn the_instance_used_last_is_taken_first() {
    let now = Instant::now();
    let mut books = with_idle(policy(3, OnEnd::Keep), &[1, 2, 3], now);
    assert_eq!(books.take(), Some(3));
    assert_eq!(books.end(End::Clean, false), Ended::Keep);
    assert_eq!(books.put(Phase::Leased, 3, now, false), Put::Idle);
    assert_eq!((books.take(), books.take(), books.take(), books.take()), (Some(3), Some(2), Some(1), None));
}

#[test]
fn what_comes_back_goes_to_the_first_waiter() {
    let now = Instant::now();
    let mut books = with_idle(policy(1, OnEnd::Reset), &[7], now);
    books.take();
    assert_eq!(books.ask(now), Ask::Wait);
    let first = books.enqueue(100).unwrap();
    books.enqueue(101).unwrap();
    books.enqueue(102).unwrap();
    assert_eq!(books.leave(first), Some(100));
    assert_eq!(books.end(End::Clean, false), Ended::Reset);
    assert_eq!(books.put(Phase::Resetting, 7, now, false), Put::Hand(101, 7));
    assert_eq!(books.leave(first), None);
}

#[test]
fn a_newcomer_queues_behind_those_who_wait() {
    let now = Instant::now();
    let mut books = with_idle(policy(2, OnEnd::Reset), &[1, 2], now);
    books.take();
    books.take();
    books.enqueue(100).unwrap();
    books.end(End::Spoiled, false);
    books.gone(Phase::Leaving);
    // There is room, but it is the waiter's.
    assert_eq!(books.ask(now), Ask::Wait);
    assert_eq!(books.next(now), Next::Room);
    assert_eq!(books.grant(now), Some(100));
}

#[test]
fn a_full_queue_gives_the_waiter_back() {
    let mut books = Books::new(Policy { queue_size: 1, ..policy(1, OnEnd::Reset) });
    assert!(books.enqueue(1).is_ok());
    assert_eq!(books.enqueue(2), Err(2));
}

#[test]
fn the_surplus_retires_oldest_first() {
    let start = Instant::now();
    let second = Duration::from_secs(1);
    let policy = Policy { min_idle: 1, ..policy(3, OnEnd::Keep) };
    let mut books = with_idle(policy, &[1], start);
    books.begin();
    books.put(Phase::Preparing, 2, start + second, false);
    books.begin();
    books.put(Phase::Preparing, 3, start + 2 * second, false);
    assert_eq!(books.retire(start + 59 * second), None);
    assert_eq!(books.retire(start + 61 * second), Some(1));
    assert_eq!(books.retire(start + 61 * second), Some(2));
    // The last one is the minimum.
    assert_eq!(books.retire(start + 600 * second), None);
    assert_eq!(books.stats().leaving, 2);
}

#[test]
fn an_instance_above_the_minimum_is_not_kept_while_another_pool_waits() {
    let now = Instant::now();
    let mut books = with_idle(Policy { min_idle: 1, ..policy(2, OnEnd::Reset) }, &[1, 2], now);
    books.take();
    assert_eq!(books.end(End::Clean, true), Ended::Discard);
    books.gone(Phase::Leaving);
    books.take();
    assert_eq!(books.end(End::Clean, true), Ended::Reset);
    assert_eq!(books.put(Phase::Resetting, 1, now, true), Put::Idle);
    assert_eq!(books.give_up(), None);
}

#[test]
fn after_a_failure_nobody_tries_until_the_pause_is_over_and_then_one_at_a_time() {
    let now = Instant::now();
    let mut books = Books::new(policy(4, OnEnd::Reset));
    assert_eq!(books.ask(now), Ask::Room);
    books.begin();
    let pause = books.failed("broken", now);
    books.gone(Phase::Preparing);
    assert_eq!(books.ask(now), Ask::Failing { error: "broken", retry_after: pause });
    assert_eq!(books.ask(now + pause), Ask::Room);
    books.begin();
    assert_eq!(books.ask(now + pause), Ask::Wait);
    books.enqueue(100).unwrap();
    assert_eq!(books.next(now + pause), Next::Rest);
    assert_eq!(books.made(), Made::Leased);
    assert_eq!(books.next(now + pause), Next::Room);
}

#[test]
fn a_waiter_is_refused_when_making_fails_and_nothing_else_comes() {
    let now = Instant::now();
    let mut books = Books::new(policy(1, OnEnd::Reset));
    books.begin();
    books.enqueue(100).unwrap();
    let pause = books.failed("broken", now);
    assert_eq!(books.next(now), Next::Rest);
    books.gone(Phase::Preparing);
    assert_eq!(books.next(now), Next::Refuse { waiter: 100, error: "broken", retry_after: pause });
}

#[test]
fn in_a_pause_requests_wait_for_an_instance_that_comes_back() {
    let now = Instant::now();
    let mut books = with_idle(policy(2, OnEnd::Reset), &[1], now);
    books.take();
    books.begin();
    books.failed("broken", now);
    books.gone(Phase::Preparing);
    assert_eq!(books.ask(now), Ask::Wait);
}

/// What can happen to a pool. Numbers choose among those it can happen to.
#[derive(Debug, Clone)]
enum Op {
    Ask,
    Leave(usize),
    Made(usize),
    MakeFailed,
    MakeCancelled,
    End { which: usize, end: End, wanted: bool },
    ResetDone { which: usize, ok: bool, wanted: bool },
    Dropped,
    Refill,
    GiveUp,
    Retire,
    OthersTake(u32),
    OthersReturn,
    Pass(u64),
    Close,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let end = prop_oneof![3 => Just(End::Clean), 1 => Just(End::Spoiled)];
    let wanted = || prop_oneof![4 => Just(false), 1 => Just(true)];
    let op = prop_oneof![
        8 => Just(Op::Ask),
        2 => any::<usize>().prop_map(Op::Leave),
        5 => any::<usize>().prop_map(Op::Made),
        1 => Just(Op::MakeFailed),
        1 => Just(Op::MakeCancelled),
        6 => (any::<usize>(), end, wanted()).prop_map(|(which, end, wanted)| Op::End { which, end, wanted }),
        5 => (any::<usize>(), prop_oneof![5 => Just(true), 1 => Just(false)], wanted())
            .prop_map(|(which, ok, wanted)| Op::ResetDone { which, ok, wanted }),
        4 => Just(Op::Dropped),
        2 => Just(Op::Refill),
        1 => Just(Op::GiveUp),
        1 => Just(Op::Retire),
        1 => (1_u32..6).prop_map(Op::OthersTake),
        1 => Just(Op::OthersReturn),
        2 => (1_u64..40_000).prop_map(Op::Pass),
    ];
    let ops = prop::collection::vec(op, 1..200);
    (ops, prop::option::weighted(0.2, any::<prop::sample::Index>())).prop_map(|(mut ops, close)| {
        if let Some(at) = close {
            ops.insert(at.index(ops.len()), Op::Close);
        }
        ops
    })
}

fn policies() -> impl Strategy<Value = Policy> {
    let on_end = prop_oneof![Just(OnEnd::Reset), Just(OnEnd::Keep), Just(OnEnd::Drop)];
    (1_u32..6, 0_u32..6, 0_u32..6, 0_usize..5, on_end).prop_map(
        |(max, max_idle, min_idle, queue_size, on_end)| {
            let max_idle = max_idle.min(max);
            Policy { min_idle: min_idle.min(max_idle), max_idle, queue_size, ..policy(max, on_end) }
        },
    )
}

/// A shell without tasks: it holds what the books gave out, and the budget.
struct World {
    books: Books,
    policy: Policy,
    now: Instant,
    weight: u32,
    units: u32,
    free: u32,
    taken_by_others: u32,
    /// Oldest first.
    idle: Vec<u32>,
    leased: Vec<u32>,
    resetting: Vec<u32>,
    leaving: Vec<u32>,
    preparing: u32,
    waiting: BTreeMap<Key, u32>,
    next_instance: u32,
    next_waiter: u32,
    refused: u64,
}

impl World {
    fn new(policy: Policy, weight: u32, units: u32) -> Self {
        Self {
            books: Slots::new(policy.clone()),
            policy,
            now: Instant::now(),
            weight,
            units,
            free: units,
            taken_by_others: 0,
            idle: vec![],
            leased: vec![],
            resetting: vec![],
            leaving: vec![],
            preparing: 0,
            waiting: BTreeMap::new(),
            next_instance: 0,
            next_waiter: 0,
            refused: 0,
        }
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Ask => self.ask(),
            Op::Leave(which) => self.leave(which),
            Op::Made(who) => self.made(who % 2 == 0),
            Op::MakeFailed if self.preparing > 0 => {
                self.books.failed("broken", self.now);
                self.make_ends();
            }
            Op::MakeCancelled if self.preparing > 0 => self.make_ends(),
            Op::End { which, end, wanted } => self.end(which, end, wanted),
            Op::ResetDone { which, ok, wanted } => self.reset_done(which, ok, wanted),
            Op::Dropped if !self.leaving.is_empty() => {
                self.leaving.pop();
                self.free += self.weight;
                self.books.gone(Phase::Leaving);
                self.settle();
            }
            Op::Refill if self.books.is_short(self.now) && self.free >= self.weight => self.begin(),
            Op::GiveUp => {
                let given = self.books.give_up();
                self.leaves(given, self.idle.len() > self.policy.min_idle as usize);
            }
            Op::Retire => {
                let retired = self.books.retire(self.now);
                self.leaves(retired, retired.is_some());
            }
            Op::OthersTake(units) => {
                let units = units.min(self.free);
                self.free -= units;
                self.taken_by_others += units;
            }
            Op::OthersReturn => {
                self.free += std::mem::take(&mut self.taken_by_others);
                self.settle();
            }
            Op::Pass(ms) => self.now += Duration::from_millis(ms),
            Op::Close => self.close(),
            _ => {}
        }
    }

    fn ask(&mut self) {
        match self.books.ask(self.now) {
            Ask::Idle(instance) => {
                assert_eq!(Some(instance), self.idle.pop(), "the most recent one is taken");
                self.leased.push(instance);
            }
            Ask::Room if self.free >= self.weight => self.begin(),
            Ask::Room | Ask::Wait => match self.books.enqueue(self.next_waiter) {
                Ok(key) => {
                    self.waiting.insert(key, self.next_waiter);
                    self.next_waiter += 1;
                }
                Err(_) => assert_eq!(self.waiting.len(), self.policy.queue_size),
            },
            Ask::Closed => assert!(self.books.is_closed()),
            Ask::Failing { retry_after, .. } => {
                assert!(retry_after > Duration::ZERO);
                self.refused += 1;
            }
        }
    }

    fn begin(&mut self) {
        self.free -= self.weight;
        self.preparing += 1;
        self.books.begin();
    }

    fn leave(&mut self, which: usize) {
        if let Some(&key) = self.waiting.keys().nth(which % self.waiting.len().max(1)) {
            assert_eq!(self.books.leave(key), self.waiting.remove(&key));
            assert_eq!(self.books.leave(key), None);
        }
    }

    fn made(&mut self, for_a_caller: bool) {
        if self.preparing == 0 {
            return;
        }
        self.preparing -= 1;
        let instance = self.next_instance;
        self.next_instance += 1;
        if !for_a_caller {
            self.put(Phase::Preparing, instance, false);
        } else if self.books.made() == Made::Leased {
            assert!(!self.books.is_closed());
            self.leased.push(instance);
        } else {
            self.leaving.push(instance);
        }
        self.settle();
    }

    fn make_ends(&mut self) {
        self.preparing -= 1;
        self.free += self.weight;
        self.books.gone(Phase::Preparing);
        self.settle();
    }

    fn end(&mut self, which: usize, end: End, wanted: bool) {
        if self.leased.is_empty() {
            return;
        }
        let instance = self.leased.remove(which % self.leased.len());
        match self.books.end(end, wanted) {
            Ended::Reset => self.resetting.push(instance),
            Ended::Keep => self.put(Phase::Leased, instance, wanted),
            Ended::Discard => self.leaving.push(instance),
        }
        assert!(
            end == End::Clean || self.leaving.last() == Some(&instance),
            "a spoiled one is never used again"
        );
    }

    fn reset_done(&mut self, which: usize, ok: bool, wanted: bool) {
        if self.resetting.is_empty() {
            return;
        }
        let instance = self.resetting.remove(which % self.resetting.len());
        if ok {
            self.put(Phase::Resetting, instance, wanted);
        } else {
            self.free += self.weight;
            self.books.gone(Phase::Resetting);
            self.settle();
        }
    }

    fn put(&mut self, from: Phase, instance: u32, wanted: bool) {
        match self.books.put(from, instance, self.now, wanted) {
            Put::Idle => self.idle.push(instance),
            Put::Hand(waiter, instance) => {
                self.first_waiter_is(waiter);
                self.leased.push(instance);
            }
            Put::Surplus(instance) => self.leaving.push(instance),
        }
    }

    fn leaves(&mut self, instance: Option<u32>, expected: bool) {
        assert_eq!(instance.is_some(), expected);
        if let Some(instance) = instance {
            assert_eq!(instance, self.idle.remove(0), "the oldest one goes");
            self.leaving.push(instance);
        }
    }

    fn settle(&mut self) {
        loop {
            match self.books.next(self.now) {
                Next::Room if self.free >= self.weight => {
                    self.free -= self.weight;
                    self.preparing += 1;
                    let waiter = self.books.grant(self.now).expect("somebody waits and there is room");
                    self.first_waiter_is(waiter);
                }
                Next::Refuse { waiter, .. } => {
                    self.refused += 1;
                    self.first_waiter_is(waiter);
                }
                Next::Room | Next::Rest => return,
            }
        }
    }

    fn first_waiter_is(&mut self, waiter: u32) {
        assert_eq!(
            self.waiting.pop_first().map(|(_, waiter)| waiter),
            Some(waiter),
            "first come, first served"
        );
    }

    fn close(&mut self) {
        let (idle, waiters) = self.books.close();
        assert_eq!(idle, self.idle);
        assert_eq!(waiters, self.waiting.values().copied().collect::<Vec<_>>());
        self.leaving.append(&mut self.idle);
        self.waiting.clear();
    }

    fn check(&self) {
        let stats = self.books.stats();
        let policy = &self.policy;
        assert_eq!(stats.idle as usize, self.idle.len());
        assert_eq!(stats.leased as usize, self.leased.len());
        assert_eq!(stats.resetting as usize, self.resetting.len());
        assert_eq!(stats.leaving as usize, self.leaving.len());
        assert_eq!(stats.preparing, self.preparing);
        assert_eq!(stats.waiting, self.waiting.len());
        let ready = stats.idle + stats.leased + stats.resetting + stats.leaving;
        let total = ready + stats.preparing;
        assert!(total <= policy.max, "{stats:?}");
        assert!(stats.idle <= policy.max_idle, "{stats:?}");
        assert!(stats.waiting <= policy.queue_size, "{stats:?}");
        assert!(stats.waiting == 0 || stats.idle == 0, "nobody waits while an instance is idle: {stats:?}");
        assert_eq!(self.free + self.taken_by_others + total * self.weight, self.units, "units are kept");
        assert_eq!(stats.made, u64::from(ready) + stats.discarded, "instances are kept: {stats:?}");
        assert_eq!(stats.refused, self.refused);
        if stats.waiting > 0 {
            let comes_back = policy.on_end != OnEnd::Drop && stats.leased + stats.resetting > 0;
            // The end of what is preparing or leaving is looked at once more.
            let is_under_way = stats.preparing + stats.leaving > 0;
            let has_reason = total == policy.max || self.free < self.weight || is_under_way || comes_back;
            assert!(has_reason, "somebody waits for nothing: {stats:?}");
        }
    }

    /// Everything that is under way ends; nothing new begins.
    fn wind_down(&mut self) {
        self.close();
        while self.preparing > 0 {
            self.make_ends();
        }
        while !self.leased.is_empty() {
            self.end(0, End::Clean, false);
        }
        while !self.resetting.is_empty() {
            self.reset_done(0, true, false);
        }
        while !self.leaving.is_empty() {
            self.apply(&Op::Dropped);
        }
        self.apply(&Op::OthersReturn);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_books_are_right_whatever_happens(
        ops in ops(),
        policy in policies(),
        weight in 1_u32..4,
        places in 1_u32..7,
    ) {
        let mut world = World::new(policy, weight, weight * places);
        for op in &ops {
            world.apply(op);
            world.check();
        }
        world.wind_down();
        world.check();
        prop_assert!(world.books.is_drained());
        prop_assert_eq!(world.free, world.units);
    }
}
