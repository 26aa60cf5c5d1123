//! Every kind of app answers, in every mode that it can run in.

use bytes::Bytes;
use http::Method;

use crate::support::TestHost;

/// Guest, query, and the exact answer.
const ANSWERS: [(&str, &str, &str); 10] = [
    ("hello", "", "Hello from Hostler!\n"),
    ("counter", "", "count=1 global=1 table=1 memory_pages=17 grown_page=zero handle=3\n"),
    ("sleeper", "?ms=20", "slept 20 ms\n"),
    ("spinner", "?ms=20", "spun 20 ms\n"),
    ("hog", "?mib=8", "asked=8MiB has=8MiB refused=false\n"),
    ("leaker", "?n=100", "leaked=100\n"),
    ("stream", "?n=2&ms=10", "id: 1\ndata: tick 1\n\nid: 2\ndata: tick 2\n\n"),
    ("hello-p3", "", "Hello from Hostler, in wasi:http 0.3!\n"),
    ("hello-p3", "?stream=3&ms=10", "line 1\nline 2\nline 3\n"),
    ("cgi-c", "/p?x=y", "Hello from C!\nrequest=1\nmethod=GET\npath=/p\nquery=x=y\nbody=0 bytes\n"),
];

async fn answers_in(mode: &str) {
    let guests = ["hello", "counter", "sleeper", "spinner", "hog", "leaker", "stream", "hello-p3", "cgi-c"];
    let builder = TestHost::builder().config(&format!("[defaults]\nmode = \"{mode}\""));
    let host = guests.iter().fold(builder, |builder, name| builder.app(name, name)).start().await;
    for (guest, query, expected) in ANSWERS {
        for _ in 0..2 {
            let answer = host.get(&format!("/{guest}{query}")).await;
            assert_eq!((answer.status.as_u16(), answer.text()), (200, expected), "{guest} in {mode}");
        }
        assert_eq!(host.app(guest).release.expect("live").mode.to_string(), mode);
    }
    for guest in guests {
        host.settled(guest).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_small_app_answers_in_pooled() {
    answers_in("pooled").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_small_app_answers_in_cached() {
    answers_in("cached").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_small_app_answers_in_cold() {
    answers_in("cold").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn javascript_and_python_answer_every_request() {
    let host = TestHost::with(&["hello-js", "hello-py"]).await;
    for _ in 0..5 {
        assert_eq!(host.get("/hello-js/a/b?c").await.text(), "Hello from JavaScript!\nGET /a/b\n");
        assert_eq!(host.get("/hello-py/a?b").await.text(), "Hello from Python!\n/a?b\n");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn echo_gives_back_bodies_small_and_large_whatever_the_kind() {
    let host = TestHost::with(&["echo", "hello-p3", "cgi-rust"]).await;
    for size in [0usize, 1, 1000, 70_000, 2 << 20, (2 << 20) + 1] {
        let body = Bytes::from((0..size).map(|i| (i % 251) as u8).collect::<Vec<_>>());
        for path in ["/echo", "/hello-p3", "/cgi-rust"] {
            if size == 0 && path != "/echo" {
                continue;
            }
            let answer = host.post(path, body.clone()).await;
            assert_eq!(answer.status.as_u16(), 200, "{path} with {size} bytes");
            if size > 0 {
                assert!(answer.body == body, "{path} with {size} bytes came back as {}", answer.body.len());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_mount_path_is_stripped_and_told_and_a_clients_own_is_dropped() {
    let host = TestHost::builder().app("echo", "echo").app("index", "echo").start().await;
    let told = host.get("/echo/a?x=1").await;
    assert!(told.text().starts_with("GET /a?x=1\n"), "{}", told.text());
    assert!(told.text().contains("x-forwarded-prefix: /echo\n"), "{}", told.text());
    let header = [("x-forwarded-prefix", "/evil")];
    let root = host.send(Method::GET, "/a", &header, Bytes::new()).await.expect("an answer");
    assert!(!root.text().contains("x-forwarded-prefix"), "{}", root.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_index_greets_at_the_root() {
    let host = TestHost::with(&["index"]).await;
    let answer = host.get("/").await;
    assert_eq!(answer.status.as_u16(), 200);
    assert!(answer.text().contains("Welcome to Hostler"));
    assert!(answer.header("content-type").starts_with("text/html"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_sees_its_request_as_meta_variables() {
    let host = TestHost::with(&["cgi-rust"]).await;
    let headers = [("proxy", "http://evil"), ("x-a", "1"), ("x-a", "2"), ("authorization", "Basic eA==")];
    let answer =
        host.send(Method::GET, "/cgi-rust/x%20y?a=b", &headers, Bytes::new()).await.expect("an answer");
    let text = answer.text();
    for line in [
        "GATEWAY_INTERFACE=CGI/1.1",
        "REQUEST_METHOD=GET",
        "SCRIPT_NAME=/cgi-rust",
        "PATH_INFO=/x y",
        "QUERY_STRING=a=b",
        "REQUEST_URI=/cgi-rust/x%20y?a=b",
        "SERVER_PROTOCOL=HTTP/1.1",
        "REMOTE_ADDR=127.0.0.1",
        "HTTP_X_A=1, 2",
    ] {
        assert!(text.lines().any(|other| other == line), "{line} is missing in\n{text}");
    }
    assert!(!text.contains("HTTP_PROXY"), "httpoxy: {text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commands_output_is_a_cgi_response() {
    let host = TestHost::with(&["cgi-rust"]).await;
    let status = host.get("/cgi-rust?mode=status").await;
    assert_eq!((status.status.as_u16(), status.text()), (418, "short and stout\n"));
    let redirect = host.get("/cgi-rust?mode=redirect").await;
    assert_eq!(redirect.status.as_u16(), 302);
    assert_eq!(redirect.header("location"), "https://example.org/elsewhere");
    let local = host.get("/cgi-rust?mode=local").await;
    assert_eq!(local.status.as_u16(), 200);
    assert!(local.text().contains("QUERY_STRING=mode=env\n"), "{}", local.text());
    assert_eq!(host.get("/cgi-rust?mode=bad").await.status.as_u16(), 502);
    assert_eq!(host.get("/cgi-rust?mode=exit").await.status.as_u16(), 500);
    assert_eq!(host.get("/cgi-rust?mode=stderr").await.text(), "three lines logged\n");
    host.settled("cgi-rust").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outbound_requests_are_denied_unless_granted() {
    let host = TestHost::with(&["fetcher"]).await;
    let answer = host.get("/fetcher?url=http://example.com/").await;
    assert_eq!(answer.status.as_u16(), 502);
    assert!(answer.text().contains("http-request-denied"), "{}", answer.text());
}
