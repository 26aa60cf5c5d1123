//! Static files: what is in an app's `public/` is served by the host, and each release has its own.

use std::fs::File;

use bytes::Bytes;
use http::Method;

use crate::program::Place;
use crate::support::{Answer, Builder, TestHost};
use crate::wire::Wire;

/// A folder that is looked at often, and an app `shop` that may have static files.
fn shop() -> Builder {
    let config = "[apps]\nsettle_time = \"20ms\"\nscan_interval = \"200ms\"\n[defaults]\nmin_instances = 0";
    TestHost::builder().config(config).app("shop/app", "hello")
}

/// The same with these files in `public/`, served.
async fn with(files: &[(&str, &str)]) -> TestHost {
    let builder = shop();
    for (path, text) in files {
        builder.write(&format!("shop/public/{path}"), text);
    }
    builder.start().await
}

async fn ask(host: &TestHost, method: Method, path: &str, fields: &[(&str, &str)]) -> Answer {
    host.send(method, path, fields, Bytes::new()).await.expect("an answer")
}

async fn get(host: &TestHost, path: &str, fields: &[(&str, &str)]) -> Answer {
    ask(host, Method::GET, path, fields).await
}

fn is_of_app(answer: &Answer) -> bool {
    answer.status == 200 && answer.text() == "Hello from Hostler!\n"
}

