//! Apps whose instances can't start, or trap at work: what their clients see, what they cost, and that others don't
//! notice.

use std::collections::HashSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::support::{TestHost, until};
use crate::wire::Wire;

/// A command with this start function; it answers `good`.
fn starts_with(start: &str, pages: u32) -> Vec<u8> {
    let text = format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "clock_time_get" (func $time (param i32 i64 i32) (result i32)))
            (memory (export "memory") {pages})
            (data (i32.const 0) "\10\00\00\00\1e\00\00\00")
            (data (i32.const 16) "Content-Type: text/plain\0a\0agood")
            (func $begin {start})
            (start $begin)
            (func (export "_start")
                (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#
    );
    wat::parse_str(text).expect("good WAT")
}

/// Traps from a moment on.
fn traps_after(moment: SystemTime) -> String {
    let moment = moment.duration_since(UNIX_EPOCH).expect("a moment since 1970").as_nanos();
    format!(
        "(drop (call $time (i32.const 0) (i64.const 1) (i32.const 64))) \
         (if (i64.gt_u (i64.load (i32.const 64)) (i64.const {moment})) (then unreachable))"
    )
}

/// A host with `app` of these bytes, which is not tried at the deploy, and with `hello`.
async fn host(bytes: &[u8], limits: &str) -> TestHost {
    let builder = TestHost::builder().bytes("app", bytes).app("hello", "hello");
    let host = builder.app_config("app", &format!("min_instances = 0\n{limits}")).start().await;
    assert_eq!(host.problem("app"), "");
    host
}

/// It is refused, with when to come again: in whole seconds, one at least.
async fn refused(host: &TestHost) -> u32 {
    let answer = host.get("/app").await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    let seconds = answer.header("retry-after").parse().expect("whole seconds");
    assert!(seconds >= 1);
    seconds
}

/// Asks again and again: attempts to make an instance stay few, and those who are refused come back spread.
async fn braked(host: &TestHost) {
    const REQUESTS: usize = 200;
    let mut seconds = HashSet::new();
    for _ in 0..REQUESTS {
        seconds.insert(refused(host).await);
    }
    assert!(seconds.len() > 1, "all come back after {seconds:?} s");
    let stats = host.app("app").release.expect("a release").instances;
    assert!(stats.failed >= 1 && stats.failed <= 10, "{stats:?}");
    assert_eq!((stats.made, stats.leased, stats.preparing), (0, 0, 0), "{stats:?}");
    assert_eq!(host.get("/hello").await.status, 200);
}

