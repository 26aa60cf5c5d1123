//! `hostler deploy`: puts an app in place and says whether just these bytes are live.

use std::fs;
use std::path::PathBuf;

use crate::program::{Place, Run};
use crate::support::TestHost;
use crate::versions::{admin, answering, order, version};

struct Desk {
    place: Place,
    host: TestHost,
}

impl Desk {
    async fn new() -> Desk {
        let config = "[apps]\nsettle_time = \"20ms\"\nscan_interval = \"50ms\"\n";
        let host = TestHost::builder().admin().config(config).start().await;
        Desk { place: Place::new(), host }
    }

    /// Writes a file beside the program, not in the folder.
    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        self.place.write(name, bytes);
        self.place.at(name)
    }

    async fn deploy(&self, args: &[&str]) -> Run {
        let (admin, folder) = (admin(&self.host).to_string(), self.host.at(""));
        let folder = folder.to_str().expect("text");
        let args = [&["deploy"], args, &["--admin", &admin, "--folder", folder]].concat();
        self.place.run(&args, &[]).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_ends_with_0_when_just_these_bytes_are_live_and_says_where() {
    let desk = Desk::new().await;
    desk.file("shop.wasm", version("one"));
    let url = format!("http://{}/shop", desk.host.address());
    let run = desk.deploy(&["shop.wasm"]).await.ended_with(0);
    assert!(
        run.stdout.starts_with(&format!("shop is live at {url}: release 1, on probation for 60s")),
        "{run:?}"
    );
    assert_eq!(desk.host.get("/shop").await.text(), "one");
    desk.deploy(&["shop.wasm"])
        .await
        .ended_with(0)
        .says(&format!("shop is already live at {url}: release 1"));
    assert_eq!(desk.host.release("shop"), 1);

    // Its config goes along; one that is there already stays.
    desk.file("shop.toml", "path = \"/shop\"");
    desk.deploy(&["shop.wasm"]).await.ended_with(0).says("release 2");
    fs::remove_file(desk.place.at("shop.toml")).expect("removed");
    desk.file("new.wasm", version("two"));
    desk.deploy(&["new.wasm", "--name", "shop"]).await.ended_with(0).says("release 3");
    assert_eq!(fs::read(desk.host.at("shop.toml")).expect("it stays"), b"path = \"/shop\"");
    assert_eq!(desk.host.get("/shop").await.text(), "two");

    // An app that has a folder of its own, and one below another folder.
    desk.host.put("own/app.toml", "");
    desk.deploy(&["new.wasm", "--name", "own"]).await.ended_with(0);
    assert!(desk.host.at("own/app.wasm").is_file());
    desk.deploy(&["new.wasm", "--name", "api/v1"]).await.ended_with(0).says("/api/v1: release");
    let left =
        fs::read_dir(desk.host.at("")).expect("a list").map(|entry| entry.expect("an entry").file_name());
    let mut left: Vec<_> = left.map(|name| name.into_string().expect("text")).collect();
    left.sort();
    assert_eq!(left, [".hostler", "api", "own", "shop.toml", "shop.wasm"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_ends_with_1_and_the_reason_when_they_are_not() {
    let desk = Desk::new().await;
    desk.file("shop.wasm", version("one"));
    desk.deploy(&["shop.wasm"]).await.ended_with(0);
    // What can be seen to be no good is not put in place at all.
    desk.file("page.wasm", "<html>");
    desk.file("cut.wasm", &version("one")[..40]);
    for (file, why) in [("page.wasm", "HTML"), ("cut.wasm", ""), ("no.wasm", "read no.wasm")] {
        desk.deploy(&[file, "--name", "shop"]).await.ended_with(1).says(why);
        assert_eq!(fs::read(desk.host.at("shop.wasm")).expect("it stays"), version("one"), "{file}");
    }
    desk.deploy(&["shop.wasm", "--name", "a b"]).await.ended_with(1).says("is no app's name");
    desk.file("bad.wasm", version("two"));
    for (config, why) in [
        ("\nno_such_key = 1", "bad.toml:2: no_such_key: unknown key"),
        ("memory_limit = \"1 MB\"", "bad.toml:1: memory_limit: "),
        ("mode = \"pooled\"\nmax_requests = 1", "bad.toml:2: max_requests: mode pooled resets an instance"),
        ("mode = \"resident\"", "mode resident gives an instance many requests at once"),
    ] {
        desk.file("bad.toml", config);
        let run = desk.deploy(&["bad.wasm", "--name", "shop"]).await.ended_with(1);
        run.says("shop is not deployed: ").says(why);
        assert_eq!(fs::read(desk.host.at("shop.wasm")).expect("it stays"), version("one"), "{config}");
        assert!(!desk.host.at("shop.toml").exists(), "{config}");
    }
    // What the operator may have granted is for the host to say.
    desk.file("bad.toml", "max_requests = 1\nmemory_limit = \"4GiB\"\nhosts = [\"a.example.com\"]");
    let run = desk.deploy(&["bad.wasm", "--name", "other"]).await.ended_with(1);
    run.says("other is in its place at ").says("the operator can allow it");
    // What only the host can find out.
    desk.file("sick.wasm", answering("500 Internal Server Error", ""));
    desk.file("sick.toml", "warmup = [\"/\"]");
    let run = desk.deploy(&["sick.wasm", "--name", "shop"]).await.ended_with(1);
    run.says(&format!("shop is in its place at {}, but not live", desk.host.at("shop.wasm").display()))
        .says("its warmup request for / failed: it answered 500")
        .says("the release before serves on");
    let run = desk.deploy(&["sick.wasm", "--name", "shop"]).await.ended_with(1);
    run.says("its warmup request for / failed");
    assert_eq!(desk.host.get("/shop").await.text(), "one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_were_rolled_back_from_are_not_live_by_being_deployed_again() {
    let desk = Desk::new().await;
    for text in ["one", "two"] {
        desk.file("shop.wasm", version(text));
        desk.deploy(&["shop.wasm"]).await.ended_with(0);
    }
    order(&desk.host, &["rollback", "shop"]).await.ended_with(0);
    desk.deploy(&["shop.wasm"]).await.ended_with(1).says("was rolled back from these very bytes (by order)");
    desk.file("shop.wasm", version("three"));
    desk.deploy(&["shop.wasm"]).await.ended_with(0);
    assert_eq!(desk.host.get("/shop").await.text(), "three");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_deploys_at_once_the_one_that_is_overtaken_is_told_so() {
    let desk = Desk::new().await;
    for round in 0..5 {
        let texts = [format!("a{round}"), format!("b{round}")];
        for text in &texts {
            desk.file(&format!("{text}.wasm"), version(text));
        }
        let deploy = |text: &str| {
            let file = format!("{text}.wasm");
            let desk = &desk;
            async move { desk.deploy(&[&file, "--name", "shop"]).await }
        };
        let (a, b) = tokio::join!(deploy(&texts[0]), deploy(&texts[1]));
        let last = fs::read(desk.host.at("shop.wasm")).expect("one of them");
        let (last, runs) = (usize::from(last == version(&texts[1])), [a, b]);
        assert_eq!(runs[last].code, Some(0), "{runs:?}");
        // The other was live for a moment, or never.
        let other = &runs[1 - last];
        let overtaken = other.stderr.contains("its files were changed again meanwhile");
        assert!(other.code == Some(0) || (other.code == Some(1) && overtaken), "{other:?}");
        desk.host.serves("shop", &texts[last]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_no_host_runs_the_file_is_put_in_place_and_the_exit_code_is_3() {
    let place = Place::new();
    place.write("shop.wasm", version("one"));
    place.run(&["deploy", "shop.wasm"], &[]).await.ended_with(1).says("no admin listener is configured");
    assert!(!place.at("apps/shop.wasm").exists());
    // With the host's own configuration what the app may ask for is known beforehand.
    place.config("[admin]\nlisten = \"127.0.0.1:1\"");
    place.write("bad.toml", "memory_limit = \"4GiB\"");
    let run = place.run(&["deploy", "shop.wasm", "--app-config", "bad.toml"], &[]).await.ended_with(1);
    // By the name of the file that is to be put right, and not of the one that would have been made of it.
    run.says("shop is not deployed: bad.toml:1: memory_limit: 4GiB is more than")
        .says("the operator can allow it");
    assert!(!place.at("apps/shop.wasm").exists());
    place.config("");
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address");
    let run = place.run(&["deploy", "shop.wasm", "--admin", &free.to_string()], &[]).await.ended_with(3);
    run.says("shop is in its place").says("no host answers at");
    let server = place.serve(&[], &[]).await;
    assert_eq!(server.get("/shop").await, (200, "one".to_owned()));
    // One that serves another folder is none for this one.
    let desk = Desk::new().await;
    let run = place.run(&["deploy", "shop.wasm", "--admin", &admin(&desk.host).to_string()], &[]).await;
    run.ended_with(1).says("serves ");
}
