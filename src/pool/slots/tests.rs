use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn policy(max: u32, on_end: OnEnd) -> Policy {
    Policy {
        min_idle: 0,
        max,
        max_idle: max,
        queue_size: 4,
        queue_timeout: Duration::from_secs(1),
        idle_time: Duration::from_secs(60),
        sleep_after: None,
        on_end,
        weight: 1,
        max_lifetime: None,
        max_uses: None,
    }
}

fn comes(now: Instant) -> Comes {
    Comes { now, has_turn: true, wanted: Wanted::No, expires: None }
}

type Books = Slots<u32, u32, &'static str>;

/// Books with these instances idle, the last one the most recent.
fn with_idle(policy: Policy, idle: &[u32], now: Instant) -> Books {
    let mut books = Books::new(policy);
    for &instance in idle {
        books.begin();
        assert_eq!(books.put(Phase::Preparing, instance, comes(now)), Put::Idle);
    }
    books
}

#[test]
fn the_instance_used_last_is_taken_first() {
    let now = Instant::now();
    let mut books = with_idle(policy(3, OnEnd::Keep), &[1, 2, 3], now);
    assert_eq!(books.take(), Some(3));
    assert_eq!(books.end(End::Clean, Wanted::No), Ended::Keep);
    assert_eq!(books.put(Phase::Leased, 3, comes(now)), Put::Idle);
    assert_eq!((books.take(), books.take(), books.take(), books.take()), (Some(3), Some(2), Some(1), None));
}

#[test]
fn what_comes_back_goes_to_the_first_waiter() {
    let now = Instant::now();
    let mut books = with_idle(policy(1, OnEnd::Reset), &[7], now);
    books.take();
    assert_eq!(books.ask(now, true), Ask::Wait);
    let first = books.enqueue(100, now).unwrap();
    books.enqueue(101, now).unwrap();
    books.enqueue(102, now).unwrap();
    assert_eq!(books.leave(first), Some(100));
    assert_eq!(books.end(End::Clean, Wanted::No), Ended::Reset);
    assert_eq!(books.put(Phase::Resetting, 7, comes(now)), Put::Hand(101, 7));
    assert_eq!(books.leave(first), None);
}

#[test]
fn a_newcomer_queues_behind_those_who_wait() {
    let now = Instant::now();
    let mut books = with_idle(policy(2, OnEnd::Reset), &[1, 2], now);
    books.take();
    books.take();
    books.enqueue(100, now).unwrap();
    books.end(End::Spoiled, Wanted::No);
    books.gone(Phase::Leaving);
    // There is room, but it is the waiter's.
    assert_eq!(books.ask(now, true), Ask::Wait);
    assert_eq!(books.next(now, true), Next::Room);
    assert_eq!(books.grant(now, true), Some(100));
}

#[test]
fn a_full_queue_gives_the_waiter_back() {
    let now = Instant::now();
    let mut books = Books::new(Policy { queue_size: 1, ..policy(1, OnEnd::Reset) });
    assert!(books.enqueue(1, now).is_ok());
    assert_eq!(books.enqueue(2, now), Err(2));
}

#[test]
fn the_surplus_retires_oldest_first() {
    let start = Instant::now();
    let second = Duration::from_secs(1);
    let policy = Policy { min_idle: 1, ..policy(3, OnEnd::Keep) };
    let mut books = with_idle(policy, &[1], start);
    books.begin();
    books.put(Phase::Preparing, 2, comes(start + second));
    books.begin();
    books.put(Phase::Preparing, 3, comes(start + 2 * second));
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
    assert_eq!(books.end(End::Clean, Wanted::Spare), Ended::Discard);
    books.gone(Phase::Leaving);
    books.take();
    assert_eq!(books.end(End::Clean, Wanted::Spare), Ended::Reset);
    assert_eq!(books.put(Phase::Resetting, 1, Comes { wanted: Wanted::Spare, ..comes(now) }), Put::Idle);
    assert_eq!(books.give_up(), None);
}

#[test]
fn after_a_failure_nobody_tries_until_the_pause_is_over_and_then_one_at_a_time() {
    let now = Instant::now();
    let mut books = Books::new(policy(4, OnEnd::Reset));
    assert_eq!(books.ask(now, true), Ask::Room);
    books.begin();
    let pause = books.failed("broken", Duration::ZERO, now);
    books.gone(Phase::Preparing);
    assert_eq!(books.ask(now, true), Ask::Failing { error: "broken", retry_after: pause });
    assert_eq!(books.ask(now + pause, true), Ask::Room);
    books.begin();
    assert_eq!(books.ask(now + pause, true), Ask::Wait);
    books.enqueue(100, now).unwrap();
    assert_eq!(books.next(now + pause, true), Next::Rest);
    assert_eq!(books.made(), Made::Leased);
    assert_eq!(books.next(now + pause, true), Next::Room);
}

