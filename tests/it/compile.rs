//! Compiling aside: what becomes of a deploy when its compiler is slow, greedy, killed, or wrong, and what the compiler
//! has of the host.

mod compiler;
mod slow;

use futures_util::FutureExt;
use hostler::compile::job::{Answer, Job};
use hostler::compile::queue::{Asked, Standing};
use hostler::compile::{Compiler, Limits, Order, Way};
use hostler::config;
use hostler::engine::{EngineKind, EngineSettings, Engines, compatibility};
use hostler::prepare::Kind;
use rustix::process::Signal;

use crate::program::{self, Place, Server};
use crate::support::{PATIENCE, TestHost, compiling_program, guest, until};
use compiler::{Child, compilers_of};
use slow::{slow_app, slow_app_of};

/// A host with a code cache of its own, so that every app is compiled; `keys` are those of `[compile]`.
async fn serve(place: &Place, keys: &str) -> Server {
    configure(place, keys);
    place.serve(&["--cache-dir", place.at("cache").to_str().expect("a text path")], &[]).await
}

/// The compilers have the priority of everyone, so that a busy machine doesn't make the tests wait.
fn configure(place: &Place, keys: &str) {
    place.config(&format!("[compile]\nnice = 0\n{keys}"));
}

/// Waits until the host has a compiler, and returns it.
async fn compiler(server: &Server) -> Child {
    until("an app is being compiled", || !compilers_of(server.id()).is_empty()).await;
    compilers_of(server.id()).remove(0)
}

/// As the kernel numbers its policies.
const SCHED_OTHER: i32 = 0;
const SCHED_IDLE: i32 = 5;

