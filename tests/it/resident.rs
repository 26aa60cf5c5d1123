//! Mode `resident`: one instance, many requests at once.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use http::{Method, StatusCode};

use crate::support::{Answer, TestHost};

async fn host(config: &str, apps: &[(&str, &str)]) -> TestHost {
    let builder =
        TestHost::builder().admin().config("[apps]\nsettle_time = \"20ms\"\nscan_interval = \"50ms\"\n");
    let config = format!("mode = \"resident\"\n{config}");
    let with = apps
        .iter()
        .fold(builder, |builder, (name, guest)| builder.app(name, guest).app_config(name, &config));
    with.start().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_instance_works_on_many_requests_at_once_and_status_says_that_they_share_it() {
    let host = host("", &[("canary", "canary-p3"), ("hello", "hello-p3")]).await;
    let begun = Instant::now();
    let answers = join_all((0..30).map(|_| host.get("/hello?stream=3&ms=200"))).await;
    assert!(answers.iter().all(|answer| answer.text() == "line 1\nline 2\nline 3\n"));
    assert!(begun.elapsed() < Duration::from_millis(30 * 400 / 2), "they had to wait: {:?}", begun.elapsed());
    let mut counts: Vec<_> =
        join_all((0..30).map(|_| host.get("/canary"))).await.iter().map(Answer::count).collect();
    counts.sort_unstable();
    assert_eq!(counts, (1..=30).collect::<Vec<_>>(), "one instance had them all");
    host.settled("canary").await;
    let release = serde_json::to_value(host.app("canary").release).expect("a release");
    assert_eq!((&release["mode"], &release["guest_state"]), (&"resident".into(), &"shared".into()));
    assert_eq!(release["resident_instances"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_go_both_ways_at_once() {
    let host = host("", &[("hello", "hello-p3")]).await;
    let asked = (0..8_u8).map(|letter| {
        let body = [b'a' + letter].repeat(300_000);
        let host = &host;
        async move { (host.post("/hello", body.clone()).await, body) }
    });
    for (answer, body) in join_all(asked).await {
        assert!(answer.body == body, "{} bytes came back", answer.body.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trap_ends_what_is_on_the_instance_and_a_new_one_takes_over() {
    let host = host("", &[("hello", "hello-p3"), ("canary", "canary-p3")]).await;
    let beside = join_all((0..5).map(|_| host.send(Method::GET, "/hello?stream=100&ms=100", &[], "".into())));
    let trap = async {
        // They have begun when the instance has been asked for something else.
        assert_eq!(host.get("/hello").await.status, StatusCode::OK);
        host.until("they run", || host.app("hello").release.is_some_and(|live| live.instances.leased == 5))
            .await;
        host.send(Method::GET, "/hello?trap=after", &[], "".into()).await
    };
    let (beside, trapped) = tokio::join!(beside, trap);
    let is_whole = trapped.is_ok_and(|answer| answer.status.is_success());
    assert!(!is_whole, "a body that broke off looked whole");
    for answer in beside {
        // Its head may not have left yet.
        let is_whole = answer.as_ref().is_ok_and(|answer| answer.status.is_success());
        assert!(!is_whole, "a body that broke off looked whole: {answer:?}");
    }
    assert_eq!(host.get("/hello").await.status, StatusCode::OK);
    host.settled("hello").await;
    assert_eq!(host.app("hello").requests.trapped, 6, "{:?}", host.app("hello").requests);
    // Before the answer, it is a 500 for all who wait.
    let (waits, traps) = tokio::join!(host.post("/canary?end=w", "12"), async {
        host.until("it waits", || host.app("canary").release.is_some_and(|live| live.instances.leased == 1))
            .await;
        host.post("/canary?end=t", "12").await
    });
    assert_eq!(
        (waits.status, traps.status),
        (StatusCode::INTERNAL_SERVER_ERROR, StatusCode::INTERNAL_SERVER_ERROR)
    );
    assert_eq!(host.get("/canary").await.count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_that_spins_is_ended_and_so_is_what_is_beside_it() {
    let host = host("cpu_time = \"200ms\"\nrequest_timeout = \"20s\"", &[("hello", "hello-p3")]).await;
    let (spins, beside) = tokio::join!(
        host.send(Method::GET, "/hello?spin=1", &[], "".into()),
        host.send(Method::GET, "/hello?stream=100&ms=100", &[], "".into()),
    );
    assert_eq!(spins.expect("an answer").status, StatusCode::GATEWAY_TIMEOUT);
    assert!(
        !beside.is_ok_and(|answer| answer.status == StatusCode::OK && answer.text().contains("line 100"))
    );
    assert_eq!(host.get("/hello").await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_deadline_the_instance_takes_no_more_and_ends_what_it_has() {
    let host = host("request_timeout = \"1s\"", &[("canary", "canary-p3")]).await;
    assert_eq!(host.get("/canary").await.count(), 1);
    let late = host.post("/canary?end=w", "12").await;
    assert_eq!(late.status, StatusCode::GATEWAY_TIMEOUT);
    host.get_until("/canary", "another instance answers", |answer| answer.count() == 1).await;
    host.settled("canary").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_takes_nobody_along() {
    let host = host("", &[("canary", "canary-p3")]).await;
    assert_eq!(host.get("/canary").await.count(), 1);
    let leaves = tokio::time::timeout(Duration::from_millis(200), host.post("/canary?end=w", "12")).await;
    assert!(leaves.is_err());
    host.settled("canary").await;
    assert_eq!(host.get("/canary").await.count(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_is_replaced_when_it_has_had_its_requests_or_has_grown() {
    let config = "max_requests = 4\nmax_retained_memory = \"100MiB\"";
    let host = host(config, &[("canary", "canary-p3")]).await;
    for expected in [1, 2, 3, 4, 1, 2, 3, 4, 1] {
        assert_eq!(host.get("/canary").await.count(), expected);
        host.settled("canary").await;
    }
    // It grows by a page each time.
    host.put("canary.toml", "mode = \"resident\"\nmax_retained_memory = \"512KiB\"");
    host.until("it is live", || host.release("canary") == 2).await;
    let mut counts = Vec::new();
    for _ in 0..20 {
        counts.push(host.get("/canary").await.count());
        host.settled("canary").await;
    }
    let most = counts.iter().max().copied().unwrap_or(0);
    assert!((2..10).contains(&most), "{counts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_instances_come_when_all_have_as_many_requests_as_they_may() {
    let host = host("max_concurrent = 2\nmax_instances = 3", &[("canary", "canary-p3")]).await;
    let waits = join_all((0..6).map(|_| host.post("/canary?end=w", "12")));
    let counts = async {
        let six = || host.app("canary").release.is_some_and(|live| live.instances.leased == 6);
        host.until("six wait", six).await;
        assert_eq!(host.app("canary").release.and_then(|live| live.resident_instances), Some(3));
        // A seventh has no place: it is queued.
        tokio::time::timeout(Duration::from_millis(300), host.get("/canary")).await.is_err()
    };
    tokio::select! {
        _ = waits => panic!("an hour has passed"),
        queued = counts => assert!(queued),
    }
    host.settled("canary").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_takes_one_request_at_once_is_refused() {
    let host = host("", &[("hello", "hello")]).await;
    assert_eq!(
        host.problem("hello"),
        "mode resident gives an instance many requests at once, and a wasi:http 0.2 app takes one: use pooled, or \
         build the app for wasi:http/handler@0.3"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replaced_release_ends_its_instances_when_its_requests_have_ended() {
    let host = host("", &[("hello", "hello-p3")]).await;
    let streams = host.send(Method::GET, "/hello?stream=5&ms=200", &[], "".into());
    let replaced = async {
        host.until("it runs", || host.app("hello").release.is_some_and(|live| live.instances.leased == 1))
            .await;
        host.put("hello.toml", "mode = \"resident\"\nmax_concurrent = 7");
        host.until("it is live", || host.release("hello") == 2).await;
    };
    let (streamed, ()) = tokio::join!(streams, replaced);
    assert!(streamed.expect("a whole answer").text().ends_with("line 5\n"));
    host.settled("hello").await;
}
