use std::future::Future as _;
use std::sync::atomic::AtomicU32;

use super::turn::{LONG, SHORT};
use super::*;
use crate::pool::cores::thread_awoke_at;

fn load(cores: &Arc<Cores>, weight: u32) -> Arc<Load> {
    Load::new(Arc::clone(cores), weight)
}

fn cores(threads: u32) -> Arc<Cores> {
    let cores = Arc::<Cores>::default();
    cores.set_threads(threads);
    cores
}

/// Lets a pool do work on so many of the processors, and looks.
fn work(load: &Arc<Load>, start: Instant, from_ms: u64, for_ms: u64, processors: f64) -> bool {
    load.assess(start + Duration::from_millis(from_ms));
    load.worked(Duration::from_millis(for_ms).mul_f64(processors));
    load.assess(start + Duration::from_millis(from_ms + for_ms))
}

#[test]
fn a_pool_is_busy_while_it_keeps_a_good_part_of_the_processors_at_work() {
    let start = Instant::now();
    let load = load(&cores(4), 100);
    assert!(!work(&load, start, 0, 10, 0.1));
    assert!(work(&load, start, 20, 10, 1.0));
    assert!(work(&load, start, 30, 10, 0.15), "not at once idle again");
    assert!(!work(&load, start, 40, 10, 0.05));
}

#[test]
fn without_a_thread_that_has_no_rest_no_pool_is_gated() {
    let start = Instant::now();
    let load = load(&cores(1), 100);
    assert!(work(&load, start, 0, 10, 1.0));
    let later = start + Duration::from_millis(11);
    assert!(!load.is_gated(later), "this thread was never said to have slept");
    thread_awoke_at(start);
    assert!(load.is_gated(later));
    thread_awoke_at(later);
    assert!(!load.is_gated(later));
}

#[test]
fn a_guest_that_cedes_its_turn_still_is_for_the_slow_lane() {
    let load = load(&cores(1), 100);
    let turn = load.turn();
    turn.worked(LONG, false);
    let mut ceding = std::pin::pin!(Arc::clone(&turn).cede());
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(ceding.as_mut().poll(&mut cx).is_pending());
    turn.worked(SHORT / 10, true);
    assert!(turn.is_for_lane(), "it was polled for that alone");
    assert!(ceding.as_mut().poll(&mut cx).is_ready(), "nobody else wants the turn");
    turn.worked(SHORT / 10, true);
    assert!(!turn.is_for_lane(), "it waits by itself");
}

#[test]
fn who_waits_for_a_turn_while_the_slow_lane_has_them_has_one_when_the_pool_is_no_more_busy() {
    let start = Instant::now();
    let cores = cores(1);
    let load = load(&cores, 100);
    let turn = load.turn();
    turn.pause();
    work(&load, start, 0, 100, 1.0);
    cores.left.store(1, SeqCst);
    let mut place = turn.go_on().expect("there is no turn");
    assert!(place.try_recv().is_err());
    // The lane's time is over when the pool is not among the busy ones any more.
    work(&load, start, 100, 10, 0.0);
    cores.left.store(0, SeqCst);
    assert!(place.try_recv().is_ok());
}

#[test]
fn the_slow_lane_has_no_turns_of_a_pool_that_takes_less_than_its_share() {
    let start = Instant::now();
    let cores = cores(2);
    let (flood, other) = (load(&cores, 100), load(&cores, 100));
    for at in (0..100).step_by(10) {
        work(&flood, start, at, 10, 1.5);
        work(&other, start, at, 10, 0.3);
    }
    assert!(flood.is_busy() && other.is_busy());
    cores.left.store(2, SeqCst);
    assert_eq!((flood.has_turn(), other.has_turn()), (false, true));
    work(&other, start, 100, 100, 1.5);
    assert!(!other.has_turn(), "now it takes as much");
    let kept_out = other.turn();
    kept_out.pause();
    let mut place = kept_out.go_on().expect("there is no turn");
    work(&other, start, 200, 100, 0.3);
    assert!(place.try_recv().is_ok(), "it is told as soon as it takes less");
}

