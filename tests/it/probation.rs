//! A new release that fails far more than the one before is undone by itself, and no other.

use std::fs;

use futures_util::future::join_all;

use crate::support::{TestHost, guest};
use crate::versions::{answering, order, running, version};
use crate::wire::{Broken, Wire};

/// Enough requests to undo a release that fails them all.
const MANY: usize = 22;

async fn host(probation: &str) -> TestHost {
    let config = format!(
        "[apps]\nsettle_time = \"20ms\"\nscan_interval = \"50ms\"\n[defaults]\nprobation = \"{probation}\"\n"
    );
    TestHost::builder().admin().config(&config).start().await
}

async fn ask(host: &TestHost, times: usize) {
    for _ in 0..times {
        host.get("/shop").await;
    }
}

/// Waits until the live release is called so.
async fn stands(host: &TestHost, standing: &str) {
    let began = std::time::Instant::now();
    loop {
        let run = order(host, &["releases", "shop"]).await.ended_with(0);
        if run.stdout.contains(&format!("live, {standing}")) {
            return;
        }
        assert!(began.elapsed() < crate::support::PATIENCE, "never {standing}: {run:?}");
    }
}

/// A release of this app is live that was not there before.
async fn replaced(host: &TestHost, app: Vec<u8>) {
    let before = host.release("shop");
    host.put("shop.wasm", app);
    host.until("it is replaced", || host.release("shop") > before).await;
}

/// A host where this guest is the new release of an app that has proven itself. `config`: more lines of `hostler.toml`,
/// which begin below `[defaults]`.
async fn with_on_probation(guest_name: &str, config: &str) -> TestHost {
    let host = host("300ms").await;
    host.deploy("shop", "good").await;
    stands(&host, "proven").await;
    let host = host.restarted_with(&format!("[defaults]\nprobation = \"10m\"\n{config}\n")).await;
    ask(&host, 20).await;
    replaced(&host, fs::read(guest(guest_name)).expect("the guest")).await;
    assert_eq!(host.release("shop"), 2);
    host
}

