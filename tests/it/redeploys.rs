//! An app that is deployed again and again leaves nothing behind of the releases that it has had.

use hostler::engine::EngineSettings;

use crate::footprint::Footprint;
use crate::support::{TestHost, alone, until};
use crate::versions::version;

/// Says its number: each is another app, and is compiled.
fn numbered(number: u32) -> Vec<u8> {
    version(&format!("{number}\n"))
}

async fn host() -> TestHost {
    // A small cache, so that artifacts are evicted, and one whose mapped files are counted.
    let folder = tempfile::tempdir().expect("a folder").keep();
    TestHost::builder()
        .config("[apps]\nsettle_time = \"1ms\"\nscan_interval = \"200ms\"\n[cache]\nmax_size = \"1MiB\"")
        .settings(|settings| *settings = EngineSettings { instances: 16, ..EngineSettings::default() })
        .cache(&folder.join("test-cache"))
        .bytes("shop", &numbered(0))
        .app_config("shop", "max_instances = 1")
        .start()
        .await
}

async fn deploy(host: &TestHost, numbers: std::ops::Range<u32>) {
    for number in numbers {
        host.put("shop.wasm", numbered(number));
        let words = format!("{number}\n");
        host.get_until("/shop", "the new release answers", |answer| answer.text() == words).await;
    }
    until("the replaced ones are gone", || host.host().status().budget.used <= 1).await;
}

async fn leave_nothing(first: u32, more: u32) {
    let host = host().await;
    deploy(&host, 1..first).await;
    let before = Footprint::now();
    deploy(&host, first..first + more).await;
    let after = Footprint::near(&before).await;
    println!("redeploys: after {first} {before:?}, after {more} more {after:?}");
    after.has_not_grown(&before);
    assert!(after.artifacts <= before.artifacts && after.artifacts <= 2, "artifacts are still mapped");
    // Each of the allocator's slots has four once it was used.
    assert!(after.mappings <= before.mappings + 64, "mappings were left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_redeploys_leave_nothing() {
    if alone("redeploys::a_hundred_redeploys_leave_nothing") {
        leave_nothing(50, 100).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "`make redeploys`: takes minutes"]
async fn ten_thousand_redeploys_leave_nothing() {
    if alone("redeploys::ten_thousand_redeploys_leave_nothing") {
        leave_nothing(500, 9_500).await;
    }
}
