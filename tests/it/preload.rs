//! Apps that are preloaded: each instance begins with the state that one had after its start at the deploy, or the app is
//! served as it is, and why is said.

use hostler::engine::Reset;
use hostler::prepare::preload::Verdict;

use crate::support::{Builder, TestHost};

const WARMUP: &str = "preload = { warmup = [\"GET /\"] }\n";

/// An app with this in its init function and its handler, and the status that it answers.
fn app(init: &str, handle: &str, status: &str) -> Vec<u8> {
    let text = include_str!("../../src/compile/preload/tests/app.wat");
    let text = text.replace("(func (export \"init\") INIT)", &format!("(func (export \"init\") {init})"));
    let text = text.replace("      HANDLE\n", &format!("      {handle}\n"));
    let text = text.replace("(local.get $answer) STATUS)", &format!("(local.get $answer) {status})"));
    wat::parse_str(text).expect("the text of a component")
}

fn state(host: &TestHost, app: &str) -> Option<Verdict> {
    host.app(app).release.expect("a live release").preload
}

/// Why an app is served as it is.
#[track_caller]
fn refusal(host: &TestHost, app: &str) -> String {
    match state(host, app) {
        Some(Verdict::Refused { reason }) => reason,
        other => panic!("{app} is not refused: {other:?}"),
    }
}

#[track_caller]
fn is_on(host: &TestHost, app: &str) {
    assert!(matches!(state(host, app), Some(Verdict::On { .. })), "{app}: {:?}", state(host, app));
}

/// A clean instance has to make its table in each request, and one of the preloaded app finds it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_with_a_heavy_start_has_it_behind_itself_in_each_way_and_mode() {
    let with = |rest: &str| format!("{WARMUP}{rest}");
    let (rewind, cached, kept) =
        (with("reset = \"rewind\""), with("mode = \"cached\""), with("mode = \"kept\""));
    let host = TestHost::builder()
        .apps(&[
            ("plain", "primes", ""),
            ("replace", "primes", WARMUP),
            ("rewind", "primes", &rewind),
            ("cached", "primes", &cached),
            ("kept", "primes", &kept),
        ])
        .start()
        .await;
    let mut spent = Vec::new();
    for app in ["plain", "replace", "rewind", "cached", "kept"] {
        for _ in 0..10 {
            let answer = host.get(&format!("/{app}?n=10")).await;
            assert_eq!((answer.status.as_u16(), answer.text()), (200, "prime 10 is 29\n"), "{app}");
        }
        host.settled(app).await;
        spent.push(host.app(app).requests.cpu_nanos);
    }
    assert_eq!(state(&host, "plain"), None);
    for (app, nanos) in ["replace", "rewind", "cached", "kept"].into_iter().zip(&spent[1..]) {
        is_on(&host, app);
        // Measured: some five hundred times less.
        assert!(nanos * 10 < spent[0], "{app}: {nanos} ns in the guest, {} without", spent[0]);
    }
    let release = host.app("rewind").release.expect("a live release");
    assert_eq!(release.reset, Reset::Rewind);
    assert!(release.rewinds.expect("it is rewound").rewound > 0);
}

/// State that the two requests don't show that are compared: an instance that is kept counts on from the image's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_begins_with_the_state_of_the_image() {
    let count = "(global.set $count (i32.add (global.get $count) (i32.const 1)))";
    let status = "(i32.add (i32.const 200) (i32.gt_s (global.get $count) (i32.const 2)))";
    let bytes = app("(global.set $count (i32.const -5))", count, status);
    let mut builder = TestHost::builder();
    for (name, config) in [
        ("plain", "mode = \"kept\"\nmax_instances = 1"),
        ("kept", "mode = \"kept\"\nmax_instances = 1\npreload = \"init\""),
        ("replace", "preload = \"init\""),
        ("rewind", "preload = \"init\"\nreset = \"rewind\""),
    ] {
        builder = builder.bytes(name, &bytes).app_config(name, config);
    }
    let host = builder.start().await;
    // How many requests are answered before the count shows.
    for (app, before) in [("plain", 2), ("kept", 7), ("replace", 20), ("rewind", 20)] {
        let mut answers = Vec::new();
        for _ in 0..20 {
            answers.push(host.get(&format!("/{app}")).await.status.as_u16());
            host.settled(app).await;
        }
        let shown = answers.iter().position(|status| *status == 201).unwrap_or(answers.len());
        assert_eq!(shown, before, "{app}: {answers:?}");
    }
    for app in ["kept", "replace", "rewind"] {
        is_on(&host, app);
    }
}

