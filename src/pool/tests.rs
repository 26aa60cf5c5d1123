mod cancellation;
mod lives;
mod rig;
mod shares;
mod stress;
mod turns;

use std::time::Duration;

use tokio::time::{Instant, advance};

use super::*;
use rig::{Rig, kept, now_or_never, policy, pooled, until};

const CLEAN: End = End::Clean;

#[tokio::test(start_paused = true)]
async fn an_idle_instance_is_had_without_waiting() {
    let rig = Rig::new(Policy { min_idle: 1, ..pooled(1) });
    rig.pool.prewarm().await.unwrap();
    let lease = now_or_never(rig.pool.lease()).expect("it is idle").unwrap();
    assert_eq!(lease.id, 1);
    drop(lease);
    rig.ends_whole().await;
}

#[tokio::test(start_paused = true)]
async fn instances_are_made_up_to_the_maximum() {
    let rig = Rig::new(pooled(3));
    let leases = [rig.lease().await, rig.lease().await, rig.lease().await];
    assert_eq!(rig.pool.stats().leased, 3);
    assert!(now_or_never(rig.pool.lease()).is_none());
    assert_eq!(rig.pool.stats().made, 3);
    drop(leases);
    rig.ends_whole().await;
}

#[tokio::test(start_paused = true)]
async fn a_clean_instance_is_reset_and_used_again() {
    let rig = Rig::new(pooled(1));
    let mut lease = rig.lease().await;
    lease.is_dirty = true;
    let id = lease.id;
    lease.end(CLEAN);
    assert_eq!(rig.pool.stats().resetting, 1);
    until(|| rig.pool.stats().idle == 1).await;
    let lease = rig.lease().await;
    assert_eq!((lease.id, lease.is_dirty, lease.uses()), (id, false, 1));
    lease.end(CLEAN);
    rig.ends_whole().await;
}

#[tokio::test(start_paused = true)]
async fn a_kept_instance_is_idle_at_once_as_the_guest_left_it() {
    let rig = Rig::new(kept(1));
    let mut lease = rig.lease().await;
    assert_eq!(lease.uses(), 0);
    lease.is_dirty = true;
    lease.end(CLEAN);
    assert_eq!(rig.pool.stats().idle, 1);
    let lease = rig.lease().await;
    assert_eq!((lease.id, lease.is_dirty, lease.uses()), (1, true, 1));
    drop(lease);
    rig.ends_whole().await;
}

#[tokio::test(start_paused = true)]
async fn without_idle_instances_each_lease_makes_its_own() {
    let rig = Rig::new(policy(2, 0, 0, OnEnd::Drop));
    for id in 1..5 {
        let lease = rig.lease().await;
        assert_eq!(lease.id, id);
        lease.end(CLEAN);
    }
    assert_eq!(rig.pool.stats().idle, 0);
    rig.ends_whole().await;
}

#[tokio::test(start_paused = true)]
async fn fresh_instances_can_be_held_ready_and_dropped_after_one_use() {
    let rig = Rig::new(policy(4, 2, 2, OnEnd::Drop));
    rig.pool.prewarm().await.unwrap();
    for _ in 0..5 {
        now_or_never(rig.pool.lease()).expect("one is ready").unwrap().end(CLEAN);
        until(|| rig.pool.stats().idle == 2 && rig.alive() == 2).await;
    }
    let stats = rig.pool.stats();
    assert_eq!((stats.made, stats.discarded, stats.reset), (7, 5, 0));
    rig.ends_whole().await;
}

#[tokio::test(start_paused = true)]
async fn a_spoiled_or_dropped_instance_is_never_used_again() {
    let rig = Rig::new(kept(1));
    rig.lease().await.end(End::Spoiled);
    let second = rig.lease().await;
    assert_eq!(second.id, 2);
    drop(second);
    assert_eq!(rig.lease().await.id, 3);
    rig.ends_whole().await;
}

#[tokio::test(start_paused = true)]
async fn a_discarded_instance_is_replaced_only_if_too_few_are_idle() {
    let rig = Rig::new(Policy { min_idle: 1, ..pooled(2) });
    rig.pool.prewarm().await.unwrap();
    let (one, two) = (rig.lease().await, rig.lease().await);
    drop(one);
    until(|| rig.pool.stats().idle == 1).await;
    drop(two);
    until(|| rig.alive() == 1).await;
    let stats = rig.pool.stats();
    assert_eq!((stats.made, stats.idle, stats.preparing), (3, 1, 0));
    rig.ends_whole().await;
}

