//! What a guest's failure looks like from outside, and that nothing of it stays.

use std::time::{Duration, Instant};

use crate::process::Program;
use crate::support::TestHost;
use crate::versions::printing;
use crate::wire::{Broken, Wire};

/// Whole again: at rest, with as many idle instances as are kept.
async fn whole_again(host: &TestHost, app: &str) {
    host.settled(app).await;
    host.until("an instance is idle", || {
        host.app(app).release.is_some_and(|release| release.instances.idle >= 1)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trap_before_the_answer_is_a_500_that_says_nothing_of_the_guest() {
    let host = TestHost::with(&["trapper"]).await;
    let answer = host.get("/trapper").await;
    assert_eq!(answer.status, 500);
    let id = answer.header("x-error-id");
    assert!(id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    assert!(answer.text().contains(id) && !answer.text().contains("trap"), "{}", answer.text());
    whole_again(&host, "trapper").await;
    assert_eq!(host.app("trapper").requests.trapped, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_id_leads_to_the_traps_backtrace_in_the_log() {
    let program = Program::serve(&["trapper"], "").await;
    let mut wire = Wire::connect(program.address()).await;
    wire.ask("/trapper").await;
    let (head, _) = wire.answer().await.expect("an answer");
    assert_eq!(head.status, 500);
    let id = head.header("x-error-id");
    program.logged("the guest trapped").await;
    let log = program.log();
    let line = log.lines().find(|line| line.contains(id) && line.contains("trapped")).expect("its line");
    assert!(line.contains("trapper") && line.contains("wasm backtrace"), "{line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_error_detail_the_client_sees_the_backtrace() {
    let host = TestHost::builder().config("[server]\nerror_detail = true").app("trapper", "trapper");
    let host = host.start().await;
    let answer = host.get("/trapper").await;
    assert_eq!(answer.status, 500);
    assert!(
        answer.text().contains("wasm backtrace") && answer.text().contains("unreachable"),
        "{}",
        answer.text()
    );
    whole_again(&host, "trapper").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_and_an_error_for_an_answer_are_502() {
    let host = TestHost::with(&["trapper"]).await;
    for when in ["nothing", "error"] {
        let answer = host.get(&format!("/trapper?when={when}")).await;
        assert_eq!(answer.status, 502, "{when}: {}", answer.text());
        assert_ne!(answer.header("x-error-id"), "", "{when}");
        assert!(!answer.text().contains("asked to fail"), "{}", answer.text());
        whole_again(&host, "trapper").await;
    }
    assert_eq!(host.app("trapper").requests.bad_answers, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trap_after_a_small_part_of_the_body_is_still_a_500() {
    let host = TestHost::with(&["trapper", "hello-p3"]).await;
    // Nothing has been sent: all of it was in the buffer.
    assert_eq!(host.get("/trapper?when=after").await.status, 500);
    whole_again(&host, "trapper").await;
    let mut wire = Wire::connect(host.address()).await;
    wire.ask("/hello-p3?trap=after").await;
    match wire.head().await {
        Ok(head) if head.status == 200 => assert_eq!(wire.body(&head).await, Err(Broken)),
        Ok(head) => assert_eq!(head.status, 500),
        Err(Broken) => {}
    }
    whole_again(&host, "hello-p3").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trap_after_more_than_the_buffer_breaks_the_chunked_body_off() {
    // It writes them one by one, which takes unoptimised hosts on slow machines more than the default.
    let host = TestHost::builder()
        .config("[defaults]\ncpu_time = \"1m\"\nrequest_timeout = \"2m\"")
        .app("trapper", "trapper")
        .start()
        .await;
    let mut wire = Wire::connect(host.address()).await;
    wire.ask("/trapper?when=after&bytes=1200000").await;
    let head = wire.head().await.expect("a head");
    assert_eq!((head.status, head.header("transfer-encoding")), (200, "chunked"));
    let mut bytes = 0;
    let end = loop {
        match wire.chunk().await {
            Ok(Some(chunk)) => bytes += chunk.len(),
            end => break end,
        }
    };
    assert_eq!(end, Err(Broken), "a final chunk after {bytes} bytes");
    assert!(bytes <= 1_200_000);
    whole_again(&host, "trapper").await;
    assert_eq!(host.app("trapper").requests.trapped, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_http_1_0_client_sees_a_broken_body_as_a_reset() {
    let host = TestHost::with(&["trapper"]).await;
    let stream = tokio::net::TcpStream::connect(host.address()).await.expect("a connection");
    let (mut read, mut write) = stream.into_split();
    let ask = b"GET /trapper?when=after&bytes=1200000 HTTP/1.0\r\nhost: a\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut write, ask).await.expect("the request is taken");
    let mut bytes = Vec::new();
    let end = tokio::io::AsyncReadExt::read_to_end(&mut read, &mut bytes).await;
    // Its end is the body's only end, so that an orderly one would make it whole.
    assert_eq!(end.map_err(|error| error.kind()), Err(std::io::ErrorKind::ConnectionReset));
    whole_again(&host, "trapper").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_that_breaks_its_own_promise_of_a_length_gives_no_whole_answer() {
    let liar = printing("Content-Type: text/plain\nContent-Length: 10\n\nshort");
    let host = TestHost::builder().bytes("liar", &liar).start().await;
    assert_eq!(host.get("/liar").await.status, 502);
    host.settled("liar").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_304_may_tell_the_length_of_what_it_stands_for_and_a_204_one_of_nothing() {
    let printed = |status: &str| printing(&format!("Status: {status}\nETag: \"a\"\nContent-Length: 100\n\n"));
    let host = TestHost::builder().bytes("known", &printed("304")).bytes("nothing", &printed("204"));
    let host = host.start().await;
    let mut wire = Wire::connect(host.address()).await;
    for (app, status) in [("known", 304), ("nothing", 204), ("known", 304)] {
        wire.ask(&format!("/{app}")).await;
        let head = wire.head().await.expect("a head");
        assert_eq!((head.status, head.header("etag")), (status, "\"a\""));
        assert_eq!(host.app(app).requests.bad_answers, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_status_that_ends_no_request_and_a_redirect_out_of_the_host_are_the_apps_502() {
    let host = TestHost::builder()
        .bytes("hints", &printing("Status: 103 Early Hints\nContent-Type: text/plain\n\n"))
        .bytes("above", &printing("Location: /../x\n\n"))
        .start()
        .await;
    for app in ["hints", "above"] {
        let answer = host.get(&format!("/{app}")).await;
        assert_eq!(answer.status, 502, "{app}");
        assert_ne!(answer.header("x-error-id"), "", "{app}");
    }
    assert_eq!(host.app("hints").requests.bad_answers, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_side_by_side_leave_a_whole_pool() {
    let host = TestHost::with(&["trapper", "hello"]).await;
    let whens = ["before", "after", "nothing", "error", "after&bytes=1100000"];
    let requests = (0..20).map(|at| {
        let path = format!("/trapper?when={}", whens[at % whens.len()]);
        let host = &host;
        async move { host.send(http::Method::GET, &path, &[], "".into()).await.map(|answer| answer.status) }
    });
    for answer in futures_util::future::join_all(requests).await {
        // One that broke off is an error here.
        assert!(answer.as_ref().is_err() || answer.as_ref().is_ok_and(|status| status.is_server_error()));
    }
    whole_again(&host, "trapper").await;
    assert_eq!(host.get("/hello").await.status, 200);
    let stats = host.app("trapper").release.expect("a release").instances;
    assert_eq!(stats.leased, 0, "{stats:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guests_that_spin_do_not_keep_others_from_answering() {
    let host = TestHost::with(&["spinner", "hello"]).await;
    let mut spinners = Vec::new();
    for path in ["/spinner", "/spinner", "/spinner?hostcalls=1", "/spinner"] {
        let mut wire = Wire::connect(host.address()).await;
        wire.ask(path).await;
        spinners.push(wire);
    }
    host.until("all four spin", || {
        host.app("spinner").release.is_some_and(|release| release.instances.leased == 4)
    })
    .await;
    let mut slowest = Duration::ZERO;
    for _ in 0..50 {
        let began = Instant::now();
        assert_eq!(host.get("/hello").await.text(), "Hello from Hostler!\n");
        slowest = slowest.max(began.elapsed());
    }
    assert!(slowest < Duration::from_secs(1), "the slowest answer took {slowest:?}");
    let stats = host.app("spinner").release.expect("a release").instances;
    assert_eq!(stats.leased, 4, "they still spin");
    // A client that leaves ends its guest.
    drop(spinners);
    host.settled("spinner").await;
}
