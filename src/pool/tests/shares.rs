//! Several pools, one budget.

use super::rig::{Fake, QUEUE_TIMEOUT, Rig, kept, now_or_never, policy, pooled, until};
use crate::pool::{Budget, End, Lease, LeaseError, OnEnd, Policy, PrewarmError};

/// Two pools that share this many units.
fn two(units: u32, one: Policy, other: Policy) -> (Rig, Rig) {
    let budget = Budget::new(units, 4);
    (Rig::within(&budget, one, 1), Rig::within(&budget, other, 1))
}

async fn end_whole(one: Rig, other: Rig) {
    one.pool.close();
    one.pool.drained().await;
    one.is_gone();
    other.ends_whole().await;
}

async fn lease_many(rig: &Rig, count: u32) -> Vec<Lease<Fake>> {
    let mut leases = Vec::new();
    for _ in 0..count {
        leases.push(rig.lease().await);
    }
    leases
}

/// Has this many instances idle in the pool.
async fn idle(rig: &Rig, count: u32) {
    lease_many(rig, count).await.into_iter().for_each(|lease| lease.end(End::Clean));
    until(|| rig.pool.stats().idle == count).await;
}

#[tokio::test(start_paused = true)]
async fn idle_instances_of_another_pool_make_way() {
    let (one, other) = two(2, pooled(2), pooled(2));
    idle(&one, 2).await;
    let first = other.lease().await;
    let second = other.lease().await;
    assert_eq!((one.pool.stats().reclaimed, one.alive()), (2, 0));
    drop((first, second));
    end_whole(one, other).await;
}

