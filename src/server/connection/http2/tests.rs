use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::server::connection::Limits;
use crate::server::testing::{Edge, Raw, SOON, eventually, patient};

const SHORT: Duration = Duration::from_millis(150);

type Client = SendRequest<Full<Bytes>>;

async fn connect(edge: &Edge) -> (Client, JoinHandle<hyper::Result<()>>) {
    let stream = TcpStream::connect(edge.address).await.unwrap();
    let (client, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(64 * 1024)
        .initial_connection_window_size(1024 * 1024)
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    (client, tokio::spawn(connection))
}

fn request(method: &str, path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::builder()
        .method(method)
        .uri(format!("http://a.example{path}"))
        .body(Full::new(body.into()))
        .unwrap()
}

fn get(path: &str) -> Request<Full<Bytes>> {
    request("GET", path, "")
}

#[tokio::test]
async fn http2_is_spoken_on_the_same_port() {
    let edge = Edge::start(patient());
    let (mut client, connection) = connect(&edge).await;
    let answer = client.send_request(get("/hello")).await.unwrap();
    assert_eq!((answer.status(), answer.version()), (StatusCode::OK, Version::HTTP_2));
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "hello");
    for size in [0, 1, 2 * 1024 * 1024 + 1] {
        let sent = request("POST", "/echo", vec![b'y'; size]);
        let answer = client.send_request(sent).await.unwrap();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body.len(), size);
    }
    let big = client.send_request(get("/big")).await.unwrap();
    assert_eq!(big.into_body().collect().await.unwrap().to_bytes().len(), 2 * 1024 * 1024 + 1);
    drop(client);
    connection.await.unwrap().unwrap();
    edge.done().await;
}

#[tokio::test]
async fn heads_without_bodies_are_right() {
    let edge = Edge::start(patient());
    let (mut client, connection) = connect(&edge).await;
    for (method, path) in [
        ("HEAD", "/hello"),
        ("HEAD", "/stream"),
        ("GET", "/204"),
        ("HEAD", "/204"),
        ("GET", "/205"),
        ("GET", "/304"),
        ("GET", "/304-declared"),
    ] {
        let answer = client.send_request(request(method, path, "")).await.unwrap();
        assert_eq!(answer.headers().contains_key("content-length"), path == "/hello");
        assert!(answer.into_body().collect().await.unwrap().to_bytes().is_empty());
    }
    drop(client);
    connection.await.unwrap().unwrap();
    edge.done().await;
}

#[tokio::test]
async fn a_broken_answer_is_a_reset_stream_and_its_neighbours_go_on() {
    let edge = Edge::start(patient());
    let (mut client, connection) = connect(&edge).await;
    let waiting = client.send_request(get("/wait"));
    for path in ["/break", "/break-known", "/short", "/long", "/lies", "/panic"] {
        let broken = match client.send_request(get(path)).await {
            Ok(answer) => answer.into_body().collect().await.is_err(),
            Err(_) => true,
        };
        assert!(broken, "{path}");
    }
    edge.app.open(1);
    let answer = waiting.await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "waited");
    drop(client);
    connection.await.unwrap().unwrap();
    edge.done().await;
}

#[tokio::test]
async fn a_stream_whose_reader_stops_is_reset_and_its_neighbours_go_on() {
    let edge = Edge::start(Limits { write_timeout: SHORT, ..patient() });
    let (mut client, connection) = connect(&edge).await;
    let stalled = client.send_request(get("/endless")).await.unwrap();
    let fixed = client.send_request(get("/big")).await.unwrap();
    eventually("the stalled stream's maker has ended", || edge.app.running() == 0).await;
    // What is left is the acceptor and the connection.
    eventually("both streams have ended", || edge.drain.tasks() == 2).await;
    assert!(stalled.into_body().collect().await.is_err());
    assert!(fixed.into_body().collect().await.is_err());
    let answer = client.send_request(get("/hello")).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    drop((answer, client));
    connection.await.unwrap().unwrap();
    edge.done().await;
}

#[tokio::test]
async fn an_answer_that_waits_for_its_maker_is_not_stalled() {
    let edge = Edge::start(Limits { write_timeout: SHORT, ..patient() });
    let (mut client, connection) = connect(&edge).await;
    let answer = client.send_request(get("/slow-maker")).await.unwrap();
    tokio::time::sleep(SHORT * 2).await;
    edge.app.open(1);
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "firstlast");
    drop(client);
    connection.await.unwrap().unwrap();
    edge.done().await;
}

#[tokio::test]
async fn a_client_that_resets_or_leaves_ends_its_requests() {
    let edge = Edge::start(patient());
    let (mut client, connection) = connect(&edge).await;
    let waiting = tokio::spawn(client.send_request(get("/wait")));
    eventually("the request is running", || edge.app.running() == 1).await;
    waiting.abort();
    eventually("the request has ended", || edge.app.running() == 0).await;
    drop(client);
    connection.await.unwrap().unwrap();
    let mut leaves = raw(&edge).await;
    let path = [&[0x82, 0x86, 0x01, 0x01, b'a', 0x04, 0x05], &b"/wait"[..]].concat();
    leaves.send(frame(1, 0x5, 1, &path)).await;
    eventually("the request is running", || edge.app.running() == 1).await;
    drop(leaves);
    eventually("the request has ended", || edge.app.running() == 0).await;
    edge.done().await;
}

