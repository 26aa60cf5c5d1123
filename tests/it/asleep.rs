//! An app that nobody asks for leaves memory, code and all, and comes back with the next request.

use std::path::{Path, PathBuf};

use hostler::admin::ReleaseStatus;
use http::StatusCode;
use tempfile::TempDir;

use crate::cache::artifacts;
use crate::support::{Answer, TestHost};

const SOON: &str = "[defaults]\nmin_instances = 3\ncode_idle_time = \"1s\"";

async fn asleep(host: &TestHost, app: &str) {
    let is_asleep = || {
        let release = host.app(app).release.expect("a live release");
        let stats = release.instances;
        !release.code_in_memory && stats.is_asleep && stats.made == stats.discarded
    };
    host.until("its code is out of memory", is_asleep).await;
}

/// The app's bytes, among what the store keeps.
fn kept(host: &TestHost) -> PathBuf {
    let digest = host.app("hello").release.expect("a live release").digest;
    host.at(".hostler").join(digest)
}

#[tokio::test]
async fn an_app_without_requests_leaves_memory_and_comes_back_in_every_mode_and_kind() {
    let host = TestHost::builder()
        .config(SOON)
        .apps(&[
            ("hello", "hello", ""),
            ("cached", "hello", "mode = \"cached\""),
            ("cgi", "cgi-rust", ""),
            ("p3", "hello-p3", ""),
            ("used", "hello", ""),
        ])
        .start()
        .await;
    for _ in 0..2 {
        for app in ["hello", "cached", "cgi", "p3"] {
            asleep(&host, app).await;
            // Another app is in use meanwhile.
            assert_eq!(host.get("/used").await.status, StatusCode::OK);
            asked_until(&host, app, "its code is in memory", |live| live.code_in_memory).await;
        }
    }
    asked_until(&host, "hello", "as many are ready as are wanted", |live| live.instances.idle == 3).await;
}

/// On a slow machine an app may be asleep again before anybody has looked.
async fn asked_until(host: &TestHost, app: &str, what: &str, is_so: impl Fn(&ReleaseStatus) -> bool) {
    let wanted = |answer: &Answer| {
        assert_eq!(answer.status, StatusCode::OK);
        is_so(&host.app(app).release.expect("a live release"))
    };
    host.get_until(&format!("/{app}"), what, wanted).await;
}

#[tokio::test]
async fn many_requests_at_once_bring_it_back_once() {
    let host = TestHost::builder().config(SOON).app("hello", "hello").start().await;
    asleep(&host, "hello").await;
    let answers = futures_util::future::join_all((0..50).map(|_| host.get("/hello"))).await;
    assert!(answers.iter().all(|answer| answer.status == StatusCode::OK), "{answers:?}");
}

#[tokio::test]
async fn code_that_is_gone_from_the_cache_is_compiled_again_from_what_the_store_keeps() {
    let dir = TempDir::new().expect("a directory");
    let cache = dir.path().join("cache");
    let host = TestHost::builder().config(SOON).cache(&cache).app("hello", "hello").start().await;
    for harm in [
        |path: &Path| std::fs::remove_file(path),
        |path: &Path| std::fs::remove_file(path).and_then(|()| std::fs::write(path, "torn")),
    ] {
        asleep(&host, "hello").await;
        let stored = artifacts(&cache);
        assert!(!stored.is_empty());
        stored.iter().for_each(|artifact| harm(artifact).expect("harm is done"));
        assert_eq!(host.get("/hello").await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn code_that_can_come_from_nowhere_is_an_answer_with_a_remedy() {
    let dir = TempDir::new().expect("a directory");
    let cache = dir.path().join("cache");
    let host = TestHost::builder().config(SOON).cache(&cache).app("hello", "hello").start().await;
    let kept = kept(&host);
    std::fs::rename(&kept, kept.with_extension("away")).expect("it was kept");
    // It does not leave memory as long as it could not come back.
    let is_asleep = || host.app("hello").release.expect("a live release").instances.is_asleep;
    host.until("it is asleep", is_asleep).await;
    assert_eq!(host.get("/hello").await.status, StatusCode::OK);
    std::fs::rename(kept.with_extension("away"), &kept).expect("it is back");
    asleep(&host, "hello").await;
    std::fs::remove_file(&kept).expect("it was kept");
    artifacts(&cache).iter().for_each(|artifact| std::fs::remove_file(artifact).expect("removed"));
    let answer = host.get("/hello").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
    // Its file is still there.
    let before = host.release("hello");
    host.put_app("hello", "counter");
    host.until("it is deployed anew", || host.release("hello") > before).await;
    assert_eq!(host.get("/hello").await.status, StatusCode::OK);
}