fn refused_apps() -> Builder {
    let count = "(global.set $count (i32.add (global.get $count) (i32.const 1)))";
    let asks = app("(global.set $kept (call $random))", "", "(i32.const 200)");
    let counts = app("", count, "(i32.add (i32.const 200) (global.get $count))");
    TestHost::builder()
        .apps(&[("counter", "counter", WARMUP), ("hello", "hello", "preload = \"init\"")])
        .bytes("asks", &asks)
        .app_config("asks", "preload = \"init\"")
        .bytes("frozen", &asks)
        .app_config("frozen", "preload = \"init\"\npreload_allow = [\"frozen-random\"]")
        .bytes("counts", &counts)
        .app_config("counts", WARMUP)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_cannot_be_preloaded_is_served_as_it_is_and_why_is_shown() {
    let host = refused_apps().start().await;
    for (app, why) in [
        ("counter", "its state can't be kept: unsupported `table.set` instruction"),
        ("hello", "it has no function wizer-initialize"),
        (
            "asks",
            "the app asked for random bytes while it was preloaded: every instance would have the same ones",
        ),
        ("counts", "preloaded, its answer to GET / is not the one that it gives without"),
    ] {
        let reason = refusal(&host, app);
        assert!(reason.starts_with(why), "{app}: {reason}");
        assert_eq!(host.app(app).problem, None, "{app}");
    }
    is_on(&host, "frozen");
    assert_eq!(host.get("/counter").await.count(), 1);
    assert_eq!(host.get("/hello").await.text(), "Hello from Hostler!\n");
    assert_eq!(host.get("/counts").await.status, 201);
    assert_eq!(host.get("/asks").await.status, 200);
}

/// A hit in the code cache is loaded with its verdict; nothing runs again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_code_cache_remembers_what_has_come_of_it() {
    let cache = tempfile::tempdir().expect("a folder");
    let mut verdicts = Vec::new();
    for from in ["compiled", "loaded"] {
        let builder = refused_apps().cache(&cache.path().join("cache"));
        let host = builder.app("plain", "hello").start().await;
        for app in ["counter", "hello", "asks", "frozen", "counts", "plain"] {
            let release = host.app(app).release.expect("a live release");
            assert!(release.code.starts_with(from), "{app}: {}", release.code);
        }
        verdicts.push(["counter", "hello", "asks", "frozen", "counts", "plain"].map(|app| state(&host, app)));
        assert_eq!(host.get("/frozen").await.status, 200);
    }
    assert_eq!(verdicts[0], verdicts[1]);
    assert_eq!(verdicts[0][5], None, "it was not asked for");
}

#[tokio::test]
async fn it_is_refused_where_a_kind_or_a_mode_has_no_place_for_it() {
    let cold = format!("mode = \"cold\"\n{WARMUP}");
    let host = TestHost::builder()
        .apps(&[
            ("command", "cgi-rust", WARMUP),
            ("p3", "hello-p3", WARMUP),
            ("cold", "hello", &cold),
            ("alone", "hello", "preload_allow = [\"random\"]"),
        ])
        .start()
        .await;
    assert!(host.problem("command").starts_with("preload is for wasi:http 0.2 apps"));
    assert!(host.problem("p3").starts_with("preload is for wasi:http 0.2 apps"));
    assert!(host.problem("cold").contains("preload: mode cold compiles the app as it is"));
    assert!(
        host.problem("alone").contains("preload_allow: there is no preload"),
        "{}",
        host.problem("alone")
    );
}
