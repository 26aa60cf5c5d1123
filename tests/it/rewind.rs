//! Apps with `reset = "rewind"`: each request finds an instance as it was when it was first ready, though it is the same one
//! ever again.

use futures_util::future::join_all;
use hostler::engine::Reset;
use hostler::instance::RewindStatus;
use hostler::isolation::compaction::Compaction;

use crate::isolation::COMPACTING;
use crate::support::{Answer, Builder, TestHost};

const REWIND: &str = "reset = \"rewind\"";

/// Clients that ask at once.
const CLIENTS: usize = 16;

async fn start(apps: &[(&str, &str)]) -> TestHost {
    // Few, so that each is used often; whoever waits for one does so for as long as it takes.
    let builder = TestHost::builder().config("[defaults]\nmax_instances = 4\nqueue_timeout = \"5m\"");
    let deploy =
        |builder: Builder, (app, guest): &(&str, &str)| builder.app(app, guest).app_config(app, REWIND);
    apps.iter().fold(builder, deploy).start().await
}

fn rewinds(host: &TestHost, app: &str) -> RewindStatus {
    let release = host.app(app).release.expect("a live release");
    assert_eq!(release.reset, Reset::Rewind, "{app}");
    release.rewinds.expect("it is rewound")
}

/// Asks for each path in turn, from many clients at once, until so many answers have come for each; they must all be as
/// the first for the path.
async fn answers_stay_as_the_first(host: &TestHost, paths: &[&str], rounds: usize) {
    let firsts: Vec<Answer> = join_all(paths.iter().map(|path| host.get(path))).await;
    let ask = || async {
        for _ in 0..rounds.div_ceil(CLIENTS) {
            for (path, first) in paths.iter().zip(&firsts) {
                let answer = host.get(path).await;
                assert_eq!((answer.status, &answer.body), (first.status, &first.body), "{path}");
            }
        }
    };
    join_all((0..CLIENTS).map(|_| ask())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apps_answer_as_the_first_time_thousands_of_times_while_the_kernel_moves_memory() {
    let _alone = COMPACTING.lock().await;
    let host = start(&[("hello", "hello"), ("hog", "hog"), ("py", "hello-py")]).await;
    let compaction = Compaction::force();
    answers_stay_as_the_first(&host, &["/hello", "/hog?mib=3", "/hog?mib=0", "/py"], 1000).await;
    eprintln!("rewind: {}", compaction.end());
    for app in ["hello", "hog", "py"] {
        host.settled(app).await;
        let RewindStatus { rewound, failed, .. } = rewinds(&host, app);
        assert!(rewound >= 1000, "{app}: {rewound}");
        assert_eq!(failed, 0, "{app}");
    }
}

/// They forget handles, which are dropped for them; some instances are lost until it is known of what types these are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handles_that_requests_leave_are_dropped_for_them() {
    let _alone = COMPACTING.lock().await;
    let host = start(&[("counter", "counter"), ("leaker", "leaker"), ("js", "hello-js")]).await;
    let compaction = Compaction::force();
    answers_stay_as_the_first(&host, &["/counter?scan=1", "/leaker?n=20", "/js"], 1000).await;
    eprintln!("left handles: {}", compaction.end());
    for app in ["counter", "leaker", "js"] {
        host.settled(app).await;
        let status = rewinds(&host, app);
        eprintln!("{app}: {status:?}");
        assert!(status.rewound >= 500 && status.dropped >= status.rewound, "{app}: {status:?}");
        assert!(status.failed < 400, "{app}: {status:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_ends_badly_takes_its_instance_along_and_no_other() {
    let host = start(&[("trapper", "trapper"), ("hog", "hog"), ("spinner", "spinner")]).await;
    for round in 0..50 {
        assert_eq!(host.get("/trapper?when=before").await.status, 500, "in round {round}");
        assert_eq!(host.get("/trapper?when=after").await.status, 500);
        assert_eq!(host.get("/trapper?when=error").await.status, 502);
        let grown = host.get("/hog?mib=2").await;
        assert_eq!(grown.text(), "asked=2MiB has=2MiB refused=false\n");
        assert_eq!(host.get("/spinner?rounds=10").await.text(), "spun 10 rounds\n");
    }
    for app in ["trapper", "hog", "spinner"] {
        host.settled(app).await;
    }
    assert!(rewinds(&host, "hog").rewound >= 50);
    assert_eq!(rewinds(&host, "trapper").rewound, 0, "none of its requests ended well");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guests_that_are_cut_off_are_not_rewound() {
    let limits = format!("{REWIND}\ncpu_time = \"100ms\"\nrequest_timeout = \"300ms\"");
    let apps = [("spinner", "spinner", limits.as_str()), ("sleeper", "sleeper", limits.as_str())];
    let host = TestHost::builder().apps(&apps).start().await;
    for _ in 0..3 {
        assert_eq!(host.get("/spinner").await.status, 504);
        assert_eq!(host.get("/sleeper?ms=5000").await.status, 504);
        assert_eq!(host.get("/spinner?rounds=10").await.text(), "spun 10 rounds\n");
    }
    host.settled("spinner").await;
    host.settled("sleeper").await;
    assert_eq!((rewinds(&host, "spinner").rewound, rewinds(&host, "sleeper").rewound), (3, 0));
}

/// Looks like an app, and drops a segment, which nobody can put back.
/// Answers nothing.
const DROPS: &str = r#"(component
  (import "wasi:http/types@0.2.0" (instance $types
    (export "incoming-request" (type (sub resource)))
    (export "response-outparam" (type (sub resource)))))
  (alias export $types "incoming-request" (type $request))
  (alias export $types "response-outparam" (type $out))
  (core module $drops
    (memory 1) (data $passive "x")
    (func (export "handle") (param i32 i32)
      (memory.init $passive (i32.const 0) (i32.const 0) (i32.const 1))
      (data.drop $passive)))
  (core instance $drops (instantiate $drops))
  (func $handle (param "request" (own $request)) (param "response-out" (own $out))
    (canon lift (core func $drops "handle")))
  (instance $handler (export "handle" (func $handle)))
  (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))"#;

#[tokio::test]
async fn an_app_that_can_not_be_rewound_is_not_deployed_and_told_why() {
    let host = TestHost::builder()
        .app("command", "cgi-rust")
        .app_config("command", REWIND)
        .app("p3", "hello-p3")
        .app_config("p3", REWIND)
        .bytes("drops", &wat::parse_str(DROPS).expect("the text of a component"))
        .app_config("drops", REWIND)
        .app("cached", "hello")
        .app_config("cached", "mode = \"cached\"\nreset = \"rewind\"")
        .start()
        .await;
    assert!(host.problem("command").starts_with("reset = \"rewind\" is for wasi:http 0.2 apps"));
    assert!(host.problem("p3").starts_with("reset = \"rewind\" is for wasi:http 0.2 apps"));
    let problem = host.problem("drops");
    assert!(
        problem.starts_with("it can't be rewound: core module 0 has the instruction data.drop"),
        "{problem}"
    );
    assert!(problem.ends_with("use reset = \"replace\""), "{problem}");
    assert!(host.problem("cached").contains("mode cached keeps no instances"), "{}", host.problem("cached"));
}

/// Each request of an instance would find the same: they would share secrets, and time would run backwards.
#[tokio::test]
async fn an_app_that_draws_random_numbers_or_looks_at_a_clock_when_it_starts_is_not_rewound() {
    let text = include_str!("../../src/compile/preload/tests/app.wat");
    let text = text.replace("INIT)", ")").replace("HANDLE\n", "\n").replace("STATUS)", "(i32.const 200))");
    let starting = |with: &str| {
        let start = format!("(func $start (global.set $kept {with})) (start $start)");
        let text =
            text.replace("    (func (export \"handle\")", &format!("{start}\n(func (export \"handle\")"));
        wat::parse_str(text).expect("the text of a component")
    };
    let mut builder = TestHost::builder();
    let starts = [
        ("random", "(call $random)", "it asked for random bytes at its start"),
        ("time", "(call $now)", "it looked at a clock at its start"),
        ("neither", "(i64.const 1)", ""),
    ];
    for (app, with, _) in starts {
        let said = format!("{app}-said");
        builder = builder.bytes(app, &starting(with));
        builder = builder.bytes(&said, &starting(with)).app_config(&said, REWIND);
    }
    let host = builder.start().await;
    for (app, _, problem) in starts {
        let is_refused = !problem.is_empty();
        let reset = host.app(app).release.expect("a live release").reset;
        assert_eq!(reset, if is_refused { Reset::Replace } else { Reset::Rewind }, "{app}");
        assert_eq!(host.get(&format!("/{app}")).await.status, 200, "{app}");
        host.settled(app).await;
        if is_refused {
            let said = host.problem(&format!("{app}-said"));
            assert!(said.contains(problem) && said.ends_with("use reset = \"replace\""), "{said}");
        }
    }
}

/// It is served in each case, however its instances are brought back.
#[tokio::test]
async fn an_app_of_which_nothing_is_said_is_rewound_if_that_is_possible_and_else_replaced() {
    let host = TestHost::builder()
        .app("hello", "hello")
        .app("said", "hello")
        .app_config("said", "reset = \"replace\"")
        .app("kept", "hello")
        .app_config("kept", "mode = \"kept\"")
        .app("command", "cgi-rust")
        .app("p3", "hello-p3")
        .bytes("drops", &wat::parse_str(DROPS).expect("the text of a component"))
        .start()
        .await;
    for (app, reset) in [
        ("hello", Reset::Rewind),
        ("said", Reset::Replace),
        ("kept", Reset::Replace),
        ("command", Reset::Replace),
        ("p3", Reset::Replace),
        ("drops", Reset::Replace),
    ] {
        let release = host.app(app).release.unwrap_or_else(|| panic!("{app} is live"));
        assert_eq!((release.reset, release.rewinds.is_some()), (reset, reset == Reset::Rewind), "{app}");
        let status = host.get(&format!("/{app}")).await.status.as_u16();
        assert_eq!(status, if app == "drops" { 502 } else { 200 }, "{app}");
    }
    host.settled("drops").await;
}

/// It leaves more handles than can be dropped for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_whose_instances_mostly_can_not_be_rewound_is_replaced_from_then_on() {
    let host = TestHost::builder().app("leaker", "leaker").app("said", "leaker").app_config("said", REWIND);
    let host = host.start().await;
    let reset = |app: &str| host.app(app).release.expect("a live release").reset;
    assert_eq!((reset("leaker"), reset("said")), (Reset::Rewind, Reset::Rewind));
    // It serves on meanwhile.
    let mut asked = 0;
    while reset("leaker") == Reset::Rewind {
        assert_eq!(host.get("/leaker?n=100").await.text(), "leaked=100\n");
        asked += 1;
        assert!(asked < 20_000, "it is rewound for ever");
    }
    for _ in 0..300 {
        assert_eq!(host.get("/said?n=100").await.text(), "leaked=100\n");
    }
    host.settled("said").await;
    assert_eq!(rewinds(&host, "said"), RewindStatus { failed: 300, ..RewindStatus::default() });
    assert_eq!(host.get("/leaker?n=100").await.text(), "leaked=100\n");
    host.settled("leaker").await;
}

#[tokio::test]
async fn where_nothing_is_to_be_rewound_it_is_replaced_and_shown() {
    let builder = TestHost::builder().settings(|settings| settings.rewind = false);
    let host = builder.app("hello", "hello").app_config("hello", REWIND).start().await;
    assert_eq!(host.get("/hello").await.status, 200);
    let status = host.host().status();
    assert!(status.reset.ends_with("rewind off"), "{}", status.reset);
    assert_eq!(host.app("hello").release.expect("a live release").reset, Reset::Replace);
}

/// The code cache has it with all that is needed to put it back.
#[tokio::test]
async fn a_rewound_app_comes_back_from_the_code_cache() {
    let cache = tempfile::tempdir().expect("a folder");
    let builder = || {
        let builder = TestHost::builder().cache(&cache.path().join("cache"));
        builder.app("hello", "hello").app_config("hello", REWIND).app("plain", "hello")
    };
    for from in ["compiled", "loaded"] {
        let host = builder().start().await;
        for app in ["hello", "plain"] {
            let release = host.app(app).release.expect("a live release");
            assert!(release.code.starts_with(from), "{app}: {}", release.code);
        }
        for _ in 0..5 {
            assert_eq!(host.get("/hello").await.text(), host.get("/plain").await.text());
            host.settled("hello").await;
        }
        assert_eq!(rewinds(&host, "hello"), RewindStatus { rewound: 5, ..RewindStatus::default() });
    }
}

/// A check that can't fail is no check.
#[cfg(debug_assertions)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rewind_that_is_not_as_it_should_be_is_found_and_all_apps_are_replaced_from_then_on() {
    let host = start(&[("hog", "hog"), ("hello", "hello")]).await;
    let first = host.get("/hello").await;
    host.settled("hello").await;
    let before = [host.release("hog"), host.release("hello")];
    for app in host.host().registry().apps() {
        app.live.expect("a live release").pool.manager().engines().break_rewind();
    }
    assert_eq!(host.get("/hello").await.body, first.body);
    host.until("both apps were made again", || {
        host.release("hog") > before[0] && host.release("hello") > before[1]
    })
    .await;
    for app in ["hog", "hello"] {
        let release = host.app(app).release.expect("a live release");
        assert_eq!((release.reset, release.rewinds), (Reset::Replace, None), "{app}");
    }
    for _ in 0..10 {
        assert_eq!(host.get("/hello").await.body, first.body);
        assert_eq!(host.get("/hog?mib=2").await.text(), "asked=2MiB has=2MiB refused=false\n");
    }
}