#[tokio::test]
async fn an_idle_connection_is_said_goodbye_to_and_a_busy_one_is_not() {
    let edge = Edge::start(Limits { idle_timeout: SHORT, ..patient() });
    let (mut busy, busy_connection) = connect(&edge).await;
    let waiting = busy.send_request(get("/wait"));
    let (client, connection) = connect(&edge).await;
    connection.await.unwrap().unwrap();
    assert!(client.is_closed());
    edge.app.open(1);
    assert_eq!(waiting.await.unwrap().status(), StatusCode::OK);
    busy_connection.await.unwrap().unwrap();
    edge.done().await;
}

#[tokio::test]
async fn a_client_that_does_not_answer_pings_is_dropped() {
    let edge = Edge::start(Limits { ping_interval: SHORT, ..patient() });
    let mut client = raw(&edge).await;
    // It reads what comes, and never says anything.
    let _ = client.rest().await;
    edge.done().await;
}

#[tokio::test]
async fn a_client_that_ignores_the_goodbye_is_dropped() {
    let limits = Limits { idle_timeout: SHORT, header_timeout: SHORT, ..patient() };
    let edge = Edge::start(limits);
    let mut client = raw(&edge).await;
    let _ = client.rest().await;
    edge.done().await;
}

#[tokio::test]
async fn too_large_heads_are_refused_with_431() {
    let edge = Edge::start(patient());
    let (mut client, connection) = connect(&edge).await;
    let mut large = get("/hello");
    for n in 0..20 {
        let name = http::HeaderName::try_from(format!("x-{n}")).unwrap();
        large.headers_mut().insert(name, "x".repeat(1000).parse().unwrap());
    }
    // The client knows our limit, and may refuse to send it by itself.
    match client.send_request(large).await {
        Ok(answer) => assert_eq!(answer.status().as_u16(), 431),
        Err(error) => assert!(error.is_user() || !error.is_closed(), "{error}"),
    }
    assert_eq!(edge.app.started(), 0);
    drop(client);
    let _ = connection.await;
    edge.done().await;
}

#[tokio::test]
async fn a_drain_finishes_open_streams_and_takes_no_new_ones() {
    let edge = Edge::start(patient());
    let (mut client, connection) = connect(&edge).await;
    let waiting = client.send_request(get("/wait"));
    eventually("the request is running", || edge.app.running() == 1).await;
    edge.drain.begin();
    tokio::time::timeout(SOON, async { while client.send_request(get("/hello")).await.is_ok() {} })
        .await
        .unwrap();
    edge.app.open(1);
    let answer = waiting.await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "waited");
    connection.await.unwrap().unwrap();
    edge.done().await;
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [length[1], length[2], length[3], kind, flags];
    [&head[..], &stream.to_be_bytes(), payload].concat()
}

/// `GET / http` with authority `a`, from the static table.
const FIELDS: &[u8] = &[0x82, 0x86, 0x84, 0x01, 0x01, b'a'];

async fn raw(edge: &Edge) -> Raw {
    let mut client = edge.connect().await;
    client.send([PREFACE, SETTINGS].concat()).await;
    client
}

#[tokio::test]
async fn a_rapid_reset_ends_the_connection() {
    let edge = Edge::start(patient());
    let mut client = raw(&edge).await;
    let mut flood = Vec::new();
    for n in 0..1000 {
        let stream = 2 * n + 1;
        flood.extend(frame(1, 0x5, stream, FIELDS));
        flood.extend(frame(3, 0, stream, &8_u32.to_be_bytes()));
    }
    let _ = client.stream.write_all(&flood).await;
    let _ = client.rest().await;
    assert!(edge.app.started() < 1000, "{} were started", edge.app.started());
    edge.done().await;
}

#[tokio::test]
async fn more_streams_than_allowed_are_refused_and_unending_heads_end_the_connection() {
    let edge = Edge::start(patient());
    let mut client = raw(&edge).await;
    let block = vec![0x80 | 2; 4000];
    client.send(frame(1, 0x1, 1, FIELDS)).await;
    for _ in 0..200 {
        if client.stream.write_all(&frame(9, 0, 1, &block)).await.is_err() {
            break;
        }
    }
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(SOON, client.stream.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(edge.app.started(), 0);

    let (mut client, connection) = connect(&edge).await;
    // After its first answer the client knows the limit and keeps the rest back.
    client.send_request(get("/hello")).await.unwrap();
    let waiting: Vec<_> = (0..30).map(|_| client.send_request(get("/wait"))).collect();
    eventually("as many as allowed are running", || edge.app.running() == 20).await;
    edge.app.open(30);
    for answer in waiting {
        assert_eq!(answer.await.unwrap().status(), StatusCode::OK);
    }
    drop(client);
    connection.await.unwrap().unwrap();
    edge.done().await;
}
