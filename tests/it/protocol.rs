//! HTTP as clients speak it: connections, their limits, and both protocols.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream;
use http::{Method, Request, Response, Version};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::process::Program;
use crate::support::TestHost;
use crate::wire::Wire;

/// A host that serves these guests, with these lines under `[server]`.
async fn serving(guests: &[&str], server: &str) -> TestHost {
    let builder = TestHost::builder().config(&format!("[server]\n{server}"));
    guests.iter().fold(builder, |builder, name| builder.app(name, name)).start().await
}

type Http2 = Client<HttpConnector, Full<Bytes>>;

/// A client that speaks HTTP/2 without having asked for it.
fn http2() -> Http2 {
    Client::builder(TokioExecutor::new()).http2_only(true).build_http()
}

async fn ask(client: &Http2, host: &TestHost, method: Method, path: &str, body: Bytes) -> Response<Incoming> {
    let request = Request::builder().method(method).uri(host.url(path)).body(Full::new(body));
    client.request(request.expect("a request")).await.expect("an answer")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_2_with_prior_knowledge_carries_bodies_both_ways() {
    let host = TestHost::with(&["hello", "echo", "stream", "cgi-rust", "hello-p3"]).await;
    let client = http2();
    let hello = ask(&client, &host, Method::GET, "/hello", Bytes::new()).await;
    assert_eq!((hello.version(), hello.status().as_u16()), (Version::HTTP_2, 200));
    assert_eq!(hello.into_body().collect().await.expect("a body").to_bytes(), "Hello from Hostler!\n");
    let body: Bytes = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect::<Vec<u8>>().into();
    for path in ["/echo", "/cgi-rust", "/hello-p3"] {
        let echoed = ask(&client, &host, Method::POST, path, body.clone()).await;
        let echoed = echoed.into_body().collect().await.expect("a body").to_bytes();
        assert!(echoed == body, "{path} gave back {} bytes", echoed.len());
    }
    let variables = ask(&client, &host, Method::GET, "/cgi-rust", Bytes::new()).await;
    let variables = variables.into_body().collect().await.expect("a body").to_bytes();
    let variables = String::from_utf8_lossy(&variables).into_owned();
    let own = format!("HTTP_HOST={}", host.address());
    for line in ["SERVER_PROTOCOL=HTTP/2.0", "REQUEST_URI=/cgi-rust", &own] {
        assert!(variables.lines().any(|found| found == line), "{line} in {variables}");
    }
    let download = ask(&client, &host, Method::GET, "/stream?bytes=5000000", Bytes::new()).await;
    assert_eq!(download.into_body().collect().await.expect("a body").to_bytes().len(), 5_000_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_2_streams_a_body_back_while_it_comes() {
    let host = TestHost::with(&["echo"]).await;
    let client: Client<HttpConnector, _> =
        Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let (sender, receiver) = tokio::sync::mpsc::channel::<Bytes>(1);
    let frames = stream::unfold(receiver, |mut receiver| async {
        let piece = receiver.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(Frame::data(piece)), receiver))
    });
    let request = Request::post(host.url("/echo")).body(StreamBody::new(Box::pin(frames)));
    sender.send(Bytes::from_static(b"first ")).await.expect("a reader");
    let response = client.request(request.expect("a request")).await.expect("an answer");
    let mut body = response.into_body();
    let first = body.frame().await.expect("a frame").expect("no break").into_data().expect("data");
    assert_eq!(first, "first ");
    sender.send(Bytes::from_static(b"second")).await.expect("a reader");
    drop(sender);
    assert_eq!(body.collect().await.expect("a whole body").to_bytes(), "second");
    host.settled("echo").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_2_resets_the_stream_of_a_broken_answer_and_keeps_the_connection() {
    let host = TestHost::with(&["trapper", "hello"]).await;
    let client = http2();
    let broken = ask(&client, &host, Method::GET, "/trapper?when=after&bytes=1200000", Bytes::new()).await;
    assert_eq!(broken.status(), 200);
    let error = broken.into_body().collect().await.expect_err("a broken body");
    assert!(format!("{error:?}").contains("Reset"), "{error:?}");
    let hello = ask(&client, &host, Method::GET, "/hello", Bytes::new()).await;
    assert_eq!(hello.status(), 200);
    host.settled("trapper").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_http_2_client_that_resets_its_stream_frees_the_instance() {
    let host = TestHost::with(&["stream", "sleeper"]).await;
    let client = http2();
    let events = ask(&client, &host, Method::GET, "/stream?n=100000&ms=1000", Bytes::new()).await;
    drop(events);
    host.settled("stream").await;
    let sleeping = ask(&client, &host, Method::GET, "/sleeper?ms=20000", Bytes::new());
    assert!(tokio::time::timeout(Duration::from_millis(500), sleeping).await.is_err());
    host.settled("sleeper").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_http_2_connection_has_max_streams_at_once() {
    let host = serving(&["sleeper"], "max_streams = 2").await;
    let client = http2();
    // The client learns the limit with its first answer.
    ask(&client, &host, Method::GET, "/sleeper?ms=1", Bytes::new())
        .await
        .into_body()
        .collect()
        .await
        .expect("a body");
    let began = Instant::now();
    let requests = (0..6).map(|_| async {
        let answer = ask(&client, &host, Method::GET, "/sleeper?ms=200", Bytes::new()).await;
        assert_eq!(answer.status(), 200);
        answer.into_body().collect().await.expect("a body");
    });
    futures_util::future::join_all(requests).await;
    assert!(began.elapsed() >= Duration::from_millis(600), "six took {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_carries_many_requests_one_after_the_other() {
    let host = TestHost::with(&["hello", "echo"]).await;
    let mut wire = Wire::connect(host.address()).await;
    for _ in 0..20 {
        wire.ask("/hello").await;
        let (head, body) = wire.answer().await.expect("an answer");
        assert_eq!((head.status, &*body, head.header("connection")), (200, "Hello from Hostler!\n", ""));
        wire.say("POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
            .await;
        assert_eq!(wire.answer().await.expect("an answer").1, "abc");
    }
    // Two at once are answered in order.
    wire.ask("/hello").await;
    wire.say("POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\ndef").await;
    assert_eq!(wire.answer().await.expect("an answer").1, "Hello from Hostler!\n");
    assert_eq!(wire.answer().await.expect("an answer").1, "def");
    wire.say("GET /hello HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert_eq!(wire.answer().await.expect("an answer").0.header("connection"), "close");
    wire.closed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_request_gets_the_head_and_no_body() {
    let host = TestHost::with(&["hello", "echo", "stream", "cgi-rust", "hello-p3"]).await;
    let mut wire = Wire::connect(host.address()).await;
    for (path, length) in
        [("/hello", "20"), ("/hello-p3", "38"), ("/nowhere", ""), ("/stream?bytes=5000000", "")]
    {
        wire.say(&format!("HEAD {path} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        let head = wire.head().await.expect("a head");
        if !length.is_empty() {
            assert_eq!((head.status, head.header("content-length")), (200, length), "{path}");
        }
        // A body would be read as the next answer.
        wire.ask("/hello").await;
        assert_eq!(wire.answer().await.expect("an answer").1, "Hello from Hostler!\n", "after {path}");
    }
    wire.say("HEAD /cgi-rust HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(wire.head().await.expect("a head").status, 200);
    wire.ask("/hello").await;
    assert_eq!(wire.answer().await.expect("an answer").1, "Hello from Hostler!\n");
    for app in ["hello", "hello-p3", "stream", "cgi-rust"] {
        host.settled(app).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_without_content_leaves_the_connection_usable() {
    let output = "Status: 204\n\n";
    let escaped: String = output.bytes().map(|byte| format!("\\{byte:02x}")).collect();
    let module = format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write"
                (func $write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 0) "\10\00\00\00\0d\00\00\00")
            (data (i32.const 16) "{escaped}")
            (func (export "_start")
                (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#
    );
    let module = wat::parse_str(module).expect("a module");
    let host = TestHost::builder().bytes("silent", &module).app("hello", "hello").start().await;
    let mut wire = Wire::connect(host.address()).await;
    wire.ask("/silent").await;
    let head = wire.head().await.expect("a head");
    assert_eq!((head.status, head.header("content-length"), head.header("transfer-encoding")), (204, "", ""));
    wire.ask("/hello").await;
    assert_eq!(wire.answer().await.expect("an answer").1, "Hello from Hostler!\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_expects_100_is_told_to_go_on_or_refused() {
    let host = TestHost::builder().config("[defaults]\nmax_request_body = 100").app("echo", "echo");
    let host = host.start().await;
    let mut wire = Wire::connect(host.address()).await;
    wire.say("POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n").await;
    assert_eq!(wire.head().await.expect("a head").status, 100);
    wire.say("hello").await;
    assert_eq!(wire.answer().await.expect("an answer").1, "hello");
    for refused in [("/echo", 413), ("/nowhere", 404)] {
        let mut wire = Wire::connect(host.address()).await;
        let (path, status) = refused;
        let head =
            format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 500\r\nexpect: 100-continue\r\n\r\n");
        wire.say(&head).await;
        assert_eq!(wire.head().await.expect("a head").status, status, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_in_absolute_form_is_served_like_its_path() {
    let host = TestHost::with(&["echo", "cgi-rust"]).await;
    let mut wire = Wire::connect(host.address()).await;
    wire.say("GET http://example.org/echo/a?b HTTP/1.1\r\nhost: example.org\r\n\r\n").await;
    let (head, body) = wire.answer().await.expect("an answer");
    assert_eq!(head.status, 200);
    assert!(body.starts_with("GET /a?b\n"), "{body}");
    wire.say("GET http://example.org/cgi-rust/a?b HTTP/1.1\r\nhost: example.org\r\n\r\n").await;
    let (_, body) = wire.answer().await.expect("an answer");
    for line in ["REQUEST_URI=/cgi-rust/a?b", "SERVER_NAME=example.org", "PATH_INFO=/a"] {
        assert!(body.lines().any(|found| found == line), "{line} in {body}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_beyond_max_connections_wait_for_one_to_end() {
    let host = serving(&["hello"], "max_connections = 2").await;
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut wire = Wire::connect(host.address()).await;
        wire.ask("/hello").await;
        assert_eq!(wire.answer().await.expect("an answer").0.status, 200);
        open.push(wire);
    }
    let mut third = Wire::connect(host.address()).await;
    third.ask("/hello").await;
    assert!(third.is_silent_for(Duration::from_millis(300)).await);
    open.pop();
    assert_eq!(third.answer().await.expect("an answer").0.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_does_not_end_in_header_timeout_is_answered_with_408() {
    let host = serving(&["hello"], "header_timeout = \"300ms\"").await;
    let mut wire = Wire::connect(host.address()).await;
    wire.say("GET /hello HTTP/1.1\r\nhost: a\r\n").await;
    let trickle = async {
        // One field now and then earns no more time.
        while wire.send(b"x-more: y\r\n").await.is_ok() {
            if !wire.is_silent_for(Duration::from_millis(50)).await {
                break;
            }
        }
    };
    tokio::time::timeout(crate::support::PATIENCE, trickle).await.expect("an end");
    assert_eq!(wire.head().await.expect("a head").status, 408);
    wire.closed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_without_requests_is_closed_after_idle_timeout() {
    let host = serving(&["hello"], "idle_timeout = \"300ms\"").await;
    let mut wire = Wire::connect(host.address()).await;
    wire.ask("/hello").await;
    assert_eq!(wire.answer().await.expect("an answer").0.status, 200);
    let began = Instant::now();
    wire.closed().await;
    assert!(began.elapsed() >= Duration::from_millis(250), "after {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cookies_that_http_2_splits_are_one_field_to_an_app() {
    let host = TestHost::with(&["echo"]).await;
    let request = Request::builder().uri(host.url("/echo/headers"));
    let request = request.header("cookie", "a=1").header("x-other", "x").header("cookie", "b=2; c=3");
    let answer = http2().request(request.body(Full::default()).expect("a request")).await.expect("an answer");
    let seen = answer.into_body().collect().await.expect("a body").to_bytes();
    let seen = String::from_utf8_lossy(&seen).into_owned();
    let cookies: Vec<_> = seen.lines().filter(|line| line.starts_with("cookie")).collect();
    assert_eq!(cookies, ["cookie: a=1; b=2; c=3"], "{seen}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_a_hundred_fields_are_431_on_either_protocol() {
    let host = TestHost::with(&["hello"]).await;
    let mut wire = Wire::connect(host.address()).await;
    let many = |fields: usize| (0..fields).map(|at| format!("x-{at}: y\r\n")).collect::<String>();
    wire.say(&format!("GET /hello HTTP/1.1\r\nhost: a\r\n{}\r\n", many(99))).await;
    assert_eq!(wire.answer().await.expect("an answer").0.status, 200);
    wire.say(&format!("GET /hello HTTP/1.1\r\nhost: a\r\n{}\r\n", many(100))).await;
    assert_eq!(wire.head().await.expect("a head").status, 431);
    for (fields, status) in [(100, 200), (101, 431)] {
        let mut request = Request::builder().uri(host.url("/hello"));
        for at in 0..fields {
            request = request.header(format!("x-{at}"), "y");
        }
        let request = request.body(Full::default()).expect("a request");
        let answer = http2().request(request).await.expect("an answer");
        assert_eq!(answer.status().as_u16(), status, "{fields} fields");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_stalls_for_body_timeout_is_answered_with_408() {
    let host = serving(&["echo"], "body_timeout = \"300ms\"").await;
    let mut wire = Wire::connect(host.address()).await;
    wire.say("POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n0123456789").await;
    assert_eq!(wire.head().await.expect("a head").status, 408);
    host.settled("echo").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_above_max_header_bytes_is_answered_with_431() {
    let host = serving(&["echo"], "max_header_bytes = \"8KiB\"").await;
    let mut wire = Wire::connect(host.address()).await;
    wire.say(&format!("GET /echo HTTP/1.1\r\nhost: a\r\nx-large: {}\r\n\r\n", "x".repeat(6_000))).await;
    assert_eq!(wire.answer().await.expect("an answer").0.status, 200);
    wire.say(&format!("GET /echo HTTP/1.1\r\nhost: a\r\nx-large: {}\r\n\r\n", "x".repeat(9_000))).await;
    assert_eq!(wire.head().await.expect("a head").status, 431);
    wire.closed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_served_by_worker_threads() {
    let program = Program::serve(&["hello"], "[server]\nworker_threads = 3").await;
    let serving = program.threads().iter().filter(|name| *name == "serve").count();
    assert_eq!(serving, 3);
}
