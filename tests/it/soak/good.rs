//! Requests whose answers have to be right, whatever the others do.

use std::time::Duration;

use bytes::Bytes;
use http::Method;

use super::Seen;
use crate::support::{Answer, TestHost};
use crate::wire::Wire;

/// A request to an app that behaves, and what all of its answers are.
pub struct Good {
    pub path: &'static str,
    begins: &'static str,
    ends: &'static str,
}

pub const ALL: [Good; 6] = [
    Good { path: "/hello", begins: "Hello from Hostler!\n", ends: "" },
    Good { path: "/counter?scan=1", begins: "count=1 global=1 table=1 ", ends: " traces=0\n" },
    Good { path: "/hello-p3", begins: "Hello from Hostler, in wasi:http 0.3!\n", ends: "" },
    Good { path: "/hello-p3?stream=3&ms=5", begins: "line 1\n", ends: "line 3\n" },
    Good { path: "/env", begins: "", ends: "" },
    Good { path: "/ticks?n=4&ms=5", begins: "id: 1\n", ends: "tick 4\n\n" },
];

/// No connection is kept, so that all that are open afterwards are leaks.
const CLOSE: [(&str, &str); 1] = [("connection", "close")];

const LARGE: usize = 1_000_000;
const SLOW_BYTES: usize = 400_000;

pub async fn get(host: &TestHost, path: &str) -> Answer {
    host.send(Method::GET, path, &CLOSE, Bytes::new()).await.expect("an answer")
}

pub async fn ask(host: &TestHost, good: &Good, seen: &Seen) {
    let answer = get(host, good.path).await;
    let text = answer.text();
    assert_eq!(answer.status, 200, "{}: {text}", good.path);
    assert!(text.starts_with(good.begins) && text.ends_with(good.ends), "{}: {text}", good.path);
    seen.note(format!("right: {}", good.path));
}

/// A body that is streamed both ways at once.
pub async fn upload(host: &TestHost, seen: &Seen) {
    let body: Vec<u8> = (0..LARGE).map(|at| at as u8).collect();
    let body = Bytes::from(body);
    let answer = host.send(Method::POST, "/upload", &CLOSE, body.clone()).await.expect("an answer");
    assert_eq!(answer.status, 200);
    assert!(answer.body == body, "the echo is another one");
    seen.note("right: upload");
}

/// A client that takes its time with a small body.
pub async fn send_slowly(host: &TestHost, seen: &Seen) {
    let mut wire = Wire::connect(host.address()).await;
    wire.say("POST /upload HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 100\r\n\r\n").await;
    for _ in 0..10 {
        wire.say("0123456789").await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (head, body) = wire.answer().await.expect("a whole answer");
    assert_eq!((head.status, body.len()), (200, 100), "{body}");
    seen.note("right: slow upload");
}

/// A client that takes its time with a large answer.
pub async fn read_slowly(host: &TestHost, seen: &Seen) {
    let mut wire = Wire::connect(host.address()).await;
    wire.say(&format!("GET /ticks?bytes={SLOW_BYTES} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"))
        .await;
    let head = wire.head().await.expect("a head");
    assert_eq!(head.status, 200, "{}", head.text);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(wire.body(&head).await.expect("a whole body").len(), SLOW_BYTES);
    seen.note("right: slow download");
}
