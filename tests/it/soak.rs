//! The soak: guests of every bad kind, clients that are slow or leave, and deploys in between, all at once and for
//! long. The good are served all the while, and afterwards all is as it was before.

mod deploys;
mod good;
mod wanderer;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::{FutureExt, LocalBoxFuture, join_all};
use parking_lot::Mutex;

use crate::footprint::Footprint;
use crate::leavers::leaver::Leaver;
use crate::support::{Builder, PATIENCE, TestHost, alone};
use wanderer::Wanderer;

/// The apps: name, guest, and their own configs.
const APPS: [(&str, &str, &str); 15] = [
    ("cgi-rust", "cgi-rust", "cpu_time = \"50ms\""),
    ("counter", "counter", ""),
    ("echo", "echo", ""),
    ("env", "cgi-rust", ""),
    ("hello", "hello", ""),
    ("hello-p3", "hello-p3", ""),
    ("hog", "hog", "memory_limit = \"16MiB\""),
    ("leaker", "leaker", ""),
    ("narrow", "sleeper", "max_instances = 1"),
    ("sleeper", "sleeper", "request_timeout = \"200ms\""),
    ("spinner", "spinner", "cpu_time = \"50ms\""),
    ("stream", "stream", ""),
    ("ticks", "stream", ""),
    ("trapper", "trapper", "response_buffer = \"4KiB\""),
    ("upload", "echo", ""),
];

const CONFIG: &str = "[defaults]\nmax_instances = 16\nidle_time = \"500ms\"\nqueue_timeout = \"30s\"\n\
                      drain_timeout = \"20s\"\n[apps]\nscan_interval = \"500ms\"\n";

const INSTANCES: u32 = 160;

/// What came of it all, by kind.
#[derive(Default)]
pub struct Seen(Mutex<BTreeMap<String, u64>>);

impl Seen {
    pub fn note(&self, kind: impl Into<String>) {
        *self.0.lock().entry(kind.into()).or_default() += 1;
    }

    fn print(&self) {
        for (kind, count) in &*self.0.lock() {
            println!("soak: {count:8} {kind}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_is_as_before_after_twenty_seconds_of_everything() {
    if alone("soak::all_is_as_before_after_twenty_seconds_of_everything") {
        soak(Duration::from_secs(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "`make soak`: takes SOAK_SECONDS, ten minutes if it is not set"]
async fn all_is_as_before_after_a_soak() {
    if alone("soak::all_is_as_before_after_a_soak") {
        let seconds = std::env::var("SOAK_SECONDS").map_or(600, |text| text.parse().expect("whole seconds"));
        soak(Duration::from_secs(seconds)).await;
    }
}

/// A quarter of the time warms everything up; the rest must leave nothing.
async fn soak(time: Duration) {
    let seed = fastrand::u64(..);
    println!("soak: seed {seed}, {time:?}");
    let host = serve(TestHost::builder()).await;
    let (seen, deploys) = (Seen::default(), AtomicUsize::new(0));
    // On a slow machine there may be few in the time for warming up, and an app that was deployed again has code of its own.
    for _ in 0..deploys::KINDS {
        deploys::deploy(&host, deploys.fetch_add(1, Ordering::Relaxed), &seen).await;
    }
    everything(&host, seed, time / 4, &seen, &deploys).await;
    at_rest(&host).await;
    let before = Footprint::now();
    everything(&host, !seed, time - time / 4, &seen, &deploys).await;
    at_rest(&host).await;
    seen.print();
    println!("soak: before {before:?}, after {:?}", Footprint::now());
    let after = Footprint::near(&before).await;
    println!("soak: at last {after:?}");
    after.has_not_grown(&before);
    let leftovers = host.stop().await;
    assert_eq!((leftovers.connections, leftovers.units), (0, 0));
}

async fn serve(builder: Builder) -> TestHost {
    builder.config(CONFIG).settings(|settings| settings.instances = INSTANCES).apps(&APPS).start().await
}

/// All kinds of clients, and the deploys, side by side until the time is over.
///
/// `deploys`: how many there have been before. To begin again would be to wait for a release of bytes that are live.
async fn everything(host: &TestHost, seed: u64, time: Duration, seen: &Seen, deploys: &AtomicUsize) {
    let end = Instant::now() + time;
    let mut all: Vec<LocalBoxFuture<'_, ()>> = Vec::new();
    for number in 0..16 {
        let mut wanderer = Wanderer::new(host.address(), seed.wrapping_add(number));
        all.push(again(host, end, "a wanderer", async move || wanderer.ask(seen).await).boxed_local());
    }
    for number in 0..6 {
        let mut leaver = Leaver::new(host.address(), seed.wrapping_add(100 + number));
        let visit = async move || {
            leaver.visit().await;
            seen.note("left");
        };
        all.push(again(host, end, "a leaver", visit).boxed_local());
    }
    for good in &good::ALL {
        all.push(again(host, end, good.path, async || good::ask(host, good, seen).await).boxed_local());
    }
    all.push(again(host, end, "an upload", async || good::upload(host, seen).await).boxed_local());
    all.push(again(host, end, "a slow upload", async || good::send_slowly(host, seen).await).boxed_local());
    all.push(again(host, end, "a slow download", async || good::read_slowly(host, seen).await).boxed_local());
    let deploy = async || deploys::deploy(host, deploys.fetch_add(1, Ordering::Relaxed), seen).await;
    all.push(again(host, end, "a deploy", deploy).boxed_local());
    join_all(all).await;
}

/// Does it until the time is over, each time within a test's patience.
async fn again(host: &TestHost, end: Instant, name: &str, mut what: impl AsyncFnMut()) {
    while Instant::now() < end {
        let done = tokio::time::timeout(PATIENCE, what()).await;
        done.unwrap_or_else(|_| panic!("{name} takes too long:\n{}", apps(host)));
    }
}

/// What all apps do at present, a line for each, and the budget.
fn apps(host: &TestHost) -> String {
    let status = host.host().status();
    let lines = status.apps.iter().map(|app| {
        let live = app.release.as_ref().map(|live| (live.number, &live.instances));
        let problem = app.problem.as_deref().unwrap_or("no problem");
        format!("{}: {problem}; {live:?}\n", app.app)
    });
    lines.chain([format!("{:?}, {:?}", status.budget, *host.host().progress().borrow())]).collect()
}

/// All pools are at rest, and the budget is held by idle instances alone: none is left of a replaced release.
async fn at_rest(host: &TestHost) {
    for (app, _, _) in APPS {
        host.settled(app).await;
    }
    host.until("no connection is open", || host.host().connections() == 0).await;
    host.until("the budget is held by idle instances alone", || {
        let status = host.host().status();
        let live = status.apps.iter().filter_map(|app| app.release.as_ref());
        let idle: u32 = live.map(|live| live.instances.idle).sum();
        // As many as are kept idle; the others retire after a while.
        status.budget.used == idle && idle as usize == APPS.len()
    })
    .await;
    let guests = APPS.iter().map(|(_, guest, _)| guest).collect::<std::collections::HashSet<_>>();
    host.until("no code is mapped but that of the live releases", || {
        // Two apps may have the same code, and an app another one than its guest's once it was deployed again.
        (guests.len()..=APPS.len()).contains(&Footprint::now().artifacts)
    })
    .await;
}
