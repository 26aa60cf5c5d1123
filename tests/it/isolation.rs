//! A request sees nothing of the requests before it, however they ended and wherever instances are allocated; and
//! the check that says so finds a host that does not reset.

mod canaries;
mod endings;
// Only such a build can be told not to reset.
#[cfg(debug_assertions)]
mod finding;
mod verified;

use std::io::Write;

use futures_util::future::join_all;
use hostler::engine::{Allocation, EngineSettings, Reset};
use hostler::isolation::compaction::Compaction;
use hostler::registry::AppView;

use crate::support::{Builder, TestHost};
use canaries::ALL;

/// Changes the allocator's settings.
type Set = fn(&mut EngineSettings);

/// The ways to reset, and the settings of the allocator that one of them depends on, each with a test of its own below.
const WAYS: [(&str, &str, Set); 6] = [
    ("put back in place", "auto", |_| {}),
    ("the host's own", "replace", |_| {}),
    ("nothing resident", "replace", nothing_resident),
    ("a part resident", "replace", a_part_resident),
    ("all resident", "replace", all_resident),
    ("on demand", "replace", on_demand),
];

/// Clients that ask at once.
const CONNECTIONS: u32 = 32;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_instance_is_as_new_when_it_is_put_back_in_place() {
    every_instance_is_as_new("put back in place", 5_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_instance_is_as_new_with_the_settings_of_the_host() {
    every_instance_is_as_new("the host's own", 5_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_instance_is_as_new_when_nothing_is_kept_resident() {
    every_instance_is_as_new("nothing resident", 5_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_instance_is_as_new_when_a_part_is_kept_resident() {
    every_instance_is_as_new("a part resident", 5_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_instance_is_as_new_when_all_is_kept_resident() {
    every_instance_is_as_new("all resident", 5_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_instance_is_as_new_when_it_is_mapped_on_demand() {
    every_instance_is_as_new("on demand", 5_000).await;
}

/// Ten minutes each, on two processors.
mod a_hundred_thousand_times {
    use super::every_instance_is_as_new;

    const REQUESTS: u32 = 100_000;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "takes minutes: make isolation"]
    async fn put_back_in_place() {
        every_instance_is_as_new("put back in place", REQUESTS).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "takes minutes: make isolation"]
    async fn with_the_settings_of_the_host() {
        every_instance_is_as_new("the host's own", REQUESTS).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "takes minutes: make isolation"]
    async fn with_nothing_kept_resident() {
        every_instance_is_as_new("nothing resident", REQUESTS).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "takes minutes: make isolation"]
    async fn with_a_part_kept_resident() {
        every_instance_is_as_new("a part resident", REQUESTS).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "takes minutes: make isolation"]
    async fn with_all_kept_resident() {
        every_instance_is_as_new("all resident", REQUESTS).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "takes minutes: make isolation"]
    async fn mapped_on_demand() {
        every_instance_is_as_new("on demand", REQUESTS).await;
    }
}

/// A check that can't fail is no check.
#[cfg(debug_assertions)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_check_finds_a_host_that_does_not_reset() {
    for reset in ["auto", "replace"] {
        the_check_finds_that_there_is_no_reset(reset).await;
    }
}

#[cfg(debug_assertions)]
async fn the_check_finds_that_there_is_no_reset(reset: &str) {
    let host = probes(TestHost::builder(), reset).start().await;
    for app in host.host().registry().apps() {
        app.live.expect("a live release").pool.manager().engines().break_reset();
    }
    for probe in &ALL {
        // Those that drop their segments trap the second time, so they show the rest when they are told to keep them.
        let order = probe.drops_segments().then_some('k');
        let different = probe.check(&host, CONNECTIONS, 200, order).await.expect_err(probe.app);
        assert_eq!(
            different.unmoved(probe.told_by_reset()),
            Vec::<&str>::new(),
            "{reset}, {}: {different}",
            probe.app
        );
        if order.is_some() {
            // The first drops them, in one instance or another.
            let mut answers = Vec::new();
            while answers.len() < 20 {
                answers.push(probe.ask(&host, None).await.status);
            }
            assert!(answers.contains(&http::StatusCode::INTERNAL_SERVER_ERROR), "{}: {answers:?}", probe.app);
        }
    }
}

/// Held by the test that has the kernel compact memory: several at once leave a small machine no time for requests.
pub static COMPACTING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

async fn every_instance_is_as_new(way: &str, requests: u32) {
    let (name, reset, set) = *WAYS.iter().find(|(name, ..)| *name == way).expect("one of the ways");
    let _alone = COMPACTING.lock().await;
    let host = probes(TestHost::builder().settings(set), reset).start().await;
    let rewound = host.host().registry().apps().iter().filter(|app| is_rewound(app)).count();
    assert_eq!(rewound > 0, reset == "auto", "{rewound} are put back in place");
    let compaction = Compaction::force();
    let checks = ALL.iter().map(|probe| probe.check(&host, CONNECTIONS, requests / probe.every, None));
    let checked = join_all(checks).await;
    // Past the capture of the tests' output: a run without it proves less.
    let _ = writeln!(std::io::stderr(), "isolation, {name}: {}", compaction.end());
    for (probe, checked) in ALL.iter().zip(checked) {
        checked.unwrap_or_else(|different| panic!("{name}, {}: {different}", probe.app));
        host.settled(probe.app).await;
    }
}

fn is_rewound(app: &AppView) -> bool {
    app.live.as_ref().is_some_and(|release| release.reset == Reset::Rewind)
}

/// A host with all probes. They have fewer instances together than they would like, so they also get slots of the
/// allocator that others were in.
fn probes(builder: Builder, reset: &str) -> Builder {
    let text = format!("[defaults]\nmax_instances = 8\nqueue_timeout = \"5m\"\nreset = \"{reset}\"");
    let builder = builder.settings(|settings| settings.instances = 12).config(&text);
    ALL.iter().fold(builder, |builder, probe| probe.put(builder))
}

fn nothing_resident(settings: &mut EngineSettings) {
    settings.memory_keep_resident = 0;
    settings.table_keep_resident = 0;
}

/// The limit runs through the middle of the guests' memories and tables.
fn a_part_resident(settings: &mut EngineSettings) {
    settings.memory_keep_resident = 512 << 10;
    settings.table_keep_resident = 4 << 10;
}

fn all_resident(settings: &mut EngineSettings) {
    settings.memory_keep_resident = 128 << 20;
    settings.table_keep_resident = 1 << 20;
}

fn on_demand(settings: &mut EngineSettings) {
    settings.allocation = Allocation::OnDemand;
}