#[tokio::test(start_paused = true)]
async fn the_minimum_of_another_pool_stays() {
    let (one, other) = two(2, Policy { min_idle: 1, ..pooled(2) }, pooled(2));
    idle(&one, 2).await;
    let first = other.lease().await;
    assert_eq!(other.pool.lease().await.err(), Some(LeaseError::TimedOut));
    assert_eq!((one.pool.stats().idle, other.budget.in_line()), (1, 0));
    first.end(End::Clean);
    end_whole(one, other).await;
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_comes_back_makes_way_for_a_pool_that_waits() {
    for policy in [pooled(1), kept(1), policy(1, 0, 0, OnEnd::Drop)] {
        let (one, other) = two(1, policy, pooled(1));
        let lease = one.lease().await;
        let waiter = other.spawn_lease();
        until(|| other.budget.in_line() == 1).await;
        lease.end(End::Clean);
        waiter.await.unwrap().unwrap().end(End::Clean);
        // It is not even reset.
        assert_eq!(one.pool.stats().reset, 0);
        end_whole(one, other).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_whose_reset_ends_while_a_pool_waits_makes_way() {
    let (one, other) = two(1, pooled(1), pooled(1));
    one.fake.reset.hold();
    one.lease().await.end(End::Clean);
    until(|| one.fake.reset.waiting() == 1).await;
    let waiter = other.spawn_lease();
    until(|| other.budget.in_line() == 1).await;
    one.fake.reset.open();
    waiter.await.unwrap().unwrap().end(End::Clean);
    end_whole(one, other).await;
}

#[tokio::test(start_paused = true)]
async fn each_waiter_gets_its_unit_one_after_the_other() {
    let (one, other) = two(3, pooled(3), pooled(3));
    let leases = [one.lease().await, one.lease().await, one.lease().await];
    let waiters = [other.spawn_lease(), other.spawn_lease(), other.spawn_lease()];
    until(|| other.pool.stats().waiting == 3).await;
    for (number, (lease, waiter)) in leases.into_iter().zip(waiters).enumerate() {
        drop(lease);
        let lease = waiter.await.unwrap().unwrap();
        assert_eq!(other.pool.stats().waiting, 2 - number);
        tokio::spawn(async move {
            std::future::pending::<()>().await;
            drop(lease);
        });
    }
    assert_eq!(other.pool.stats().leased, 3);
}

#[tokio::test(start_paused = true)]
async fn waiters_of_one_pool_make_their_instances_side_by_side() {
    let (one, other) = two(2, pooled(2), pooled(2));
    let leases = [one.lease().await, one.lease().await];
    other.fake.make.hold();
    let waiters = [other.spawn_lease(), other.spawn_lease()];
    until(|| other.pool.stats().waiting == 2).await;
    drop(leases);
    until(|| other.fake.make.waiting() == 2).await;
    other.fake.make.open();
    for waiter in waiters {
        waiter.await.unwrap().unwrap().end(End::Clean);
    }
    end_whole(one, other).await;
}

#[tokio::test(start_paused = true)]
async fn a_heavy_waiter_that_leaves_lets_a_light_one_pass() {
    let budget = Budget::new(4, 8);
    let holder = Rig::within(&budget, pooled(3), 1);
    let heavy = Rig::within(&budget, pooled(1), 3);
    let light = Rig::within(&budget, pooled(1), 1);
    let leases = [holder.lease().await, holder.lease().await, holder.lease().await];
    let (given_up, waiter) = (heavy.spawn_lease(), light.spawn_lease());
    until(|| budget.in_line() == 2).await;
    given_up.abort();
    waiter.await.unwrap().unwrap().end(End::Clean);
    drop(leases);
    heavy.pool.close();
    heavy.pool.drained().await;
    end_whole(holder, light).await;
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_leaves_the_line_leaves_no_claim() {
    let (one, other) = two(1, pooled(1), pooled(1));
    let lease = one.lease().await;
    assert!(now_or_never(other.pool.lease()).is_none());
    assert_eq!(other.budget.in_line(), 0);
    lease.end(End::Clean);
    until(|| one.pool.stats().idle == 1).await;
    end_whole(one, other).await;
}

#[tokio::test(start_paused = true)]
async fn a_unit_whose_waiter_has_just_left_goes_to_the_next_pool() {
    let (one, other) = two(1, pooled(1), pooled(1));
    let third = Rig::within(&one.budget, pooled(1), 1);
    let lease = one.lease().await;
    {
        let mut first = std::pin::pin!(other.pool.lease());
        assert!(super::rig::poll_once(first.as_mut()).is_pending());
        let second = third.spawn_lease();
        until(|| third.budget.in_line() == 2).await;
        drop(lease);
        until(|| other.pool.stats().waiting == 0).await;
        assert!(!second.is_finished());
        tokio::spawn(async move { second.await.unwrap().unwrap().end(End::Clean) });
    }
    until(|| third.pool.stats().idle == 1).await;
    third.pool.close();
    third.pool.drained().await;
    end_whole(one, other).await;
}

#[tokio::test(start_paused = true)]
async fn without_a_queue_idle_instances_of_others_make_way_all_the_same() {
    let (one, other) = two(1, pooled(1), Policy { queue_size: 0, ..pooled(1) });
    idle(&one, 1).await;
    let lease = now_or_never(other.pool.lease()).expect("nothing is waited for").unwrap();
    assert_eq!(one.pool.stats().reclaimed, 1);
    let refused = now_or_never(one.pool.lease());
    assert!(refused.is_none(), "it waits");
    lease.end(End::Clean);
    end_whole(one, other).await;
}

#[tokio::test(start_paused = true)]
async fn a_heavy_instance_waits_for_all_its_units() {
    let budget = Budget::new(4, 8);
    let light = Rig::within(&budget, kept(4), 1);
    let heavy = Rig::within(&budget, kept(1), 3);
    let leases = [light.lease().await, light.lease().await, light.lease().await, light.lease().await];
    let waiter = heavy.spawn_lease();
    until(|| budget.in_line() == 1).await;
    for lease in leases {
        assert!(!waiter.is_finished());
        lease.end(End::Clean);
    }
    waiter.await.unwrap().unwrap().end(End::Clean);
    assert!(light.pool.stats().idle <= 1);
    end_whole(light, heavy).await;
}

#[tokio::test(start_paused = true)]
async fn all_queues_together_have_a_bound() {
    let (one, other) = two(2, pooled(1), pooled(1));
    let leases = (one.lease().await, other.lease().await);
    let waiters = [one.spawn_lease(), one.spawn_lease(), other.spawn_lease(), other.spawn_lease()];
    until(|| one.budget.waiting() == 4).await;
    let refused = now_or_never(one.pool.lease()).expect("at once");
    assert_eq!(refused.err(), Some(LeaseError::Saturated));
    for waiter in waiters {
        waiter.abort();
        assert!(waiter.await.is_err());
    }
    drop(leases);
    end_whole(one, other).await;
}

#[tokio::test(start_paused = true)]
async fn prewarming_takes_idle_instances_of_others_but_no_more() {
    let (one, other) = two(2, pooled(2), Policy { min_idle: 2, ..pooled(2) });
    idle(&one, 2).await;
    let lease = one.lease().await;
    assert_eq!(other.pool.prewarm().await, Err(PrewarmError::NoRoom));
    assert_eq!((one.pool.stats().reclaimed, other.pool.stats().idle), (1, 1));
    lease.end(End::Spoiled);
    until(|| one.alive() == 0).await;
    assert_eq!(other.pool.prewarm().await, Ok(()));
    end_whole(one, other).await;
}

#[tokio::test(start_paused = true)]
async fn a_pool_in_line_that_is_closed_makes_way() {
    let (one, other) = two(1, pooled(1), pooled(1));
    let third = Rig::within(&one.budget, pooled(1), 1);
    let lease = one.lease().await;
    let (first, second) = (other.spawn_lease(), third.spawn_lease());
    until(|| one.budget.in_line() == 2).await;
    other.pool.close();
    assert_eq!(first.await.unwrap().err(), Some(LeaseError::Closed));
    lease.end(End::Clean);
    second.await.unwrap().unwrap().end(End::Clean);
    third.pool.close();
    third.pool.drained().await;
    end_whole(one, other).await;
}

#[tokio::test(start_paused = true)]
async fn a_failing_pool_in_line_passes_its_unit_on() {
    let (one, other) = two(1, pooled(1), pooled(1));
    let third = Rig::within(&one.budget, pooled(1), 1);
    let lease = one.lease().await;
    other.fake.make_fails.set(true);
    let (first, second) = (other.spawn_lease(), third.spawn_lease());
    until(|| one.budget.in_line() == 2).await;
    lease.end(End::Clean);
    assert!(matches!(first.await.unwrap().err(), Some(LeaseError::Failing { .. })));
    second.await.unwrap().unwrap().end(End::Clean);
    tokio::time::advance(2 * QUEUE_TIMEOUT).await;
    third.pool.close();
    third.pool.drained().await;
    end_whole(one, other).await;
}

#[tokio::test(start_paused = true)]
async fn an_app_with_requests_of_its_own_gives_way_to_one_that_has_nothing() {
    let (one, other) = two(1, pooled(1), pooled(1));
    let lease = one.lease().await;
    let own = one.spawn_lease();
    until(|| one.pool.stats().waiting == 1).await;
    let others = other.spawn_lease();
    until(|| one.budget.in_line() == 1).await;
    lease.end(End::Clean);
    others.await.unwrap().unwrap().end(End::Clean);
    own.await.unwrap().unwrap().end(End::Clean);
    end_whole(one, other).await;
}

#[tokio::test(start_paused = true)]
async fn a_flood_leaves_the_reserve_to_those_who_ask_for_little() {
    let (flood, small) = two(16, pooled(16), pooled(16));
    let leases = lease_many(&flood, 14).await;
    assert_eq!(flood.pool.lease().await.err(), Some(LeaseError::TimedOut));
    let little = [small.lease().await, small.lease().await];
    drop((leases, little));
    end_whole(flood, small).await;
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_little_keeps_its_instance_beside_a_flood() {
    let (flood, small) = two(16, pooled(16), pooled(16));
    let leases = lease_many(&flood, 14).await;
    let waiters: Vec<_> = (0..3).map(|_| flood.spawn_lease()).collect();
    until(|| flood.pool.stats().waiting == 3 && flood.budget.in_line() == 1).await;
    for number in 0..5 {
        let lease = small.lease().await;
        assert_eq!(lease.made_in().is_some(), number == 0, "the flood could do nothing with it");
        lease.end(End::Clean);
        until(|| small.pool.stats().idle == 1).await;
    }
    waiters.iter().for_each(tokio::task::JoinHandle::abort);
    until(|| flood.pool.stats().waiting == 0).await;
    drop(leases);
    end_whole(flood, small).await;
}

#[tokio::test(start_paused = true)]
async fn what_many_have_idle_is_more_than_the_reserve() {
    let (flood, small) = two(16, pooled(16), pooled(16));
    let leases = lease_many(&flood, 10).await;
    let little = lease_many(&small, 6).await;
    let waiters: Vec<_> = (0..2).map(|_| flood.spawn_lease()).collect();
    until(|| flood.pool.stats().waiting == 2 && flood.budget.in_line() == 1).await;
    little.into_iter().for_each(|lease| lease.end(End::Clean));
    for waiter in waiters {
        waiter.await.unwrap().unwrap().end(End::Clean);
    }
    drop(leases);
    end_whole(flood, small).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_idle_before_the_line_and_what_is_kept_later_are_enough_together() {
    let (flood, small) = two(16, pooled(16), pooled(16));
    let leases = lease_many(&flood, 10).await;
    let mut little = lease_many(&small, 6).await;
    little.drain(..2).for_each(|lease| lease.end(End::Clean));
    until(|| small.pool.stats().idle == 2).await;
    let waiter = flood.spawn_lease();
    until(|| flood.budget.in_line() == 1).await;
    little.drain(..2).for_each(|lease| lease.end(End::Clean));
    until(|| small.pool.stats().leased == 2 && small.pool.stats().resetting == 0).await;
    flood.tend();
    waiter.await.unwrap().unwrap().end(End::Clean);
    drop((leases, little));
    end_whole(flood, small).await;
}

#[tokio::test(start_paused = true)]
async fn what_comes_back_goes_to_the_app_with_the_greater_weight_more_often() {
    let budget = Budget::new(6, 64);
    let light = Rig::within(&budget, pooled(6), 1);
    let heavy = Rig::within(&budget, Policy { weight: 2, ..pooled(6) }, 1);
    let leases = lease_many(&light, 6).await;
    let waiters: Vec<_> = (0..6).map(|_| heavy.spawn_lease()).collect();
    until(|| heavy.pool.stats().waiting == 6).await;
    let own: Vec<_> = (0..4).map(|_| light.spawn_lease()).collect();
    until(|| light.pool.stats().waiting == 4).await;
    for lease in leases {
        lease.end(End::Clean);
        tokio::task::yield_now().await;
    }
    until(|| (heavy.pool.stats().leased, light.pool.stats().leased) == (4, 2)).await;
    for waiter in waiters.into_iter().chain(own) {
        waiter.abort();
    }
    end_whole(light, heavy).await;
}
