//! The operator's listener: what it tells, and that it tells it whatever the apps do.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::program::get;
use crate::support::TestHost;

async fn text(address: SocketAddr, path: &str) -> String {
    let (status, body) = get(address, path).await;
    assert_eq!(status, 200, "{path}");
    String::from_utf8(body).expect("text")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_is_json_of_every_app() {
    let host = TestHost::builder().admin().app("shop", "hello").bytes("bad", b"garbage").start().await;
    for _ in 0..3 {
        host.get("/shop").await;
    }
    host.settled("shop").await;
    let admin = host.host().admin_address().expect("an admin listener");
    let status: Value = serde_json::from_str(&text(admin, "/status").await).expect("JSON");
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert!(status["uptime_seconds"].is_u64());
    assert_eq!(status["budget"]["total"], 64);
    let apps = status["apps"].as_array().expect("a list");
    assert_eq!(apps.len(), 2);
    assert_eq!((&apps[0]["app"], &apps[0]["release"]), (&"bad".into(), &Value::Null));
    assert!(apps[0]["problem"].as_str().expect("a problem").contains("plain text"));
    let shop = &apps[1];
    assert_eq!((&shop["app"], &shop["problem"]), (&"shop".into(), &Value::Null));
    assert_eq!((&shop["requests"]["requests"], &shop["requests"]["responses_2xx"]), (&3.into(), &3.into()));
    let release = &shop["release"];
    let expected = [("file", "shop.wasm"), ("kind", "wasi:http 0.2"), ("mount", "/shop"), ("mode", "pooled")];
    for (key, value) in expected {
        assert_eq!(release[key], value, "{key}");
    }
    assert_eq!(release["digest"].as_str().expect("a digest").len(), 64);
    assert_eq!(release["instances"]["leased"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_were_refused_and_that_waited_in_vain_are_counted_apart_as_in_the_status() {
    let config = "[defaults]\nmax_instances = 1\nqueue_size = 1\nqueue_timeout = \"100ms\"";
    let host = TestHost::builder().admin().config(config).app("sleeper", "sleeper").start().await;
    let host = Arc::new(host);
    let slow = tokio::spawn({
        let host = host.clone();
        async move { host.get("/sleeper?ms=2000").await.status }
    });
    let stats = || host.app("sleeper").release.expect("a release").instances;
    host.until("it is under way", || stats().leased == 1).await;
    assert_eq!(host.get("/sleeper?ms=1").await.status, 504);
    assert_eq!((stats().refused, stats().timed_out), (0, 1));
    let metrics = text(host.host().admin_address().expect("an admin listener"), "/metrics").await;
    for line in [
        "hostler_requests_timed_out_total{app=\"sleeper\"} 1",
        "hostler_requests_refused_total{app=\"sleeper\"} 0",
    ] {
        assert!(metrics.lines().any(|found| found == line), "no {line} in {metrics}");
    }
    assert_eq!(slow.await.expect("no panic"), 200);
    host.until("the asking task has let go of the host", || Arc::strong_count(&host) == 1).await;
    host.settled("sleeper").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_are_in_the_format_of_prometheus() {
    let host = TestHost::builder().admin().app("shop", "hello").app("other", "trapper").start().await;
    host.get("/shop").await;
    assert_eq!(host.get("/other").await.status, 500);
    let metrics = text(host.host().admin_address().expect("an admin listener"), "/metrics").await;
    let (mut typed, mut seen) = (BTreeSet::new(), BTreeSet::new());
    for line in metrics.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a name and a type");
            assert!(["counter", "gauge"].contains(&kind), "{line}");
            assert!(typed.insert(name), "{name} is typed twice");
        } else if !line.starts_with("# HELP ") {
            let (series, value) = line.rsplit_once(' ').expect("a series and its value");
            value.parse::<f64>().unwrap_or_else(|_| panic!("no number: {line}"));
            let (name, labels) = series.split_once('{').unwrap_or((series, "app=\"\"}"));
            assert!(labels.starts_with("app=\"") && labels.ends_with("\"}"), "{line}");
            assert!(typed.contains(name), "{name} has no type");
            assert!(seen.insert(series), "{series} is there twice");
        }
    }
    for line in [
        "hostler_requests_total{app=\"shop\"} 1",
        "hostler_responses_2xx_total{app=\"shop\"} 1",
        "hostler_responses_5xx_total{app=\"other\"} 1",
        "hostler_trapped_total{app=\"other\"} 1",
        "hostler_trapped_total{app=\"shop\"} 0",
        "hostler_budget_total 64",
    ] {
        assert!(metrics.lines().any(|found| found == line), "no {line} in {metrics}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_admin_listener_serves_no_apps_and_the_apps_listener_no_status() {
    let host = TestHost::builder().admin().app("shop", "hello").start().await;
    let admin = host.host().admin_address().expect("an admin listener");
    assert_eq!(text(admin, "/health").await, "ok\n");
    assert_eq!(get(admin, "/shop").await.0, 404);
    for path in ["/status", "/metrics", "/health"] {
        assert_eq!(host.get(path).await.status, 404, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_admin_listener_answers_while_all_serving_threads_spin() {
    let limit = "[defaults]\ncpu_time = \"3s\"";
    let host = Arc::new(TestHost::builder().admin().config(limit).app("shop", "spinner").start().await);
    let admin = host.host().admin_address().expect("an admin listener");
    let spinning: Vec<_> = (0..4)
        .map(|_| {
            let host = host.clone();
            tokio::spawn(async move { host.get("/shop").await.status })
        })
        .collect();
    let leased = || host.app("shop").release.expect("a release").instances.leased;
    // Two threads serve, so two that spin are all of them.
    host.until("all threads spin", || leased() >= 2).await;
    let mut slowest = Duration::ZERO;
    for _ in 0..10 {
        for path in ["/health", "/status", "/metrics"] {
            let began = Instant::now();
            text(admin, path).await;
            slowest = slowest.max(began.elapsed());
        }
    }
    println!("slowest answer of the admin listener: {slowest:?}");
    assert!(leased() >= 2, "the guests had stopped spinning before all was asked");
    for spinner in spinning {
        assert_eq!(spinner.await.expect("no panic"), 504);
    }
    host.until("the asking tasks have let go of the host", || Arc::strong_count(&host) == 1).await;
    host.settled("shop").await;
}