/// A deploy ends the brake, whatever is left of its pause.
async fn mended(host: &TestHost) {
    host.put("app.wasm", starts_with("", 1));
    let answer = host.get_until("/app", "it is mended", |answer| answer.status == 200).await;
    assert_eq!(answer.text(), "good");
    for _ in 0..20 {
        assert_eq!(host.get("/app").await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_whose_start_traps_is_braked_until_a_deploy() {
    let host = host(&starts_with("unreachable", 1), "").await;
    braked(&host).await;
    mended(&host).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_whose_memory_begins_above_its_limit_is_braked_until_a_deploy() {
    let host = host(&starts_with("", 17), "memory_limit = \"1MiB\"").await;
    braked(&host).await;
    mended(&host).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_whose_start_never_ends_is_braked_until_a_deploy() {
    let host = host(&starts_with("(loop (br 0))", 1), "cpu_time = \"20ms\"").await;
    braked(&host).await;
    mended(&host).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_started_well_and_then_no_more_is_braked_until_a_deploy() {
    let moment = SystemTime::now() + Duration::from_secs(2);
    let host = TestHost::builder().bytes("app", &starts_with(&traps_after(moment), 1)).app("hello", "hello");
    let host = host.start().await;
    assert_eq!((host.problem("app"), host.get("/app").await.text()), (String::new(), "good"));
    host.get_until("/app", "no instance can be made any more", |answer| answer.status == 503).await;
    for _ in 0..50 {
        refused(&host).await;
    }
    let stats = host.app("app").release.expect("a release").instances;
    assert!(stats.failed >= 1 && stats.failed <= 10, "{stats:?}");
    mended(&host).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_fails_at_the_deploy_takes_nothing_down() {
    let host = TestHost::builder().bytes("app", &starts_with("", 1)).start().await;
    assert_eq!(host.get("/app").await.text(), "good");
    host.put("app.wasm", starts_with("unreachable", 1));
    host.until("the deploy fails", || host.problem("app").contains("unreachable")).await;
    assert_eq!(host.get("/app").await.text(), "good");
    // The same as bytes that were live before: they are no news, and the problem is gone.
    host.put("app.wasm", starts_with("", 1));
    host.until("its problem is solved", || host.problem("app").is_empty()).await;
    assert_eq!(host.get("/app").await.text(), "good");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traps_at_work_are_counted_and_shown_and_stop_nobody_else() {
    const TRAPS: u64 = 50;
    let host = TestHost::builder().admin().app("trapper", "trapper").app("hello", "hello").start().await;
    for _ in 0..TRAPS {
        let (trapped, good) = tokio::join!(host.get("/trapper"), host.get("/hello"));
        assert_eq!((trapped.status.as_u16(), good.status.as_u16()), (500, 200));
    }
    let app = host.app("trapper");
    assert_eq!((app.requests.trapped, app.requests.responses_5xx), (TRAPS, TRAPS));
    assert_eq!(app.release.expect("a release").instances.failed, 0, "an app that can start is not braked");
    let mut wire = Wire::connect(host.host().admin_address().expect("an admin listener")).await;
    wire.ask("/metrics").await;
    let metrics = wire.answer().await.expect("the metrics").1;
    assert!(metrics.contains(&format!("hostler_trapped_total{{app=\"trapper\"}} {TRAPS}\n")), "{metrics}");
    assert!(metrics.contains("hostler_instances_failed_total{app=\"trapper\"} 0\n"), "{metrics}");
    assert!(metrics.contains("hostler_trapped_total{app=\"hello\"} 0\n"), "{metrics}");
    until("its instances have been discarded", || {
        host.app("trapper").release.is_some_and(|release| release.instances.discarded >= TRAPS)
    })
    .await;
}

/// A failed attempt that took long is followed by a pause in proportion to it: else an app whose start spins into
/// cpu_time (10 s by default) keeps a core busy for most of the time, as pauses begin with 100 ms.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_longer_a_start_takes_to_fail_the_longer_it_is_left_alone() {
    let host = host(&starts_with("(loop (br 0))", 1), "cpu_time = \"500ms\"").await;
    let began = std::time::Instant::now();
    while began.elapsed() < Duration::from_secs(6) {
        let _ = host.get("/app").await;
    }
    let spent = Duration::from_nanos(host.app("app").requests.upkeep_nanos);
    assert!(spent < began.elapsed() / 4, "{spent:?} of {:?}", began.elapsed());
}

/// While one attempt is under way after a failure, the others are refused at once: they don't wait for what has failed
/// before, to be answered 504 after queue_timeout.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_for_a_start_that_has_failed_before() {
    let host = host(&starts_with("(loop (br 0))", 1), "cpu_time = \"1s\"").await;
    refused(&host).await;
    let mut probed = 0;
    while probed < 2 {
        let stats = host.app("app").release.expect("a release").instances;
        if stats.preparing == 0 {
            // One of these is the probe; it is left to go on by itself.
            let _ = tokio::time::timeout(Duration::from_millis(20), host.get("/app")).await;
            continue;
        }
        let began = std::time::Instant::now();
        refused(&host).await;
        assert!(began.elapsed() < Duration::from_millis(500), "after {:?}", began.elapsed());
        probed += 1;
        host.until("the probe has failed", || {
            host.app("app").release.is_some_and(|release| release.instances.preparing == 0)
        })
        .await;
    }
}
