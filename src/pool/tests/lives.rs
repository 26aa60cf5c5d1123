//! How many instances are kept, and for how long.

use std::time::Duration;

use tokio::time::advance;

use super::rig::{IDLE_TIME, Rig, kept, pooled, until};
use crate::pool::{End, LeaseError, Policy, Pressure};

#[tokio::test(start_paused = true)]
async fn an_instance_is_spent_after_as_many_leases_as_it_may_have() {
    let rig = Rig::new(Policy { max_uses: Some(2..=2), ..kept(1) });
    let mut ids = Vec::new();
    for _ in 0..5 {
        let lease = rig.lease().await;
        ids.push(lease.id);
        lease.end(End::Clean);
    }
    assert_eq!(ids, [1, 1, 2, 2, 3]);
    rig.ends_whole().await;
}

#[tokio::test(start_paused = true)]
async fn not_all_instances_are_spent_at_once() {
    let rig = Rig::new(Policy { max_uses: Some(10..=1_000), ..kept(1) });
    let mut uses = Vec::new();
    let mut id = 1;
    while uses.len() < 8 {
        let lease = rig.lease().await;
        if lease.id != id {
            uses.push(rig.pool.stats().made);
            id = lease.id;
        }
        if uses.len() < 8 {
            lease.end(End::Clean);
        }
    }
    uses.dedup();
    assert!(uses.len() > 1);
    rig.ends_whole().await;
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_has_grown_is_not_kept() {
    let rig = Rig::new(kept(1));
    for (is_worn, next) in [(false, 1), (true, 2)] {
        let mut lease = rig.lease().await;
        lease.is_worn = is_worn;
        lease.end(End::Clean);
        let lease = rig.lease().await;
        assert_eq!(lease.id, next);
        lease.end(End::Clean);
    }
    rig.ends_whole().await;
}

#[tokio::test(start_paused = true)]
async fn what_has_lived_for_long_is_retired_and_made_anew() {
    let lifetime = Duration::from_secs(10);
    let rig = Rig::new(Policy { max_lifetime: Some(lifetime), min_idle: 1, ..pooled(2) });
    rig.pool.prewarm().await.unwrap();
    advance(lifetime * 8 / 10).await;
    assert_eq!(rig.tend().retired, 0);
    advance(lifetime * 4 / 10).await;
    let tended = rig.tend();
    assert_eq!((tended.retired, tended.begun), (1, 1));
    until(|| rig.pool.stats().idle == 1).await;
    assert_eq!(rig.lease().await.id, 2);
    rig.ends_whole().await;
}

#[tokio::test(start_paused = true)]
async fn a_spare_one_is_kept_ready_while_requests_come() {
    let rig = Rig::new(pooled(3));
    rig.tend();
    rig.lease().await.end(End::Clean);
    until(|| rig.pool.stats().idle == 1).await;
    advance(Duration::from_secs(1)).await;
    rig.tend();
    assert_eq!(rig.pool.stats().target, 1);
    // It is made before the next one needs it.
    let lease = rig.lease().await;
    until(|| rig.pool.stats().idle == 1).await;
    lease.end(End::Clean);
    until(|| rig.pool.stats().idle == 2).await;
    advance(Duration::from_secs(1)).await;
    rig.tend();
    advance(IDLE_TIME).await;
    rig.tend();
    until(|| rig.alive() == 0).await;
    rig.ends_whole().await;
}

#[tokio::test(start_paused = true)]
async fn when_memory_is_scarce_idle_instances_go_and_busy_ones_stay() {
    let rig = Rig::new(Policy { min_idle: 2, ..pooled(4) });
    rig.pool.prewarm().await.unwrap();
    rig.budget.set_pressure(Pressure::Spares);
    let lease = rig.lease().await;
    assert_eq!(rig.tend().retired, 1);
    until(|| rig.alive() == 1).await;
    // Requests are served all the same.
    rig.lease().await.end(End::Clean);
    until(|| rig.alive() == 1).await;
    rig.budget.set_pressure(Pressure::Shed);
    assert_eq!(rig.tend().begun, 0);
    drop(lease);
    until(|| rig.alive() == 0).await;
    assert_eq!(rig.pool.lease().await.err(), Some(LeaseError::NoMemory));
    rig.budget.set_pressure(Pressure::None);
    rig.tend();
    until(|| rig.pool.stats().idle == 2).await;
    rig.ends_whole().await;
}

#[tokio::test(start_paused = true)]
async fn no_spare_instances_are_made_when_memory_begins_to_be_scarce() {
    let rig = Rig::new(pooled(4));
    rig.budget.set_pressure(Pressure::Growth);
    rig.tend();
    rig.lease().await.end(End::Clean);
    advance(Duration::from_secs(1)).await;
    rig.tend();
    assert_eq!(rig.pool.stats().target, 0);
    rig.ends_whole().await;
}
