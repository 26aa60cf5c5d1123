//! Every limit of an app, reached from outside.

use std::time::{Duration, Instant};

use http::Method;

use crate::process::Program;
use crate::support::{PATIENCE, TestHost};
use crate::wire::{Broken, Wire};

/// A host with these guests and these lines under `[defaults]`.
async fn limited(guests: &[&str], defaults: &str) -> TestHost {
    let builder = TestHost::builder().config(&format!("[defaults]\n{defaults}"));
    guests.iter().fold(builder, |builder, name| builder.app(name, name)).start().await
}

/// Instances of an app in use, and requests that wait for one.
fn load(host: &TestHost, app: &str) -> (u32, usize) {
    let stats = host.app(app).release.expect("a live release").instances;
    (stats.leased, stats.waiting)
}

/// A connection with a request on it that holds the only instance.
async fn occupied(host: &TestHost, app: &str, path: &str) -> Wire {
    let mut wire = Wire::connect(host.address()).await;
    wire.ask(path).await;
    host.until("the instance is taken", || load(host, app).0 == 1).await;
    wire
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_grows_to_memory_limit_and_no_further() {
    let host = limited(&["hog"], "memory_limit = \"32MiB\"").await;
    assert_eq!(host.get("/hog?mib=16").await.text(), "asked=16MiB has=16MiB refused=false\n");
    assert_eq!(host.get("/hog?mib=32").await.text(), "asked=32MiB has=32MiB refused=false\n");
    assert_eq!(host.get("/hog?mib=33").await.text(), "asked=33MiB has=32MiB refused=true\n");
    assert_eq!(host.get("/hog?mib=4096").await.text(), "asked=4096MiB has=32MiB refused=true\n");
    host.settled("hog").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_raises_a_limit_for_one_app_and_a_tenant_does_not() {
    let config = "[defaults]\nmemory_limit = \"8MiB\"\n[grants.\"rich\"]\nmemory_limit = \"64MiB\"";
    let host = TestHost::builder()
        .config(config)
        .app("rich", "hog")
        .app_config("rich", "memory_limit = \"64MiB\"")
        .app("poor", "hog")
        .app("greedy", "hog")
        .app_config("greedy", "memory_limit = \"64MiB\"")
        .start()
        .await;
    assert_eq!(host.get("/rich?mib=48").await.text(), "asked=48MiB has=48MiB refused=false\n");
    assert_eq!(host.get("/poor?mib=48").await.text(), "asked=48MiB has=8MiB refused=true\n");
    assert_eq!(host.get("/greedy").await.status, 404);
    let problem = host.app("greedy").problem.expect("a reason");
    assert!(problem.contains("memory_limit") && problem.contains("[grants.\"greedy\"]"), "{problem}");
}

/// A command that grows its table by so many elements and answers with status 200, or 507 if it was refused.
fn table_grower(elements: u32) -> Vec<u8> {
    wat::parse_str(format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write"
                (func $write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (table $table 1 funcref)
            (data (i32.const 0) "\10\00\00\00\0d\00\00\00\20\00\00\00\0d\00\00\00")
            (data (i32.const 16) "Status: 200\0a\0a")
            (data (i32.const 32) "Status: 507\0a\0a")
            (func (export "_start")
                (local $answer i32)
                (if (i32.lt_s (table.grow $table (ref.null func) (i32.const {elements})) (i32.const 0))
                    (then (local.set $answer (i32.const 8))))
                (drop (call $write (i32.const 1) (local.get $answer) (i32.const 1) (i32.const 48)))))"#
    ))
    .expect("a module")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_grows_to_table_limit_and_no_further() {
    let host = TestHost::builder()
        .config("[defaults]\ntable_limit = 40")
        .bytes("within", &table_grower(39))
        .bytes("beyond", &table_grower(40))
        .start()
        .await;
    assert_eq!(host.get("/within").await.status, 200);
    assert_eq!(host.get("/beyond").await.status, 507);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_that_takes_more_than_resource_limit_traps() {
    let host = limited(&["leaker"], "resource_limit = 100").await;
    assert_eq!(host.get("/leaker?n=80").await.text(), "leaked=80\n");
    assert_eq!(host.get("/leaker?n=200").await.status, 500);
    host.settled("leaker").await;
    // What was leaked is gone with its instance.
    for _ in 0..5 {
        assert_eq!(host.get("/leaker?n=80").await.text(), "leaked=80\n");
    }
    host.settled("leaker").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn header_fields_take_no_more_than_header_limit() {
    let host = limited(&["leaker"], "header_limit = \"8KiB\"").await;
    assert_eq!(host.get("/leaker?headers=5000").await.text(), "headers=5000 refused=false\n");
    let refused = host.get("/leaker?headers=20000").await;
    assert!(refused.status == 500 || refused.text().ends_with("refused=true\n"), "{}", refused.text());
    host.settled("leaker").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_that_was_reached_is_named_by_its_key() {
    let defaults = "resource_limit = 100\nheader_limit = \"8KiB\"\nmax_request_body = 1000";
    let config = format!("[server]\nerror_detail = true\n[defaults]\n{defaults}");
    let host = TestHost::builder().config(&config).app("leaker", "leaker").app("echo", "echo").start().await;
    for (path, key) in [
        ("/leaker?n=200", "wanted more than its resource_limit of 100"),
        ("/leaker?headers=20000", "wanted more than its header_limit of 8KiB"),
    ] {
        let answer = host.get(path).await;
        assert!(answer.status == 500 && answer.text().contains(key), "no {key:?} in {}", answer.text());
        host.settled("leaker").await;
    }
    let mut wire = Wire::connect(host.address()).await;
    wire.say("POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 1001\r\n\r\n").await;
    let (head, text) = wire.answer().await.expect("an answer");
    assert!(head.status == 413 && text.contains("max_request_body (1000 bytes)"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_of_any_kind_that_spins_ends_after_cpu_time() {
    let spins =
        wat::parse_str(r#"(module (memory (export "memory") 1) (func (export "_start") (loop (br 0))))"#);
    let host = TestHost::builder()
        .config("[defaults]\ncpu_time = \"200ms\"\nrequest_timeout = \"60s\"")
        .app("spinner", "spinner")
        .app("hello-p3", "hello-p3")
        .app("cgi-rust", "cgi-rust")
        .bytes("module", &spins.expect("a module"))
        .start()
        .await;
    let paths = [
        ("spinner", "/spinner"),
        ("spinner", "/spinner?fill=1"),
        ("spinner", "/spinner?hostcalls=1"),
        ("hello-p3", "/hello-p3?spin=1"),
        ("cgi-rust", "/cgi-rust?mode=spin"),
        ("module", "/module"),
    ];
    for (app, path) in paths {
        let began = Instant::now();
        let answer = host.get(path).await;
        assert_eq!(answer.status, 504, "{path}: {}", answer.text());
        assert_ne!(answer.header("x-error-id"), "", "{path}");
        assert!(began.elapsed() >= Duration::from_millis(200), "{path} ended after {:?}", began.elapsed());
        assert!(began.elapsed() < PATIENCE, "{path} ended after {:?}", began.elapsed());
        host.settled(app).await;
    }
    assert_eq!(host.app("spinner").requests.cpu_time_exceeded, 3);
    assert_eq!(host.get("/spinner?ms=20").await.text(), "spun 20 ms\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_is_no_cpu_time() {
    let host = limited(&["sleeper"], "cpu_time = \"200ms\"").await;
    assert_eq!(host.get("/sleeper?ms=600").await.text(), "slept 600 ms\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_that_waits_ends_after_request_timeout() {
    let host = limited(&["sleeper", "stream", "cgi-rust"], "request_timeout = \"300ms\"").await;
    for (app, path) in [("sleeper", "/sleeper?ms=60000"), ("cgi-rust", "/cgi-rust?mode=stream&n=0&ms=1")] {
        let began = Instant::now();
        let answer = host.get(path).await;
        let expected = if app == "sleeper" { 504 } else { 200 };
        assert_eq!(answer.status, expected, "{path}: {}", answer.text());
        assert!(began.elapsed() < PATIENCE, "{path} took {:?}", began.elapsed());
        host.settled(app).await;
    }
    assert_eq!(host.app("sleeper").requests.deadline_passed, 1);
    // One that has begun to answer breaks off.
    let mut wire = Wire::connect(host.address()).await;
    wire.ask("/stream?n=1000&ms=50").await;
    let head = wire.head().await.expect("a head");
    assert_eq!(head.status, 200);
    assert_eq!(wire.body(&head).await, Err(Broken));
    host.settled("stream").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_declared_body_above_max_request_body_is_refused_before_it_comes() {
    let host = limited(&["echo"], "max_request_body = 1000").await;
    assert_eq!(host.post("/echo", "x".repeat(1000)).await.status, 200);
    let mut wire = Wire::connect(host.address()).await;
    wire.say("POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 1001\r\n\r\n").await;
    let (head, _) = wire.answer().await.expect("an answer");
    assert_eq!((head.status, head.header("connection")), (413, "close"));
    assert_eq!(load(&host, "echo"), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chunked_body_above_max_request_body_is_refused_as_soon_as_it_is() {
    let host = limited(&["echo"], "max_request_body = 1000").await;
    let mut wire = Wire::connect(host.address()).await;
    let chunk = format!("1f4\r\n{}\r\n", "x".repeat(500));
    wire.say("POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").await;
    wire.say(&format!("{chunk}{chunk}{chunk}")).await;
    let (head, _) = wire.answer().await.expect("an answer");
    assert_eq!(head.status, 413);
    host.settled("echo").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_streamed_body_above_max_request_body_gets_no_whole_answer() {
    let host = limited(&["echo"], "max_request_body = 100000\nrequest_buffer = 1000").await;
    let mut wire = Wire::connect(host.address()).await;
    wire.say("POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").await;
    let chunk = format!("c350\r\n{}\r\n", "x".repeat(50_000));
    wire.say(&format!("{chunk}{chunk}{chunk}0\r\n\r\n")).await;
    match wire.head().await {
        Err(Broken) => {}
        Ok(head) if head.status == 200 => assert_eq!(wire.body(&head).await, Err(Broken)),
        Ok(head) => assert_eq!(head.status, 413),
    }
    host.settled("echo").await;
    assert_eq!(host.post("/echo", "x".repeat(100_000)).await.body.len(), 100_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_up_to_request_buffer_holds_no_instance_while_it_comes() {
    let host = limited(&["echo"], "max_instances = 1\nrequest_buffer = 100").await;
    let mut slow = Wire::connect(host.address()).await;
    slow.say("POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n0123456789").await;
    // The one instance is free for another request.
    assert_eq!(host.post("/echo", "quick").await.text(), "quick");
    slow.say(&"x".repeat(90)).await;
    assert_eq!(slow.answer().await.expect("an answer").1.len(), 100);

    let mut streamed = Wire::connect(host.address()).await;
    streamed.say("POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 101\r\n\r\n0123456789").await;
    host.until("a larger body is streamed", || load(&host, "echo").0 == 1).await;
    streamed.say(&"x".repeat(91)).await;
    assert_eq!(streamed.answer().await.expect("an answer").1.len(), 101);
    host.settled("echo").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_holds_no_instance_for_an_answer_within_response_buffer() {
    let host = limited(&["stream"], "max_instances = 1\nresponse_buffer = \"8MiB\"").await;
    let mut slow = Wire::connect(host.address()).await;
    slow.ask("/stream?bytes=8000000").await;
    host.until("the request has come", || host.app("stream").requests.requests == 1).await;
    host.settled("stream").await;
    assert_eq!(host.get("/stream?n=1").await.status, 200);
    let head = slow.head().await.expect("a head");
    assert_eq!(slow.body(&head).await.expect("a whole body").len(), 8_000_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_above_response_buffer_waits_for_its_reader() {
    let defaults = "max_instances = 1\nresponse_buffer = \"64KiB\"\nqueue_timeout = \"200ms\"";
    let host = limited(&["stream"], defaults).await;
    let mut slow = occupied(&host, "stream", "/stream?bytes=64000000").await;
    assert_eq!(host.get("/stream?n=1").await.status, 504);
    assert_eq!(load(&host, "stream"), (1, 0));
    let head = slow.head().await.expect("a head");
    assert_eq!(slow.body(&head).await.expect("a whole body").len(), 64_000_000);
    host.settled("stream").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_above_max_response_body_is_refused_or_broken_off() {
    let host = limited(&["stream"], "max_response_body = \"1MiB\"\nresponse_buffer = \"64KiB\"").await;
    assert_eq!(host.get("/stream?bytes=1048576").await.body.len(), 1 << 20);
    let mut wire = Wire::connect(host.address()).await;
    wire.ask("/stream?bytes=1048577").await;
    let head = wire.head().await.expect("a head");
    assert_eq!((head.status, wire.body(&head).await), (200, Err(Broken)));
    host.settled("stream").await;

    let host = limited(&["stream"], "max_response_body = 1000").await;
    assert_eq!(host.get("/stream?bytes=1000").await.body.len(), 1000);
    assert_eq!(host.get("/stream?bytes=1001").await.status, 502);
    host.settled("stream").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_answers_503_at_once_and_says_when_to_come_again() {
    let defaults = "max_instances = 1\nqueue_size = 1\nqueue_timeout = \"60s\"";
    let host = limited(&["sleeper"], defaults).await;
    let mut first = occupied(&host, "sleeper", "/sleeper?ms=2000").await;
    let mut second = Wire::connect(host.address()).await;
    second.ask("/sleeper?ms=1").await;
    host.until("one waits", || load(&host, "sleeper") == (1, 1)).await;
    let third = host.get("/sleeper?ms=1").await;
    assert_eq!(third.status, 503);
    let after: u32 = third.header("retry-after").parse().expect("seconds");
    assert!((1..=3).contains(&after), "{after}");
    assert_eq!(load(&host, "sleeper"), (1, 1), "it was answered before an instance was free");
    // Those who had a place are served.
    assert_eq!(first.answer().await.expect("an answer").1, "slept 2000 ms\n");
    assert_eq!(second.answer().await.expect("an answer").1, "slept 1 ms\n");
    host.settled("sleeper").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_waits_in_the_queue_for_queue_timeout() {
    let host = limited(&["sleeper"], "max_instances = 1\nqueue_timeout = \"300ms\"").await;
    let busy = occupied(&host, "sleeper", "/sleeper?ms=20000").await;
    let began = Instant::now();
    let answer = host.get("/sleeper?ms=1").await;
    assert_eq!(answer.status, 504, "{}", answer.text());
    assert!(began.elapsed() >= Duration::from_millis(300), "after {:?}", began.elapsed());
    assert_eq!(load(&host, "sleeper"), (1, 0));
    drop(busy);
    host.settled("sleeper").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_the_queue_gives_up_its_place() {
    let host = limited(&["sleeper"], "max_instances = 1\nqueue_timeout = \"60s\"").await;
    let busy = occupied(&host, "sleeper", "/sleeper?ms=20000").await;
    let mut waiting = Wire::connect(host.address()).await;
    waiting.ask("/sleeper?ms=1").await;
    host.until("one waits", || load(&host, "sleeper") == (1, 1)).await;
    drop(waiting);
    host.until("nobody waits", || load(&host, "sleeper") == (1, 0)).await;
    drop(busy);
    host.settled("sleeper").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_logs_no_more_than_log_lines() {
    let program = Program::serve(&["cgi-rust"], "[defaults]\nlog_lines = 2").await;
    for _ in 0..2 {
        let mut wire = Wire::connect(program.address()).await;
        wire.ask("/cgi-rust?mode=stderr").await;
        assert_eq!(wire.answer().await.expect("an answer").1, "three lines logged\n");
    }
    crate::support::until("both are cut", || program.log().matches("more lines than log_lines").count() == 2)
        .await;
    let log = program.log();
    assert_eq!(log.matches("second line for the log").count(), 2, "{log}");
    assert!(!log.contains("third line for the log"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_instances_wait_from_the_start_and_again_after_each_end() {
    let host = limited(&["trapper", "hello"], "min_instances = 3").await;
    for app in ["hello", "trapper"] {
        assert_eq!(host.app(app).release.expect("a release").instances.idle, 3);
    }
    for _ in 0..5 {
        assert_eq!(host.get("/hello").await.status, 200);
        assert_eq!(host.get("/trapper").await.status, 500);
    }
    for app in ["hello", "trapper"] {
        host.settled(app).await;
        host.until("they are made anew", || {
            host.app(app).release.is_some_and(|release| release.instances.idle >= 3)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_requests_than_max_instances_take_turns() {
    let host = limited(&["sleeper"], "max_instances = 4\nqueue_timeout = \"60s\"").await;
    let requests = (0..12).map(|_| host.send(Method::GET, "/sleeper?ms=50", &[], "".into()));
    for answer in futures_util::future::join_all(requests).await {
        assert_eq!(answer.expect("an answer").text(), "slept 50 ms\n");
    }
    host.settled("sleeper").await;
    let stats = host.app("sleeper").release.expect("a release").instances;
    assert!(stats.idle <= 4, "{stats:?}");
}
