//! Releases are kept, and can be returned to: by an order, across restarts of the host, whatever its files have then.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use http::{Method, StatusCode};

use crate::program::Place;
use crate::support::{Answer, TestHost};
use crate::versions::{order, version};

async fn host() -> TestHost {
    let config = "[apps]\nsettle_time = \"20ms\"\nscan_interval = \"50ms\"";
    TestHost::builder().admin().config(config).start().await
}

/// Waits until the app's file was read and found to be what it was rolled back from.
async fn is_held(host: &TestHost, app: &str) {
    host.until("it is held back", || host.find(app).is_some_and(|app| app.rolled_back)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_was_rolled_back_stays_so_until_its_file_has_other_bytes() {
    let host = host().await;
    host.deploy("shop", "one").await;
    host.deploy("shop", "two").await;
    let run = order(&host, &["rollback", "shop"]).await.ended_with(0);
    assert!(run.stdout.starts_with("shop is rolled back: release 1 is live, release 2 drains\n"), "{run:?}");
    assert_eq!(host.get("/shop").await.text(), "one");
    let problem = host.problem("shop");
    assert!(problem.starts_with("rolled back from release 2 to release 1: by order"), "{problem}");

    // The same bytes by other ways.
    host.put("shop.wasm", version("two"));
    fs::write(host.at("shop.wasm"), version("two")).expect("written");
    host.put("shop.wasm", &version("two")[..20]);
    host.until("the half is refused", || host.problem("shop").contains("looked at again")).await;
    host.put("shop.wasm", version("two"));
    is_held(&host, "shop").await;
    host.until("it says why", || host.problem("shop").starts_with("rolled back")).await;
    assert_eq!(host.get("/shop").await.text(), "one");

    // Another host over the same folder.
    let host = host.restarted().await;
    is_held(&host, "shop").await;
    assert_eq!((host.get("/shop").await.text(), host.release("shop")), ("one", 1));

    host.deploy("shop", "three").await;
    assert_eq!((host.problem("shop"), host.app("shop").rolled_back), (String::new(), false));
    assert!(host.release("shop") > 2);
    host.deploy("shop", "two").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback_can_be_undone_and_goes_to_any_release_that_is_kept() {
    let host = host().await;
    for text in ["one", "two", "three"] {
        host.deploy("shop", text).await;
    }
    order(&host, &["rollback", "shop", "1"]).await.ended_with(0);
    host.serves("shop", "one").await;
    order(&host, &["rollback", "shop", "3"]).await.ended_with(0);
    host.serves("shop", "three").await;
    assert_eq!(host.problem("shop"), "", "it is what its file has");
    order(&host, &["rollback", "shop"]).await.ended_with(0).says("release 2 is live");
    order(&host, &["rollback", "shop"]).await.ended_with(1).says("no release before the live one is kept");
    order(&host, &["rollback", "shop", "2"]).await.ended_with(1).says("release 2 is live already");
    order(&host, &["rollback", "shop", "9"]).await.ended_with(1).says("release 9 is not kept");
    order(&host, &["rollback", "none"]).await.ended_with(1).says("there is no such app");
    let run = order(&host, &["releases", "shop"]).await.ended_with(0);
    let rows: Vec<&str> = run.stdout.lines().collect();
    assert!(rows[1].trim_start().starts_with("3 ") && rows[1].ends_with("rolled back: by order"), "{run:?}");
    assert!(rows[2].trim_start().starts_with("2 ") && rows[2].contains("live, "), "{run:?}");
    order(&host, &["releases", "none"]).await.ended_with(1).says("there is no such app");
    assert_eq!(host.app("shop").requests.rollbacks, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_an_app_that_was_rolled_back_builds_what_is_live_anew() {
    let host = host().await;
    host.deploy("shop", "one").await;
    host.deploy("shop", "two").await;
    order(&host, &["rollback", "shop"]).await.ended_with(0);
    order(&host, &["restart", "shop"]).await.ended_with(0).says("release 3 is live, release 1 drains");
    assert_eq!(host.get("/shop").await.text(), "one");
    is_held(&host, "shop").await;
    let host = host.restarted().await;
    is_held(&host, "shop").await;
    assert_eq!((host.get("/shop").await.text(), host.release("shop")), ("one", 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_a_file_that_can_not_be_served_takes_nothing_down() {
    let host = host().await;
    for app in ["half", "other", "config", "conflict", "gone"] {
        host.deploy(app, app).await;
    }
    let folder = host.folder().join("apps");
    let spoil = move || {
        let at = |file: &str| folder.join(file);
        fs::write(at("half.wasm"), &version("half")[..50]).expect("written");
        fs::write(at("other.wasm"), "<html>").expect("written");
        fs::write(at("config.toml"), "no_such_key = 1").expect("written");
        fs::create_dir(at("conflict")).expect("made");
        fs::write(at("conflict/app.wasm"), version("conflict")).expect("written");
        fs::remove_file(at("gone.wasm")).expect("removed");
    };
    let host = host.restarted_after(spoil).await;
    for app in ["half", "other", "config", "conflict"] {
        host.serves(app, app).await;
    }
    for app in ["half", "other", "config"] {
        host.until("it says why", || !host.problem(app).is_empty()).await;
    }
    assert_eq!(host.get("/gone").await.status, StatusCode::NOT_FOUND, "a deleted file is an order");
    host.deploy("half", "whole").await;
}

/// What a client sees of a static file.
fn seen(answer: &Answer) -> [String; 3] {
    let header = |name| answer.header(name).to_owned();
    [answer.text().to_owned(), header("etag"), header("last-modified")]
}

async fn serves_file(host: &TestHost, path: &str, text: &str) -> [String; 3] {
    seen(&host.get_until(path, text, |answer| answer.status == 200 && answer.text() == text).await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_that_is_returned_to_has_its_own_static_files_again() {
    let host = host().await;
    // Longer than what is kept in memory.
    let long = "0123456789".repeat(20_000);
    host.put("shop/public/a.css", "old");
    host.put("shop/public/long.txt", &long);
    host.put("shop/app.wasm", version("code"));
    let old = serves_file(&host, "/shop/a.css", "old").await;
    let old_long = serves_file(&host, "/shop/long.txt", &long).await;
    host.remove("shop/public/long.txt");
    host.put("shop/public/a.css", "new");
    let new = serves_file(&host, "/shop/a.css", "new").await;
    host.until("the files are one release", || {
        host.app("shop")
            .release
            .is_some_and(|release| release.static_files.is_some_and(|files| files.files == 1))
    })
    .await;
    assert_ne!(old[1], new[1]);
    let first = host.release("shop").to_string();
    let run = order(&host, &["releases", "shop", "--json"]).await.ended_with(0);
    assert!(!run.stdout.contains("a.css"), "the lists of files are not for people: {run:?}");

    let number = run.stdout.lines().find_map(|line| line.trim().strip_prefix("\"number\": "));
    let number = number.expect("a release").trim_end_matches(',').to_owned();
    assert_ne!(number, first);
    order(&host, &["rollback", "shop", &number]).await.ended_with(0);
    let is_old = async |host: &TestHost| {
        assert_eq!(seen(&host.get("/shop/a.css").await), old);
        assert_eq!(seen(&host.get("/shop/long.txt").await), old_long);
        let known = host.send(Method::GET, "/shop/a.css", &[("if-none-match", &old[1])], Bytes::new()).await;
        assert_eq!(known.expect("an answer").status, StatusCode::NOT_MODIFIED);
    };
    is_old(&host).await;
    is_held(&host, "shop").await;
    is_old(&host).await;

    let host = host.restarted().await;
    is_held(&host, "shop").await;
    is_old(&host).await;
    order(&host, &["restart", "shop"]).await.ended_with(0);
    is_old(&host).await;
    let host = host.restarted().await;
    is_held(&host, "shop").await;
    is_old(&host).await;

    host.put("shop/public/a.css", "third");
    serves_file(&host, "/shop/a.css", "third").await;
    assert!(!host.app("shop").rolled_back);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_a_public_folder_that_can_not_be_served_takes_nothing_down() {
    let host = host().await;
    host.put("shop/public/a.css", "good");
    host.put("shop/app.wasm", version("code"));
    let good = serves_file(&host, "/shop/a.css", "good").await;
    let number = host.release("shop");
    let public = host.at("shop/public");
    let spoil = move || {
        fs::remove_file(public.join("a.css")).expect("removed");
        std::os::unix::fs::symlink("nowhere", public.join("a.css")).expect("linked");
    };
    let host = host.restarted_after(spoil).await;
    host.until("it says why", || host.problem("shop").contains("leads nowhere")).await;
    assert_eq!((seen(&host.get("/shop/a.css").await), host.release("shop")), (good, number));
    fs::remove_file(host.at("shop/public/a.css")).expect("removed");
    host.put("shop/public/a.css", "better");
    serves_file(&host, "/shop/a.css", "better").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_many_releases_are_kept_and_none_of_an_app_whose_file_was_deleted() {
    let config = "[apps]\nsettle_time = \"20ms\"\nscan_interval = \"50ms\"\n[defaults]\nkeep_releases = 3";
    let host = TestHost::builder().admin().config(config).start().await;
    for number in 1..=6 {
        host.deploy("shop", &number.to_string()).await;
    }
    let count = |path: &Path| {
        let names = fs::read_dir(path).expect("a list").map(|entry| entry.expect("an entry").file_name());
        names.filter(|name| name.len() == 64).count()
    };
    let state = host.at(".hostler");
    assert_eq!(count(&state), 3);
    order(&host, &["rollback", "shop", "3"]).await.ended_with(1).says("not kept");
    order(&host, &["rollback", "shop", "4"]).await.ended_with(0);
    host.remove("shop.wasm");
    host.until("it is retired", || host.find("shop").is_none()).await;
    host.until("nothing is kept of it", || count(&state) == 0).await;
    let left = fs::read_dir(host.at("")).expect("a list").count();
    assert_eq!(left, 1, "nothing but .hostler is left in the folder");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_place_for_releases_apps_are_served_and_the_log_says_what_is_lost() {
    let place = Place::new();
    place.write("apps/.hostler", "a file of somebody's");
    place.write("apps/shop.wasm", version("one"));
    let server = place.serve(&[], &[]).await;
    assert_eq!(server.get("/shop").await, (200, "one".to_owned()));
    let (code, log) = server.stop().await;
    assert_eq!(code, Some(0));
    assert_eq!(log.matches("nothing can be rolled back").count(), 1, "{log}");
    assert_eq!(fs::read(place.at("apps/.hostler")).expect("it is there"), b"a file of somebody's");
    // One that was named has to be good.
    place.config("[apps]\nstate_dir = \"apps/.hostler\"");
    let run = place.run(&["serve", "--listen", "127.0.0.1:0"], &[]).await;
    run.ended_with(1).says("name another place with state_dir under [apps]");
    let elsewhere = place.at("elsewhere");
    let server = place.serve(&[], &[("HOSTLER_STATE_DIR", elsewhere.to_str().expect("text"))]).await;
    assert_eq!(server.get("/shop").await.0, 200);
    assert!(elsewhere.join("README").is_file());
    let (_, log) = server.stop().await;
    assert!(!log.contains("rolled back"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deploys_that_take_long_keep_nobody_from_rolling_back() {
    let host = host().await;
    host.deploy("shop", "one").await;
    host.deploy("shop", "two").await;
    // More than are deployed at once, and all of them are asked for long.
    let slow: Vec<String> = (0..17).map(|n| format!("slow{n}")).collect();
    for app in &slow {
        host.put(&format!("{app}.toml"), "warmup = [\"/?ms=8000\"]");
        host.put_app(app, "sleeper");
    }
    // Those that have a place are known to be asked by the instances that they have made.
    let asked = || host.host().budget().units() - host.host().budget().free() >= 16;
    host.until("they are asked", asked).await;
    order(&host, &["rollback", "shop"]).await.ended_with(0);
    let live = slow.iter().filter(|app| host.release(app) > 0).count();
    assert_eq!((live, host.get("/shop").await.text()), (0, "one"), "it did not wait for any of them");
    host.until("all are live", || slow.iter().all(|app| host.release(app) > 0)).await;
}
