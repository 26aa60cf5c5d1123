//! A new release that fails far more than the one before is undone by itself, and no other.

use crate::support::TestHost;
use crate::versions::{answering, order, running, version};

async fn host(probation: &str) -> TestHost {
    let config = format!(
        "[apps]\nsettle_time = \"20ms\"\nscan_interval = \"50ms\"\n[defaults]\nprobation = \"{probation}\"\n"
    );
    TestHost::builder().admin().config(&config).start().await
}

async fn ask(host: &TestHost, times: usize) {
    for _ in 0..times {
        host.get("/shop").await;
    }
}

/// Waits until the live release is called so.
async fn stands(host: &TestHost, standing: &str) {
    let began = std::time::Instant::now();
    loop {
        let run = order(host, &["releases", "shop"]).await.ended_with(0);
        if run.stdout.contains(&format!("live, {standing}")) {
            return;
        }
        assert!(began.elapsed() < crate::support::PATIENCE, "never {standing}: {run:?}");
    }
}

/// A release of this app is live that was not there before.
async fn replaced(host: &TestHost, app: Vec<u8>) {
    let before = host.release("shop");
    host.put("shop.wasm", app);
    host.until("it is replaced", || host.release("shop") > before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_that_fails_is_rolled_back_by_itself() {
    for bad in [answering("500 Internal Server Error", "sorry"), running("unreachable"), running("")] {
        let host = host("300ms").await;
        host.deploy("shop", "good").await;
        stands(&host, "proven").await;
        ask(&host, 20).await;
        let host = host.restarted_with("[defaults]\nprobation = \"10m\"\n").await;
        ask(&host, 20).await;
        replaced(&host, bad).await;
        ask(&host, 19).await;
        assert_eq!(host.release("shop"), 2, "not before 20 have failed");
        ask(&host, 1).await;
        host.serves("shop", "good").await;
        host.until("it says why", || host.app("shop").rolled_back).await;
        let problem = host.problem("shop");
        assert!(problem.starts_with("rolled back from release 2 to release 1: "), "{problem}");
        assert!(problem.contains("requests failed, of the release before 0 of 20; it stays so"), "{problem}");
        assert_eq!(host.app("shop").requests.rollbacks, 1);
        order(&host, &["releases", "shop"])
            .await
            .ended_with(0)
            .says(" requests failed, of the release before 0 of 20");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bad_request_undoes_nothing_nor_does_an_app_that_always_failed() {
    let host = host("10m").await;
    replaced(&host, answering("503 Service Unavailable", "one")).await;
    ask(&host, 40).await;
    replaced(&host, answering("503 Service Unavailable", "two")).await;
    ask(&host, 40).await;
    replaced(&host, version("three")).await;
    ask(&host, 1).await;
    replaced(&host, answering("500 Internal Server Error", "four")).await;
    ask(&host, 1).await;
    assert_eq!((host.release("shop"), host.app("shop").requests.rollbacks), (4, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_that_stands_its_probation_is_proven_and_without_one_it_is_at_once() {
    let host = host("100ms").await;
    host.deploy("shop", "one").await;
    stands(&host, "proven").await;
    let host = host.restarted_with("[defaults]\nprobation = \"0s\"\n").await;
    host.deploy("shop", "two").await;
    assert!(order(&host, &["releases", "shop"]).await.stdout.contains("live, proven"));
    replaced(&host, answering("500 Internal Server Error", "three")).await;
    ask(&host, 30).await;
    assert_eq!(host.app("shop").requests.rollbacks, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback_that_comes_to_nothing_is_shown_and_tried_again() {
    let config = "[apps]\nsettle_time = \"20ms\"\nscan_interval = \"50ms\"\n[grants.shop]\npaths = [\"/before\"]\n\
                  [grants.other]\npaths = [\"/before\"]\n[defaults]\nprobation = \"300ms\"\n";
    let host = TestHost::builder().admin().config(config).start().await;
    host.put("shop.toml", "path = \"/before\"");
    host.put("shop.wasm", version("good"));
    host.until("it is live", || host.release("shop") == 1).await;
    stands(&host, "proven").await;
    let host = host.restarted_with("[defaults]\nprobation = \"10m\"\n").await;
    host.put("shop.toml", "");
    host.put("shop.wasm", answering("500 Internal Server Error", "sorry"));
    host.get_until("/shop", "it is replaced", |answer| answer.status == 500).await;
    // What it would be returned to has its path no more.
    host.put("other.toml", "path = \"/before\"");
    host.put("other.wasm", version("other"));
    host.until("the other one is live", || host.release("other") > 0).await;
    ask(&host, 20).await;
    let shown = "should be rolled back to release 1, can't be: ";
    host.until("it is shown", || host.problem("shop").starts_with(shown)).await;
    assert!(host.problem("shop").contains("tried again"), "{}", host.problem("shop"));
    host.remove("other.wasm");
    host.remove("other.toml");
    host.get_until("/before", "it is rolled back", |answer| answer.text() == "good").await;
    let problem = host.problem("shop");
    assert!(
        problem.starts_with("rolled back from release") && problem.contains(" to release 1: "),
        "{problem}"
    );
    assert_eq!(host.app("shop").requests.rollbacks, 1);
}