/// The new release has failed nobody, and serves on.
async fn stands_blameless(host: &TestHost) {
    host.settled("shop").await;
    assert_eq!(host.release("shop"), 2, "{}", host.problem("shop"));
    let live = host.host().registry().apps().into_iter().find(|view| *view.app == *"shop");
    let release = live.and_then(|view| view.live).expect("it is live");
    // What it is judged by: the next look at it may be yet to come.
    assert_eq!(release.counters.tally.all().failed, 0);
    let seen = host.app("shop").requests;
    let failed = [seen.trapped, seen.bad_answers, seen.deadline_passed, seen.responses_5xx, seen.rollbacks];
    assert_eq!(failed, [0; 5], "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_that_fails_is_rolled_back_by_itself() {
    for bad in [answering("500 Internal Server Error", "sorry"), running("unreachable"), running("")] {
        let host = host("300ms").await;
        host.deploy("shop", "good").await;
        stands(&host, "proven").await;
        ask(&host, 20).await;
        let host = host.restarted_with("[defaults]\nprobation = \"10m\"\n").await;
        ask(&host, 20).await;
        replaced(&host, bad).await;
        ask(&host, 19).await;
        assert_eq!(host.release("shop"), 2, "not before 20 have failed");
        ask(&host, 1).await;
        host.serves("shop", "good").await;
        host.until("it says why", || host.app("shop").rolled_back).await;
        let problem = host.problem("shop");
        assert!(problem.starts_with("rolled back from release 2 to release 1: "), "{problem}");
        assert!(problem.contains("requests failed, of the release before 0 of 20; it stays so"), "{problem}");
        assert_eq!(host.app("shop").requests.rollbacks, 1);
        order(&host, &["releases", "shop"])
            .await
            .ended_with(0)
            .says(" requests failed, of the release before 0 of 20");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bad_request_undoes_nothing_nor_does_an_app_that_always_failed() {
    let host = host("10m").await;
    replaced(&host, answering("503 Service Unavailable", "one")).await;
    ask(&host, 40).await;
    replaced(&host, answering("503 Service Unavailable", "two")).await;
    ask(&host, 40).await;
    replaced(&host, version("three")).await;
    ask(&host, 1).await;
    replaced(&host, answering("500 Internal Server Error", "four")).await;
    ask(&host, 1).await;
    assert_eq!((host.release("shop"), host.app("shop").requests.rollbacks), (4, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_that_stands_its_probation_is_proven_and_without_one_it_is_at_once() {
    let host = host("100ms").await;
    host.deploy("shop", "one").await;
    stands(&host, "proven").await;
    let host = host.restarted_with("[defaults]\nprobation = \"0s\"\n").await;
    host.deploy("shop", "two").await;
    assert!(order(&host, &["releases", "shop"]).await.stdout.contains("live, proven"));
    replaced(&host, answering("500 Internal Server Error", "three")).await;
    ask(&host, 30).await;
    assert_eq!(host.app("shop").requests.rollbacks, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_without_a_host_are_served_and_undo_nothing() {
    for app in ["hello", "hello-p3"] {
        let host = with_on_probation(app, "").await;
        for _ in 0..MANY {
            for head in ["GET /shop HTTP/1.0\r\n\r\n", "GET /shop HTTP/1.1\r\nhost:\r\n\r\n"] {
                let mut wire = Wire::connect(host.address()).await;
                wire.say(head).await;
                let (head, body) = wire.answer().await.expect("an answer");
                assert_eq!(
                    (head.status, body.starts_with("Hello from Hostler")),
                    (200, true),
                    "{app}: {head:?}"
                );
            }
        }
        stands_blameless(&host).await;
    }
}

/// Begins uploads of which the guest has taken the begin, and says `then` in each.
async fn uploads(host: &TestHost, head: &str, then: &str) -> Vec<Wire> {
    let mut wires = join_all((0..MANY).map(|_| async {
        let mut wire = Wire::connect(host.address()).await;
        wire.say(&format!("POST /shop HTTP/1.1\r\nhost: a\r\n{head}")).await;
        wire
    }))
    .await;
    let have_begun = || host.app("shop").requests.requests >= 20 + MANY as u64 && leased(host) == MANY as u32;
    if !then.is_empty() {
        host.until("all have begun", have_begun).await;
    }
    for wire in &mut wires {
        wire.say(then).await;
    }
    wires
}

fn leased(host: &TestHost) -> u32 {
    host.app("shop").release.map_or(0, |release| release.instances.leased)
}

/// All are refused so, or break off if the answer has begun.
async fn all_are_refused(wires: Vec<Wire>, status: u16) {
    for mut wire in wires {
        match wire.head().await {
            Ok(head) if head.status == 200 => assert_eq!(wire.body(&head).await, Err(Broken)),
            Ok(head) => assert_eq!((head.status, head.header("connection")), (status, "close"), "{head:?}"),
            Err(Broken) => panic!("no answer"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_that_turn_out_malformed_undo_nothing() {
    // One that gives its answer up, one that exits with an error, and one that has begun to answer.
    for app in ["echo", "cgi-c", "hello-p3"] {
        let host = with_on_probation(app, "").await;
        let wires = uploads(&host, "transfer-encoding: chunked\r\n\r\n", "ZZ\r\n").await;
        all_are_refused(wires, 400).await;
        stands_blameless(&host).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_that_stall_undo_nothing_whichever_time_is_over_first() {
    for config in ["request_timeout = \"500ms\"", "[server]\nbody_timeout = \"500ms\""] {
        for app in ["echo", "cgi-c"] {
            let host = with_on_probation(app, config).await;
            let wires = uploads(&host, "content-length: 100000\r\n\r\n", "").await;
            all_are_refused(wires, 408).await;
            stands_blameless(&host).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_read_too_slowly_undo_nothing() {
    let host = with_on_probation("stream", "request_timeout = \"3s\"\nresponse_buffer = \"64KiB\"").await;
    let slow = (0..MANY).map(|_| async {
        let mut wire = Wire::connect_narrow(host.address()).await;
        wire.ask("/shop?bytes=500000000").await;
        let head = wire.head().await.expect("a head");
        assert_eq!(head.status, 200);
        wire
    });
    let wires = join_all(slow).await;
    host.until("they are given up", || host.app("shop").requests.client_gone == MANY as u64).await;
    stands_blameless(&host).await;
    for mut wire in wires {
        while let Ok(chunk) = wire.chunk().await {
            assert!(chunk.is_some(), "it looks whole");
        }
    }
}
