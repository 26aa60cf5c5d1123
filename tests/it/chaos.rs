//! Guests of every bad kind, clients that leave, and deploys in between: the good are served all the while, and
//! afterwards all is as it was.

mod client;
mod process;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use futures_util::future::{join, join_all};

use crate::support::{Builder, PATIENCE, TestHost, alone, guest, until};
use client::Client;
use process::Process;

const CLIENTS: u64 = 32;

/// Two thousand requests and their deploys may leave so much on the heap: as a rule it is nothing.
const LEAK_KIB: usize = 64;

/// Resident memory may grow by so much: each slot of the allocator keeps what its first hungry guest needed.
const LEVEL_KIB: usize = 16 << 10;

/// The apps and their own configs.
const APPS: [(&str, &str); 10] = [
    ("cgi-rust", "cpu_time = \"50ms\""),
    ("counter", ""),
    ("echo", ""),
    ("hello", ""),
    ("hog", "memory_limit = \"16MiB\""),
    ("leaker", ""),
    ("sleeper", "request_timeout = \"200ms\""),
    ("spinner", "cpu_time = \"50ms\""),
    ("stream", ""),
    ("trapper", ""),
];

/// Those of them that are deployed again and again.
const REDEPLOYED: [&str; 4] = ["counter", "hello", "sleeper", "stream"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_of_any_amount_of_chaos() {
    // Descriptors, threads and memory are counted for the whole process.
    if !alone("chaos::nothing_is_left_of_any_amount_of_chaos") {
        return;
    }
    let seed = fastrand::u64(..);
    println!("chaos: seed {seed}");
    let host = with_apps(TestHost::builder()).start().await;
    let version = chaos(&host, seed, 1_000, 0).await;
    at_rest(&host).await;
    let before = Process::now();
    chaos(&host, !seed, 2_000, version).await;
    at_rest(&host).await;
    // Threads for blocking work end when they have been idle for a while.
    until("descriptors and threads are as before", || Process::now().is_near(&before)).await;
    let after = Process::now();
    println!("chaos: before {before:?}, after {after:?}");
    assert!(after.heap_kib <= before.heap_kib + LEAK_KIB, "something was not freed");
    assert!(after.anonymous_kib <= before.anonymous_kib + LEVEL_KIB, "memory grew");
    let leftovers = host.stop().await;
    assert_eq!((leftovers.connections, leftovers.units), (0, 0));
}

fn with_apps(builder: Builder) -> Builder {
    let text = "[defaults]\nmax_instances = 16\nidle_time = \"500ms\"\nqueue_timeout = \"30s\"\ndrain_timeout = \"1s\"";
    let builder = builder.config(text);
    APPS.iter().fold(builder, |builder, (app, config)| builder.app(app, app).app_config(app, config))
}

/// So many requests by clients that ask for anything and leave at any time, with deploys all the while, the first of
/// this version; returns the next one.
async fn chaos(host: &TestHost, seed: u64, requests: u32, first: usize) -> usize {
    let left = AtomicU32::new(requests);
    let over = AtomicBool::new(false);
    let clients = async {
        join_all((0..CLIENTS).map(|number| {
            let mut client = Client::new(host.address(), seed.wrapping_add(number));
            let left = &left;
            async move {
                while left.try_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
                    tokio::time::timeout(PATIENCE, client.ask()).await.expect("an end in time");
                }
            }
        }))
        .await;
        over.store(true, Relaxed);
    };
    let deploys = async {
        let mut version = first;
        while !over.load(Relaxed) {
            redeploy(host, REDEPLOYED[version % REDEPLOYED.len()], version).await;
            version += 1;
        }
        version
    };
    let ((), next) = join(clients, deploys).await;
    println!("chaos: {requests} requests, {} deploys", next - first);
    assert!(next > first);
    next
}

/// Puts another version of an app in place by a rename, and waits until it is live.
async fn redeploy(host: &TestHost, app: &str, version: usize) {
    let number = || host.app(app).release.expect("a live release").number;
    let before = number();
    let mut bytes = std::fs::read(guest(app)).expect("the guest");
    // A custom section without content makes other bytes of the same program. Few versions, to be found in the cache.
    bytes.extend([0, 2, 1, b'a' + u8::try_from(version % 8).expect("a small number")]);
    let apps = host.folder().join("apps");
    std::fs::write(apps.join(".new"), bytes).expect("a new version");
    std::fs::rename(apps.join(".new"), apps.join(format!("{app}.wasm"))).expect("a rename");
    host.until(&format!("the new version of {app} is live"), || number() > before).await;
}

/// All pools are at rest, and the budget is held by idle instances alone: none is left of a replaced release.
async fn at_rest(host: &TestHost) {
    for (app, _) in APPS {
        host.settled(app).await;
    }
    host.until("the budget is held by idle instances alone", || {
        let status = host.host().status();
        let idle: u32 =
            status.apps.iter().filter_map(|app| app.release.as_ref()).map(|live| live.instances.idle).sum();
        // As many as are kept idle; the others retire after a while.
        status.budget.used == idle && idle as usize == APPS.len()
    })
    .await;
    host.until("no code is mapped but that of the live releases", || Process::now().artifacts == APPS.len())
        .await;
}
