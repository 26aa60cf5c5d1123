//! Tenants that mean harm, by what they put into the folder: each is refused with a reason and none harms a neighbour.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use hostler::registry::FolderView;

use crate::program::Place;
use crate::support::{Builder, TestHost, guest};

/// A neighbour, and a folder that is looked at often.
fn neighbourhood() -> Builder {
    let config = "[apps]\nsettle_time = \"20ms\"\nscan_interval = \"200ms\"";
    TestHost::builder().config(config).app("good", "hello")
}

async fn neighbour_answers(host: &TestHost) {
    for _ in 0..20 {
        let answer = host.get("/good").await;
        assert_eq!((answer.status.as_u16(), answer.text()), (200, "Hello from Hostler!\n"));
    }
}

/// A new app beside it all goes live: deploys go on.
async fn neighbour_deploys(host: &TestHost, name: &str) {
    host.put_app(name, "hello");
    host.until("a neighbour's deploy is live", || host.release(name) > 0).await;
}

fn folder(host: &TestHost) -> FolderView {
    host.host().status().folder
}

/// What status says of a path in the folder or of an app; nothing if nothing is wrong with it.
fn said(host: &TestHost, what: &str) -> String {
    let path = folder(host).paths.into_iter().find(|problem| problem.path == what);
    path.map(|problem| problem.problem).unwrap_or_else(|| host.problem(what))
}

fn fifo(path: &Path) {
    assert!(std::process::Command::new("mkfifo").arg(path).status().expect("mkfifo runs").success());
}

fn sparse(path: &Path) {
    let file = std::fs::File::create(path).expect("created");
    file.set_len(10 << 30).expect("a file with nothing in it");
}

