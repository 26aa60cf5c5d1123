//! `hostler restart` and the order behind it: an app's present files are built anew while the old release serves.

use std::net::SocketAddr;
use std::time::Instant;

use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty};

use crate::program::{Place, Run};
use crate::support::{PATIENCE, TestHost};
use crate::wire::Wire;

fn admin(host: &TestHost) -> SocketAddr {
    host.host().admin_address().expect("an admin listener")
}

/// Runs the program against this host.
async fn restart(host: &TestHost, app: &str) -> Run {
    Place::new().run(&["restart", app, "--admin", &admin(host).to_string()], &[]).await
}

/// A core module that is a command; each instance runs `start` when it is made.
fn command(start: &str) -> Vec<u8> {
    let text = format!(
        "(module (memory (export \"memory\") 1) (func (export \"_start\")) (func $start {start}) (start $start))"
    );
    wat::parse_str(text).expect("a module")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_makes_a_new_release_of_the_present_files() {
    let host = TestHost::builder().admin().app("shop", "hello").app("other", "hello").start().await;
    let before = host.release("shop");
    let run = restart(&host, "shop").await.ended_with(0);
    let after = host.release("shop");
    assert!(after > before);
    assert_eq!(
        run.stdout,
        format!("shop is restarted: release {after} is live, release {before} drains\n"),
        "{run:?}"
    );
    assert_eq!(host.get("/shop").await.text(), "Hello from Hostler!\n");
    assert_eq!(host.app("shop").problem, None);
    restart(&host, "shop").await.ended_with(0);
    assert!(host.release("shop") > after, "as often as it is asked for");
    assert!(host.release("other") < after, "no other app is touched");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_in_folders_is_restarted_by_its_whole_name() {
    let host = TestHost::builder()
        .admin()
        .app("api/v1", "hello")
        .app("api/v2", "hello")
        .app("restart", "hello")
        .start()
        .await;
    let other = host.release("api/v2");
    restart(&host, "api/v1").await.ended_with(0).says("api/v1 is restarted");
    assert!(host.release("api/v1") > other);
    assert_eq!(host.release("api/v2"), other);
    restart(&host, "restart").await.ended_with(0).says("restart is restarted");
    restart(&host, "api").await.ended_with(1).says("api is not restarted: there is no such app");
    restart(&host, "api/").await.ended_with(1).says("is no app's name");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_in_flight_finish_on_the_release_that_is_replaced() {
    let host = TestHost::builder().admin().app("sleeper", "sleeper").start().await;
    let mut wire = Wire::connect(host.address()).await;
    wire.ask("/sleeper?ms=1500").await;
    let leased = || host.app("sleeper").release.expect("a release").instances.leased;
    host.until("it is asked", || leased() == 1).await;
    restart(&host, "sleeper").await.ended_with(0);
    assert_eq!(leased(), 0, "the new release's pool is its own");
    assert_eq!(wire.answer().await.expect("an answer").1, "slept 1500 ms\n");
    host.settled("sleeper").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_that_fails_says_why_and_the_release_before_serves_on() {
    let host = TestHost::builder().admin().app("shop", "hello").bytes("never", b"garbage").start().await;
    let before = host.release("shop");
    let run = restart(&host, "never").await.ended_with(1);
    run.says("never is not restarted: plain text");
    host.put("shop.toml", "memory_limit = \"1GiB\"");
    host.until("it is refused", || host.problem("shop").contains("memory_limit")).await;
    let run = restart(&host, "shop").await.ended_with(1);
    run.says("shop is not restarted: shop.toml:1: memory_limit").says("; the release before serves on");
    assert_eq!((host.release("shop"), host.get("/shop").await.status), (before, StatusCode::OK));
    host.put("shop.toml", "memory_limit = \"64MiB\"");
    host.until("it is live", || host.release("shop") > before).await;
    restart(&host, "shop").await.ended_with(0);
    assert_eq!(host.problem("shop"), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_ends_the_pause_after_failures_at_once() {
    let host = TestHost::builder()
        .admin()
        .bytes("shop", &command("unreachable"))
        .app_config("shop", "min_instances = 0")
        .start()
        .await;
    let failed = || host.app("shop").release.expect("a release").instances.failed;
    // In the pause after a failure nothing is tried.
    host.get_until("/shop", "it is answered without a try", |answer| {
        answer.status == StatusCode::SERVICE_UNAVAILABLE
    })
    .await;
    assert!(failed() > 0);
    restart(&host, "shop").await.ended_with(0);
    assert_eq!(failed(), 0, "a pool of its own");
    host.get("/shop").await;
    assert_eq!(failed(), 1, "the first request is not answered with the old pause");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_admin_listener_a_restart_says_what_to_do() {
    let place = Place::new();
    let run = place.run(&["restart", "shop"], &[]).await.ended_with(1);
    run.says("no admin listener is configured").says("hostler serve --admin").says("[admin]");
    let nobody = free_address();
    let run = place.run(&["restart", "shop", "--admin", &nobody], &[]).await.ended_with(1);
    run.says(&format!("no host answers at {nobody}"));
    place.run(&["restart", "shop", "--admin", "127.0.0.1:0"], &[]).await.ended_with(1).says("any free port");
    place.run(&["restart"], &[]).await.ended_with(2);
    place.config("[admin]\nlistn = \"x\"");
    place.run(&["restart", "shop"], &[]).await.ended_with(78).says("did you mean listen?");
}

/// An address that nobody listens at: taken once, and let go.
fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address").to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_admin_listener_is_the_flags_before_the_environments_before_the_files() {
    let host = TestHost::builder().admin().app("shop", "hello").start().await;
    let (right, wrong) = (admin(&host).to_string(), free_address());
    let place = Place::new();
    let run = async |args: &[&str], env: &str, file: &str| {
        place.config(&format!("[admin]\nlisten = \"{file}\""));
        let env: &[(&str, &str)] = if env.is_empty() { &[] } else { &[("HOSTLER_ADMIN", env)] };
        place.run(&[&["restart", "shop"], args].concat(), env).await
    };
    run(&[], "", &right).await.ended_with(0);
    run(&[], "", &wrong).await.ended_with(1);
    run(&[], &right, &wrong).await.ended_with(0);
    run(&["--admin", &right], &wrong, &wrong).await.ended_with(0);
    let apps = host.address().to_string();
    run(&["--admin", &apps], "", &right).await.ended_with(1).says("no admin listener of Hostler");
}

/// The answer of the admin listener: status, headers and text.
async fn send(
    address: SocketAddr,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
) -> (StatusCode, HeaderMap, String) {
    let stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
    let stream = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.expect("HTTP/1.1");
    tokio::spawn(connection);
    let request = Request::builder().method(method).uri(path).header("host", address.to_string());
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let request = request.body(Empty::<bytes::Bytes>::new()).expect("a request");
    let (head, body) = sender.send_request(request).await.expect("an answer").into_parts();
    let body = body.collect().await.expect("a whole body").to_bytes().to_vec();
    (head.status, head.headers, String::from_utf8(body).expect("text"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_are_not_taken_from_a_page_in_a_browser() {
    let host = TestHost::builder().admin().app("shop", "hello").start().await;
    let (admin, path, json) = (admin(&host), "/apps/shop/restart", ("content-type", "application/json"));
    let form = ("content-type", "application/x-www-form-urlencoded");
    let from = |origin| ("origin", origin);
    for (headers, status) in [
        (&[][..], 415),
        (&[form], 415),
        (&[("content-type", "text/plain; application/json")], 415),
        (&[json, from("https://evil.example")], 403),
        (&[json, from("null")], 403),
    ] {
        let (answered, _, text) = send(admin, Method::POST, path, headers).await;
        assert_eq!(answered, status, "{headers:?}: {text}");
    }
    for method in [Method::GET, Method::PUT, Method::OPTIONS] {
        let (status, headers, _) = send(admin, method.clone(), path, &[json]).await;
        assert_eq!((status, &headers["allow"]), (StatusCode::METHOD_NOT_ALLOWED, &"POST".parse().unwrap()));
        assert!(!headers.contains_key("access-control-allow-origin"), "{method}");
    }
    assert_eq!(host.release("shop"), 1, "none of these was obeyed");
    let (status, _, text) = send(admin, Method::POST, path, &[json]).await;
    let answer: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((status, &answer["release"], &answer["replaced"]), (StatusCode::OK, &2.into(), &1.into()));
    for (path, status) in [("/apps/shop/rollback?release=x", 400), ("/apps/shop/deployed", 400)] {
        assert_eq!(send(admin, Method::POST, path, &[json]).await.0, status, "{path}");
    }
    for (method, status) in [(Method::GET, 200), (Method::POST, 405)] {
        assert_eq!(send(admin, method, "/apps/shop/releases", &[]).await.0, status, "it is no order");
    }
    for about in ["rollback", "deployed"] {
        assert_eq!(send(admin, Method::POST, &format!("/apps/shop/{about}"), &[]).await.0, 415, "{about}");
    }
    for (path, status) in [
        ("/apps/none/restart", 404),
        ("/apps/%2e%2e/restart", 404),
        ("/apps/%ff/restart", 404),
        ("/apps//restart", 404),
        ("/apps/shop", 405),
        ("/status", 405),
    ] {
        assert_eq!(send(admin, Method::POST, path, &[json]).await.0, status, "{path}");
    }
    assert_eq!(send(host.address(), Method::POST, path, &[json]).await.0, 404, "the apps' own listener");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_whose_files_are_gone_is_not_restarted_and_a_lost_folder_is_told() {
    let config = "[apps]\nsettle_time = \"20ms\"\nscan_interval = \"50ms\"";
    let host =
        TestHost::builder().admin().config(config).app("shop", "hello").app("gone", "hello").start().await;
    host.remove("gone.wasm");
    host.until("it is retired", || host.find("gone").is_none()).await;
    restart(&host, "gone").await.ended_with(1).says("there is no such app");
    let (apps, away) = (host.folder().join("apps"), host.folder().join("away"));
    std::fs::rename(&apps, &away).expect("to move the folder");
    // The host notices at its next look.
    restarted_until(&host, "shop", 1).await.says("shop is not restarted: ");
    assert_eq!(host.get("/shop").await.status, StatusCode::OK);
    std::fs::rename(&away, &apps).expect("to move it back");
    restarted_until(&host, "shop", 0).await;
    assert_eq!(host.get("/shop").await.status, StatusCode::OK);
}

/// Runs the program again and again until it ends so.
async fn restarted_until(host: &TestHost, app: &str, code: i32) -> Run {
    let began = Instant::now();
    loop {
        let run = restart(host, app).await;
        if run.code == Some(code) {
            return run;
        }
        assert!(began.elapsed() < PATIENCE, "waited in vain for code {code}: {run:?}");
    }
}
