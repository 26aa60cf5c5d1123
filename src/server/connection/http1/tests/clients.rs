//! Clients that are slow, silent, gone or endless.

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;

use super::assert_refused;
use crate::server::connection::Limits;
use crate::server::testing::{Edge, eventually, patient};

const SHORT: Duration = Duration::from_millis(150);

#[tokio::test]
async fn a_slow_head_is_ended_with_408_however_it_trickles() {
    let limits = Limits { header_timeout: SHORT, ..patient() };
    let edge = Edge::start(limits);
    let mut client = edge.connect().await;
    client.send("GET /hello HTTP/1.1\r\n").await;
    let (mut reading, mut writing) = tokio::io::split(client.stream);
    let trickle = tokio::spawn(async move {
        while writing.write_all(b"x: 1\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let mut answer = [0; 12];
    tokio::io::AsyncReadExt::read_exact(&mut reading, &mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
    trickle.await.unwrap();
    edge.done().await;
}

#[tokio::test]
async fn the_header_clock_begins_with_the_first_byte_of_each_request() {
    let limits = Limits { header_timeout: SHORT, ..patient() };
    let edge = Edge::start(limits);
    let mut client = edge.connect().await;
    client.get("/hello").await;
    client.answer().await;
    // Longer than a head may take, but between two requests.
    tokio::time::sleep(SHORT * 2).await;
    client.get("/hello").await;
    assert_eq!(client.answer().await.status, 200);
    client.send("GET /he").await;
    let begun = Instant::now();
    assert_eq!(client.answer().await.status, 408);
    assert!(begun.elapsed() >= SHORT);
    edge.done().await;
}

#[tokio::test]
async fn a_silent_and_a_half_silent_socket_are_closed() {
    let limits = Limits { header_timeout: SHORT, ..patient() };
    let edge = Edge::start(limits);
    for first in ["", "P", "PRI * HTTP/2.0\r\n"] {
        let mut client = edge.connect().await;
        client.send(first).await;
        let ended = client.rest().await.unwrap_or_default();
        assert_eq!(ended, b"", "{first}");
    }
    edge.done().await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let limits = Limits { idle_timeout: SHORT, ..patient() };
    let edge = Edge::start(limits);
    let mut busy = edge.connect().await;
    busy.get("/wait").await;
    let mut idle = edge.connect().await;
    idle.get("/hello").await;
    idle.answer().await;
    let begun = Instant::now();
    idle.assert_closed().await;
    assert!(begun.elapsed() >= SHORT);
    edge.app.open(1);
    assert_eq!(busy.answer().await.text(), "waited");
    busy.assert_closed().await;
    edge.done().await;
}

#[tokio::test]
async fn a_slow_body_is_ended_with_408() {
    let edge = Edge::start(patient());
    let mut client = edge.connect().await;
    client.send("POST /count HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nabc").await;
    assert_refused(&mut client, 408).await;
    edge.done().await;
}

#[tokio::test]
async fn a_body_beyond_its_limit_is_refused_and_the_sender_reads_the_refusal() {
    let edge = Edge::start(patient());
    let declared = "POST /count HTTP/1.1\r\nhost: a\r\ncontent-length: 99000000\r\n\r\n";
    let chunked = "POST /count HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    for head in [declared, chunked] {
        let mut client = edge.connect().await;
        client.send(head).await;
        let (mut reading, mut writing) = tokio::io::split(client.stream);
        // A client that sends on regardless until it is stopped.
        let sending = tokio::spawn(async move {
            let chunk = format!("10000\r\n{}\r\n", "z".repeat(0x10000));
            while writing.write_all(chunk.as_bytes()).await.is_ok() {}
        });
        let mut answer = [0; 12];
        tokio::io::AsyncReadExt::read_exact(&mut reading, &mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 413");
        sending.await.unwrap();
    }
    edge.done().await;
}

#[tokio::test]
async fn a_client_that_goes_away_ends_its_request() {
    let limits = Limits { half_close_time: SHORT, ..patient() };
    let edge = Edge::start(limits);
    for path in ["/wait", "/endless"] {
        let mut client = edge.connect().await;
        client.get(path).await;
        eventually("the request is running", || edge.app.running() > 0).await;
        drop(client);
        eventually("the request has ended", || edge.app.running() == 0).await;
    }
    edge.done().await;
}

#[tokio::test]
async fn a_client_that_only_shut_down_its_sending_side_gets_an_answer_that_comes_soon() {
    let edge = Edge::start(patient());
    let mut client = edge.connect().await;
    client.get("/wait").await;
    client.stream.shutdown().await.unwrap();
    eventually("the request is running", || edge.app.running() == 1).await;
    edge.app.open(1);
    assert_eq!(client.answer().await.text(), "waited");
    client.assert_closed().await;
    let mut half_said = edge.connect().await;
    half_said.send("POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nabc").await;
    half_said.stream.shutdown().await.unwrap();
    assert!(half_said.try_answer("GET").await.is_err());
    edge.done().await;
}

#[tokio::test]
async fn a_reader_that_stops_is_reset_and_a_slow_one_is_served() {
    let limits = Limits { write_timeout: SHORT * 2, ..patient() };
    let edge = Edge::start(limits);
    let mut stops = edge.connect().await;
    stops.get("/endless").await;
    let mut slow = edge.connect().await;
    slow.get("/big").await;
    eventually("the stalled one's maker has ended", || edge.app.running() == 0).await;
    // The slow one goes on from time to time, and takes longer than a stall may last.
    let begun = Instant::now();
    slow.until(b"\r\n\r\n").await.unwrap();
    drop(stops);
    let mut slow2 = edge.connect().await;
    slow2.get("/big").await;
    slow2.until(b"\r\n\r\n").await.unwrap();
    let mut left = 2 * 1024 * 1024 + 1;
    while left > 0 {
        let piece = left.min(256 * 1024);
        slow2.take(piece).await.unwrap();
        left -= piece;
        tokio::time::sleep(SHORT / 2).await;
    }
    assert!(begun.elapsed() > SHORT * 2);
    drop((slow, slow2));
    edge.done().await;
}

#[tokio::test]
async fn a_client_that_reads_only_after_it_has_sent_everything_reads_the_refusal() {
    let limits = Limits { linger_time: crate::server::testing::SOON, ..patient() };
    let edge = Edge::start(limits);
    let mut client = edge.connect().await;
    let length = 8 * 1024 * 1024;
    client.send(format!("POST /refuse-body HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n")).await;
    client.send(vec![b'z'; length]).await;
    assert_eq!(client.answer().await.status, 413);
    drop(client);
    edge.done().await;
}
