//! Clients that leave at any moment: afterwards nothing of them is left, and what they held is free for others.

pub mod leaver;

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Instant;

use futures_util::future::join_all;

use crate::footprint::Footprint;
use crate::support::{TestHost, alone};
use leaver::Leaver;

/// The apps and their own configs. Only leaving ends their guests within the patience of a test.
pub const APPS: [(&str, &str, &str); 6] = [
    ("echo", "echo", ""),
    ("hello", "hello", ""),
    ("narrow", "sleeper", "max_instances = 1"),
    ("sleeper", "sleeper", ""),
    ("spinner", "spinner", ""),
    ("stream", "stream", ""),
];

const LIMITS: &str = "[defaults]\nmax_instances = 40\nidle_time = \"500ms\"\ncpu_time = \"10m\"\n\
                      request_timeout = \"10m\"\nqueue_timeout = \"10m\"\n[pool]\nmax_instances = 256\n\
                      [server]\nbody_timeout = \"10m\"\nwrite_timeout = \"10m\"\n";

const CLIENTS: u64 = 32;

async fn serve() -> TestHost {
    TestHost::builder().config(LIMITS).settings(|settings| settings.instances = 256).apps(&APPS).start().await
}

/// So many visits by clients that leave.
async fn visits(host: &TestHost, seed: u64, count: u32) {
    let left = AtomicU32::new(count);
    let client = async |number| {
        let mut leaver = Leaver::new(host.address(), seed.wrapping_add(number));
        while left.try_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
            leaver.visit().await;
        }
    };
    join_all((0..CLIENTS).map(client)).await;
}

/// Waits until all that the clients held is free again.
async fn at_rest(host: &TestHost) {
    let began = Instant::now();
    for (app, _, _) in APPS {
        host.settled(app).await;
    }
    host.until("no connection is open", || host.host().connections() == 0).await;
    host.until("the budget is held by the instances that are kept idle", || {
        let used = host.host().status().budget.used;
        used as usize == APPS.len()
    })
    .await;
    println!("leavers: at rest after {:?}", began.elapsed());
}

async fn leave_nothing(count: u32) {
    let seed = fastrand::u64(..);
    println!("leavers: seed {seed}, {count} visits");
    let host = serve().await;
    visits(&host, seed, count / 2).await;
    at_rest(&host).await;
    let before = Footprint::now();
    visits(&host, !seed, count / 2).await;
    at_rest(&host).await;
    let after = Footprint::near(&before).await;
    println!("leavers: after the first half {before:?}, after the second {after:?}");
    after.has_not_grown(&before);
    let leftovers = host.stop().await;
    assert_eq!((leftovers.connections, leftovers.units), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_clients_that_leave_at_any_moment_leave_nothing() {
    if alone("leavers::two_thousand_clients_that_leave_at_any_moment_leave_nothing") {
        leave_nothing(2_000).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "`make leavers`: takes minutes"]
async fn a_hundred_thousand_clients_that_leave_at_any_moment_leave_nothing() {
    if alone("leavers::a_hundred_thousand_clients_that_leave_at_any_moment_leave_nothing") {
        leave_nothing(100_000).await;
    }
}
