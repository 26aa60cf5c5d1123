//! The command line: what it prints, how it ends, and which settings count.

use std::os::fd::AsRawFd;
use std::path::Path;

use serde_json::Value;
use tokio::net::TcpListener;

use crate::program::Place;
use crate::support::guest;

fn text(path: &Path) -> &str {
    path.to_str().expect("a text path")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn help_and_version_succeed() {
    let place = Place::new();
    let help = place.run(&["--help"], &[]).await.ended_with(0);
    for verb in ["serve", "check", "inspect"] {
        assert!(help.stdout.contains(verb), "{help:?}");
        place.run(&[verb, "--help"], &[]).await.ended_with(0).says("Usage: hostler");
    }
    let version = place.run(&["--version"], &[]).await.ended_with(0);
    assert_eq!(version.stdout, format!("hostler {}\n", env!("CARGO_PKG_VERSION")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_usage_ends_with_2() {
    let place = Place::new();
    place.run(&[], &[]).await.ended_with(2).says("Usage: hostler");
    place.run(&["server"], &[]).await.ended_with(2).says("serve");
    place.run(&["serve", "--lisen", "127.0.0.1:0"], &[]).await.ended_with(2).says("--listen");
    place.run(&["serve", "--listen", "8080"], &[]).await.ended_with(2).says("--listen");
    place.run(&["serve", "--log-level", "loud"], &[]).await.ended_with(2).says("unknown level loud");
    place.run(&["serve", "--worker-threads", "0"], &[]).await.ended_with(2).says("--worker-threads");
    place.run(&["inspect"], &[]).await.ended_with(2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_configuration_ends_with_78() {
    let place = Place::new();
    for verb in ["serve", "check"] {
        place.run(&[verb], &[("HOSTLER_LISTN", "127.0.0.1:0")]).await.ended_with(78).says("HOSTLER_LISTN: ");
        place.run(&[verb], &[("HOSTLER_LISTN", "x")]).await.says("did you mean HOSTLER_LISTEN?");
        place.run(&[verb], &[("HOSTLER_LISTEN", "nowhere")]).await.ended_with(78).says("HOSTLER_LISTEN: ");
        place.run(&[verb, "--config", "none.toml"], &[]).await.ended_with(78).says("none.toml: ");
        place.run(&[verb], &[("HOSTLER_LOG_LEVEL", "loud")]).await.ended_with(78).says("HOSTLER_LOG_LEVEL: ");
    }
    place.write("hostler.toml", "[server]\nlistn = \"127.0.0.1:0\"\n[cache]\nmax_size = \"12 parsecs\"\n");
    for verb in ["serve", "check"] {
        let run = place.run(&[verb], &[]).await.ended_with(78);
        let run = run.says("hostler.toml:2: server.listn: unknown key, did you mean listen?");
        run.says("hostler.toml:4: cache.max_size: ");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_in_use_is_a_failure_that_names_it() {
    let place = Place::new();
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let run = place.run(&["serve", "--listen", &address], &[]).await.ended_with(1);
    run.says(&format!("cannot listen on {address}")).says("in use");
    let run = place.run(&["serve", "--listen", "127.0.0.1:0", "--admin", &address], &[]).await.ended_with(1);
    run.says(&format!("cannot listen on {address} (admin)"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_cannot_be_used_is_said_once_by_a_start_and_by_check_and_with_what_to_do_last() {
    let place = Place::new();
    place.write("file", "in the way");
    let cases = [
        ("HOSTLER_CACHE_DIR", "file", "cannot use the code cache file: ", "`dir` under [cache]"),
        ("HOSTLER_CACHE_DIR", "file/cache", "cannot use the code cache file/cache: ", "`dir` under [cache]"),
        ("HOSTLER_STATE_DIR", "file", "releases can't be kept in file: ", "state_dir under [apps]"),
    ];
    for (variable, dir, what, advice) in cases {
        let serve = place.run(&["serve", "--listen", "127.0.0.1:0"], &[(variable, dir)]).await.ended_with(1);
        let check = place.run(&["check"], &[(variable, dir)]).await.ended_with(78);
        for run in [serve, check] {
            let said = run.stderr.lines().last().unwrap_or_default();
            assert!(said.contains(what), "no {what:?} in {run:?}");
            assert_eq!(said.matches("os error").count(), 1, "{run:?}");
            assert!(said.ends_with(&format!("; name another place with {advice}")), "{run:?}");
        }
    }
    // What is not there yet could be made, and is not made by a check.
    let fresh = [("HOSTLER_CACHE_DIR", "new/cache"), ("HOSTLER_STATE_DIR", "new/state")];
    place.run(&["check"], &fresh).await.ended_with(0);
    assert!(!place.at("new").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_says_all_that_is_wrong_at_once() {
    let place = Place::new();
    place.app("good", "hello");
    place.write("apps/cut.wasm", &std::fs::read(guest("hello")).expect("the guest")[..1000]);
    place.write("apps/page.wasm", "<!DOCTYPE html>");
    place.app("asks", "hello");
    place.write("apps/asks.toml", "mode = \"poold\"\nmemory_limit = \"1GiB\"\n");
    place.write("apps/both.wasm", "garbage");
    place.write("apps/both.toml", "colour = \"red\"\n");
    place.write("apps/lonely.toml", "");
    place.write("apps/Bad name.wasm", "");
    let run = place.run(&["check"], &[]).await.ended_with(78);
    for part in [
        "cut.wasm: cut short",
        "page.wasm: ",
        "asks.toml:1: mode: unknown mode poold, did you mean pooled?",
        "asks.toml:2: memory_limit: 1GiB is more than",
        "both.wasm: plain text",
        "both.toml:1: colour: unknown key",
        "lonely.toml: ",
        "Bad name.wasm: ",
    ] {
        assert!(run.stderr.contains(part), "no {part:?} in {run:?}");
    }
    assert!(run.stdout.contains("good: good.wasm, wasi:http 0.2, pooled\n"), "{run:?}");
    assert!(run.stdout.ends_with("8 problems\n"), "{run:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_refuses_what_a_deploy_would_refuse_of_an_app_of_its_kind() {
    let place = Place::new();
    let apps = [
        ("shared", "hello", "mode = \"resident\"", "mode resident gives an instance many requests at once"),
        ("kept", "cgi-c", "mode = \"kept\"", "mode kept needs instances that go on after a request"),
        ("loaded", "cgi-c", "preload = \"init\"", "preload is for wasi:http 0.2 apps"),
        ("rewound", "cgi-c", "reset = \"rewind\"", "reset = \"rewind\" is for wasi:http 0.2 apps"),
        ("good", "hello", "reset = \"rewind\"\npreload = \"init\"", ""),
    ];
    for (name, guest, config, _) in apps {
        place.app(name, guest);
        place.write(&format!("apps/{name}.toml"), config);
    }
    let run = place.run(&["check"], &[]).await.ended_with(78);
    for (name, _, _, why) in apps.into_iter().filter(|(.., why)| !why.is_empty()) {
        assert!(run.stderr.contains(&format!("{name}.wasm: {why}")), "no {why:?} in {run:?}");
    }
    assert!(
        run.stdout.contains("good: good.wasm") && run.stdout.ends_with("5 apps, 4 problems\n"),
        "{run:?}"
    );

    let place = Place::new();
    place.app("shop", "hello");
    let run = place.run(&["check", "--mode", "resident"], &[]).await.ended_with(78);
    run.says("shop.wasm: mode resident gives an instance many requests at once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_sees_two_apps_that_claim_one_route() {
    let place = Place::new();
    place.config("[grants.\"*\"]\npaths = [\"/same\"]\nhosts = [\"*\"]");
    place.app("first", "hello");
    place.app("second", "hello");
    place.write("apps/first.toml", "path = \"/same\"\n");
    place.write("apps/second.toml", "path = \"/same\"\nhosts = [\"a.example.com\"]\n");
    place.run(&["check"], &[]).await.ended_with(0);
    place.write("apps/second.toml", "path = \"/same\"\n");
    let run = place.run(&["check"], &[]).await.ended_with(78);
    run.says("second.wasm: /same is already served by the app first");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_of_a_good_folder_succeeds_and_of_none_fails() {
    let place = Place::new();
    place.app("shop", "hello");
    place.app("tool", "cgi-c");
    let run = place.run(&["check"], &[]).await.ended_with(0);
    assert!(run.stdout.ends_with("2 apps, 0 problems\n"), "{run:?}");
    place.run(&["check", "nowhere"], &[]).await.ended_with(1).says("nowhere");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inspect_says_what_a_file_is_in_which_modes_it_may_run_and_whether_it_can_be_rewound() {
    let place = Place::new();
    let kinds = [
        ("hello", "wasi:http 0.2", "possible: memories 1, ", 4),
        ("hello-p3", "wasi:http 0.3", "not possible: it has asynchronous functions", 5),
        ("cgi-c", "command", "not possible: it is a command: each instance is run once", 3),
        ("cgi-rust", "command", "not possible: it is a command: each instance is run once", 3),
    ];
    let all = ["cold", "cached", "pooled", "kept", "resident"];
    for (name, kind, rewind, modes) in kinds {
        let (file, modes) = (guest(name), &all[..modes]);
        let run = place.run(&["inspect", text(&file)], &[]).await.ended_with(0);
        assert!(run.stdout.contains(&format!("kind           {kind} (")), "{run:?}");
        assert!(run.stdout.contains(&format!("modes          {}\n", modes.join(", "))), "{run:?}");
        assert!(run.stdout.contains(&format!("rewind         {rewind}")), "{run:?}");
        let run = place.run(&["inspect", "--json", text(&file)], &[]).await.ended_with(0);
        let json: Value = serde_json::from_str(&run.stdout).expect("JSON");
        assert_eq!(json["kind"], kind);
        assert_eq!(json["modes"], serde_json::json!(modes));
        assert_eq!(json["rewind"]["possible"]["memories"].as_u64(), (name == "hello").then_some(1), "{json}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inspect_of_what_is_no_app_fails_and_says_what_it_is() {
    let place = Place::new();
    place.write("page.wasm", "<!DOCTYPE html>");
    place.run(&["inspect", "page.wasm"], &[]).await.ended_with(1).says("page.wasm: ").says("HTML");
    place.run(&["inspect", "none.wasm"], &[]).await.ended_with(1).says("cannot read none.wasm");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flag_goes_before_the_environment_before_the_file_before_the_default() {
    // Each source names another loopback address.
    let place = Place::new();
    let flag = ["--listen", "127.0.0.4:0"];
    let variable = [("HOSTLER_LISTEN", "127.0.0.3:0")];
    place.config("[server]\nlisten = \"127.0.0.2:0\"");
    for (args, env, expected) in
        [(&flag[..], &variable[..], "127.0.0.4"), (&[], &variable, "127.0.0.3"), (&[], &[], "127.0.0.2")]
    {
        let server = place.serve_as_told(args, env).await;
        assert_eq!(server.address().ip().to_string(), expected);
        assert_eq!(server.stop().await.0, Some(0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_mode_is_an_apps_own_before_the_flag_the_environment_the_file_and_the_default() {
    let place = Place::new();
    place.app("shop", "hello");
    let mode = async |args: &[&str], env: &[(&str, &str)], expected: &str| {
        let run = place.run(&[&["check"], args].concat(), env).await.ended_with(0);
        assert!(run.stdout.contains(&format!("wasi:http 0.2, {expected}\n")), "{expected}: {run:?}");
    };
    mode(&[], &[], "pooled").await;
    place.config("[defaults]\nmode = \"cached\"");
    mode(&[], &[], "cached").await;
    mode(&[], &[("HOSTLER_MODE", "cold")], "cold").await;
    mode(&["--mode", "pooled"], &[("HOSTLER_MODE", "cold")], "pooled").await;
    place.write("apps/shop.toml", "mode = \"cached\"\n");
    mode(&["--mode", "pooled"], &[("HOSTLER_MODE", "cold")], "cached").await;
    place.run(&["check", "--mode", "warm"], &[]).await.ended_with(2).says("--mode");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_level_is_the_flags_before_the_environments_before_the_files() {
    let place = Place::new();
    // At `info` the start is logged, at `warn` it isn't.
    let logged = async |args: &[&str], env: &[(&str, &str)]| {
        let server = place.serve(args, env).await;
        let (code, log) = server.stop().await;
        assert_eq!(code, Some(0));
        log.contains("serving on http://")
    };
    assert!(logged(&[], &[]).await, "the default");
    place.config("[log]\nlevel = \"warn\"");
    assert!(!logged(&[], &[]).await, "the file");
    assert!(logged(&[], &[("HOSTLER_LOG_LEVEL", "info")]).await, "the environment");
    let quiet = [("HOSTLER_LOG_LEVEL", "warn")];
    assert!(logged(&["--log-level", "info"], &quiet).await, "the flag");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_real_address_is_handed_over_when_the_apps_are_live() {
    let place = Place::new();
    place.app("shop", "hello");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    // A descriptor that the program inherits.
    let inherited = writer.as_raw_fd();
    rustix::io::fcntl_setfd(&writer, rustix::io::FdFlags::empty()).expect("to let it be inherited");
    let server = place.serve(&["--ready-fd", &inherited.to_string()], &[]).await;
    drop(writer);
    assert_eq!(server.get("/shop").await, (200, "Hello from Hostler!\n".to_owned()));
    let expected = format!("{}\n", server.address());
    let line = tokio::task::spawn_blocking(move || {
        use std::io::Read;
        let mut line = vec![0; expected.len()];
        let mut reader = reader;
        reader.read_exact(&mut line).expect("a line");
        (String::from_utf8(line).expect("text"), expected)
    });
    let (line, expected) = line.await.expect("no panic");
    assert_eq!(line, expected);
    assert_eq!(server.stop().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_ready_descriptor_is_a_failure() {
    let place = Place::new();
    let run = place.run(&["serve", "--listen", "127.0.0.1:0", "--ready-fd", "987"], &[]).await;
    run.ended_with(1).says("cannot write to descriptor 987");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_logs_are_json_lines_and_the_access_log_has_one_for_each_request() {
    let place = Place::new();
    place.app("shop", "hello");
    place.app("bad", "trapper");
    let server = place.serve(&["--log-json", "--log-access"], &[]).await;
    for path in ["/shop", "/shop?n=2", "/nowhere", "/bad"] {
        server.get(path).await;
    }
    let (code, log) = server.stop().await;
    assert_eq!(code, Some(0));
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
        .collect();
    assert!(lines.iter().all(|line| line["level"].is_string() && line["timestamp"].is_string()));
    let access: Vec<_> = lines.iter().filter(|line| line["target"] == "access").collect();
    let seen: Vec<_> = access.iter().map(|line| (&line["path"], &line["status"], &line["app"])).collect();
    let expected: [(Value, Value, Value); 4] = [
        ("/shop".into(), 200.into(), "shop".into()),
        ("/shop".into(), 200.into(), "shop".into()),
        ("/nowhere".into(), 404.into(), "-".into()),
        ("/bad".into(), 500.into(), "bad".into()),
    ];
    assert_eq!(seen, expected.iter().map(|(a, b, c)| (a, b, c)).collect::<Vec<_>>());
    assert_eq!((&access[0]["method"], &access[0]["bytes"]), (&"GET".into(), &20.into()));
    assert_eq!(access[0]["complete"], true);
    // Whatever is said of a request has its id by one name.
    let failure = lines.iter().find(|line| line["target"] == "hostler::server::reply").expect("a warning");
    assert_eq!(failure["request_id"], access[3]["request_id"], "{failure}");
    let said = lines.iter().find(|line| line["target"] == "guest").expect("the guest's last words");
    assert_eq!(said["request_id"], access[3]["request_id"], "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_access_log_is_written_unless_asked_for() {
    let place = Place::new();
    place.app("shop", "hello");
    let server = place.serve(&[], &[]).await;
    server.get("/shop").await;
    let (code, log) = server.stop().await;
    assert_eq!(code, Some(0));
    assert!(!log.contains("access"), "{log}");
    assert!(log.contains("live") && log.contains("ready") && log.contains("stopped"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_the_folder_is_logged_once() {
    let place = Place::new();
    place.app("shop", "hello");
    place.config("[apps]\nsettle_time = \"20ms\"\nscan_interval = \"50ms\"");
    let server = place.serve(&[], &[]).await;
    place.write("apps/shop.wasm", "garbage");
    server.logs("not deployed: plain text").await;
    server.logs("the release before serves on").await;
    std::fs::rename(place.at("apps"), place.at("away")).expect("to move the folder");
    server.logs("what is live stays so").await;
    assert_eq!(server.get("/shop").await.0, 200);
    std::fs::rename(place.at("away"), place.at("apps")).expect("to move it back");
    place.app("later", "hello");
    server.logs("/later").await;
    let (_, log) = server.stop().await;
    assert_eq!(log.matches("not deployed").count(), 1, "{log}");
    assert_eq!(log.matches("what is live stays so").count(), 1, "{log}");
    assert!(!log.contains("retired"), "{log}");
}