/// Waits until the host answers so at a path.
async fn answers(server: &Server, path: &str, status: u16) {
    let began = std::time::Instant::now();
    while server.get(path).await.0 != status {
        assert!(began.elapsed() < PATIENCE, "waited in vain for {status} at {path}: {}", server.log());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_one_app_compiles_the_others_are_served_and_its_own_clients_are_told_to_come_back() {
    let place = Place::new();
    place.app("hello", "hello");
    let server = serve(&place, "").await;
    place.write("apps/slow.wasm", slow_app());
    compiler(&server).await;
    assert_eq!(server.get("/hello").await.0, 200);
    let (status, text) = server.get("/slow").await;
    assert!(status == 503 && text.contains("the app is not ready yet"), "{status} {text}");
    place.app("later", "index");
    server.logs("/later\"").await;
    assert_eq!(compilers_of(server.id()).len(), 1, "the slow one held nobody up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compiler_has_the_lowest_priority_and_limits_and_nothing_of_the_hosts() {
    let place = Place::new();
    place.config("[compile]\nmemory_limit = \"1GiB\"\ncpu_time = \"100s\"");
    // Somebody has left a descriptor open for whoever is started.
    let command = "exec \"$0\" serve --listen 127.0.0.1:0 9<hostler.toml 2>log";
    let mut shell = tokio::process::Command::new("/bin/sh");
    shell.args(["-c", command, env!("CARGO_BIN_EXE_hostler")]).current_dir(place.at(""));
    shell.env("HOSTLER_CACHE_DIR", place.at("cache")).env("SECRET", "of the host").kill_on_drop(true);
    let host = shell.spawn().expect("a shell");
    let host = host.id().expect("an id");
    place.write("apps/slow.wasm", slow_app());
    until("the app is being compiled", || compilers_of(host).iter().any(Child::is_confined)).await;
    let child = compilers_of(host).remove(0);
    assert!(compiler::descriptors_of(host).contains(&9), "the host has it");
    assert_eq!(child.descriptors(), [0, 1, 2]);
    assert_eq!(child.environment(), "");
    assert_eq!(child.name(), "hostler-compile");
    assert_eq!((child.nice(), child.session()), (19, compiler::session_of(host)));
    assert_eq!(child.policy(), SCHED_OTHER, "no guest computes");
    assert_eq!(child.processors(), (compiler::processors_of(host) / 2).max(1));
    assert_eq!(child.limit("Max data size"), (1u64 << 30).to_string());
    assert_eq!(child.limit("Max file size"), (1u64 << 30).to_string());
    assert_eq!(child.limit("Max cpu time"), "100");
    assert_eq!(child.limit("Max core file size"), "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compiler_that_begins_while_guests_compute_gives_way_to_them() {
    let place = Place::new();
    place.app("spinner", "spinner");
    place.config("[defaults]\ncpu_time = \"10m\"\nrequest_timeout = \"10m\"");
    let cache = place.at("cache");
    let server = place.serve(&["--cache-dir", cache.to_str().expect("a text path")], &[]).await;
    let (spin, look) = (server.get("/spinner"), async {
        // Guests are in the slow lane by turns of a few milliseconds, so it may take a few compilers to see one.
        for number in 0.. {
            place.write("apps/slow.wasm", slow_app_of(number));
            until("the app is being compiled", || compilers_of(server.id()).iter().any(Child::is_confined))
                .await;
            let child = compilers_of(server.id()).remove(0);
            if child.policy() == SCHED_IDLE {
                return child.nice();
            }
            child.signal(Signal::KILL);
            server.logs("not deployed: the compiler was killed").await;
        }
        unreachable!("there is always a next one")
    });
    tokio::select! {
        answer = spin => panic!("{answer:?}"),
        nice = tokio::time::timeout(PATIENCE, look) => assert_eq!(nice.expect("one in time"), 19),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_or_crashed_compiler_is_a_failed_deploy_and_the_last_good_release_serves_on() {
    let place = Place::new();
    place.app("shop", "hello");
    let server = serve(&place, "").await;
    let ends = [
        (Signal::KILL, "not deployed: the compiler was killed, by somebody or by the kernel"),
        (Signal::ABORT, "not deployed: the compiler crashed (signal 6)"),
    ];
    for (round, (signal, text)) in ends.into_iter().enumerate() {
        // Other bytes each time.
        place.write("apps/shop.wasm", slow_app_of(round));
        compiler(&server).await.signal(signal);
        server.logs(text).await;
        assert!(server.log().contains("the release before serves on"), "{}", server.log());
        assert_eq!(server.get("/shop").await, (200, "Hello from Hostler!\n".to_owned()));
        assert!(compilers_of(server.id()).is_empty());
    }
    place.app("shop", "index");
    until("a good one is compiled as ever", || server.log().matches("live url=").count() == 2).await;
    assert_eq!(server.get("/shop").await.0, 200);
}

/// What a guest does while it is preloaded, or is done to its process, says nothing of the app as it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_whose_compiler_is_killed_while_it_is_preloaded_is_served_as_it_is() {
    let place = Place::new();
    let server = serve(&place, "").await;
    let text = include_str!("../../src/compile/preload/tests/app.wat");
    let text = text.replace("INIT)", "(loop $for_ever (br $for_ever)))");
    let text = text.replace("HANDLE\n", "\n").replace("STATUS)", "(i32.const 200))");
    place.write("apps/shop.toml", "preload = \"init\"\n");
    place.write("apps/shop.wasm", wat::parse_str(text).expect("the text of a component"));
    let kills = async |server: &Server, times: usize| {
        compiler(server).await.signal(Signal::KILL);
        until("it is live", || server.log().matches("live url=").count() == times).await;
        let log = server.log();
        assert_eq!(log.matches("it could not be tried: the compiler was killed").count(), times, "{log}");
        assert_eq!(server.get("/shop").await.0, 200);
    };
    kills(&server, 1).await;
    // That says nothing of the app: another deploy of it tries again,
    place.write("apps/shop.toml", "preload = \"init\" # again\n");
    kills(&server, 2).await;
    // and a host that starts does not keep its clients waiting for that.
    server.stop().await;
    let server = serve(&place, "").await;
    server.logs("live url=").await;
    let log = server.log();
    assert!(log.contains("preload=\"untried\" code=loaded"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_takes_too_much_to_compile_is_told_the_key_that_says_so() {
    let cases = [
        ("memory_limit = \"64MiB\"", "takes more than 64MiB of memory", "memory_limit"),
        ("cpu_time = \"1s\"", "takes more than 1s of processor time", "cpu_time"),
        ("time_limit = \"1s\"", "takes longer than 1s", "time_limit"),
    ];
    for (config, text, key) in cases {
        let place = Place::new();
        place.app("hello", "hello");
        let server = serve(&place, config).await;
        place.write("apps/slow.wasm", slow_app());
        server.logs("not deployed").await;
        let log = server.log();
        assert!(log.contains(&format!("not deployed: compiling it {text}")), "{config}: {log}");
        assert!(log.contains(&format!("raise {key} ")) && log.contains("under [compile]"), "{config}: {log}");
        assert_eq!(server.get("/hello").await.0, 200);
        answers(&server, "/slow", 404).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_killed_takes_its_compilers_along() {
    let place = Place::new();
    let server = serve(&place, "").await;
    place.write("apps/slow.wasm", slow_app());
    let child = compiler(&server).await;
    until("it has asked to be", || child.is_confined()).await;
    server.kill().await;
    until("the compiler is gone", || !child.is_running()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_stopped_leaves_no_compiler_and_says_nothing_of_it() {
    let place = Place::new();
    let server = serve(&place, "").await;
    place.write("apps/slow.wasm", slow_app());
    let child = compiler(&server).await;
    let (code, log) = server.stop().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("stopped") && !log.contains("not deployed"), "{log}");
    until("the compiler is gone", || !child.is_running()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_stopped_within_a_program_leaves_no_compiler() {
    let host = TestHost::builder().start().await;
    host.put("slow.wasm", slow_app());
    let compiler = host.host().compiler().clone();
    until("it is being compiled", || compiler.status().running == 1).await;
    host.stop().await;
    assert_eq!(compiler.status().running, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_of_the_program_on_the_disk_changes_nothing_for_a_host_that_runs() {
    let place = Place::new();
    configure(&place, "");
    std::fs::copy(env!("CARGO_BIN_EXE_hostler"), place.at("hostler")).expect("a copy of the program");
    let server =
        place.serve_by(&place.at("hostler"), &["--listen", "127.0.0.1:0", "--cache-dir", "cache"], &[]).await;
    place.write("hostler", "#!/bin/sh\nexit 3\n");
    place.app("hello", "hello");
    server.logs("code=compiled in").await;
    assert_eq!(server.get("/hello").await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_for_is_compiled_first_and_what_needs_no_instance_last() {
    let place = Place::new();
    configure(&place, "jobs = 1");
    let cache = place.at("cache");
    let args = ["--admin", "127.0.0.1:0", "--cache-dir", cache.to_str().expect("a text path")];
    let server = place.serve(&args, &[]).await;
    let apps = [("first", ""), ("lazy", "min_instances = 0"), ("usual", ""), ("wanted", "min_instances = 0")];
    let codes: Vec<_> = (0..apps.len()).map(slow_app_of).collect();
    for (waiting, ((name, config), code)) in apps.iter().zip(&codes).enumerate() {
        place.write(&format!("apps/{name}.toml"), config);
        place.write(&format!("apps/{name}.wasm"), code);
        is_compiling(&server, waiting).await;
    }
    assert_eq!(server.get("/wanted").await.0, 503);
    for expected in [0, 3, 2, 1] {
        until("its turn has come", || {
            compilers_of(server.id()).iter().any(|child| child.has(&codes[expected]))
        })
        .await;
        compiler(&server).await.signal(Signal::KILL);
    }
    until("each has come to its end", || server.log().matches("not deployed").count() == apps.len()).await;
}

/// Waits until an app is compiled and so many wait for their turn.
async fn is_compiling(server: &Server, waiting: usize) {
    let began = std::time::Instant::now();
    loop {
        let (_, status) = program::get(server.admin(), "/status").await;
        let status: serde_json::Value = serde_json::from_slice(&status).expect("JSON");
        if status["compiling"] == serde_json::json!({ "running": 1, "waiting": waiting }) {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "waited in vain for {waiting} to wait: {}", status["compiling"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_is_not_valid_is_refused_with_the_compilers_reason() {
    let place = Place::new();
    let server = serve(&place, "").await;
    // Its function leaves a value that its type hasn't.
    let bytes = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x07\x0a\x01\x06_start\0\0\x0a\x06\x01\x04\0\x41\0\x0b";
    place.write("apps/wrong.wasm", bytes);
    server.logs("not deployed: not valid: type mismatch").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_verb_is_documented_and_tells_a_person_what_it_is() {
    let place = Place::new();
    let help = place.run(&["compile", "--help"], &[]).await.ended_with(0);
    assert!(help.stdout.contains("A host starts it for itself"), "{help:?}");
    let all = place.run(&["--help"], &[]).await.ended_with(0);
    assert!(!all.stdout.contains("compile"), "{all:?}");
    place.run(&["compile"], &[]).await.ended_with(1).says("no job on standard input");
    place.run(&["compile", "app.wasm"], &[]).await.ended_with(2);
}

/// What a guest is compiled to by a compiler of its own.
fn compiled(way: Way, engines: &Engines, kind: Kind, bytes: &[u8]) -> Vec<u8> {
    let compiler = Compiler::new(way, Limits::of(&config::Compile::default(), 2), || false);
    let place = compiler.line().place(Standing::Other, Asked::default()).now_or_never();
    let place = place.expect("a place at once").expect("an open line");
    compiler
        .compile(
            &place,
            engines,
            &Order { kind, reset: hostler::engine::Reset::Replace, preload: None },
            bytes,
        )
        .expect("an artifact")
}

/// However many threads each has.
#[test]
fn a_child_makes_the_same_bytes_as_the_host_would() {
    let settings = EngineSettings { instances: 4, ..EngineSettings::default() };
    let engines = Engines::new(settings).expect("engines");
    for name in ["hello", "hello-p3", "cgi-c", "cgi-rust"] {
        let bytes = std::fs::read(guest(name)).expect("the guest");
        let kind = hostler::prepare::check(&bytes).expect("an app").kind;
        let aside = compiled(Way::Child(compiling_program()), &engines, kind, &bytes);
        assert!(aside == compiled(Way::InProcess, &engines, kind, &bytes), "{name} is another artifact");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compiler_whose_engine_makes_other_code_says_so_and_makes_none() {
    let place = Place::new();
    let bytes = std::fs::read(guest("cgi-c")).expect("the guest");
    let (engines, limits) = (EngineSettings::default(), Limits::of(&config::Compile::default(), 2));
    let here = compatibility(&engines.compiling_engine(EngineKind::Plain).expect("an engine"));
    for (host, kind, made) in [
        (here.as_str(), EngineKind::Plain, true),
        (here.as_str(), EngineKind::Concurrent, false),
        ("another", EngineKind::Plain, false),
    ] {
        let mut job = Vec::new();
        Job::new(&engines, kind, host, &bytes, &limits).write(&mut job, &bytes).expect("to memory");
        place.write("job", job);
        let mut command = place.command(&["compile"], &[]);
        command.stdin(std::fs::File::open(place.at("job")).expect("the job"));
        let answer = command.output().await.expect("a compiler");
        let code = Answer::read(answer.stdout.as_slice(), host, 1 << 30).map_err(|error| error.to_string());
        match code {
            Ok(code) => assert!(made && !code.is_empty(), "{kind:?}"),
            Err(error) => assert!(!made && error.contains("for other engines than the host's"), "{error}"),
        }
    }
}
