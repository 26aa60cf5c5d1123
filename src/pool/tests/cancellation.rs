//! The cancellation matrix: whatever is broken off, at whichever await and under each policy, the books are right
//! afterwards, the budget is whole, and (unless it was closed) the pool serves on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

use tokio::time::advance;

use super::rig::{QUEUE_TIMEOUT, Rig, kept, now_or_never, policy, poll_once, pooled, until};
use crate::pool::{End, LeaseError, OnEnd, Policy};

/// Each policy with room for one instance.
fn policies() -> [(&'static str, Policy); 6] {
    [
        ("pooled", pooled(1)),
        ("pooled, one always ready", policy(1, 1, 1, OnEnd::Reset)),
        ("pooled, none kept idle", policy(1, 0, 0, OnEnd::Reset)),
        ("kept", kept(1)),
        ("cached", policy(1, 0, 0, OnEnd::Drop)),
        ("fresh, one always ready", policy(1, 1, 1, OnEnd::Drop)),
    ]
}

/// Runs a case under each policy. Afterwards the pool still gives an instance, and ends whole.
async fn with_each_policy(case: impl AsyncFn(&Rig)) {
    for (name, policy) in policies() {
        println!("with the policy: {name}");
        let rig = Rig::new(policy);
        case(&rig).await;
        for gate in [&rig.fake.make, &rig.fake.reset] {
            gate.open();
        }
        match rig.pool.lease().await {
            Ok(lease) => lease.end(End::Clean),
            Err(error) => assert_eq!(error, LeaseError::Closed),
        }
        assert!(rig.fake.most_alive() <= 1, "one at a time");
        rig.ends_whole().await;
    }
}

#[tokio::test(start_paused = true)]
async fn cancelled_while_queued() {
    with_each_policy(async |rig| {
        let lease = rig.lease().await;
        assert!(now_or_never(rig.pool.lease()).is_none());
        assert_eq!((rig.pool.stats().waiting, rig.budget.waiting()), (0, 0));
        lease.end(End::Clean);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn cancelled_in_the_middle_of_the_queue() {
    with_each_policy(async |rig| {
        let lease = rig.lease().await;
        let first = rig.spawn_lease();
        until(|| rig.pool.stats().waiting == 1).await;
        let last = {
            let mut cancelled = pin!(rig.pool.lease());
            assert!(poll_once(cancelled.as_mut()).is_pending());
            let last = rig.spawn_lease();
            until(|| rig.pool.stats().waiting == 3).await;
            last
        };
        assert_eq!(rig.pool.stats().waiting, 2);
        lease.end(End::Clean);
        first.await.unwrap().unwrap().end(End::Clean);
        last.await.unwrap().unwrap().end(End::Clean);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn cancelled_while_making() {
    with_each_policy(async |rig| {
        rig.fake.make.hold();
        assert!(now_or_never(rig.pool.lease()).is_none());
        rig.fake.make.open();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn cancelled_while_making_with_others_in_the_queue() {
    with_each_policy(async |rig| {
        rig.fake.make.hold();
        let first = rig.spawn_lease();
        until(|| rig.fake.make.waiting() == 1).await;
        let second = rig.spawn_lease();
        until(|| rig.pool.stats().waiting == 1).await;
        first.abort();
        assert!(first.await.is_err_and(|error| error.is_cancelled()));
        rig.fake.make.open();
        second.await.unwrap().unwrap().end(End::Clean);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn cancelled_when_an_instance_or_room_was_just_handed_over() {
    with_each_policy(async |rig| {
        let lease = rig.lease().await;
        {
            let mut waiter = pin!(rig.pool.lease());
            assert!(poll_once(waiter.as_mut()).is_pending());
            lease.end(End::Clean);
            // Answered, but not yet awake.
            until(|| rig.pool.stats().waiting == 0).await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn cancelled_when_just_handed_over_with_others_in_the_queue() {
    with_each_policy(async |rig| {
        let lease = rig.lease().await;
        let second = {
            let mut first = pin!(rig.pool.lease());
            assert!(poll_once(first.as_mut()).is_pending());
            let second = rig.spawn_lease();
            until(|| rig.pool.stats().waiting == 2).await;
            lease.end(End::Clean);
            until(|| rig.pool.stats().waiting == 1).await;
            assert!(!second.is_finished());
            second
        };
        second.await.unwrap().unwrap().end(End::Clean);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_instance_handed_to_a_request_that_left_goes_to_the_next_or_is_idle_again() {
    for policy in [pooled(1), kept(1)] {
        let rig = Rig::new(policy);
        let lease = rig.lease().await;
        let second = {
            let mut first = pin!(rig.pool.lease());
            assert!(poll_once(first.as_mut()).is_pending());
            let second = rig.spawn_lease();
            until(|| rig.pool.stats().waiting == 2).await;
            lease.end(End::Clean);
            until(|| rig.pool.stats().waiting == 1).await;
            second
        };
        let lease = second.await.unwrap().unwrap();
        assert_eq!((lease.id, rig.pool.stats().handed), (1, 2));
        {
            let mut third = pin!(rig.pool.lease());
            assert!(poll_once(third.as_mut()).is_pending());
            lease.end(End::Clean);
            until(|| rig.pool.stats().waiting == 0).await;
        }
        let stats = rig.pool.stats();
        assert_eq!((stats.idle, stats.made, stats.discarded), (1, 1, 0));
        rig.ends_whole().await;
    }
}

#[tokio::test(start_paused = true)]
async fn handed_over_and_out_of_time_at_once() {
    with_each_policy(async |rig| {
        let lease = rig.lease().await;
        let mut waiter = pin!(rig.pool.lease());
        assert!(poll_once(waiter.as_mut()).is_pending());
        lease.end(End::Clean);
        until(|| rig.pool.stats().waiting == 0).await;
        advance(2 * QUEUE_TIMEOUT).await;
        match poll_once(waiter) {
            Poll::Ready(Ok(lease)) => lease.end(End::Clean),
            other => panic!("it was in time: {:?}", other.map(|lease| lease.err())),
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn out_of_time_while_queued() {
    with_each_policy(async |rig| {
        let lease = rig.lease().await;
        assert_eq!(rig.pool.lease().await.err(), Some(LeaseError::TimedOut));
        assert_eq!(rig.pool.stats().timed_out, 1);
        lease.end(End::Spoiled);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn out_of_time_while_making() {
    with_each_policy(async |rig| {
        rig.fake.make.hold();
        assert_eq!(rig.pool.lease().await.err(), Some(LeaseError::TimedOut));
        rig.fake.make.open();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_instance_being_made_for_a_request_that_left_is_finished_for_others() {
    let rig = Rig::new(pooled(1));
    rig.fake.make.hold();
    for _ in 0..3 {
        assert_eq!(rig.pool.lease().await.err(), Some(LeaseError::TimedOut));
    }
    rig.fake.make.open();
    until(|| rig.pool.stats().idle == 1).await;
    let lease = now_or_never(rig.pool.lease()).expect("it is ready").unwrap();
    assert_eq!((lease.id, rig.pool.stats().made), (1, 1));
    lease.end(End::Clean);
    rig.ends_whole().await;
}

#[tokio::test(start_paused = true)]
async fn prewarming_broken_off() {
    with_each_policy(async |rig| {
        rig.fake.make.hold();
        let polled = now_or_never(rig.pool.prewarm());
        assert!(polled.is_none() || polled == Some(Ok(())));
        assert_eq!(rig.pool.stats().preparing, 0);
        rig.fake.make.open();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn making_panics() {
    with_each_policy(async |rig| {
        rig.fake.make_panics.set(true);
        let caught = catch_unwind(AssertUnwindSafe(|| drop(now_or_never(rig.pool.lease()))));
        assert!(caught.is_err());
        assert_eq!((rig.pool.stats().preparing, rig.alive()), (0, 0));
        let requests = [rig.spawn_lease(), rig.spawn_lease()];
        for request in requests {
            assert!(request.await.is_err_and(|error| error.is_panic()));
        }
        rig.fake.make_panics.set(false);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn making_fails_in_the_background() {
    with_each_policy(async |rig| {
        let lease = rig.lease().await;
        rig.fake.make_fails.set(true);
        drop(lease);
        until(|| rig.alive() == 0 && rig.pool.stats().preparing == 0).await;
        rig.fake.make_fails.set(false);
        advance(2 * QUEUE_TIMEOUT).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn resetting_panics() {
    with_each_policy(async |rig| {
        rig.fake.reset_panics.set(true);
        let lease = rig.lease().await;
        let waiter = rig.spawn_lease();
        until(|| rig.pool.stats().waiting == 1).await;
        lease.end(End::Clean);
        waiter.await.unwrap().unwrap().end(End::Clean);
        until(|| rig.pool.stats().resetting == 0).await;
        rig.fake.reset_panics.set(false);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn resetting_fails_and_then_making() {
    with_each_policy(async |rig| {
        rig.fake.reset_fails.set(true);
        let lease = rig.lease().await;
        rig.fake.make_fails.set(true);
        lease.end(End::Clean);
        until(|| rig.pool.stats().resetting + rig.pool.stats().preparing + rig.pool.stats().leaving == 0)
            .await;
        rig.fake.make_fails.set(false);
        rig.fake.reset_fails.set(false);
        advance(2 * QUEUE_TIMEOUT).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_instance_panics_when_it_is_dropped() {
    with_each_policy(async |rig| {
        let lease = rig.lease().await;
        rig.fake.drop_panics.set(true);
        drop(lease);
        until(|| rig.pool.stats().leaving == 0).await;
        rig.fake.drop_panics.set(false);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_holder_panics() {
    with_each_policy(async |rig| {
        let pool = rig.pool.clone();
        let holder = tokio::spawn(async move {
            let _lease = pool.lease().await.unwrap();
            panic!("the holder panics");
        });
        assert!(holder.await.is_err_and(|error| error.is_panic()));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_holder_is_cancelled() {
    with_each_policy(async |rig| {
        let pool = rig.pool.clone();
        let holder = tokio::spawn(async move {
            let _lease = pool.lease().await.unwrap();
            std::future::pending::<()>().await;
        });
        until(|| rig.pool.stats().leased == 1).await;
        holder.abort();
        assert!(holder.await.is_err_and(|error| error.is_cancelled()));
        assert_eq!(rig.pool.stats().leased, 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn closed_while_queued() {
    with_each_policy(async |rig| {
        let lease = rig.lease().await;
        let waiter = rig.spawn_lease();
        until(|| rig.pool.stats().waiting == 1).await;
        rig.pool.close();
        assert_eq!(waiter.await.unwrap().err(), Some(LeaseError::Closed));
        lease.end(End::Clean);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn closed_while_leased() {
    for end in [End::Clean, End::Spoiled] {
        with_each_policy(async |rig| {
            let lease = rig.lease().await;
            rig.pool.close();
            lease.end(end);
            rig.pool.drained().await;
            let stats = rig.pool.stats();
            assert_eq!((stats.made, stats.discarded, stats.reset), (1, 1, 0));
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn closed_while_making() {
    with_each_policy(async |rig| {
        rig.fake.make.hold();
        let request = rig.spawn_lease();
        until(|| rig.fake.make.waiting() == 1).await;
        rig.pool.close();
        rig.fake.make.open();
        assert_eq!(request.await.unwrap().err(), Some(LeaseError::Closed));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn closed_while_making_for_a_request_that_left() {
    with_each_policy(async |rig| {
        rig.fake.make.hold();
        assert!(now_or_never(rig.pool.lease()).is_none());
        rig.pool.close();
        rig.fake.make.open();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn closed_while_resetting() {
    with_each_policy(async |rig| {
        rig.fake.reset.hold();
        rig.lease().await.end(End::Clean);
        until(|| rig.fake.reset.waiting() as u32 == rig.pool.stats().resetting).await;
        rig.pool.close();
        rig.fake.reset.open();
        rig.pool.drained().await;
        assert_eq!(rig.pool.stats().idle, 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn closed_when_just_handed_over() {
    with_each_policy(async |rig| {
        let lease = rig.lease().await;
        let mut waiter = pin!(rig.pool.lease());
        assert!(poll_once(waiter.as_mut()).is_pending());
        lease.end(End::Clean);
        until(|| rig.pool.stats().waiting == 0).await;
        rig.pool.close();
        // It was leased before, or is refused now.
        match poll_once(waiter) {
            Poll::Ready(Ok(lease)) => lease.end(End::Clean),
            Poll::Ready(Err(error)) => assert_eq!(error, LeaseError::Closed),
            Poll::Pending => panic!("it was answered"),
        }
    })
    .await;
}

/// Outside a runtime there is nobody to leave the work to.
#[test]
fn ended_outside_a_runtime() {
    for (name, policy) in policies() {
        println!("with the policy: {name}");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let rig = Rig::new(policy);
        for end in [End::Clean, End::Spoiled] {
            let lease = runtime.block_on(rig.lease());
            lease.end(end);
            assert_eq!(rig.pool.stats().leased, 0);
        }
        drop(runtime.block_on(rig.lease()));
        rig.pool.close();
        assert!(now_or_never(rig.pool.drained()).is_some());
        runtime.block_on(rig.ends_whole());
    }
}

/// A runtime that goes down drops its tasks wherever they are, and each new one at once.
#[test]
fn the_runtime_goes_down() {
    for (name, policy) in policies() {
        for gate in ["nothing", "make", "reset"] {
            println!("with the policy: {name}, held up in {gate}");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let rig = Rig::new(policy.clone());
            runtime.block_on(async {
                let holder = rig.lease().await;
                let waiter = rig.spawn_lease();
                until(|| rig.pool.stats().waiting == 1).await;
                match gate {
                    "make" => rig.fake.make.hold(),
                    "reset" => rig.fake.reset.hold(),
                    _ => {}
                }
                holder.end(End::Clean);
                for _ in 0..10 {
                    tokio::task::yield_now().await;
                }
                drop(waiter);
            });
            drop(runtime);
            let stats = rig.pool.stats();
            assert_eq!((stats.preparing, stats.leased, stats.resetting, stats.leaving), (0, 0, 0, 0));
            assert_eq!(stats.waiting, 0);
            rig.pool.close();
            assert!(now_or_never(rig.pool.drained()).is_some());
            rig.is_gone();
            assert_eq!(rig.budget.free(), rig.budget.units());
        }
    }
}
