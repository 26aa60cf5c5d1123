//! Mode `kept`: instances go on as the guest leaves them, one request at a time.

use http::StatusCode;

use crate::support::TestHost;

/// With one instance, unless the config says otherwise.
async fn host(config: &str, apps: &[(&str, &str)]) -> TestHost {
    let builder =
        TestHost::builder().admin().config("[apps]\nsettle_time = \"20ms\"\nscan_interval = \"50ms\"\n");
    let one = if config.contains("max_instances") { "" } else { "max_instances = 1\n" };
    let config = format!("mode = \"kept\"\n{one}{config}");
    let with = apps
        .iter()
        .fold(builder, |builder, (name, guest)| builder.app(name, guest).app_config(name, &config));
    with.start().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_instance_has_what_the_request_before_left_and_status_says_so() {
    let host = host("max_requests = \"off\"", &[("counter", "counter")]).await;
    for expected in 1..=20 {
        assert_eq!(host.get("/counter").await.count(), expected);
        host.settled("counter").await;
    }
    let status = serde_json::to_value(host.app("counter")).expect("a status");
    let release = &status["release"];
    assert_eq!((&release["mode"], &release["guest_state"]), (&"kept".into(), &"kept".into()), "{status}");
    assert_eq!(release["instances"]["reset"], 0, "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_is_replaced_after_max_requests() {
    let host = host("max_requests = 3", &[("counter", "counter")]).await;
    for expected in [1, 2, 3, 1, 2, 3, 1] {
        assert_eq!(host.get("/counter").await.count(), expected);
        host.settled("counter").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_is_replaced_before_its_memory_or_its_handles_run_out() {
    // The counter grows by a page each time, and keeps three handles open.
    let grows = host("max_retained_memory = \"512KiB\"", &[("counter", "counter")]).await;
    let mut counts = Vec::new();
    for _ in 0..12 {
        counts.push(grows.get("/counter").await.count());
        grows.settled("counter").await;
    }
    let most = counts.iter().max().copied().unwrap_or(0);
    assert!((2..8).contains(&most), "{counts:?}");
    let leaks = host("resource_limit = 40", &[("counter", "counter")]).await;
    let mut counts = Vec::new();
    for _ in 0..30 {
        counts.push(leaks.get("/counter").await.count());
        leaks.settled("counter").await;
    }
    let most = counts.iter().max().copied().unwrap_or(0);
    assert!((2..14).contains(&most), "{counts:?}");
    assert_eq!(leaks.app("counter").requests.trapped, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_at_the_same_time_have_an_instance_each() {
    let host = host("max_requests = \"off\"\nmax_instances = 3", &[("sleeper", "sleeper")]).await;
    let asked = (0..6).map(|_| host.get("/sleeper?ms=50"));
    for answer in futures_util::future::join_all(asked).await {
        assert_eq!(answer.status, StatusCode::OK);
    }
    host.settled("sleeper").await;
    let pool = host.app("sleeper").release.expect("a release").instances;
    assert!((2..=3).contains(&pool.made), "{pool:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_trap_or_a_deadline_the_state_is_gone() {
    let host = host("max_requests = \"off\"\nrequest_timeout = \"300ms\"", &[("counter", "counter")]).await;
    for how in ["t", "w", "T", "W"] {
        assert_eq!(host.get("/counter").await.count(), 1, "before {how}");
        host.settled("counter").await;
        assert_eq!(host.get("/counter").await.count(), 2, "before {how}");
        host.settled("counter").await;
        let ended = host.send(http::Method::POST, &format!("/counter?end={how}"), &[], "12".into()).await;
        assert!(ended.is_err() || ended.is_ok_and(|answer| answer.status.is_server_error()), "{how}");
        host.settled("counter").await;
    }
    assert_eq!(host.get("/counter").await.count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_whose_instances_answer_once_is_refused_and_the_one_before_serves_on() {
    let host = host("request_timeout = \"2s\"", &[("hello", "hello")]).await;
    assert_eq!(host.get("/hello").await.text(), "Hello from Hostler!\n");
    host.put_app("hello", "hello-js");
    host.until("it is refused", || host.problem("hello").contains("its instances can't be kept")).await;
    let problem = host.problem("hello");
    assert!(problem.contains("a GET of / did not answer the next one"), "{problem}");
    assert!(problem.contains("use mode pooled"), "{problem}");
    assert_eq!(host.get("/hello").await.text(), "Hello from Hostler!\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_probe_leaves_nothing_behind_and_counts_for_nobody() {
    let host = host("", &[("counter", "counter")]).await;
    let status = host.app("counter");
    assert_eq!((status.requests.requests, status.requests.responses_2xx), (0, 0));
    assert_eq!(host.get("/counter").await.count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_is_refused_with_the_reason() {
    let host = host("", &[("cgi", "cgi-c")]).await;
    let problem = host.problem("cgi");
    assert_eq!(
        problem,
        "mode kept needs instances that go on after a request, and a command ends with it: use pooled"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_and_wasi_http_0_3_are_kept_too() {
    let host = host("", &[("hello-py", "hello-py"), ("hello-p3", "hello-p3")]).await;
    for _ in 0..20 {
        assert_eq!(host.get("/hello-py/x").await.text(), "Hello from Python!\n/x\n");
        assert_eq!(host.get("/hello-p3").await.text(), "Hello from Hostler, in wasi:http 0.3!\n");
        assert_eq!(host.get("/hello-p3?stream=3&ms=1").await.text(), "line 1\nline 2\nline 3\n");
        host.settled("hello-py").await;
        host.settled("hello-p3").await;
    }
    for app in ["hello-py", "hello-p3"] {
        assert_eq!(host.app(app).release.expect("a release").instances.made, 1, "{app}");
    }
}
