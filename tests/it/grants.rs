//! What an app asks for is held against what the operator grants, and what is granted works.

use bytes::Bytes;
use http::Method;

use crate::support::TestHost;

/// A host with one app `shop`, its own config and the operator's.
async fn host(guest: &str, operator: &str, own: &str) -> TestHost {
    TestHost::builder().config(operator).app("shop", guest).app_config("shop", own).start().await
}

async fn refused(guest: &str, operator: &str, own: &str, problem: &str) {
    let host = host(guest, operator, own).await;
    assert_eq!(host.problem("shop"), problem);
    assert_eq!(host.release("shop"), 0);
    assert_eq!(host.get("/shop").await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_the_defaults_is_refused_with_the_grant_that_it_needs() {
    refused(
        "hello",
        "",
        "memory_limit = \"256MiB\"",
        "shop.toml:1: memory_limit: 256MiB is more than the 128MiB of [defaults]; the operator can allow it with \
         memory_limit = \"256MiB\" under [grants.\"shop\"] in hostler.toml",
    )
    .await;
    refused(
        "hello",
        "[grants.\"*\"]\nmemory_limit = \"200MiB\"",
        "\nmemory_limit = \"256MiB\"",
        "shop.toml:2: memory_limit: 256MiB is more than the 200MiB of [grants.\"*\"]; the operator can allow it \
         with memory_limit = \"256MiB\" under [grants.\"*\"] in hostler.toml",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_paths_and_destinations_are_refused_without_a_grant() {
    let advice =
        |line: &str| format!("the operator can allow it with {line} under [grants.\"shop\"] in hostler.toml");
    let asked = [
        ("hosts = [\"a.example.com\"]", "hosts: a.example.com", "hosts = [\"a.example.com\"]"),
        ("path = \"/store\"", "path: /store", "paths = [\"/store\"]"),
        (
            "outbound.allow = [\"https://api.example.com\"]",
            "outbound.allow: https://api.example.com",
            "outbound = [\"https://api.example.com\"]",
        ),
    ];
    for (own, what, line) in asked {
        refused("hello", "", own, &format!("shop.toml:1: {what} is not granted; {}", advice(line))).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mode_that_is_not_granted_is_refused() {
    refused(
        "hello",
        "[grants.\"shop\"]\nmodes = [\"pooled\", \"cached\"]",
        "mode = \"cold\"",
        "shop.toml:1: mode: cold is not among the modes of [grants.\"shop\"]: pooled, cached",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_problem_of_an_apps_file_is_said_at_once() {
    let host = host("hello", "", "memory_limit = \"1GiB\"\nmodus = \"cold\"\ncpu_time = \"1h\"").await;
    let problem = host.problem("shop");
    for part in ["shop.toml:1: memory_limit: ", "shop.toml:2: modus: unknown key", "shop.toml:3: cpu_time: "]
    {
        assert!(problem.contains(part), "{part} is missing in {problem}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn granted_memory_can_be_had_and_no_more() {
    let own = "memory_limit = \"256MiB\"";
    let host = host("hog", "[grants.\"shop\"]\nmemory_limit = \"256MiB\"", own).await;
    assert_eq!(host.get("/shop?mib=200").await.text(), "asked=200MiB has=200MiB refused=false\n");
    assert_eq!(host.get("/shop?mib=300").await.text(), "asked=300MiB has=256MiB refused=true\n");
    host.settled("shop").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_grant_memory_ends_at_the_default() {
    let host =
        TestHost::builder().config("[defaults]\nmemory_limit = \"32MiB\"").app("shop", "hog").start().await;
    assert_eq!(host.get("/shop?mib=48").await.text(), "asked=48MiB has=32MiB refused=true\n");
    host.settled("shop").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_granted_request_timeout_counts() {
    let operator = "[defaults]\nrequest_timeout = \"300ms\"\n[grants.\"shop\"]\nrequest_timeout = \"20s\"";
    let asked = host("sleeper", operator, "request_timeout = \"20s\"").await;
    assert_eq!(asked.get("/shop?ms=1000").await.text(), "slept 1000 ms\n");
    let did_not_ask = host("sleeper", operator, "").await;
    assert_eq!(did_not_ask.get("/shop?ms=10000").await.status, 504);
    did_not_ask.settled("shop").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn granted_hosts_route_by_name() {
    let operator = "[grants.\"shop\"]\nhosts = [\"shop.example.com\", \"*.shop.example.com\"]";
    let host = host("hello", operator, "hosts = [\"shop.example.com\", \"*.shop.example.com\"]").await;
    for (name, status) in [
        ("shop.example.com", 200),
        ("SHOP.example.com:8080", 200),
        ("de.shop.example.com", 200),
        ("example.com", 404),
        ("notshop.example.com", 404),
        ("shop.example.com.evil.example", 404),
    ] {
        let answer =
            host.send(Method::GET, "/shop", &[("host", name)], Bytes::new()).await.expect("an answer");
        assert_eq!(answer.status, status, "{name}");
    }
    assert_eq!(host.get("/shop").await.status, 404, "another name is not the app's");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_name_may_be_one_apps_and_any_other_name_anothers() {
    let host = TestHost::builder()
        .config("[grants.\"*\"]\nhosts = [\"shop.example.com\"]\npaths = [\"/\"]")
        .app("shop", "hello")
        .app_config("shop", "hosts = [\"shop.example.com\"]\npath = \"/\"")
        .app("index", "index")
        .start()
        .await;
    let named = [("host", "shop.example.com")];
    let shop = host.send(Method::GET, "/", &named, Bytes::new()).await.expect("an answer");
    assert_eq!(shop.text(), "Hello from Hostler!\n");
    assert!(host.get("/").await.text().contains("Welcome to Hostler"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_granted_path_replaces_the_one_of_the_name() {
    let host = host("cgi-rust", "[grants.\"shop\"]\npaths = [\"/store\"]", "path = \"/store/front\"").await;
    let answer = host.get("/store/front/window").await;
    assert!(answer.text().contains("SCRIPT_NAME=/store/front\n"), "{}", answer.text());
    assert!(answer.text().contains("PATH_INFO=/window\n"), "{}", answer.text());
    assert_eq!(host.get("/shop").await.status, 404);
    assert_eq!(host.get("/store").await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn granted_modes_are_had() {
    for mode in ["pooled", "cached", "cold"] {
        let operator = "[grants.\"shop\"]\nmodes = [\"pooled\", \"cached\", \"cold\"]";
        let host = host("hello", operator, &format!("mode = \"{mode}\"")).await;
        assert_eq!(host.app("shop").release.expect("a release").mode.as_str(), mode);
        assert_eq!(host.get("/shop").await.text(), "Hello from Hostler!\n");
        host.settled("shop").await;
    }
}
