use std::io;

use super::*;
use crate::server::connection::Limits;
use crate::server::testing::{Edge, Raw, SOON, eventually, patient};

#[tokio::test]
async fn nothing_to_wait_for_is_over_at_once() {
    let edge = Edge::start(patient());
    edge.done().await;
}

#[tokio::test]
async fn requests_in_flight_finish_and_their_connections_close() {
    let edge = Edge::start(patient());
    let mut clients = Vec::new();
    for _ in 0..32 {
        let mut client = edge.connect().await;
        client.get("/wait").await;
        clients.push(client);
    }
    eventually("all run", || edge.app.running() == 32).await;
    edge.drain.begin();
    edge.app.open(32);
    for mut client in clients {
        let answer = client.answer().await;
        assert_eq!(answer.text(), "waited");
        assert!(answer.has("connection: close"));
        client.assert_closed().await;
    }
    edge.done().await;
}

#[tokio::test]
async fn what_the_kernel_has_accepted_is_answered_and_then_the_port_is_closed() {
    let edge = Edge::start(Limits { max_connections: 1, ..patient() });
    let mut first = edge.connect().await;
    first.get("/wait").await;
    eventually("it runs", || edge.app.running() == 1).await;
    // There is no room for these: they are in the backlog.
    let mut waiting = Vec::new();
    for _ in 0..20 {
        let mut client = edge.connect().await;
        client.get("/hello").await;
        waiting.push(client);
    }
    edge.drain.begin();
    for mut client in waiting {
        assert_eq!(client.answer().await.text(), "hello");
    }
    let refused = tokio::net::TcpStream::connect(edge.address).await;
    assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    edge.app.open(1);
    assert_eq!(first.answer().await.text(), "waited");
    edge.done().await;
}

#[tokio::test]
async fn a_quiet_connection_gets_a_grace_and_a_request_within_it_is_answered() {
    let grace = Duration::from_millis(300);
    let edge = Edge::start(Limits { drain_grace: grace, ..patient() });
    let mut used = edge.connect().await;
    used.get("/hello").await;
    used.answer().await;
    let mut fresh = edge.connect().await;
    let mut quiet = edge.connect().await;
    eventually("all are open", || edge.drain.connections() == 3).await;
    let begun = std::time::Instant::now();
    edge.drain.begin();
    for client in [&mut used, &mut fresh] {
        tokio::time::sleep(grace / 10).await;
        client.get("/hello").await;
        let answer = client.answer().await;
        assert!(answer.has("connection: close") && answer.text() == "hello");
        client.assert_closed().await;
    }
    quiet.assert_closed().await;
    assert!(begun.elapsed() >= grace);
    edge.done().await;
}

#[tokio::test]
async fn what_does_not_end_in_time_is_aborted_and_counted() {
    let edge = Edge::start(patient());
    let mut client = edge.connect().await;
    client.get("/wait").await;
    let mut streaming = edge.connect().await;
    streaming.send("GET /endless HTTP/1.0\r\n\r\n").await;
    streaming.until(b"\r\n\r\n").await.unwrap();
    eventually("both run", || edge.app.running() >= 2).await;
    let drained = edge.abort().await;
    assert_eq!(drained, Drained { aborted: 2, stuck: 0 });
    assert!(client.rest().await.is_err());
    assert!(streaming.rest().await.is_err(), "half a body must not seem whole");
}

/// Asks again and again on one connection until it is told to go; returns the answers it got.
async fn ask_until_told(mut client: Raw) -> Result<usize, String> {
    for answered in 0.. {
        client.get("/hello").await;
        match client.try_answer("GET").await {
            Ok(answer) if answer.text() != "hello" => return Err(answer.head),
            Ok(answer) if answer.has("connection: close") => return Ok(answered + 1),
            Ok(_) => {}
            Err(error) => return Err(format!("request {answered} was lost: {error}")),
        }
    }
    Ok(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_is_lost_by_a_drain_under_load() {
    for round in 0..30 {
        // A client that is late by more than the grace finds its connection closed, and this one may be on a busy machine.
        let grace = Limits::default().drain_grace;
        let edge = Edge::start(Limits { drain_grace: grace, ..patient() });
        let mut clients = Vec::new();
        for _ in 0..32 {
            // Connected before the drain: from its beginning on nobody is let in.
            clients.push(tokio::spawn(ask_until_told(edge.connect().await)));
        }
        let warm = 64 + round * 10;
        eventually("there is load", || edge.app.started() > warm).await;
        edge.drain.begin();
        for client in clients {
            let answered = tokio::time::timeout(SOON, client).await.unwrap().unwrap();
            assert!(answered.unwrap() > 0);
        }
        edge.done().await;
    }
}
