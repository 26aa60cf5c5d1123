//! Bodies that are passed on while they are made.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::support::TestHost;

type Body = http_body_util::combinators::BoxBody<Bytes, std::io::Error>;

fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

/// `count` chunks of `size` bytes, made as they are asked for.
fn chunks(count: usize, size: usize) -> Body {
    let chunk = Bytes::from(vec![b'x'; size]);
    let frames = (0..count).map(move |_| Ok(http_body::Frame::data(chunk.clone())));
    BodyExt::boxed(StreamBody::new(futures_util::stream::iter(frames)))
}

async fn http2(host: &TestHost) -> hyper::client::conn::http2::SendRequest<Body> {
    let stream = TcpStream::connect(host.address()).await.expect("a connection");
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("HTTP/2");
    tokio::spawn(connection);
    sender
}

async fn http1(host: &TestHost) -> hyper::client::conn::http1::SendRequest<Body> {
    let stream = TcpStream::connect(host.address()).await.expect("a connection");
    let (sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP/1");
    tokio::spawn(connection);
    sender
}

fn request(host: &TestHost, method: &str, path: &str, body: Body) -> http::Request<Body> {
    let request = http::Request::builder().method(method).uri(host.url(path));
    request.header("host", host.address().to_string()).body(body).expect("a request")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_stream_delivers_each_event_at_once() {
    let host = TestHost::with(&["stream", "cgi-rust", "hello-p3"]).await;
    // The next event is far away: what has come by then came at once.
    for path in ["/stream?n=3&ms=5000", "/cgi-rust?mode=stream&n=3&ms=5000", "/hello-p3?stream=3&ms=5000"] {
        let empty = BodyExt::boxed(Empty::new().map_err(|never| match never {}));
        let asked = http1(&host).await.send_request(request(&host, "GET", path, empty)).await;
        let mut body = asked.expect("a response").into_body();
        let first =
            tokio::time::timeout(Duration::from_secs(4), body.frame()).await.expect("an event at once");
        assert!(
            first.expect("a frame").expect("data").into_data().is_ok_and(|data| !data.is_empty()),
            "{path}"
        );
    }
    for app in ["stream", "cgi-rust", "hello-p3"] {
        host.settled(app).await;
    }
}

async fn upload(host: &TestHost, path: &str, mebibytes: usize) {
    let body = chunks(mebibytes * 16, 64 << 10);
    let response =
        http1(host).await.send_request(request(host, "POST", path, body)).await.expect("a response");
    assert_eq!(response.status().as_u16(), 200);
    let (mut body, mut bytes) = (response.into_body(), 0);
    while let Some(frame) = body.frame().await {
        bytes += frame.expect("an unbroken body").into_data().map_or(0, |data| data.len());
    }
    assert_eq!(bytes, mebibytes << 20, "{path}");
}

async fn download(host: &TestHost, mebibytes: usize) {
    let path = format!("/stream?bytes={}", mebibytes << 20);
    let response =
        http1(host).await.send_request(request(host, "GET", &path, full(""))).await.expect("a response");
    let (mut body, mut bytes) = (response.into_body(), 0);
    while let Some(frame) = body.frame().await {
        bytes += frame.expect("an unbroken body").into_data().map_or(0, |data| data.len());
    }
    assert_eq!(bytes, mebibytes << 20);
}

/// Resident memory of this process, in MiB.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("a status");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a size");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<usize>().ok()).expect("a number") / 1024
}

async fn passes_with_flat_memory(mebibytes: usize) {
    let host = TestHost::with(&["stream", "echo"]).await;
    upload(&host, "/echo", 8).await;
    download(&host, 8).await;
    let before = resident();
    upload(&host, "/echo", mebibytes).await;
    download(&host, mebibytes).await;
    let grown = resident().saturating_sub(before);
    println!("{mebibytes} MiB up and down: memory grew by {grown} MiB");
    assert!(grown < 96, "memory grew by {grown} MiB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_pass_in_both_directions() {
    let host = TestHost::with(&["stream", "echo", "hello-p3"]).await;
    upload(&host, "/echo", 32).await;
    upload(&host, "/hello-p3", 8).await;
    download(&host, 64).await;
}

/// Alone in its process, or the other tests' memory is counted: `cargo test --test it gibibyte -- --ignored`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute, and counts the memory of the whole process"]
async fn a_gibibyte_passes_in_both_directions_with_flat_memory() {
    passes_with_flat_memory(1024).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_2_without_tls_carries_bodies_both_ways_and_shows_broken_ones() {
    let builder = TestHost::builder().app("echo", "echo").app("trapper", "trapper").app("hello", "hello");
    let host = builder.config("[defaults]\nresponse_buffer = \"16KiB\"").start().await;
    let mut client = http2(&host).await;
    let hello = client.send_request(request(&host, "GET", "/hello", full(""))).await.expect("a response");
    assert_eq!(hello.version(), http::Version::HTTP_2);
    assert_eq!(hello.into_body().collect().await.expect("a body").to_bytes(), "Hello from Hostler!\n");
    let echo =
        client.send_request(request(&host, "POST", "/echo", chunks(32, 16 << 10))).await.expect("a response");
    assert_eq!(echo.into_body().collect().await.expect("a body").to_bytes().len(), 512 << 10);
    let path = "/trapper?when=after&bytes=100000";
    let broken = client.send_request(request(&host, "GET", path, full(""))).await.expect("a response");
    assert!(broken.into_body().collect().await.is_err(), "a stream that was reset");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_client_does_not_hold_an_instance_for_a_buffered_response() {
    let host = TestHost::with(&["stream"]).await;
    let asked =
        http1(&host).await.send_request(request(&host, "GET", "/stream?bytes=600000", full(""))).await;
    let response = asked.expect("a response");
    // Nothing of the body is read, and yet the instance comes back.
    host.settled("stream").await;
    assert_eq!(response.into_body().collect().await.expect("a body").to_bytes().len(), 600_000);
}
