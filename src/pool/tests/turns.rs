//! Requests of a pool that keeps the processors busy take turns.

use std::time::Duration;

use tokio::time::{advance, sleep};

use super::rig::{Rig, pooled, until};
use crate::pool::{Budget, End, LeaseError, cores};

/// A pool that has kept the only processor busy, asked on a thread that has no rest.
async fn busy(max: u32) -> Rig {
    let rig = Rig::new(pooled(max));
    rig.budget.cores().set_threads(1);
    cores::keep_thread_awake();
    rig.tend();
    rig.pool.load().worked(Duration::from_secs(1));
    advance(Duration::from_secs(1)).await;
    rig.tend();
    assert!(rig.pool.stats().is_busy);
    rig
}

/// The pool goes on to be busy.
async fn work(rig: &Rig) {
    rig.pool.load().worked(Duration::from_millis(10));
    advance(Duration::from_millis(10)).await;
}

#[tokio::test(start_paused = true)]
async fn while_one_runs_the_next_waits_and_idle_instances_stay_idle() {
    let rig = busy(3).await;
    let leases = [rig.lease().await];
    let next = rig.spawn_lease();
    until(|| rig.pool.stats().waiting == 1).await;
    assert_eq!(rig.pool.stats().running, 1);
    leases.into_iter().for_each(|lease| lease.end(End::Clean));
    let lease = next.await.unwrap().unwrap();
    until(|| rig.pool.stats().idle == 1).await;
    work(&rig).await;
    let third = rig.spawn_lease();
    until(|| rig.pool.stats().waiting == 1).await;
    assert_eq!(rig.pool.stats().idle, 1, "an instance is there, but no turn");
    lease.end(End::Clean);
    third.await.unwrap().unwrap().end(End::Clean);
    rig.ends_whole().await;
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_waits_leaves_its_turn_to_the_next() {
    let rig = busy(3).await;
    let mut first = rig.lease().await;
    let turn = first.take_turn().expect("its turn");
    let next = rig.spawn_lease();
    until(|| rig.pool.stats().waiting == 1).await;
    turn.pause();
    let second = next.await.unwrap().unwrap();
    turn.resume();
    assert_eq!(rig.pool.stats().running, 2, "a guest under way is not held up");
    drop((turn, first, second));
    rig.ends_whole().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_leaves_with_its_turn_in_hand_passes_it_on() {
    let rig = busy(2).await;
    let lease = rig.lease().await;
    let (gone, next) = (rig.spawn_lease(), rig.spawn_lease());
    until(|| rig.pool.stats().waiting == 2).await;
    gone.abort();
    lease.end(End::Clean);
    next.await.unwrap().unwrap().end(End::Clean);
    until(|| rig.pool.stats().running == 0).await;
    rig.ends_whole().await;
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_is_not_busy_is_not_held_up_by_one_that_is() {
    let rig = busy(3).await;
    let other = Rig::within(&rig.budget, pooled(3), 1);
    rig.budget.cores().set_threads(1);
    let (held, waits) = (rig.lease().await, rig.spawn_lease());
    until(|| rig.pool.stats().waiting == 1).await;
    let leases = [other.lease().await, other.lease().await];
    drop((leases, held));
    waits.await.unwrap().unwrap().end(End::Clean);
    rig.pool.close();
    rig.pool.drained().await;
    other.ends_whole().await;
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_too_long_in_an_overload_is_told_so() {
    let mut policy = pooled(1);
    policy.queue_timeout = Duration::from_secs(5);
    policy.queue_size = 1_000;
    let rig = Rig::within(&Budget::new(1, 1_000), policy, 1);
    // Each has its instance for 10 ms, and two come meanwhile.
    let ask = || {
        let pool = rig.pool.clone();
        tokio::spawn(async move {
            let lease = pool.lease().await?;
            sleep(Duration::from_millis(10)).await;
            lease.end(End::Clean);
            Ok(())
        })
    };
    let mut requests = Vec::new();
    while rig.pool.stats().shed == 0 {
        requests.extend([ask(), ask()]);
        sleep(Duration::from_millis(10)).await;
        assert!(requests.len() < 1_000);
    }
    assert!(rig.pool.stats().is_overloaded);
    let mut told = 0;
    for request in requests {
        told += usize::from(request.await.unwrap() == Err(LeaseError::Overloaded));
    }
    assert_eq!(rig.pool.stats().shed, told as u64);
    rig.ends_whole().await;
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_has_run_for_long_cedes_its_turn_and_has_it_again() {
    let rig = busy(3).await;
    let mut first = rig.lease().await;
    let turn = first.take_turn().expect("its turn");
    let next = rig.spawn_lease();
    until(|| rig.pool.stats().waiting == 1).await;
    let ceded = tokio::spawn(std::sync::Arc::clone(&turn).cede());
    let second = next.await.unwrap().unwrap();
    assert!(!ceded.is_finished());
    assert_eq!(rig.pool.stats().running, 1);
    second.end(End::Clean);
    ceded.await.unwrap();
    assert_eq!(rig.pool.stats().running, 1);
    // Nobody else wants it.
    std::sync::Arc::clone(&turn).cede().await;
    drop((turn, first));
    rig.ends_whole().await;
}

#[tokio::test(start_paused = true)]
async fn of_a_burst_only_some_run_before_it_is_seen_how_busy_they_keep_the_processors() {
    let rig = Rig::new(pooled(8));
    rig.budget.cores().set_threads(1);
    let mut leases = Vec::new();
    for _ in 0..4 {
        leases.push(rig.lease().await);
    }
    let waits = rig.spawn_lease();
    until(|| rig.pool.stats().waiting == 1).await;
    assert!(!rig.pool.stats().is_busy);
    leases.pop();
    waits.await.unwrap().unwrap().end(End::Clean);
    drop(leases);
    rig.ends_whole().await;
}
