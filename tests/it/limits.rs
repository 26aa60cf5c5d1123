//! Every limit, reached from outside over HTTP by its key.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::TestHost;

/// A host with one guest and these `[defaults]`.
async fn limited(guest: &str, defaults: &str) -> TestHost {
    TestHost::builder().app(guest, guest).config(&format!("[defaults]\n{defaults}")).start().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_that_asks_for_more_memory_gets_a_failed_grow() {
    let host = limited("hog", "memory_limit = \"32MiB\"").await;
    assert_eq!(host.get("/hog?mib=64").await.text(), "asked=64MiB has=32MiB refused=true\n");
    assert_eq!(host.get("/hog?mib=16").await.text(), "asked=16MiB has=16MiB refused=false\n");
}

/// A command whose table grows until it is refused, and which prints whether a grow by 1000 went well.
const TABLE: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (table $t 1 funcref)
  (data (i32.const 16) "content-type: text/plain\n\nrefused\n")
  (data (i32.const 64) "content-type: text/plain\n\ngranted\n")
  (func (export "_start")
    (i32.store (i32.const 0)
      (select (i32.const 16) (i32.const 64)
        (i32.eq (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1))))
    (i32.store (i32.const 4) (i32.const 34))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_stops_growing_at_its_limit() {
    let wasm = wat::parse_str(TABLE).expect("a module");
    for (limit, expected) in [("500", "refused\n"), ("5000", "granted\n")] {
        let config = format!("[defaults]\ntable_limit = {limit}");
        let host = TestHost::builder().bytes("table", &wasm).config(&config).start().await;
        assert_eq!(host.get("/table").await.text(), expected, "table_limit = {limit}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn host_resources_and_header_fields_have_their_ends() {
    let host = limited("leaker", "resource_limit = 100\nheader_limit = \"8KiB\"").await;
    assert_eq!(host.get("/leaker?n=50").await.status.as_u16(), 200);
    assert_eq!(host.get("/leaker?n=200").await.status.as_u16(), 500);
    assert_eq!(host.get("/leaker?headers=1000").await.status.as_u16(), 200);
    assert_ne!(host.get("/leaker?headers=20000").await.text(), "headers=20000 refused=false\n");
    host.settled("leaker").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spinning_guest_ends_at_its_cpu_time_and_others_answer_meanwhile() {
    let host = TestHost::builder()
        .app("spinner", "spinner")
        .app("hello", "hello")
        .app("hello-p3", "hello-p3")
        .app("cgi-rust", "cgi-rust")
        .config("[defaults]\ncpu_time = \"600ms\"")
        .start()
        .await;
    let paths =
        ["/spinner", "/spinner?fill=1", "/spinner?hostcalls=1", "/hello-p3?spin=1", "/cgi-rust?mode=spin"];
    let spin = futures_util::future::join_all(paths.iter().map(|path| host.get(path)));
    let greet = async {
        for _ in 0..20 {
            let asked = Instant::now();
            assert_eq!(host.get("/hello").await.status.as_u16(), 200);
            assert!(asked.elapsed() < Duration::from_secs(2), "hello took {:?}", asked.elapsed());
        }
    };
    let (spun, ()) = tokio::join!(spin, greet);
    for (path, answer) in paths.iter().zip(spun) {
        assert_eq!(answer.status.as_u16(), 504, "{path}");
    }
    for app in ["spinner", "hello-p3", "cgi-rust"] {
        host.settled(app).await;
        assert_eq!(
            host.app(app).release.expect("live").instances.idle,
            1,
            "the pool of {app} is whole again"
        );
    }
    assert_eq!(host.app("spinner").requests.cpu_time_exceeded, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_that_waits_too_long_ends_at_the_request_timeout() {
    let host = limited("sleeper", "request_timeout = \"200ms\"").await;
    assert_eq!(host.get("/sleeper?ms=60000").await.status.as_u16(), 504);
    assert_eq!(host.get("/sleeper?ms=1").await.status.as_u16(), 200);
    host.settled("sleeper").await;
    assert_eq!(host.app("sleeper").requests.deadline_passed, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_body_over_its_limit_is_refused() {
    let host = limited("echo", "max_request_body = \"1000B\"").await;
    assert_eq!(host.post("/echo", vec![b'x'; 1000]).await.status.as_u16(), 200);
    assert_eq!(host.post("/echo", vec![b'x'; 1001]).await.status.as_u16(), 413);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_body_over_its_limit_is_broken_off() {
    let host = limited("stream", "max_response_body = \"4MiB\"").await;
    let whole = host.send(Method::GET, "/stream?bytes=4000000", &[], Bytes::new()).await;
    assert_eq!(whole.expect("a whole answer").body.len(), 4_000_000);
    let over = host.send(Method::GET, "/stream?bytes=8000000", &[], Bytes::new()).await;
    assert!(over.is_err(), "a body over the limit must look broken");
    host.settled("stream").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_answers_503_at_once_and_a_long_wait_504() {
    let host =
        limited("sleeper", "min_instances = 1\nmax_instances = 1\nqueue_size = 1\nqueue_timeout = \"300ms\"")
            .await;
    let busy = host.get("/sleeper?ms=1500");
    let rest = async {
        host.until("one is at work", || host.app("sleeper").release.expect("live").instances.leased == 1)
            .await;
        let waits = host.get("/sleeper?ms=1");
        let refused = async {
            host.until("one waits", || host.app("sleeper").release.expect("live").instances.waiting == 1)
                .await;
            host.get("/sleeper?ms=1").await
        };
        tokio::join!(waits, refused)
    };
    let (busy, (waited, refused)) = tokio::join!(busy, rest);
    assert_eq!(busy.status.as_u16(), 200);
    assert_eq!(waited.status.as_u16(), 504);
    assert_eq!(refused.status.as_u16(), 503);
    assert!(!refused.header("retry-after").is_empty());
    host.settled("sleeper").await;
}

/// Writes raw bytes and reads until the host closes.
async fn raw(host: &TestHost, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(host.address()).await.expect("a connection");
    stream.write_all(bytes).await.expect("written");
    let mut answer = Vec::new();
    let _ =
        tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await.expect("an end");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_and_silent_clients_are_shown_out() {
    let host = TestHost::builder()
        .app("hello", "hello")
        .config("[server]\nheader_timeout = \"200ms\"\nidle_timeout = \"300ms\"\nbody_timeout = \"200ms\"")
        .start()
        .await;
    assert!(raw(&host, b"GET /hello HTTP/1.1\r\nhost: x\r\nx-slow: ").await.contains(" 408 "));
    assert_eq!(raw(&host, b"").await, "", "a silent socket is closed");
    let idle = raw(&host, b"GET /hello HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(idle.contains("Hello from Hostler!"), "answered, then closed when idle: {idle}");
    let slow_body = raw(&host, b"POST /hello HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabc").await;
    assert!(slow_body.contains(" 408 "), "{slow_body}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_header_bytes_are_431() {
    let host = TestHost::builder()
        .app("hello", "hello")
        .config("[server]\nmax_header_bytes = \"8KiB\"")
        .start()
        .await;
    let request = format!("GET /hello HTTP/1.1\r\nhost: x\r\nx-large: {}\r\n\r\n", "x".repeat(20_000));
    assert!(raw(&host, request.as_bytes()).await.contains(" 431 "));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_beyond_the_limit_wait_for_one_to_end() {
    let host = TestHost::builder()
        .app("hello", "hello")
        .config("[server]\nmax_connections = 2\nidle_timeout = \"400ms\"")
        .start()
        .await;
    let held = [TcpStream::connect(host.address()).await, TcpStream::connect(host.address()).await];
    let answer = raw(&host, b"GET /hello HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(answer.contains("Hello from Hostler!"), "{answer}");
    drop(held);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_app_should_see_is_refused_at_the_edge() {
    let host = TestHost::with(&["echo"]).await;
    for (request, status) in [
        ("GET /echo HTTP/1.1\r\n\r\n", " 400 "),
        ("GET /echo/%00 HTTP/1.1\r\nhost: x\r\n\r\n", " 400 "),
        ("GET /../../etc/passwd HTTP/1.1\r\nhost: x\r\n\r\n", " 400 "),
        (
            "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            " 400 ",
        ),
        ("GET /nothing HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", " 404 "),
    ] {
        let request = request.replacen("\r\n\r\n", "\r\nconnection: close\r\n\r\n", 1);
        let answer = raw(&host, request.as_bytes()).await;
        assert!(answer.contains(status), "{request:?} was answered {answer:?}");
    }
}