#[test]
fn a_waiter_is_refused_when_making_fails_and_nothing_else_comes() {
    let now = Instant::now();
    let mut books = Books::new(policy(1, OnEnd::Reset));
    books.begin();
    books.enqueue(100, now).unwrap();
    let pause = books.failed("broken", Duration::ZERO, now);
    assert_eq!(books.next(now, true), Next::Rest);
    books.gone(Phase::Preparing);
    assert_eq!(books.next(now, true), Next::Refuse { waiter: 100, error: "broken", retry_after: pause });
}

#[test]
fn in_a_pause_requests_wait_for_an_instance_that_comes_back() {
    let now = Instant::now();
    let mut books = with_idle(policy(2, OnEnd::Reset), &[1], now);
    books.take();
    books.begin();
    books.failed("broken", Duration::ZERO, now);
    books.gone(Phase::Preparing);
    assert_eq!(books.ask(now, true), Ask::Wait);
}

/// What can happen to a pool. Numbers choose among those it can happen to.
#[derive(Debug, Clone)]
enum Op {
    Ask,
    Leave(usize),
    Made(usize),
    MakeFailed,
    MakeCancelled,
    End {
        which: usize,
        end: End,
        wanted: Wanted,
    },
    ResetDone {
        which: usize,
        ok: bool,
        wanted: Wanted,
    },
    Dropped,
    Refill,
    GiveUp,
    Retire,
    OthersTake(u32),
    OthersReturn,
    Pass(u64),
    /// Requests may run, or not.
    Turns(bool),
    Tick(Pressure),
    Close,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let end = prop_oneof![3 => Just(End::Clean), 1 => Just(End::Spoiled)];
    let wanted = || prop_oneof![5 => Just(Wanted::No), 1 => Just(Wanted::Spare), 1 => Just(Wanted::ByPoorer)];
    let pressure = prop_oneof![
        4 => Just(Pressure::None),
        1 => Just(Pressure::Growth),
        1 => Just(Pressure::Spares),
        1 => Just(Pressure::Shed),
    ];
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
        2 => prop_oneof![1_u64..400, 1_u64..40_000].prop_map(Op::Pass),
        2 => any::<bool>().prop_map(Op::Turns),
        2 => pressure.prop_map(Op::Tick),
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
    each: u32,
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
    shed: u64,
    has_turn: bool,
    pressure: Pressure,
}

impl World {
    fn new(policy: Policy, each: u32, units: u32) -> Self {
        Self {
            books: Slots::new(policy.clone()),
            policy,
            now: Instant::now(),
            each,
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
            shed: 0,
            has_turn: true,
            pressure: Pressure::None,
        }
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Ask => self.ask(),
            Op::Leave(which) => self.leave(which),
            Op::Made(who) => self.made(who % 2 == 0),
            Op::MakeFailed if self.preparing > 0 => {
                self.books.failed("broken", Duration::ZERO, self.now);
                self.make_ends();
            }
            Op::MakeCancelled if self.preparing > 0 => self.make_ends(),
            Op::End { which, end, wanted } => self.end(which, end, wanted),
            Op::ResetDone { which, ok, wanted } => self.reset_done(which, ok, wanted),
            Op::Dropped if !self.leaving.is_empty() => {
                self.leaving.pop();
                self.free += self.each;
                self.books.gone(Phase::Leaving);
                self.settle();
            }
            Op::Refill if self.books.is_short(self.now) && self.free >= self.each => self.begin(),
            Op::GiveUp => {
                let given = self.books.give_up();
                let floor = if self.pressure >= Pressure::Spares { 0 } else { self.policy.min_idle };
                self.leaves(given, self.idle.len() > floor as usize);
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
            Op::Turns(has_turn) => {
                self.has_turn = has_turn;
                self.settle();
            }
            Op::Tick(pressure) => {
                self.pressure = pressure;
                self.books.set_pressure(pressure);
                self.books.tick(self.now);
                self.settle();
            }
            Op::Close => self.close(),
            _ => {}
        }
    }

