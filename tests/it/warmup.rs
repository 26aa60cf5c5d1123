//! The paths of `warmup` are asked before a release goes live, and decide whether it does.

use std::net::SocketAddr;

use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

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

/// An app that answers as a backend does, which it asks at this address.
fn relay(host: &crate::support::Builder, backend: SocketAddr) {
    let config =
        format!("warmup = [\"/?url=http://{backend}/\"]\n[outbound]\nallow = [\"http://{backend}\"]\n");
    host.write("shop.toml", config);
}

/// Answers all requests at this address with 200.
async fn backend(address: SocketAddr) -> tokio::task::JoinHandle<()> {
    let listener = TcpListener::bind(address).await.expect("a port that was free");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 1 << 10];
            // A client that is gone is none.
            let _ = stream.read(&mut head).await;
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
            let _ = stream.write_all(answer).await;
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_whose_backend_is_not_up_yet_is_restored_all_the_same_and_a_new_one_is_tried_again() {
    let port = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = port.local_addr().expect("its address");
    drop(port);
    let config = format!(
        "[apps]\nsettle_time = \"20ms\"\nscan_interval = \"50ms\"\n[grants.shop]\noutbound = [\"http://{address}\"]\n"
    );
    let builder = TestHost::builder().admin().config(&config).app("shop", "fetcher");
    relay(&builder, address);
    let host = builder.start().await;
    host.until("it is refused", || host.problem("shop").contains("its warmup request")).await;
    assert!(host.problem("shop").contains("tried again after a while"), "{}", host.problem("shop"));
    let up = backend(address).await;
    host.until("it is live by itself", || host.find("shop").is_some_and(|app| app.release.is_some())).await;
    let number = host.release("shop");
    up.abort();
    // The listener is closed once the task is gone.
    let _ = up.await;

    let host = host.restarted().await;
    let path = format!("/shop?url=http://{address}/");
    assert_eq!(host.get(&path).await.status, StatusCode::BAD_GATEWAY, "the app answers, not the host");
    assert_eq!((host.release("shop"), host.problem("shop")), (number, String::new()));
    // Who orders it anew is told.
    order(&host, &["restart", "shop"]).await.ended_with(1).says("its warmup request");
    let up = backend(address).await;
    assert_eq!(host.get(&path).await.text(), "status=200\n\nok");
    up.abort();
}

/// Its instances belong to no release that is live, and are gone with it all the same: which the host's end is asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_stopped_while_it_warms_up_leaves_nothing() {
    let host = host().await;
    for number in 0..12 {
        host.put(&format!("app-{number}.toml"), "warmup = [\"/?ms=20000\"]");
        host.put_app(&format!("app-{number}"), "sleeper");
    }
    host.until("all are asked", || host.host().status().budget.used >= 12).await;
    let leftovers = host.stop().await;
    assert_eq!((leftovers.connections, leftovers.units), (0, 0));
}