#[tokio::test(start_paused = true)]
async fn a_reset_instance_goes_straight_to_the_first_waiter() {
    let rig = Rig::new(pooled(1));
    let lease = rig.lease().await;
    let (first, second) = (rig.spawn_lease(), rig.spawn_lease());
    until(|| rig.pool.stats().waiting == 2).await;
    lease.end(CLEAN);
    let lease = first.await.unwrap().unwrap();
    assert!(!second.is_finished());
    lease.end(CLEAN);
    let lease = second.await.unwrap().unwrap();
    assert_eq!(rig.pool.stats().handed, 2);
    lease.end(CLEAN);
    rig.ends_whole().await;
}

#[tokio::test(start_paused = true)]
async fn a_waiter_makes_its_own_instance_when_one_was_discarded() {
    let rig = Rig::new(pooled(1));
    let lease = rig.lease().await;
    let waiter = rig.spawn_lease();
    until(|| rig.pool.stats().waiting == 1).await;
    drop(lease);
    assert_eq!(waiter.await.unwrap().unwrap().id, 2);
    rig.ends_whole().await;
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_answers_at_once() {
    let rig = Rig::new(Policy { queue_size: 1, ..pooled(1) });
    let lease = rig.lease().await;
    let waiter = rig.spawn_lease();
    until(|| rig.pool.stats().waiting == 1).await;
    let refused = now_or_never(rig.pool.lease()).expect("the queue is full");
    assert_eq!(refused.err(), Some(LeaseError::Full));
    assert_eq!(rig.pool.stats().refused, 1);
    lease.end(CLEAN);
    waiter.await.unwrap().unwrap().end(CLEAN);
    rig.ends_whole().await;
}

#[tokio::test(start_paused = true)]
async fn who_waits_too_long_is_told() {
    let rig = Rig::new(pooled(1));
    let lease = rig.lease().await;
    let start = Instant::now();
    assert_eq!(rig.pool.lease().await.err(), Some(LeaseError::TimedOut));
    assert_eq!(start.elapsed(), rig::QUEUE_TIMEOUT);
    let stats = rig.pool.stats();
    assert_eq!((stats.timed_out, stats.waiting), (1, 0));
    lease.end(CLEAN);
    rig.ends_whole().await;
}

#[tokio::test(start_paused = true)]
async fn ending_a_lease_holds_its_permit_until_the_instance_is_dropped() {
    let rig = Rig::new(pooled(1));
    let lease = rig.lease().await;
    drop(lease);
    assert_eq!((rig.pool.stats().leaving, rig.budget.free(), rig.alive()), (1, rig::UNITS - 1, 1));
    until(|| rig.alive() == 0).await;
    assert_eq!((rig.pool.stats().leaving, rig.budget.free()), (0, rig::UNITS));
    rig.ends_whole().await;
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_can_not_be_reset_is_replaced_if_it_is_needed() {
    let rig = Rig::new(pooled(1));
    rig.fake.reset_fails.set(true);
    rig.lease().await.end(CLEAN);
    until(|| rig.alive() == 0).await;
    assert_eq!(rig.pool.stats().resetting, 0);
    let lease = rig.lease().await;
    let waiter = rig.spawn_lease();
    until(|| rig.pool.stats().waiting == 1).await;
    lease.end(CLEAN);
    assert_eq!(waiter.await.unwrap().unwrap().id, 3);
    rig.ends_whole().await;
}

#[tokio::test(start_paused = true)]
async fn prewarming_makes_the_minimum() {
    let rig = Rig::new(Policy { min_idle: 2, ..pooled(3) });
    rig.pool.prewarm().await.unwrap();
    rig.pool.prewarm().await.unwrap();
    let stats = rig.pool.stats();
    assert_eq!((stats.idle, stats.made), (2, 2));
    rig.ends_whole().await;
    assert_eq!(rig.pool.prewarm().await, Err(PrewarmError::Closed));
}

#[tokio::test(start_paused = true)]
async fn prewarming_returns_the_first_error_and_tries_again_when_asked() {
    let rig = Rig::new(Policy { min_idle: 2, ..pooled(3) });
    rig.fake.make_fails.set(true);
    assert_eq!(rig.pool.prewarm().await, Err(PrewarmError::Make("broken")));
    assert_eq!(rig.pool.stats().failed, 1);
    rig.fake.make_fails.set(false);
    rig.pool.prewarm().await.unwrap();
    rig.ends_whole().await;
}

#[tokio::test(start_paused = true)]
async fn an_app_that_fails_to_start_is_not_tried_at_each_request() {
    let rig = Rig::new(pooled(2));
    rig.fake.make_fails.set(true);
    let failing = |ms| Some(LeaseError::Failing { error: "broken", retry_after: Duration::from_millis(ms) });
    assert_eq!(rig.pool.lease().await.err(), failing(100));
    advance(Duration::from_millis(40)).await;
    assert_eq!(now_or_never(rig.pool.lease()).and_then(Result::err), failing(60));
    assert_eq!(rig.pool.stats().failed, 1);
    advance(Duration::from_millis(60)).await;
    assert_eq!(rig.pool.lease().await.err(), failing(200));
    assert_eq!(rig.pool.stats().failed, 2);
    advance(Duration::from_millis(200)).await;
    rig.fake.make_fails.set(false);
    rig.lease().await.end(CLEAN);
    rig.ends_whole().await;
}

#[tokio::test(start_paused = true)]
async fn when_the_last_hope_fails_the_waiters_are_told() {
    let rig = Rig::new(pooled(1));
    let lease = rig.lease().await;
    let waiters = [rig.spawn_lease(), rig.spawn_lease(), rig.spawn_lease()];
    until(|| rig.pool.stats().waiting == 3).await;
    rig.fake.make_fails.set(true);
    drop(lease);
    for waiter in waiters {
        let error = waiter.await.unwrap().err();
        assert!(matches!(error, Some(LeaseError::Failing { error: "broken", .. })), "{error:?}");
    }
    assert_eq!(rig.pool.stats().failed, 1);
    rig.ends_whole().await;
}

#[tokio::test(start_paused = true)]
async fn after_a_pause_one_request_tries_and_its_success_lets_the_others_go() {
    let rig = Rig::new(pooled(3));
    rig.fake.make_fails.set(true);
    assert!(rig.pool.lease().await.is_err());
    advance(Duration::from_secs(1)).await;
    rig.fake.make_fails.set(false);
    rig.fake.make.hold();
    let requests = [rig.spawn_lease(), rig.spawn_lease(), rig.spawn_lease()];
    until(|| rig.pool.stats().waiting == 2).await;
    assert_eq!(rig.fake.make.waiting(), 1);
    rig.fake.make.open();
    let mut leases = Vec::new();
    for request in requests {
        leases.push(request.await.unwrap().unwrap());
    }
    drop(leases);
    rig.ends_whole().await;
}

#[tokio::test(start_paused = true)]
async fn after_a_pause_the_upkeep_tries_and_its_success_lets_all_go() {
    let rig = Rig::new(Policy { min_idle: 1, ..pooled(3) });
    rig.fake.make_fails.set(true);
    assert!(rig.pool.lease().await.is_err());
    advance(Duration::from_secs(1)).await;
    rig.fake.make_fails.set(false);
    rig.fake.make.hold();
    assert_eq!(rig.tend().begun, 1);
    let requests = [rig.spawn_lease(), rig.spawn_lease(), rig.spawn_lease()];
    until(|| rig.pool.stats().waiting == 3).await;
    rig.fake.make.open();
    let mut leases = Vec::new();
    for request in requests {
        leases.push(request.await.unwrap().unwrap());
    }
    drop(leases);
    rig.ends_whole().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_idle_for_too_long_is_retired() {
    let rig = Rig::new(Policy { min_idle: 1, ..pooled(3) });
    let leases = [rig.lease().await, rig.lease().await, rig.lease().await];
    leases.into_iter().for_each(|lease| lease.end(CLEAN));
    until(|| rig.pool.stats().idle == 3).await;
    assert_eq!(rig.tend().retired, 0);
    advance(rig::IDLE_TIME).await;
    // One of the three is in use now and then, so it stays.
    rig.lease().await.end(CLEAN);
    until(|| rig.pool.stats().idle == 3).await;
    assert_eq!(rig.tend().retired, 2);
    until(|| rig.alive() == 1).await;
    assert_eq!(rig.pool.stats().retired, 2);
    rig.ends_whole().await;
}

#[tokio::test(start_paused = true)]
async fn a_pool_without_requests_falls_asleep_and_the_next_one_wakes_it() {
    let sleep_after = Duration::from_secs(600);
    let rig = Rig::new(Policy { min_idle: 1, sleep_after: Some(sleep_after), ..pooled(3) });
    rig.pool.prewarm().await.unwrap();
    let is_asleep = || {
        rig.tend();
        rig.pool.stats().is_asleep
    };
    for _ in 0..2 {
        let lease = rig.lease().await;
        assert!(!is_asleep());
        advance(sleep_after).await;
        assert!(!is_asleep(), "a request is under way");
        lease.end(CLEAN);
        until(|| rig.pool.stats().idle > 0 && rig.pool.stats().resetting == 0).await;
        assert!(!is_asleep(), "it has just ended");
        advance(sleep_after).await;
        assert!(is_asleep());
        assert_eq!(rig.fake.take_rests(), 0, "instances are on their way out");
        until(|| rig.alive() == 0).await;
        assert!(is_asleep() && is_asleep());
        assert_eq!(rig.fake.take_rests(), 2);
    }
    rig.lease().await.end(CLEAN);
    assert!(!is_asleep());
    until(|| rig.pool.stats().idle == 1).await;
    assert_eq!(rig.fake.take_rests(), 0);
    rig.ends_whole().await;
}

#[tokio::test(start_paused = true)]
async fn what_failures_took_is_topped_up() {
    let rig = Rig::new(Policy { min_idle: 2, ..pooled(2) });
    rig.fake.make_fails.set(true);
    assert!(rig.pool.prewarm().await.is_err());
    assert_eq!(rig.tend().begun, 0);
    advance(Duration::from_secs(1)).await;
    rig.fake.make_fails.set(false);
    // After a failure one at a time.
    assert_eq!(rig.tend().begun, 1);
    until(|| rig.pool.stats().idle == 1).await;
    assert_eq!(rig.tend().begun, 1);
    until(|| rig.pool.stats().idle == 2).await;
    assert_eq!(rig.tend().begun, 0);
    rig.ends_whole().await;
}

#[tokio::test(start_paused = true)]
async fn a_closed_pool_gives_nothing_more_and_drains() {
    let rig = Rig::new(Policy { min_idle: 1, ..pooled(2) });
    rig.pool.prewarm().await.unwrap();
    let leased = rig.lease().await;
    let other = rig.lease().await;
    other.end(CLEAN);
    until(|| rig.pool.stats().idle == 1).await;
    rig.pool.close();
    assert_eq!(rig.pool.lease().await.err(), Some(LeaseError::Closed));
    assert!(now_or_never(rig.pool.drained()).is_none());
    until(|| rig.alive() == 1).await;
    let drained = tokio::spawn({
        let pool = rig.pool.clone();
        async move { pool.drained().await }
    });
    leased.end(CLEAN);
    drained.await.unwrap();
    assert_eq!(rig.alive(), 0);
    rig.ends_whole().await;
}

#[tokio::test(start_paused = true)]
async fn closing_an_empty_pool_drains_it_at_once() {
    let rig = Rig::new(pooled(1));
    rig.pool.close();
    assert!(now_or_never(rig.pool.drained()).is_some());
    rig.ends_whole().await;
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_the_drain_learns_of_the_closing() {
    let rig = Rig::new(pooled(1));
    let pool = rig.pool.clone();
    let mut drained = std::pin::pin!(pool.drained());
    assert!(rig::poll_once(drained.as_mut()).is_pending());
    rig.pool.close();
    assert!(rig::poll_once(drained).is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_is_forgotten_returns_its_units() {
    let rig = Rig::new(Policy { min_idle: 2, ..pooled(2) });
    rig.pool.prewarm().await.unwrap();
    let Rig { pool, budget, fake } = rig;
    assert!(fake.watched.set(budget.clone()).is_ok());
    drop(pool);
    assert_eq!((budget.free(), fake.alive()), (rig::UNITS, 0));
    assert_eq!(fake.most_free(), rig::UNITS - 1, "each instance is gone before its unit is free");
}

#[test]
fn a_policy_that_can_not_be_kept_is_refused() {
    let budget = Budget::new(8, 0);
    let refused = |policy, each| Pool::new("app", rig::Fake::default(), policy, each, &budget).err();
    assert_eq!(refused(pooled(4), 2), None);
    assert_eq!(refused(pooled(0), 1), Some(PolicyError::NoInstances));
    assert_eq!(
        refused(policy(2, 2, 1, OnEnd::Reset), 1),
        Some(PolicyError::MinAboveMax { min_idle: 2, max_idle: 1 })
    );
    assert_eq!(
        refused(policy(2, 0, 3, OnEnd::Keep), 1),
        Some(PolicyError::IdleAboveMax { max_idle: 3, max: 2 })
    );
    assert_eq!(refused(pooled(1), 0), Some(PolicyError::Units { each: 0, units: 8 }));
    assert_eq!(refused(pooled(1), 9), Some(PolicyError::Units { each: 9, units: 8 }));
    assert_eq!(
        refused(policy(9, 3, 9, OnEnd::Reset), 3),
        Some(PolicyError::MinAboveBudget { min_idle: 3, each: 3, units: 8 })
    );
}
