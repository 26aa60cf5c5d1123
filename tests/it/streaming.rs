//! Bodies on their way: as they are made, at any size, and given up by their clients.

use std::time::{Duration, Instant};

use crate::process::Program;
use crate::support::TestHost;
use crate::wire::Wire;

/// What a body of any size may cost in memory.
const FLAT: u64 = 64 << 20;

const ORDINARY: u64 = 256 << 20;
const GIB: u64 = 1 << 30;

/// Room for a large body on a slow machine.
const PATIENT: &str = "[defaults]\ncpu_time = \"1h\"\nrequest_timeout = \"1h\"";

const PIECE: usize = 64 << 10;

/// The most that the program's memory has grown by.
struct Growth<'p> {
    program: &'p Program,
    before: u64,
    most: u64,
}

impl<'p> Growth<'p> {
    fn of(program: &'p Program) -> Growth<'p> {
        let before = program.memory();
        Growth { program, before, most: before }
    }

    fn look(&mut self) {
        self.most = self.most.max(self.program.memory());
    }

    fn is_flat(&self, what: &str) {
        let grown = self.most - self.before;
        eprintln!("{what}: memory grew by {} KiB", grown >> 10);
        assert!(grown < FLAT, "memory grew by {grown} bytes for {what}");
    }
}

async fn download(bytes: u64) {
    let program = Program::serve(&["stream"], PATIENT).await;
    let mut growth = Growth::of(&program);
    let mut wire = Wire::connect(program.address()).await;
    let began = Instant::now();
    wire.ask(&format!("/stream?bytes={bytes}")).await;
    assert_eq!(wire.head().await.expect("a head").status, 200);
    let (mut received, mut looked) = (0, 0);
    while let Some(chunk) = wire.chunk().await.expect("a whole body") {
        received += chunk.len() as u64;
        if received - looked > bytes / 64 {
            looked = received;
            growth.look();
        }
    }
    assert_eq!(received, bytes);
    growth.is_flat(&format!("a download of {} MiB in {:?}", bytes >> 20, began.elapsed()));
}

/// Uploads to a program that counts, whose answer is short.
async fn upload(bytes: u64) {
    let program = Program::serve(&["cgi-c"], PATIENT).await;
    let mut growth = Growth::of(&program);
    let mut wire = Wire::connect(program.address()).await;
    let began = Instant::now();
    wire.say(&format!("POST /cgi-c HTTP/1.1\r\nhost: a\r\ncontent-length: {bytes}\r\n\r\n")).await;
    let piece = vec![b'u'; PIECE];
    for at in 0..bytes / PIECE as u64 {
        wire.send(&piece).await.expect("the upload is taken");
        if at % 64 == 0 {
            growth.look();
        }
    }
    let (head, body) = wire.answer().await.expect("an answer");
    assert_eq!(head.status, 200);
    assert!(body.ends_with(&format!("body={bytes} bytes\n")), "{body}");
    growth.look();
    growth.is_flat(&format!("an upload of {} MiB in {:?}", bytes >> 20, began.elapsed()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_download_takes_no_memory() {
    download(ORDINARY).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_upload_takes_no_memory() {
    upload(ORDINARY).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a while: cargo test -- --ignored"]
async fn a_download_of_one_gib_takes_no_memory() {
    download(GIB).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a while: cargo test -- --ignored"]
async fn an_upload_of_one_gib_takes_no_memory() {
    upload(GIB).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_echoed_while_it_comes_takes_no_memory() {
    let program = Program::serve(&["echo"], PATIENT).await;
    let mut growth = Growth::of(&program);
    let mut wire = Wire::connect(program.address()).await;
    wire.say("POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").await;
    let piece = [format!("{PIECE:x}\r\n").into_bytes(), vec![b'e'; PIECE], b"\r\n".to_vec()].concat();
    let pieces = 512;
    // The first bytes are echoed before the last are sent.
    wire.send(&piece).await.expect("a piece is taken");
    wire.send(&piece).await.expect("a piece is taken");
    assert_eq!(wire.head().await.expect("a head").status, 200);
    let mut received = 0;
    for sent in 3..=pieces {
        wire.send(&piece).await.expect("a piece is taken");
        while received < (sent - 2) * PIECE {
            received += wire.chunk().await.expect("a whole body").expect("more of it").len();
        }
        growth.look();
    }
    wire.say("0\r\n\r\n").await;
    while let Some(chunk) = wire.chunk().await.expect("a whole body") {
        received += chunk.len();
    }
    assert_eq!(received, pieces * PIECE);
    growth.is_flat("an echo of 32 MiB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_event_arrives_while_the_next_one_is_waited_for() {
    let host = TestHost::with(&["stream", "hello-p3"]).await;
    for (app, path, first) in [
        ("stream", "/stream?n=3&ms=1000", "id: 1\ndata: tick 1\n\n"),
        ("hello-p3", "/hello-p3?stream=3&ms=1000", "line 1\n"),
    ] {
        let mut wire = Wire::connect(host.address()).await;
        wire.ask(path).await;
        assert_eq!(wire.head().await.expect("a head").status, 200);
        let mut came = Vec::new();
        while let Some(chunk) = wire.chunk().await.expect("a whole body") {
            came.push((Instant::now(), String::from_utf8(chunk).expect("text")));
        }
        assert_eq!(came[0].1, first, "{app}");
        assert_eq!(came.len(), 3, "{app}: {came:?}");
        for pair in came.windows(2) {
            let apart = pair[1].0 - pair[0].0;
            assert!(apart > Duration::from_millis(500), "{app}: two events came {apart:?} apart");
        }
        host.settled(app).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_a_download_frees_the_instance() {
    let host = TestHost::with(&["stream", "hello-p3"]).await;
    for (app, path) in [
        ("stream", "/stream?bytes=1000000000000"),
        ("stream", "/stream?n=1000000&ms=1000"),
        ("hello-p3", "/hello-p3?stream=1000000&ms=1000"),
    ] {
        let mut wire = Wire::connect(host.address()).await;
        wire.ask(path).await;
        wire.head().await.expect("a head");
        wire.chunk().await.expect("a chunk");
        drop(wire);
        host.settled(app).await;
        host.until("it is counted", || host.app(app).requests.client_gone > 0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_an_upload_frees_the_instance() {
    let host = TestHost::with(&["echo", "cgi-c", "hello-p3"]).await;
    for app in ["echo", "cgi-c", "hello-p3"] {
        let mut wire = Wire::connect(host.address()).await;
        wire.say(&format!("POST /{app} HTTP/1.1\r\nhost: a\r\ncontent-length: 10000000\r\n\r\n")).await;
        wire.say(&"x".repeat(200_000)).await;
        host.until("the upload has begun", || {
            host.app(app).release.is_some_and(|release| release.instances.leased == 1)
        })
        .await;
        drop(wire);
        host.settled(app).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_before_its_answer_frees_the_instance() {
    let host = TestHost::with(&["sleeper", "spinner"]).await;
    for (app, path) in [("sleeper", "/sleeper?ms=25000"), ("spinner", "/spinner")] {
        let mut wire = Wire::connect(host.address()).await;
        wire.ask(path).await;
        host.until("it runs", || host.app(app).release.is_some_and(|release| release.instances.leased == 1))
            .await;
        let left = Instant::now();
        drop(wire);
        host.settled(app).await;
        assert!(left.elapsed() < Duration::from_secs(8), "{app} ended only after {:?}", left.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_stops_reading_is_given_up_after_write_timeout() {
    let host = TestHost::builder().config("[server]\nwrite_timeout = \"300ms\"").app("stream", "stream");
    let host = host.start().await;
    let mut wire = Wire::connect(host.address()).await;
    wire.ask("/stream?bytes=1000000000000").await;
    wire.head().await.expect("a head");
    host.settled("stream").await;
    wire.closed().await;
}