/// Makes something at a path.
type Make = fn(&Path);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_are_none_are_refused_with_a_reason_that_stands_until_it_is_over() {
    let host = neighbourhood().start().await;
    std::fs::create_dir_all(host.at("socket")).expect("created");
    let acts: [(&str, &str, Make, &str); 15] = [
        (
            "passwd.wasm",
            "passwd.wasm",
            |at| symlink("/etc/passwd", at).expect("linked"),
            "leads out of the apps folder",
        ),
        (
            "zero.wasm",
            "zero.wasm",
            |at| symlink("/dev/zero", at).expect("linked"),
            "leads out of the apps folder",
        ),
        (
            "up.wasm",
            "up.wasm",
            |at| symlink("../hostler.toml", at).expect("linked"),
            "leads out of the apps folder",
        ),
        ("fifo.wasm", "fifo.wasm", fifo, "it is a FIFO"),
        (
            "socket/app.wasm",
            "socket/app.wasm",
            |at| drop(UnixListener::bind(at).expect("bound")),
            "it is a socket",
        ),
        (
            "folder/app.wasm",
            "folder/app.wasm",
            |at| std::fs::create_dir_all(at).expect("created"),
            "it is a folder",
        ),
        (
            "loop.wasm",
            "loop.wasm",
            |at| symlink("loop.wasm", at).expect("linked"),
            "a symbolic link to itself",
        ),
        (
            "nowhere.wasm",
            "nowhere.wasm",
            |at| symlink("none", at).expect("linked"),
            "a symbolic link that leads nowhere",
        ),
        ("sparse.wasm", "sparse", sparse, "has 10737418240 bytes; at most 268435456 are allowed"),
        ("shop/app.toml", "shop/app.toml", fifo, "it is a FIFO"),
        (
            "shop2/app.toml",
            "shop2/app.toml",
            |at| symlink("/etc/passwd", at).expect("linked"),
            "leads out of the apps folder",
        ),
        (
            "shop3/public/x",
            "shop3",
            |at| symlink("/etc/passwd", at).expect("linked"),
            "public/x: a symbolic link that leads out",
        ),
        ("shop4/public/x", "shop4", fifo, "public/x: it is a FIFO"),
        ("shop5/public/x", "shop5", sparse, "public/ has more than 268435456 bytes"),
        (
            "shop6/public/x",
            "shop6",
            |at| symlink("/dev/zero", at).expect("linked"),
            "public/x: a symbolic link that leads out",
        ),
    ];
    for (place, what, make, reason) in acts {
        if let Some((app, _)) = place.split_once('/').filter(|(app, _)| app.starts_with("shop")) {
            host.put_app(&format!("{app}/app"), "hello");
            std::fs::create_dir_all(host.at(place).parent().expect("a parent")).expect("created");
        }
        make(&host.at(place));
        host.until(&format!("{place} is refused"), || said(&host, what).contains(reason)).await;
        neighbour_answers(&host).await;
    }
    neighbour_deploys(&host, "other").await;
    for (place, ..) in acts {
        let is_folder = host.at(place).symlink_metadata().expect("there").is_dir();
        let removed = if is_folder {
            std::fs::remove_dir(host.at(place))
        } else {
            std::fs::remove_file(host.at(place))
        };
        removed.expect("removed");
    }
    host.until("nothing is said any more", || folder(&host) == FolderView::default()).await;
    let shops = ["shop", "shop2", "shop3", "shop4", "shop5", "shop6"];
    host.until("the apps are live", || shops.iter().all(|shop| host.release(shop) > 0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_live_of_an_app_outlives_its_own_harm() {
    let host = neighbourhood().app("shop/app", "hello").start().await;
    let release = host.release("shop");
    std::fs::remove_file(host.at("shop/app.wasm")).expect("removed");
    fifo(&host.at("shop/app.wasm"));
    host.until("it is refused", || said(&host, "shop/app.wasm").contains("it is a FIFO")).await;
    assert_eq!(host.get("/shop").await.text(), "Hello from Hostler!\n");
    assert_eq!(host.release("shop"), release);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_have_cannot_be_claimed() {
    let host = neighbourhood().start().await;
    for (name, config, reason) in [
        ("host", "hosts = [\"good.example.com\"]", "hosts: good.example.com is not granted"),
        ("path", "path = \"/good\"", "path: /good is not granted"),
        ("root", "path = \"/\"", "path: / is not granted"),
        ("below", "path = \"/good/below\"", "path: /good/below is not granted"),
        ("dots", "path = \"/dots/../good\"", "path: /good is not granted"),
        ("escaped", "path = \"/%67ood\"", "path: /good is not granted"),
        ("memory", "memory_limit = \"4GiB\"", "memory_limit: 4GiB is more than the 128MiB of [defaults]"),
        ("cpu", "cpu_time = \"1h\"", "cpu_time: 1h is more than the 10s of [defaults]"),
        ("weight", "weight = 1000", "weight: 1000 is more than the 100 of [defaults]"),
        (
            "files",
            "static.max_files = 1_000_000",
            "static.max_files: 1000000 is more than the 10000 of [defaults]",
        ),
        ("operator", "[grants.operator]\nmemory_limit = \"4GiB\"", "grants: unknown key"),
        ("nonsense", "\u{0}", "nonsense"),
    ] {
        host.put(&format!("{name}/app.toml"), config);
        host.put_app(&format!("{name}/app"), "index");
        host.until(&format!("{name} is refused"), || said(&host, name).contains(reason)).await;
        assert_eq!(host.release(name), 0, "{name}");
        neighbour_answers(&host).await;
    }
    assert_eq!(host.get("/").await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crowds_and_depths_are_bounded_and_cost_only_who_makes_them() {
    let host =
        neighbourhood().config("[defaults.static]\nmax_files = 100").app("shop/app", "hello").start().await;
    std::fs::create_dir_all(host.at("crowd")).expect("created");
    std::fs::create_dir_all(host.at("shop/public")).expect("created");
    for number in 0..=10_000 {
        std::fs::File::create(host.at(&format!("crowd/{number}.txt"))).expect("created");
    }
    for number in 0..=100 {
        std::fs::File::create(host.at(&format!("shop/public/{number}"))).expect("created");
    }
    let deep = "d/".repeat(100);
    std::fs::create_dir_all(host.at(&deep)).expect("created");
    std::fs::write(host.at(&deep).join("x.wasm"), "").expect("written");
    let long = "n".repeat(240);
    std::fs::create_dir_all(host.at(&long)).expect("created");
    std::fs::write(host.at(&long).join("nnnnnnnnnnnnnnnnnnnnn.wasm"), "").expect("written");
    host.until("the crowd is seen", || said(&host, "crowd").contains("more than 10000 entries")).await;
    host.until("the other crowd is seen", || {
        said(&host, "shop").contains("public/ has more than 100 files and folders")
    })
    .await;
    host.until("the depth is seen", || said(&host, "d/d/d/d/d/d/d/d").contains("8 deep")).await;
    host.until("the long name is seen", || {
        folder(&host).paths.iter().any(|problem| problem.problem.contains("the name has 262 bytes"))
    })
    .await;
    neighbour_answers(&host).await;
    neighbour_deploys(&host, "other").await;
    assert_eq!(host.get("/shop").await.text(), "Hello from Hostler!\n", "what was live stays so");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_bad_paths_the_first_are_shown_and_the_others_counted() {
    let host = neighbourhood().start().await;
    for number in 0..150 {
        std::fs::write(host.at(&format!("bad name {number}.wasm")), "").expect("written");
    }
    host.until("all are seen", || folder(&host).further_paths == 50).await;
    assert_eq!(folder(&host).paths.len(), 100);
    neighbour_deploys(&host, "other").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_never_come_to_rest_keep_nobody_from_deploying() {
    let host = neighbourhood().app("shop/app", "hello").start().await;
    let stop = Arc::new(AtomicBool::new(false));
    let (writing, stopped) = (host.at("shop"), stop.clone());
    let code = std::fs::read(guest("index")).expect("the guest");
    let restless = std::thread::spawn(move || {
        std::fs::create_dir_all(writing.join("public")).expect("created");
        let mut round = 0_u64;
        while !stopped.load(Relaxed) {
            round += 1;
            std::fs::write(writing.join("public/a.css"), round.to_string()).expect("written");
            std::fs::write(writing.join("app.wasm"), code.get(..code.len() / 2).expect("half"))
                .expect("written");
            std::fs::write(writing.join("app.wasm"), &code).expect("written");
        }
        std::fs::write(writing.join("public/a.css"), "last").expect("written");
    });
    for number in 0..3 {
        neighbour_deploys(&host, &format!("other{number}")).await;
        neighbour_answers(&host).await;
    }
    stop.store(true, Relaxed);
    restless.join().expect("no panic");
    host.get_until("/shop/a.css", "what it came to is served", |answer| answer.text() == "last").await;
    assert!(host.get("/shop").await.text().contains("Welcome to Hostler"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_folder_as_a_whole_is_shown_while_it_is_lost() {
    let host = neighbourhood().start().await;
    let (apps, away) = (host.folder().join("apps"), host.folder().join("away"));
    std::fs::rename(&apps, &away).expect("to move the folder");
    let problem = |text: &'static str| folder(&host).problem.is_some_and(|problem| problem.contains(text));
    host.until("it is missed", || problem("cannot be listed")).await;
    std::fs::create_dir(&apps).expect("an empty folder");
    host.until("it is empty", || problem("put a file in it if that is meant")).await;
    neighbour_answers(&host).await;
    std::fs::remove_dir(&apps).expect("to remove it");
    std::fs::rename(&away, &apps).expect("to move it back");
    host.until("it is over", || folder(&host) == FolderView::default()).await;
}

/// Names and links by which a tenant would write lines of its own into the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_line_of_the_log_can_be_forged_by_a_name() {
    let place = Place::new();
    place.app("good", "hello");
    let server = place.serve(&[], &[]).await;
    let apps = place.at("apps");
    let forged = "\n2026-01-01T00:00:00Z  INFO forged\r\u{1b}[2Kforged\u{202e}";
    let named = |dir: &Path, before: &str, after: &str| {
        let mut name = before.as_bytes().to_vec();
        name.extend(forged.as_bytes());
        name.extend(after.as_bytes());
        dir.join(std::ffi::OsStr::from_bytes(&name))
    };
    std::fs::write(named(&apps, "a", ".wasm"), "x").expect("written");
    std::fs::create_dir_all(named(&apps, "folder", "")).expect("created");
    std::fs::write(named(&apps, "b", ".bin"), "garbage").expect("written");
    symlink(named(Path::new(""), "b", ".bin"), apps.join("linked.wasm")).expect("linked");
    sparse(&named(&apps, "c", ".bin"));
    symlink(named(Path::new(""), "c", ".bin"), apps.join("sparse.wasm")).expect("linked");
    std::fs::write(named(&apps, "d", ".bin"), format!("\"{}\" = 1", forged.escape_default()))
        .expect("written");
    symlink(named(Path::new(""), "d", ".bin"), apps.join("config.toml")).expect("linked");
    place.app("config", "hello");
    place.app("shop/app", "hello");
    std::fs::create_dir_all(apps.join("shop/public")).expect("created");
    std::fs::write(named(&apps.join("shop/public"), "x", ""), "x").expect("written");
    for app in ["linked", "sparse", "config", "shop"] {
        server.logs(&format!("app=\"{app}\"")).await;
    }
    let (_, log) = server.stop().await;
    for line in log.split('\n').filter(|line| !line.is_empty()) {
        let begin = line.split_whitespace().nth(2).unwrap_or_default();
        assert!(begin.starts_with("hostler::"), "not a line of the host's own: {line:?}");
        assert!(!line.contains(['\r', '\u{1b}', '\u{202e}']), "{line:?}");
    }
}
