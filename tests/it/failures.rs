//! Guests that fail: the client sees it, and the pool is whole again.

use bytes::Bytes;
use http::Method;

use crate::support::TestHost;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_way_to_fail_has_its_status_and_leaves_the_pool_whole() {
    let host = TestHost::with(&["trapper", "hello-p3", "cgi-rust"]).await;
    for (path, status) in [
        ("/trapper", 500),
        ("/trapper?when=after&bytes=10", 500),
        ("/trapper?when=nothing", 502),
        ("/trapper?when=error", 502),
        ("/trapper?when=what", 400),
        ("/hello-p3?trap=after", 500),
        ("/cgi-rust?mode=trap", 500),
        ("/cgi-rust?mode=exit", 500),
        ("/cgi-rust?mode=bad", 502),
    ] {
        let answer = host.get(path).await;
        assert_eq!(answer.status.as_u16(), status, "{path}: {}", answer.text());
        if status >= 500 {
            assert_eq!(answer.header("x-error-id").len(), 16, "{path}");
            assert!(answer.text().contains(answer.header("x-error-id")), "{path}: {}", answer.text());
            assert!(!answer.text().contains("wasm"), "a guest's inside is not told: {}", answer.text());
        }
    }
    for app in ["trapper", "hello-p3", "cgi-rust"] {
        host.settled(app).await;
        assert_eq!(host.app(app).release.expect("live").instances.idle, 1, "{app}");
    }
    assert_eq!(host.app("trapper").requests.trapped, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_developer_may_see_the_trap_and_its_backtrace() {
    let host =
        TestHost::builder().app("trapper", "trapper").config("[server]\nerror_detail = true").start().await;
    let answer = host.get("/trapper").await;
    assert!(answer.text().contains("unreachable"), "{}", answer.text());
    assert!(answer.text().contains("backtrace"), "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trap_after_the_first_body_bytes_looks_broken_in_http_1() {
    let config = "[defaults]\nresponse_buffer = \"16KiB\"";
    let host = TestHost::builder().app("trapper", "trapper").config(config).start().await;
    // More than response_buffer, so that the head is out when the guest traps.
    let broken = host.send(Method::GET, "/trapper?when=after&bytes=100000", &[], Bytes::new()).await;
    assert!(broken.is_err(), "the body must not seem whole");
    host.settled("trapper").await;
    assert_eq!(host.app("trapper").requests.trapped, 1);
    let answer = host.get("/trapper?when=nothing").await;
    assert_eq!(answer.status.as_u16(), 502, "the app goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_frees_everything() {
    let host = TestHost::with(&["sleeper", "stream"]).await;
    for path in ["/sleeper?ms=60000", "/stream?n=100000&ms=10", "/stream?bytes=8000000000"] {
        let asked = tokio::time::timeout(std::time::Duration::from_millis(200), host.get(path)).await;
        assert!(asked.is_err(), "{path} should still be going on");
    }
    host.settled("sleeper").await;
    host.settled("stream").await;
}
