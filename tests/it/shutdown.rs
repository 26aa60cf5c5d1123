//! The host's end: asked for by signals, orderly, and within its time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::process::Program;
use crate::support::{PATIENCE, TestHost, until};
use crate::wire::{Broken, Wire};

const CLIENTS: usize = 32;

/// Asks again and again on one connection until the host says that it was the last time. True if each request was
/// answered.
async fn ask_on(
    address: SocketAddr,
    path: &str,
    expected: &str,
    answered: &AtomicUsize,
    is_asked_to_end: &AtomicBool,
) -> bool {
    let mut wire = Wire::connect(address).await;
    loop {
        wire.ask(path).await;
        match wire.answer().await {
            Ok((head, body)) if head.status == 200 && body == expected => {
                answered.fetch_add(1, Relaxed);
                if head.header("connection") == "close" {
                    wire.closed().await;
                    return true;
                }
            }
            // At first, on a machine that has other work besides, the queue may not empty soon enough.
            Ok((head, _)) if head.status == 503 && !is_asked_to_end.load(Relaxed) => {}
            lost => {
                eprintln!("{path}: {lost:?}");
                return false;
            }
        }
    }
}

async fn ends_without_a_loss(signal: Signal) {
    let mut program = Program::serve(&["hello", "sleeper"], "").await;
    let answered = Arc::new(AtomicUsize::new(0));
    let is_asked_to_end = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|at| {
            let (address, answered) = (program.address(), answered.clone());
            let ends = is_asked_to_end.clone();
            tokio::spawn(async move {
                match at % 2 {
                    0 => ask_on(address, "/hello", "Hello from Hostler!\n", &answered, &ends).await,
                    _ => ask_on(address, "/sleeper?ms=20", "slept 20 ms\n", &answered, &ends).await,
                }
            })
        })
        .collect();
    until("all are at it", || answered.load(Relaxed) > 20 * CLIENTS).await;
    is_asked_to_end.store(true, Relaxed);
    program.signal(signal);
    for client in clients {
        let whole = tokio::time::timeout(PATIENCE, client).await.expect("an end").expect("no panic");
        assert!(whole, "a request was lost");
    }
    let status = program.ended().await;
    assert_eq!(status.code(), Some(0), "{}", program.log());
    assert!(program.log().contains("stopped"), "{}", program.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_loses_no_request_and_the_exit_code_is_0() {
    ends_without_a_loss(Signal::TERM).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigint_loses_no_request_and_the_exit_code_is_0() {
    ends_without_a_loss(Signal::INT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_sigterm_a_running_request_is_finished_and_no_other_one_begun() {
    let mut program = Program::serve(&["sleeper"], "").await;
    let mut wire = Wire::connect(program.address()).await;
    wire.ask("/sleeper?ms=2000").await;
    // A request behind it shows that the first one is under way.
    let mut probe = Wire::connect(program.address()).await;
    probe.ask("/sleeper?ms=1").await;
    probe.answer().await.expect("an answer");
    program.signal(Signal::TERM);
    program.logged("stopping").await;
    let refused = AtomicBool::new(false);
    let began = Instant::now();
    while !refused.load(Relaxed) {
        refused.store(tokio::net::TcpStream::connect(program.address()).await.is_err(), Relaxed);
        assert!(began.elapsed() < PATIENCE, "the port is still open");
        tokio::task::yield_now().await;
    }
    let (head, body) = wire.answer().await.expect("a whole answer");
    assert_eq!((head.status, &*body, head.header("connection")), (200, "slept 2000 ms\n", "close"));
    assert_eq!(program.ended().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_the_host_at_once() {
    let mut program = Program::serve(&["sleeper"], "[defaults]\nrequest_timeout = \"1h\"").await;
    let mut wire = Wire::connect(program.address()).await;
    wire.ask("/sleeper?ms=600000").await;
    let mut probe = Wire::connect(program.address()).await;
    probe.ask("/sleeper?ms=1").await;
    probe.answer().await.expect("an answer");
    program.signal(Signal::TERM);
    program.logged("stopping").await;
    let began = Instant::now();
    program.signal(Signal::TERM);
    assert_eq!(program.ended().await.code(), Some(1), "{}", program.log());
    assert!(began.elapsed() < Duration::from_secs(10), "it took {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_outlive_drain_timeout_are_broken_off() {
    let host = TestHost::builder()
        .config("[server]\ndrain_timeout = \"300ms\"\n[defaults]\nrequest_timeout = \"1h\"")
        .app("sleeper", "sleeper")
        .app("stream", "stream")
        .app("spinner", "spinner")
        .start()
        .await;
    let mut wires = Vec::new();
    for (app, path) in [
        ("sleeper", "/sleeper?ms=600000"),
        ("stream", "/stream?n=100000&ms=1000"),
        ("spinner", "/spinner?ms=9000"),
    ] {
        let mut wire = Wire::connect(host.address()).await;
        wire.ask(path).await;
        host.until("it runs", || host.app(app).release.is_some_and(|release| release.instances.leased == 1))
            .await;
        wires.push(wire);
    }
    let began = Instant::now();
    let leftovers = host.stop().await;
    assert!(began.elapsed() < PATIENCE, "it took {:?}", began.elapsed());
    assert_eq!((leftovers.connections, leftovers.units), (0, 0));
    for mut wire in wires {
        let end = match wire.head().await {
            Ok(head) => wire.body(&head).await.map(|_| ()),
            Err(broken) => Err(broken),
        };
        assert_eq!(end, Err(Broken));
    }
}