/// What runs in the slow lane without a break is told of at its end.
#[test]
fn a_pool_stays_heavy_for_a_while_after_nothing_seems_to_be_done() {
    let start = Instant::now();
    let load = load(&cores(1), 100);
    for _ in 0..100 {
        load.turn().worked(LONG_ON_AVERAGE * 2, true);
    }
    work(&load, start, 0, 10, 1.0);
    assert!(load.is_for_lane());
    let light = 250;
    work(&load, start, 20, light - 20, 0.0);
    assert!(load.is_for_lane());
    work(&load, start, light, 20, 0.0);
    assert!(!load.is_for_lane());
}

#[test]
fn the_weight_of_a_busy_pool_goes_with_it() {
    let start = Instant::now();
    let cores = cores(1);
    let (one, other) = (load(&cores, 100), load(&cores, 300));
    work(&one, start, 0, 10, 1.0);
    work(&other, start, 0, 10, 1.0);
    assert_eq!(cores.weight.load(Relaxed), 400);
    drop(one);
    work(&other, start, 20, 10, 0.0);
    assert_eq!(cores.weight.load(Relaxed), 0);
}

struct Told(AtomicU32);

impl Waits for Told {
    fn room_to_run(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

#[test]
fn a_turn_that_is_paused_is_anothers() {
    let load = load(&cores(1), 100);
    let pool = Arc::new(Told(AtomicU32::new(0)));
    let weak: Weak<Told> = Arc::downgrade(&pool);
    load.serves(weak);
    let told = || pool.0.load(Relaxed);
    let turn = load.turn();
    assert!(load.has_turn(), "more may run as long as it is not busy");
    load.set_busy(false, true);
    assert!(!load.has_turn());
    turn.pause();
    turn.pause();
    assert!(load.has_turn());
    assert_eq!(told(), 0, "nobody queues");
    load.set_queued(1);
    turn.resume();
    assert_eq!((load.running(), load.has_turn()), (1, false));
    turn.pause();
    assert_eq!(told(), 1);
    drop(turn);
    assert_eq!((told(), load.running()), (1, 0), "it was over already");
}

#[test]
fn so_many_short_requests_may_run_at_once_as_are_brief_together() {
    let load = load(&cores(2), 100);
    load.set_busy(false, true);
    assert_eq!(load.turns(), 2, "it is not known how long they take");
    let after = |each: Duration| {
        for _ in 0..200 {
            load.turn().worked(each, true);
        }
        load.turns()
    };
    assert_eq!(after(Duration::from_micros(9)), 24);
    load.set_queued(80);
    assert_eq!(after(Duration::from_micros(9)), 24);
    load.set_queued(90);
    assert_eq!(after(Duration::from_micros(9)), 2, "a flood");
    load.set_queued(0);
    assert_eq!(after(BRIEF / 3), 4);
    assert_eq!(after(BRIEF), 2);
    load.cores.left.store(1, SeqCst);
    load.is_over_share.store(true, Relaxed);
    assert_eq!(after(Duration::from_micros(9)), 1, "the slow lane has its thread");
}

#[test]
fn what_runs_for_long_is_for_the_slow_lane_and_so_is_all_of_a_heavy_pool_whose_requests_do() {
    let start = Instant::now();
    let load = load(&cores(1), 100);
    let (short, long) = (load.turn(), load.turn());
    short.worked(LONG / 2, false);
    long.worked(LONG, false);
    assert_eq!((short.is_for_lane(), long.is_for_lane()), (false, true));
    long.worked(SHORT / 2, true);
    assert!(!long.is_for_lane(), "it waits more than it works");
    long.worked(LONG, true);
    assert!(!long.is_for_lane(), "the kernel may have run something else in the middle of it");
    long.worked(SHORT / 2, false);
    assert!(long.is_for_lane(), "it was interrupted soon, by chance, and worked for long before that");
    drop((short, long));
    for _ in 0..100 {
        load.turn().worked(LONG_ON_AVERAGE * 2, true);
    }
    assert!(!load.turn().is_for_lane(), "it is not heavy yet");
    work(&load, start, 0, 10, 0.1);
    assert!(load.is_busy() && !load.turn().is_for_lane(), "busy is not heavy");
    work(&load, start, 20, 10, 0.5);
    assert!(load.turn().is_for_lane());
    for _ in 0..100 {
        load.turn().worked(LONG_ON_AVERAGE / 10, true);
    }
    work(&load, start, 40, 10, 0.5);
    assert!(!load.turn().is_for_lane(), "many short ones are better off where they are");
}
