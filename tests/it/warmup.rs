//! The paths of `warmup` are asked before a release goes live, and decide whether it does.

use crate::support::TestHost;
use crate::versions::{answering, order, running};

async fn host() -> TestHost {
    let config = "[apps]\nsettle_time = \"20ms\"\nscan_interval = \"50ms\"\n";
    TestHost::builder().admin().config(config).start().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_is_asked_its_warmup_paths_and_nobody_counts_that() {
    let host = host().await;
    host.put("echo.toml", "warmup = [\"/\", \"/any/path?q=1\"]");
    host.put_app("echo", "echo");
    host.put("shop.toml", "warmup = [\"/\"]");
    host.put("shop.wasm", answering("404 Not Found", "nothing here"));
    host.until("both are live", || host.release("echo") > 0 && host.release("shop") > 0).await;
    for app in ["echo", "shop"] {
        let status = host.app(app);
        assert_eq!(status.problem, None);
        assert_eq!((status.requests.requests, status.requests.responses_2xx), (0, 0), "{app}");
        host.settled(app).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_that_fails_its_warmup_is_not_live_and_the_path_is_named() {
    let host = host().await;
    host.deploy("shop", "good").await;
    host.put(
        "shop.toml",
        "warmup = [\"/\", \"/ready?deep=1\"]\nrequest_timeout = \"300ms\"\ncpu_time = \"10s\"",
    );
    host.until("it is live with its config", || host.release("shop") == 2).await;
    for (bad, what) in [
        (answering("503 Service Unavailable", ""), "it answered 503"),
        (running("unreachable"), "the guest trapped"),
        (running("(loop (br 0))"), "request_timeout"),
        (running(""), "no CGI response"),
    ] {
        host.put("shop.wasm", bad);
        host.until("it is refused", || host.problem("shop").contains(what)).await;
        let problem = host.problem("shop");
        assert!(problem.starts_with("its warmup request for / failed: "), "{problem}");
        host.serves("shop", "good").await;
        assert_eq!(host.release("shop"), 2);
    }
    let requests = host.app("shop").requests;
    assert_eq!((requests.trapped, requests.responses_5xx), (0, 0), "they are no requests of a client's");
    order(&host, &["restart", "shop"]).await.ended_with(1).says("its warmup request for / failed");
}