/// More than sockets take in by themselves.
fn large(byte: u8) -> Vec<u8> {
    vec![byte; 32 << 20]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_served_without_waking_the_app_and_all_else_is_the_apps() {
    let host =
        with(&[("css/a b.css", "body{}"), ("index.html", "<p>home"), ("docs/index.html", "docs")]).await;
    let css = host.get("/shop/css/a%20b.css").await;
    assert_eq!((css.status.as_u16(), css.text()), (200, "body{}"));
    assert_eq!(css.header("content-type"), "text/css; charset=utf-8");
    assert_eq!(css.header("x-content-type-options"), "nosniff");
    assert_eq!((css.header("cache-control"), css.header("accept-ranges")), ("no-cache", "bytes"));
    assert!(
        !css.header("etag").is_empty()
            && !css.header("last-modified").is_empty()
            && css.header("vary").is_empty()
    );
    assert_eq!(host.get("/shop/").await.text(), "<p>home");
    assert_eq!(host.get("/shop/docs/?query").await.text(), "docs");
    let head = ask(&host, Method::HEAD, "/shop/css/a%20b.css", &[]).await;
    assert_eq!((head.status.as_u16(), head.header("content-length"), head.text()), (200, "6", ""));

    let app = host.app("shop");
    let stats = app.release.expect("a release").instances;
    assert_eq!((stats.made, stats.leased, stats.idle), (0, 0, 0), "no instance was needed");
    assert_eq!((app.requests.requests, app.requests.static_requests, app.requests.responses_2xx), (0, 4, 0));

    for path in ["/shop/none.css", "/shop/css", "/shop/css/", "/shop/css%2Fa%20b.css"] {
        assert!(is_of_app(&host.get(path).await), "{path}");
    }
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
        assert!(is_of_app(&ask(&host, method.clone(), "/shop/css/a%20b.css", &[]).await), "{method}");
    }
    let app = host.app("shop").requests;
    assert_eq!((app.requests, app.static_requests, app.responses_2xx), (8, 4, 8));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_with_an_index_is_redirected_to_its_slash() {
    let host =
        with(&[("index.html", "home"), ("docs/index.html", "docs"), ("a:b/index.html", "colon")]).await;
    for (path, target) in [
        ("/shop", "./shop/"),
        ("/shop?a=b", "./shop/?a=b"),
        ("/shop/docs", "./docs/"),
        ("/shop//docs", "./docs/"),
        ("/shop/a:b", "./a:b/"),
    ] {
        let answer = host.get(path).await;
        assert_eq!((answer.status.as_u16(), answer.header("location")), (301, target), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hidden_and_unfinished_files_and_paths_out_of_the_folder_are_never_served() {
    let host =
        with(&[(".env", "secret"), (".git/config", "secret"), ("a.css~", "secret"), ("a.swp", "secret")])
            .await;
    host.put("shop/app.toml", "env = { KEY = \"secret\" }");
    host.until("the config counts", || host.release("shop") == 2).await;
    for path in [
        "/shop/.env",
        "/shop/.git/config",
        "/shop/a.css~",
        "/shop/a.swp",
        "/shop/..%2fapp.toml",
        "/shop/%2e%2e%2fapp.toml",
        "/shop/%2e%2e/app.toml",
        "/shop/public/../../app.toml",
        "/shop/../shop/app.toml",
        "/shop/css/..%5c..%5capp.toml",
        "/shop/%00",
        "/shop/etc/passwd",
        "/shop//etc/passwd",
    ] {
        let mut wire = Wire::connect(host.address()).await;
        wire.ask(path).await;
        let head = wire.head().await.expect("an answer");
        let length = head.header("content-length").parse().expect("a length");
        let body = wire.exactly(length).await.expect("a whole answer");
        assert!(!String::from_utf8_lossy(&body).contains("secret"), "{path}");
        assert!(head.header("etag").is_empty(), "{path}: {head:?}");
    }
    assert_eq!(host.app("shop").requests.static_requests, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conditions_and_ranges_are_answered() {
    let host = with(&[("a.txt", "0123456789")]).await;
    let whole = host.get("/shop/a.txt").await;
    let (tag, date) = (whole.header("etag").to_owned(), whole.header("last-modified").to_owned());
    for fields in [("if-none-match", tag.as_str()), ("if-modified-since", date.as_str())] {
        let known = get(&host, "/shop/a.txt", &[fields]).await;
        assert_eq!((known.status.as_u16(), known.text()), (304, ""), "{fields:?}");
        assert_eq!((known.header("etag"), known.header("cache-control")), (tag.as_str(), "no-cache"));
    }
    assert_eq!(host.app("shop").requests.static_not_modified, 2);
    let failed = get(&host, "/shop/a.txt", &[("if-match", "\"other\"")]).await;
    assert_eq!((failed.status.as_u16(), failed.text()), (412, ""));
    assert_eq!((failed.header("cache-control"), failed.header("last-modified")), ("no-store", ""));
    let part = get(&host, "/shop/a.txt", &[("range", "bytes=2-4")]).await;
    assert_eq!((part.status.as_u16(), part.text()), (206, "234"));
    assert_eq!((part.header("content-range"), part.header("content-length")), ("bytes 2-4/10", "3"));
    let rest = get(&host, "/shop/a.txt", &[("range", "bytes=5-"), ("if-range", &tag)]).await;
    assert_eq!((rest.status.as_u16(), rest.text()), (206, "56789"));
    let other = get(&host, "/shop/a.txt", &[("range", "bytes=5-"), ("if-range", "\"other\"")]).await;
    assert_eq!((other.status.as_u16(), other.text()), (200, "0123456789"));
    let several = get(&host, "/shop/a.txt", &[("range", "bytes=0-1,4-5")]).await;
    assert_eq!((several.status.as_u16(), several.text()), (200, "0123456789"), "of several ranges none");
    let beyond = get(&host, "/shop/a.txt", &[("range", "bytes=10-")]).await;
    assert_eq!(
        (beyond.status.as_u16(), beyond.header("content-range"), beyond.text()),
        (416, "bytes */10", "")
    );
    assert_eq!((beyond.header("cache-control"), beyond.header("last-modified")), ("no-store", ""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compressed_file_beside_the_plain_one_is_sent_to_who_takes_it() {
    let host = with(&[("a.css", "plain"), ("a.css.br", "br"), ("a.css.gz", "gz!")]).await;
    let plain = host.get("/shop/a.css").await;
    assert_eq!((plain.text(), plain.header("content-encoding")), ("plain", ""));
    assert_eq!(plain.header("vary"), "accept-encoding");
    for (accept, text, encoding) in
        [("gzip", "gz!", "gzip"), ("gzip, br", "br", "br"), ("br;q=0.1, gzip;q=0.2", "gz!", "gzip")]
    {
        let answer = get(&host, "/shop/a.css", &[("accept-encoding", accept)]).await;
        assert_eq!((answer.text(), answer.header("content-encoding")), (text, encoding), "{accept}");
        assert_eq!(answer.header("content-type"), "text/css; charset=utf-8");
        assert_eq!(answer.header("vary"), "accept-encoding");
        assert_ne!(answer.header("etag"), plain.header("etag"));
        let fields = [("accept-encoding", accept), ("if-none-match", answer.header("etag"))];
        assert_eq!(get(&host, "/shop/a.css", &fields).await.status, 304);
        let fields = [("accept-encoding", accept), ("if-none-match", plain.header("etag"))];
        assert_eq!(get(&host, "/shop/a.css", &fields).await.status, 200, "another version's tag");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_in_public_alone_is_a_release_and_compiles_nothing() {
    let host = with(&[("a.css", "old")]).await;
    assert_eq!(host.get("/shop/a.css").await.text(), "old");
    let tag = host.get("/shop/a.css").await.header("etag").to_owned();
    host.put("shop/public/a.css", "new");
    let new = host.get_until("/shop/a.css", "the new file is served", |answer| answer.text() == "new").await;
    assert_ne!(new.header("etag"), tag);
    assert_eq!(get(&host, "/shop/a.css", &[("if-none-match", &tag)]).await.text(), "new");
    let release = host.app("shop").release.expect("a release");
    assert_eq!(release.number, 2);
    assert!(release.code.starts_with("loaded"), "{}", release.code);
    host.put("shop/public/b/c.css", "another");
    host.get_until("/shop/b/c.css", "a new file is served", |answer| answer.text() == "another").await;
    host.remove("shop/public/a.css");
    host.get_until("/shop/a.css", "a removed file is the app's", is_of_app).await;
    std::fs::remove_dir_all(host.at("shop/public")).expect("removed");
    host.get_until("/shop/b/c.css", "no file is left", is_of_app).await;
    assert!(host.app("shop").release.expect("a release").static_files.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_bytes_again_make_no_release() {
    let host = with(&[("a.css", "same")]).await;
    host.put("shop/public/a.css", "same");
    host.put("shop/public/.hidden", "not looked at");
    host.put_app("later", "hello");
    host.until("a later app is live", || host.release("later") > 0).await;
    assert_eq!(host.release("shop"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_outlives_its_file_and_its_release_and_is_what_it_was() {
    let host = with(&[]).await;
    host.put("shop/public/big.bin", large(b'a'));
    host.until("the file is in the release", || host.release("shop") == 2).await;
    let mut wire = Wire::connect(host.address()).await;
    wire.ask("/shop/big.bin").await;
    let head = wire.head().await.expect("a head");
    assert_eq!(head.header("content-length"), (32 << 20).to_string());
    // In its place: truncated, then written anew.
    File::options().write(true).truncate(true).open(host.at("shop/public/big.bin")).expect("truncated");
    host.until("the empty file is in a release", || host.release("shop") == 3).await;
    std::fs::write(host.at("shop/public/big.bin"), "short").expect("written");
    host.get_until("/shop/big.bin", "the new file is served", |answer| answer.text() == "short").await;
    let body = wire.exactly(32 << 20).await.expect("a whole body");
    assert!(body.iter().all(|byte| *byte == b'a'), "not a byte of another release");
    host.until("nothing is left of it", || host.host().status().static_files.disk_bytes == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_that_outlives_drain_timeout_is_broken_off() {
    let host = shop();
    host.write("shop/public/big.bin", large(b'a'));
    host.write("shop/app.toml", "drain_timeout = \"100ms\"");
    let host = host.start().await;
    let mut wire = Wire::connect(host.address()).await;
    wire.ask("/shop/big.bin").await;
    wire.head().await.expect("a head");
    host.put("shop/public/big.bin", "short");
    host.until("the new file is live", || host.release("shop") == 2).await;
    host.until("the old release has drained", || host.host().status().static_files.disk_bytes == 0).await;
    assert!(wire.exactly(32 << 20).await.is_err(), "what is not whole must not seem so");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_a_download_leaves_nothing_behind() {
    let host = with(&[]).await;
    host.put("shop/public/big.bin", large(b'a'));
    host.until("the file is in the release", || host.release("shop") == 2).await;
    for _ in 0..5 {
        let mut wire = Wire::connect(host.address()).await;
        wire.ask("/shop/big.bin").await;
        wire.head().await.expect("a head");
    }
    host.put("shop/public/big.bin", "short");
    host.get_until("/shop/big.bin", "the new file is served", |answer| answer.text() == "short").await;
    host.until("nothing is left of it", || host.host().status().static_files.disk_bytes == 0).await;
    host.until("no connection is left but the test's", || host.host().connections() <= 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_releases_keep_what_the_last_one_has() {
    let host = with(&[("same.bin", &"x".repeat(100_000)), ("a.css", "0")]).await;
    let first = host.host().status().static_files;
    for round in 1..=10 {
        host.put("shop/public/a.css", round.to_string());
        let text = round.to_string();
        host.get_until("/shop/a.css", "the next release is live", |answer| answer.text() == text).await;
    }
    host.until("the releases before are gone", || host.host().status().static_files.files == first.files)
        .await;
    assert_eq!(host.host().status().static_files.disk_bytes, 100_000, "what stays the same is kept once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deploy_that_fails_leaves_none_of_its_copies() {
    let host = with(&[("a.bin", &"a".repeat(100_000))]).await;
    host.put("shop/public/b.bin", "b".repeat(200_000));
    host.put("shop/app.wasm", "no app");
    host.until("the bad app is refused", || host.problem("shop").contains("plain text")).await;
    host.until("its copies are gone", || host.host().status().static_files.disk_bytes == 100_000).await;
    assert_eq!(host.get("/shop/a.bin").await.body.len(), 100_000);
    assert!(is_of_app(&host.get("/shop/b.bin").await), "what is not live is not served");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_looks_into_public_and_copies_nothing() {
    let place = Place::new();
    place.app("shop/app", "hello");
    place.write("apps/shop/public/a.css", "body{}");
    place.run(&["check"], &[]).await.ended_with(0).says("1 apps, 0 problems");
    std::os::unix::fs::symlink("/etc/passwd", place.at("apps/shop/public/x")).expect("linked");
    let run = place.run(&["check"], &[]).await.ended_with(78);
    run.says("public/x: a symbolic link that leads out of public/; put the file itself there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_keys_of_static_have_their_effects() {
    let host = shop();
    host.write("shop/public/home.htm", "home");
    host.write("shop/public/a.css", "body{}");
    host.write("shop/app.toml", "[static]\nindex = \"home.htm\"\ncache_control = \"public, max-age=60\"");
    let host = host.start().await;
    let home = host.get("/shop/").await;
    assert_eq!((home.text(), home.header("cache-control")), ("home", "public, max-age=60"));
    host.put("shop/app.toml", "[static]\nindex = \"off\"");
    host.get_until("/shop/", "folders are the app's", is_of_app).await;
    assert!(is_of_app(&host.get("/shop").await));
    assert_eq!(host.get("/shop/home.htm").await.text(), "home");
    // Also a folder that is not served may hold anything.
    std::os::unix::fs::symlink("/etc/passwd", host.at("shop/public/link")).expect("linked");
    host.put("shop/app.toml", "[static]\nenabled = false");
    host.get_until("/shop/a.css", "files are the app's", is_of_app).await;
    assert_eq!(host.problem("shop"), "");
    std::fs::remove_file(host.at("shop/public/link")).expect("removed");
    for (own, problem) in [
        ("max_files = 1", "more than 1 files and folders"),
        ("max_size = 9", "more than 9 bytes"),
        ("max_depth = 1", "public/sub: folders within folders are served 1 deep"),
    ] {
        std::fs::create_dir_all(host.at("shop/public/sub")).expect("created");
        host.put("shop/app.toml", format!("[static]\n{own}"));
        host.until(own, || host.problem("shop").contains(problem)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operators_bounds_on_copies_hold() {
    let host = shop().config("[cache]\nstatic_memory = 0\nstatic_disk = \"100KiB\"");
    host.write("shop/public/a.css", "on disk");
    let host = host.start().await;
    assert_eq!(host.get("/shop/a.css").await.text(), "on disk");
    let usage = host.host().status().static_files;
    assert_eq!((usage.memory_bytes, usage.disk_bytes), (0, 7));
    host.put("shop/public/b.bin", vec![0; 200_000]);
    host.until("there is no room", || host.problem("shop").contains("static_disk under [cache]")).await;
    assert_eq!(host.get("/shop/a.css").await.text(), "on disk", "what was live stays so");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_mounted_where_their_app_is_and_redirects_within_an_app_find_them() {
    let builder = TestHost::builder()
        .config("[grants.\"*\"]\nhosts = [\"shop.example.com\"]\npaths = [\"/\"]")
        .app("shop/app", "cgi-rust")
        .app("index", "index");
    builder.write("shop/app.toml", "hosts = [\"shop.example.com\"]\npath = \"/\"");
    builder.write("shop/public/a.css", "body{}");
    let host = builder.start().await;
    let named = [("host", "shop.example.com")];
    assert_eq!(get(&host, "/a.css", &named).await.text(), "body{}");
    assert_eq!(host.get("/a.css").await.status, 404, "another name is another app's");
    assert_eq!(host.get("/shop/a.css").await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_in_public_is_followed_inside_alone_and_so_is_public_itself() {
    let builder = shop();
    builder.write("shop/..v1/public/a.css", "one");
    builder.write("shop/..v2/public/a.css", "two");
    let apps = builder.apps_folder();
    std::os::unix::fs::symlink("..v1", apps.join("shop/..data")).expect("linked");
    std::os::unix::fs::symlink("..data/public", apps.join("shop/public")).expect("linked");
    let host = builder.start().await;
    assert_eq!(host.get("/shop/a.css").await.text(), "one");
    // As an orchestrator swaps a mounted folder: all files at once.
    std::os::unix::fs::symlink("..v2", host.at("shop/..new")).expect("linked");
    std::fs::rename(host.at("shop/..new"), host.at("shop/..data")).expect("renamed");
    host.get_until("/shop/a.css", "the other folder is served", |answer| answer.text() == "two").await;
    std::fs::create_dir_all(host.at("other/public")).expect("created");
    std::fs::remove_file(host.at("shop/public")).expect("removed");
    std::os::unix::fs::symlink("../other/public", host.at("shop/public")).expect("linked");
    host.until("it leads out", || host.problem("shop").contains("public leads out of the app's folder"))
        .await;
    assert_eq!(host.get("/shop/a.css").await.text(), "two", "what was live stays so");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_served_over_http2_and_under_load_while_they_are_replaced() {
    let host = std::sync::Arc::new(with(&[("a.css", "0")]).await);
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (host, stop) = (host.clone(), stop.clone());
            tokio::spawn(async move {
                let mut tags = std::collections::BTreeMap::new();
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let answer = get(&host, "/shop/a.css", &[]).await;
                    assert_eq!(answer.status, 200);
                    let (tag, text) = (answer.header("etag").to_owned(), answer.text().to_owned());
                    assert_eq!(tags.entry(tag).or_insert(text.clone()), &text, "one tag, two contents");
                }
                tags.len()
            })
        })
        .collect();
    for round in 1..=8_usize {
        host.put("shop/public/a.css", "x".repeat(round * 20_000));
        host.until("the next release is live", || {
            host.app("shop").release.is_some_and(|release| {
                release.static_files.is_some_and(|files| files.bytes == round as u64 * 20_000)
            })
        })
        .await;
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    for client in clients {
        assert!(client.await.expect("no panic") > 1);
    }
    host.until("the clients have let go", || std::sync::Arc::strong_count(&host) == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_is_lost_is_told_and_not_served_by_halves() {
    let cache = tempfile::tempdir().expect("a folder");
    let builder = shop().admin().cache(&cache.path().join("cache"));
    builder.write("shop/public/big.bin", vec![b'a'; 1 << 20]);
    let host = builder.start().await;
    assert_eq!(host.get("/shop/big.bin").await.body.len(), 1 << 20);
    let copies =
        std::fs::read_dir(cache.path().join("cache")).expect("listed").flatten().map(|entry| entry.path());
    let copies = copies.filter(|path| path.is_dir()).flat_map(|dir| std::fs::read_dir(dir).expect("listed"));
    let copies: Vec<_> = copies.flatten().map(|entry| entry.path()).collect();
    assert_eq!(copies.len(), 1);
    std::fs::remove_file(&copies[0]).expect("removed");
    let answer = host.get("/shop/big.bin").await;
    assert_eq!(answer.status, 503);
    assert!(answer.text().contains("the file can't be read just now"), "{}", answer.text());
    assert!(!answer.header("retry-after").is_empty());
    assert_eq!(host.app("shop").requests.static_failed, 1);
    std::fs::write(&copies[0], "short").expect("written");
    assert!(host.send(Method::GET, "/shop/big.bin", &[], Bytes::new()).await.is_err(), "a broken answer");
    let admin = host.host().admin_address().expect("an admin listener").to_string();
    Place::new().run(&["restart", "shop", "--admin", &admin], &[]).await.ended_with(0);
    assert_eq!(host.get("/shop/big.bin").await.body, vec![b'a'; 1 << 20], "copied anew");
}
