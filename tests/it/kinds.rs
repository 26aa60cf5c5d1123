//! Every kind of app answers, in every mode that it can run in.

use http::Method;

use crate::support::{Answer, TestHost};

const MODES: [&str; 3] = ["cold", "cached", "pooled"];

/// Those in which an app that takes seconds to compile can be tested.
const WARM: [&str; 2] = ["cached", "pooled"];

/// A host that serves one guest once for each of these modes, at `/MODE`.
async fn in_modes(guest: &str, modes: &[&str]) -> TestHost {
    // Compiling is part of a cold request's wait, and machines are slow at times.
    let mut builder = TestHost::builder().config("[defaults]\nqueue_timeout = \"60s\"");
    for mode in modes {
        builder = builder.app(mode, guest).app_config(mode, &format!("mode = {mode:?}"));
    }
    builder.start().await
}

/// Asks each mode's app for a path twice: the second answer comes from a reset instance, or from a new one.
async fn answers(host: &TestHost, modes: &[&str], path: &str, check: impl Fn(&str, Answer)) {
    for mode in modes {
        for _ in 0..2 {
            check(mode, host.get(&format!("/{mode}{path}")).await);
        }
        host.settled(mode).await;
    }
}

/// The same text from each mode.
async fn answer_with(guest: &str, modes: &[&str], path: &str, text: &str) -> TestHost {
    let host = in_modes(guest, modes).await;
    answers(&host, modes, path, |mode, answer| {
        assert_eq!((answer.status.as_u16(), answer.text()), (200, text), "{guest} in mode {mode}");
    })
    .await;
    host
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rust_component_answers() {
    let host = answer_with("hello", &MODES, "", "Hello from Hostler!\n").await;
    let answer = host.get("/pooled").await;
    assert_eq!(answer.header("content-type"), "text/plain");
    assert_eq!(answer.header("content-length"), "20");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_of_wasi_http_0_3_answers() {
    let host = answer_with("hello-p3", &MODES, "", "Hello from Hostler, in wasi:http 0.3!\n").await;
    for mode in MODES {
        let lines = host.get(&format!("/{mode}?stream=3&ms=1")).await;
        assert_eq!(lines.text(), "line 1\nline 2\nline 3\n", "{mode}");
        let body = "0123456789".repeat(50_000);
        let echoed = host.post(&format!("/{mode}"), body.clone()).await;
        assert!(echoed.text() == body, "{mode} gave back {} bytes", echoed.body.len());
        host.settled(mode).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_javascript_component_answers() {
    answer_with("hello-js", &WARM, "/some/path?q=1", "Hello from JavaScript!\nGET /some/path\n").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_python_component_answers() {
    answer_with("hello-py", &WARM, "/some/path?q=1", "Hello from Python!\n/some/path?q=1\n").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_is_a_core_module_answers() {
    let text = "Hello from C!\nrequest=1\nmethod=GET\npath=/some path\nquery=q=%201\nbody=0 bytes\n";
    let host = answer_with("cgi-c", &MODES, "/some%20path?q=%201", text).await;
    for mode in MODES {
        let answer = host.post(&format!("/{mode}"), "x".repeat(200_000)).await;
        assert!(answer.text().contains("method=POST\n"), "{mode}: {}", answer.text());
        assert!(answer.text().ends_with("body=200000 bytes\n"), "{mode}: {}", answer.text());
        host.settled(mode).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_is_a_component_answers() {
    let host = in_modes("cgi-rust", &MODES).await;
    answers(&host, &MODES, "/a?b=c", |mode, answer| {
        assert_eq!(answer.status, 200, "{mode}");
        for line in [&*format!("SCRIPT_NAME=/{mode}"), "PATH_INFO=/a", "QUERY_STRING=b=c"] {
            assert!(answer.text().lines().any(|found| found == line), "{line} in {}", answer.text());
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_comes_back_whole_in_every_mode() {
    let host = in_modes("echo", &MODES).await;
    for mode in MODES {
        for length in [1, 1000, 64 << 10, (64 << 10) + 1, 3 << 20] {
            let body: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let headers = [("content-type", "image/example")];
            let sent = host.send(Method::PUT, &format!("/{mode}"), &headers, body.clone().into()).await;
            let answer = sent.expect("a whole answer");
            assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "image/example"));
            assert!(answer.body == body, "{mode}: {length} bytes came back as {}", answer.body.len());
        }
        let empty = host.post(&format!("/{mode}"), "").await;
        assert_eq!((empty.status.as_u16(), empty.text()), (200, ""), "{mode}");
        host.settled(mode).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_sees_its_path_without_the_mount_and_is_told_the_mount_by_the_host_alone() {
    let host = TestHost::builder().app("a/b", "echo").app("index", "echo").start().await;
    let claim = [("x-forwarded-prefix", "/forged"), ("x-other", "kept")];
    let mounted = host.send(Method::GET, "/a/b/c%20d?e=f", &claim, "".into()).await.expect("an answer");
    let text = mounted.text();
    assert!(text.starts_with("GET /c%20d?e=f\n"), "{text}");
    assert_eq!(text.matches("x-forwarded-prefix").count(), 1, "{text}");
    assert!(text.contains("x-forwarded-prefix: /a/b\n") && text.contains("x-other: kept\n"), "{text}");
    assert!(host.get("/a/b").await.text().starts_with("GET /\n"));
    assert!(host.get("/a/b?x").await.text().starts_with("GET /?x\n"));
    assert!(host.get("/a/b/a/b").await.text().starts_with("GET /a/b\n"));
    let root = host.send(Method::GET, "/c?e=f", &claim, "".into()).await.expect("an answer");
    assert!(root.text().starts_with("GET /c?e=f\n"), "{}", root.text());
    assert!(!root.text().contains("x-forwarded-prefix"), "{}", root.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clean_instance_finds_no_trace_of_the_one_before() {
    let host = in_modes("counter", &MODES).await;
    let first = host.get("/cold?scan=1").await.text().to_owned();
    assert!(first.starts_with("count=1 global=1 table=1 memory_pages="), "{first}");
    assert!(first.contains(" grown_page=zero ") && first.ends_with(" traces=0\n"), "{first}");
    for mode in MODES {
        for _ in 0..5 {
            assert_eq!(host.get(&format!("/{mode}?scan=1")).await.text(), first, "{mode}");
        }
        let one = host.get(&format!("/{mode}?random=1")).await;
        assert_ne!(one.text(), host.get(&format!("/{mode}?random=1")).await.text(), "{mode}");
        host.settled(mode).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_and_downloads_are_whole_in_every_mode() {
    let host = in_modes("stream", &MODES).await;
    for mode in MODES {
        let events = host.get(&format!("/{mode}?n=2&ms=1")).await;
        assert_eq!(events.header("content-type"), "text/event-stream");
        assert_eq!(events.text(), "id: 1\ndata: tick 1\n\nid: 2\ndata: tick 2\n\n", "{mode}");
        let bytes = host.get(&format!("/{mode}?bytes=5000000")).await;
        assert_eq!(bytes.body.len(), 5_000_000, "{mode}");
        assert!(bytes.body.chunks(16).all(|piece| piece == &b"0123456789abcdef"[..piece.len()]), "{mode}");
        host.settled(mode).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_can_wait() {
    answer_with("sleeper", &MODES, "?ms=20", "slept 20 ms\n").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_index_is_the_page_at_the_root_and_nowhere_else() {
    let host = TestHost::with(&["index", "hello"]).await;
    let page = host.get("/?from=elsewhere").await;
    assert_eq!((page.status.as_u16(), page.header("content-type")), (200, "text/html; charset=utf-8"));
    assert!(page.text().contains("<html"), "{}", page.text());
    assert_eq!(host.get("/nowhere").await.status, 404);
    assert_eq!(host.get("/hello").await.text(), "Hello from Hostler!\n");
    assert_eq!(host.get("/hellos").await.status, 404);
    host.settled("index").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_app_at_a_path_the_host_answers_404() {
    let host = TestHost::with(&["hello"]).await;
    for path in ["/", "/nowhere", "/hellos", "/hell", "/HELLO"] {
        let answer = host.get(path).await;
        assert_eq!((answer.status.as_u16(), answer.header("x-error-id")), (404, ""), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_was_granted_no_destination_reaches_none() {
    let host = in_modes("fetcher", &MODES).await;
    let url = host.url("/pooled");
    for mode in MODES {
        for url in [&*url, "http://169.254.169.254/latest", "http://example.org/"] {
            let answer = host.get(&format!("/{mode}?url={url}")).await;
            assert_eq!(
                (answer.status.as_u16(), answer.text()),
                (502, "http-request-denied\n"),
                "{mode} {url}"
            );
        }
        host.settled(mode).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_works_long_before_its_first_answer_does_so_once_where_it_is_kept() {
    let modes = ["cached", "pooled", "kept"];
    let host = in_modes("primes", &modes).await;
    for (path, text) in [
        ("", "prime 1 is 2\n"),
        ("?n=1000", "prime 1000 is 7919\n"),
        ("?n=348513", "prime 348513 is 4999999\n"),
        ("?n=348514", "the table has no prime 348514\n"),
        ("?n=0", "the table has no prime 0\n"),
    ] {
        answers(&host, &modes, path, |mode, answer| assert_eq!(answer.text(), text, "{mode}")).await;
    }
    let cpu = |app: &str| host.app(app).requests.cpu_nanos;
    assert!(cpu("kept") * 2 < cpu("pooled"), "{} and {}", cpu("kept"), cpu("pooled"));
}
