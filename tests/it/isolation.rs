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

/// The ways to reset, and the settings of the allocator that one of them depends on, each with tests of its own.
macro_rules! ways {
    ($($tests:ident: $name:literal, $reset:literal, $set:expr;)*) => {
        const WAYS: &[(&str, &str, Set)] = &[$(($name, $reset, $set)),*];

        $(mod $tests {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn every_instance_is_as_new() {
                super::every_instance_is_as_new($name, 5_000).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            #[ignore = "takes ten minutes on two processors: make isolation"]
            async fn every_instance_is_as_new_a_hundred_thousand_times() {
                super::every_instance_is_as_new($name, 100_000).await;
            }
        })*
    };
}

ways! {
    put_back_in_place: "put back in place", "auto", |_| {};
    with_the_settings_of_the_host: "the host's own", "replace", |_| {};
    with_nothing_kept_resident: "nothing resident", "replace", nothing_resident;
    with_a_part_kept_resident: "a part resident", "replace", a_part_resident;
    with_all_kept_resident: "all resident", "replace", all_resident;
    mapped_on_demand: "on demand", "replace", on_demand;
}

/// Clients that ask at once.
const CONNECTIONS: u32 = 32;

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