    fn ask(&mut self) {
        match self.books.ask(self.now, self.has_turn) {
            Ask::Idle(instance) => {
                assert_eq!(Some(instance), self.idle.pop(), "the most recent one is taken");
                self.leased.push(instance);
            }
            Ask::Room if self.free >= self.each => self.begin(),
            Ask::Room | Ask::Wait => match self.books.enqueue(self.next_waiter, self.now) {
                Ok(key) => {
                    self.waiting.insert(key, self.next_waiter);
                    self.next_waiter += 1;
                }
                Err(_) => assert_eq!(self.waiting.len(), self.policy.queue_size),
            },
            Ask::Closed => assert!(self.books.is_closed()),
            Ask::NoMemory => {
                assert_eq!(self.pressure, Pressure::Shed);
                self.refused += 1;
            }
            Ask::Failing { retry_after, .. } => {
                assert!(retry_after > Duration::ZERO);
                self.refused += 1;
            }
        }
    }

    fn begin(&mut self) {
        self.free -= self.each;
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
            self.put(Phase::Preparing, instance, Wanted::No);
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
        self.free += self.each;
        self.books.gone(Phase::Preparing);
        self.settle();
    }

    fn end(&mut self, which: usize, end: End, wanted: Wanted) {
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
        self.settle();
    }

    fn reset_done(&mut self, which: usize, ok: bool, wanted: Wanted) {
        if self.resetting.is_empty() {
            return;
        }
        let instance = self.resetting.remove(which % self.resetting.len());
        if ok {
            self.put(Phase::Resetting, instance, wanted);
        } else {
            self.free += self.each;
            self.books.gone(Phase::Resetting);
            self.settle();
        }
    }

    fn put(&mut self, from: Phase, instance: u32, wanted: Wanted) {
        let comes = Comes { now: self.now, has_turn: self.has_turn, wanted, expires: None };
        match self.books.put(from, instance, comes) {
            Put::Idle => self.idle.push(instance),
            Put::Hand(waiter, instance) => {
                self.is_next(waiter);
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
            match self.books.next(self.now, self.has_turn) {
                Next::Room if self.free >= self.each => {
                    self.free -= self.each;
                    self.preparing += 1;
                    let waiter =
                        self.books.grant(self.now, self.has_turn).expect("there is room for a waiter");
                    self.is_next(waiter);
                }
                Next::Hand(waiter, instance) => {
                    assert_eq!(Some(instance), self.idle.pop(), "the most recent one is taken");
                    self.leased.push(instance);
                    self.is_next(waiter);
                }
                Next::Shed(waiter) => {
                    self.shed += 1;
                    assert_eq!(self.waiting.pop_first().map(|(_, waiter)| waiter), Some(waiter));
                }
                Next::Refuse { waiter, .. } => {
                    self.refused += 1;
                    assert_eq!(self.waiting.pop_first().map(|(_, waiter)| waiter), Some(waiter));
                }
                Next::Room | Next::Rest => return,
            }
        }
    }

    /// First come, first served, and the other way round under overload.
    fn is_next(&mut self, waiter: u32) {
        let next = match self.books.stats().is_overloaded {
            false => self.waiting.pop_first(),
            true => self.waiting.pop_last(),
        };
        assert_eq!(next.map(|(_, waiter)| waiter), Some(waiter));
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
        let may_run = self.has_turn && stats.waiting > 0;
        assert!(!may_run || stats.idle == 0, "nobody waits while an instance is idle: {stats:?}");
        assert_eq!(self.free + self.taken_by_others + total * self.each, self.units, "units are kept");
        assert_eq!(stats.made, u64::from(ready) + stats.discarded, "instances are kept: {stats:?}");
        assert_eq!((stats.refused, stats.shed), (self.refused, self.shed));
        if stats.waiting > 0 {
            let comes_back = policy.on_end != OnEnd::Drop && stats.leased + stats.resetting > 0;
            // The end of what is preparing or leaving is looked at once more.
            let is_under_way = stats.preparing + stats.leaving > 0;
            let may_make = self.has_turn && self.pressure != Pressure::Shed;
            let has_room = total < policy.max && self.free >= self.each;
            let has_reason = !may_make || !has_room || is_under_way || comes_back;
            assert!(has_reason, "somebody waits for nothing: {stats:?}");
        }
    }

    /// Everything that is under way ends; nothing new begins.
    fn wind_down(&mut self) {
        self.close();
        self.has_turn = true;
        while self.preparing > 0 {
            self.make_ends();
        }
        while !self.leased.is_empty() {
            self.end(0, End::Clean, Wanted::No);
        }
        while !self.resetting.is_empty() {
            self.reset_done(0, true, Wanted::No);
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
        each in 1_u32..4,
        places in 1_u32..7,
    ) {
        let mut world = World::new(policy, each, each * places);
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
