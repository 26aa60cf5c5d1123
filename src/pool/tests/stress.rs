//! Many tasks on several threads do everything at once; what must hold, holds at the end, and the allocator's limit
//! all the time.

use std::time::Duration;

use super::rig::{Rig, kept, policy, pooled};
use crate::pool::{Budget, End, LeaseError, OnEnd, Policy};

const TASKS: u64 = 8;
const OPS: u64 = 5_000;

/// Numbers that look random and are the same each time.
fn dice(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed >> 8
}

async fn one_op(rig: &Rig, seed: &mut u64) {
    let patience = Duration::from_micros(dice(seed) % 300);
    let leased = match dice(seed) % 3 {
        // Cancelled at whichever point it has come to.
        0 => match tokio::time::timeout(patience, rig.pool.lease()).await {
            Ok(leased) => leased,
            Err(_) => return,
        },
        _ => rig.pool.lease().await,
    };
    let lease = match leased {
        Ok(lease) => lease,
        Err(LeaseError::TimedOut | LeaseError::Overloaded | LeaseError::Full | LeaseError::Saturated) => {
            return;
        }
        Err(LeaseError::Failing { .. } | LeaseError::Closed | LeaseError::NoMemory) => {
            return tokio::task::yield_now().await;
        }
    };
    if dice(seed).is_multiple_of(4) {
        tokio::task::yield_now().await;
    }
    match dice(seed) % 8 {
        0 => drop(lease),
        1 => lease.end(End::Spoiled),
        _ => lease.end(End::Clean),
    }
}

async fn storm(rigs: Vec<Rig>) {
    let rigs: &'static [Rig] = Vec::leak(rigs);
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            tokio::spawn(async move {
                let mut seed = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(task + 1);
                for _ in 0..OPS {
                    let rig = &rigs[dice(&mut seed) as usize % rigs.len()];
                    one_op(rig, &mut seed).await;
                    if dice(&mut seed).is_multiple_of(64) {
                        let late = tokio::time::Instant::now() + 2 * super::rig::IDLE_TIME;
                        rig.pool.tend(late.into_std());
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    for rig in rigs {
        rig.pool.close();
        rig.pool.drained().await;
        rig.is_gone();
    }
    for rig in rigs {
        rig.ends_whole().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_pool_survives_a_storm() {
    for policy in [pooled(3), kept(3), policy(3, 0, 0, OnEnd::Drop), policy(3, 1, 2, OnEnd::Reset)] {
        let rig = Rig::new(policy);
        let fake = rig.fake.clone();
        storm(vec![rig]).await;
        assert!(fake.most_alive() <= 3, "{}", fake.most_alive());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pools_that_fight_for_a_budget_survive_a_storm() {
    let budget = Budget::new(5, 6);
    let policies = [
        (pooled(4), 1),
        (kept(4), 1),
        (policy(4, 0, 0, OnEnd::Drop), 1),
        (Policy { queue_size: 0, ..pooled(4) }, 1),
        (policy(2, 0, 1, OnEnd::Reset), 3),
    ];
    let rigs: Vec<_> =
        policies.into_iter().map(|(policy, weight)| Rig::within(&budget, policy, weight)).collect();
    storm(rigs).await;
    assert_eq!(budget.free(), budget.units());
}
