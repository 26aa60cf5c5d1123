//! What happens in the apps folder happens to what is served, and to nothing else.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::Method;

use crate::support::{Answer, Builder, PATIENCE, TestHost, guest, until_within};

/// A folder that is looked at often, for tests in which much happens.
fn quick() -> Builder {
    TestHost::builder().config("[apps]\nsettle_time = \"20ms\"\nscan_interval = \"200ms\"")
}

fn bytes_of(name: &str) -> Vec<u8> {
    std::fs::read(guest(name)).expect("the guest")
}

fn is_hello(answer: &Answer) -> bool {
    answer.status == 200 && answer.text() == "Hello from Hostler!\n"
}

fn is_index(answer: &Answer) -> bool {
    answer.status == 200 && answer.text().contains("Welcome to Hostler")
}

/// The index app's own answer for a path that it has no page for.
fn is_of_index(answer: &Answer) -> bool {
    answer.status == 404 && answer.text() == "there is no app and no page here\n"
}

fn is_404(answer: &Answer) -> bool {
    answer.status == 404
}

/// Asks again and again for a while: the answer must be as wanted each time.
async fn stays(host: &TestHost, path: &str, time: Duration, wanted: impl Fn(&Answer) -> bool) {
    let began = Instant::now();
    while began.elapsed() < time {
        let answer = host.get(path).await;
        assert!(wanted(&answer), "{path} answers otherwise: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_dropped_into_the_folder_is_served() {
    let host = TestHost::with(&["hello"]).await;
    assert!(is_404(&host.get("/counter").await));
    let began = Instant::now();
    host.put_app("counter", "counter");
    let answer = host.get_until("/counter", "it is served", |answer| answer.status == 200).await;
    assert!(answer.text().starts_with("count=1 "));
    println!("served {:?} after it was dropped", began.elapsed());
    assert!(is_hello(&host.get("/hello").await));
    assert_eq!(host.release("hello"), 1, "the other app is left alone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_renamed_over_an_app_replaces_it() {
    let host = quick().app("shop", "hello").start().await;
    assert!(is_hello(&host.get("/shop").await));
    host.put_app("shop", "index");
    host.get_until("/shop", "the new app answers", is_index).await;
    assert_eq!(host.release("shop"), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_copied_over_an_app_in_pieces_replaces_it_when_it_is_whole() {
    let host = quick().app("shop", "hello").start().await;
    let bytes = bytes_of("index");
    let (first, rest) = bytes.split_at(bytes.len() / 2);
    let mut file =
        OpenOptions::new().write(true).truncate(true).open(host.at("shop.wasm")).expect("the file");
    host.until("the empty file is seen", || host.problem("shop").contains("an empty file")).await;
    file.write_all(first).expect("the first half");
    host.until("the half is seen", || host.problem("shop").contains("cut short")).await;
    assert!(is_hello(&host.get("/shop").await), "what was live stays so");
    file.write_all(rest).expect("the rest");
    host.get_until("/shop", "the new app answers", is_index).await;
    host.until("nothing is wrong any more", || host.problem("shop").is_empty()).await;
    assert_eq!(host.release("shop"), 2, "no half was ever live");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_file_retires_its_app() {
    let host = TestHost::with(&["hello", "index"]).await;
    host.remove("hello.wasm");
    host.get_until("/hello", "it is retired", |answer| !is_hello(answer)).await;
    assert!(host.find("hello").is_none(), "status forgets it");
    assert_eq!(host.release("index"), host.app("index").release.expect("a release").number);
    host.put_app("hello", "hello");
    host.get_until("/hello", "it is back", is_hello).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_in_flight_outlives_its_replaced_app() {
    let host = Arc::new(quick().app("shop", "sleeper").start().await);
    let asking = host.clone();
    let slow = tokio::spawn(async move { asking.get("/shop?ms=4000").await });
    leased(&host, 1).await;
    host.put_app("shop", "hello");
    host.get_until("/shop", "the new app answers", is_hello).await;
    assert!(!slow.is_finished(), "the request was in flight at the swap");
    let answer = slow.await.expect("no panic");
    assert_eq!((answer.status.as_u16(), answer.text()), (200, "slept 4000 ms\n"));
    whole(&host).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_in_flight_outlives_its_deleted_app() {
    let host = Arc::new(quick().app("shop", "sleeper").start().await);
    let asking = host.clone();
    let slow = tokio::spawn(async move { asking.get("/shop?ms=4000").await });
    leased(&host, 1).await;
    host.remove("shop.wasm");
    host.get_until("/shop", "it is retired", is_404).await;
    assert!(!slow.is_finished(), "the request was in flight when the app was deleted");
    let answer = slow.await.expect("no panic");
    assert_eq!((answer.status.as_u16(), answer.text()), (200, "slept 4000 ms\n"));
    whole(&host).await;
    host.until("all units came back", || host.host().budget().free() == host.host().budget().units()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_outlives_drain_timeout_on_a_replaced_app_is_ended() {
    let host = Arc::new(
        quick().app("shop", "sleeper").app_config("shop", "drain_timeout = \"200ms\"").start().await,
    );
    let asking = host.clone();
    let slow =
        tokio::spawn(async move { asking.send(Method::GET, "/shop?ms=20000", &[], Bytes::new()).await });
    leased(&host, 1).await;
    let began = Instant::now();
    host.put_app("shop", "hello");
    host.get_until("/shop", "the new app answers", is_hello).await;
    let ended = slow.await.expect("no panic");
    assert!(!ended.is_ok_and(|answer| answer.status.is_success()));
    assert!(began.elapsed() < Duration::from_secs(15), "it was ended long before it would have been done");
    whole(&host).await;
}

/// Waits until so many of the app `shop`'s instances are at work.
async fn leased(host: &TestHost, count: usize) {
    host.until("the request is at work", || {
        host.app("shop").release.expect("a release").instances.leased as usize == count
    })
    .await;
}

/// Waits until no connection of a test's client is busy, so that the host can be dropped by this test.
async fn whole(host: &Arc<TestHost>) {
    host.until("the asking task has let go of the host", || Arc::strong_count(host) == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replacing_an_app_under_load_fails_no_request() {
    let host = Arc::new(quick().app("shop", "hello").start().await);
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (host, stop, answered) = (host.clone(), stop.clone(), answered.clone());
            tokio::spawn(async move {
                while !stop.load(Relaxed) {
                    match host.send(Method::GET, "/shop", &[], Bytes::new()).await {
                        Ok(answer) if is_hello(&answer) || is_index(&answer) => {
                            answered.fetch_add(1, Relaxed);
                        }
                        other => return Some(format!("{other:?}")),
                    }
                }
                None
            })
        })
        .collect();
    let began = Instant::now();
    for round in 0..10 {
        let before = answered.load(Relaxed);
        host.put_app("shop", if round % 2 == 0 { "index" } else { "hello" });
        host.until("the replacement is live", || host.release("shop") == round + 2).await;
        host.until("many requests were answered meanwhile", || answered.load(Relaxed) > before + 500).await;
    }
    println!("{} requests and 10 deploys in {:?}", answered.load(Relaxed), began.elapsed());
    stop.store(true, Relaxed);
    for client in clients {
        assert_eq!(client.await.expect("no panic"), None, "a request failed");
    }
    whole(&host).await;
    host.settled("shop").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_file_never_takes_a_good_app_down() {
    let host = quick().app("shop", "hello").start().await;
    let good = bytes_of("index");
    let cut = |length: usize| good[..length].to_vec();
    let bad: [(&str, Vec<u8>, &str); 10] = [
        ("an empty file", Vec::new(), "an empty file"),
        ("garbage", b"\x8fnot anything at all".to_vec(), "not WebAssembly"),
        ("half a header", cut(5), "cut short"),
        ("a program for this machine", b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec(), "ELF"),
        ("cut after the first section's header", cut(9), "cut short"),
        ("a page of a web server", b"<!DOCTYPE html><title>404</title>".to_vec(), "HTML"),
        ("cut in the middle", cut(good.len() / 2), "cut short"),
        ("a core module without _start", wat::parse_str("(module)").expect("a module"), "without _start"),
        ("a header alone", b"\0asm\x0d\0\x01\0".to_vec(), "exports nothing"),
        ("cut by one byte", cut(good.len() - 1), "cut short"),
    ];
    for (what, bytes, problem) in bad {
        host.put("shop.wasm", bytes);
        host.until(&format!("{what} is said to be bad"), || host.problem("shop").contains(problem)).await;
        assert!(is_hello(&host.get("/shop").await), "{what} took the app down");
        assert_eq!(host.release("shop"), 1, "{what} made a release");
    }
    host.put("shop.wasm", &good);
    host.get_until("/shop", "the good file is served", is_index).await;
    assert_eq!((host.release("shop"), host.problem("shop")), (2, String::new()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_problem_is_over_when_the_live_bytes_are_put_back() {
    let host = quick().app("shop", "hello").start().await;
    host.put("shop.wasm", "garbage that is not WebAssembly");
    host.until("the bad file is seen", || !host.problem("shop").is_empty()).await;
    host.put_app("shop", "hello");
    host.until("nothing is wrong any more", || host.problem("shop").is_empty()).await;
    assert_eq!(host.release("shop"), 1, "what is live needed no deploy");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_file_is_shown_until_it_is_replaced_or_deleted() {
    let host = quick().bytes("shop", b"garbage").bytes("gone", b"garbage").start().await;
    assert!(host.problem("shop").contains("plain text"), "{}", host.problem("shop"));
    assert!(is_404(&host.get("/shop").await));
    host.remove("gone.wasm");
    host.until("the deleted one is forgotten", || host.find("gone").is_none()).await;
    host.put_app("shop", "hello");
    host.get_until("/shop", "the good file is served", is_hello).await;
    assert_eq!(host.problem("shop"), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_the_config_alone_is_a_release() {
    let host = quick().app("shop", "cgi-rust").app_config("shop", "env = { COLOR = \"red\" }").start().await;
    assert!(host.get("/shop").await.text().contains("COLOR=red\n"));
    host.put("shop.toml", "env = { COLOR = \"blue\" }");
    host.get_until("/shop", "the new config counts", |answer| answer.text().contains("COLOR=blue\n")).await;
    assert_eq!(host.release("shop"), 2);
    host.put("shop.toml", "envy = { COLOR = \"green\" }");
    host.until("the bad config is seen", || !host.problem("shop").is_empty()).await;
    assert_eq!(host.problem("shop"), "shop.toml:1: envy: unknown key, did you mean env?");
    assert!(host.get("/shop").await.text().contains("COLOR=blue\n"), "what was live stays so");
    host.remove("shop.toml");
    host.get_until("/shop", "the config is gone", |answer| !answer.text().contains("COLOR")).await;
    assert_eq!((host.release("shop"), host.problem("shop")), (3, String::new()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_touched_file_makes_no_release() {
    let host = quick().app("shop", "hello").start().await;
    let file = File::options().write(true).open(host.at("shop.wasm")).expect("the file");
    file.set_modified(SystemTime::now() + Duration::from_secs(5)).expect("another time");
    host.seen_by_now("first").await;
    host.put_app("shop", "hello");
    host.seen_by_now("second").await;
    assert_eq!(host.release("shop"), 1);
    assert_eq!(host.release("second"), 3, "only the two others were deployed");
}

const SAME_ROUTE: &str = "[grants.\"*\"]\npaths = [\"/same\", \"/other\"]";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_of_two_apps_with_one_route_stays_and_the_second_follows_it() {
    let host = quick().config(SAME_ROUTE).app("first", "hello").app_config("first", "path = \"/same\"");
    let host = host.start().await;
    host.put("second.toml", "path = \"/same\"");
    host.put_app("second", "index");
    host.until("the second is refused", || !host.problem("second").is_empty()).await;
    assert!(host.problem("second").contains("/same is already served by the app first"));
    assert_eq!((host.release("second"), host.problem("first")), (0, String::new()));
    assert!(is_hello(&host.get("/same").await));
    host.remove("first.wasm");
    host.remove("first.toml");
    host.get_until("/same", "the second one has it", is_index).await;
    assert_eq!(host.problem("second"), "");
    assert!(host.find("first").is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_that_an_app_has_moved_from_is_free_for_the_next() {
    let host = quick().config(SAME_ROUTE).app("first", "hello").app_config("first", "path = \"/same\"");
    let host = host.start().await;
    host.put("second.toml", "path = \"/same\"");
    host.put_app("second", "index");
    host.until("the second is refused", || !host.problem("second").is_empty()).await;
    host.put("first.toml", "path = \"/other\"");
    host.get_until("/other", "the first has moved", is_hello).await;
    host.get_until("/same", "the second one has it", is_index).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vanished_folder_retires_nothing() {
    let host = quick().app("shop", "hello").start().await;
    let (apps, away) = (host.folder().join("apps"), host.folder().join("away"));
    std::fs::rename(&apps, &away).expect("to move the folder");
    stays(&host, "/shop", Duration::from_millis(700), is_hello).await;
    // A mount point without its mount.
    std::fs::create_dir(&apps).expect("an empty folder");
    stays(&host, "/shop", Duration::from_millis(700), is_hello).await;
    std::fs::remove_dir(&apps).expect("to remove it");
    std::fs::rename(&away, &apps).expect("to move it back");
    host.seen_by_now("later").await;
    assert!(is_hello(&host.get("/shop").await));
    assert_eq!(host.release("shop"), 1);
    host.remove("shop.wasm");
    host.get_until("/shop", "deleting counts again", is_404).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hidden_and_unfinished_names_are_not_looked_at() {
    let host = quick().app("shop", "hello").start().await;
    for name in [".hidden.wasm", "x.wasm.tmp", "x.wasm.part", "x.wasm~", ".x.wasm.swp", "notes.txt"] {
        std::fs::copy(guest("hello"), host.at(name)).expect("a copy");
    }
    host.seen_by_now("later").await;
    let apps: Vec<String> = host.host().status().apps.into_iter().map(|app| app.app).collect();
    assert_eq!(apps, ["later", "shop"]);
    for path in ["/.hidden", "/x", "/x.wasm", "/notes"] {
        assert!(is_404(&host.get(path).await), "{path}");
    }
    std::fs::rename(host.at("x.wasm.tmp"), host.at("x.wasm")).expect("its final name");
    host.get_until("/x", "it has its name", is_hello).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_make_paths() {
    let host = quick().app("index", "index").app("api/v1", "hello").app("shop/app", "cgi-rust");
    let host = host.start().await;
    host.put("shop/app.toml", "env = { COLOR = \"red\" }");
    let answer = host.get_until("/shop", "its config counts", |answer| answer.text().contains("COLOR=red\n"));
    assert!(answer.await.text().contains("SCRIPT_NAME=/shop\n"));
    assert!(is_index(&host.get("/").await));
    assert!(is_of_index(&host.get("/anything/else").await), "what no other app has is the index app's");
    assert!(is_hello(&host.get("/api/v1").await));
    assert!(is_hello(&host.get("/api/v1/below?query").await));
    assert!(is_of_index(&host.get("/api").await));
    assert!(is_of_index(&host.get("/api/v10").await), "a prefix ends at a segment");
    assert_eq!(host.app("shop").release.expect("a release").file, "shop/app.wasm");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_slow_compilation_delays_no_other_app() {
    let folder = tempfile::tempdir().expect("a folder");
    let host = quick().cache(&folder.path().join("cache")).start().await;
    host.put_app("slow", "hello-js");
    host.until("the slow one is being compiled", || host.find("slow").is_some()).await;
    let small = ["hello", "index", "counter", "cgi-rust", "sleeper"];
    small.iter().for_each(|small| host.put_app(small, small));
    for app in small {
        host.until("the small ones are live", || host.release(app) > 0).await;
    }
    until_within(PATIENCE * 4, "the slow one is live", || host.release("slow") > 0).await;
    // Releases are numbered as their code is there.
    let slow = host.release("slow");
    assert!(small.iter().all(|small| host.release(small) < slow), "none had to wait for the slow one");
}
