//! Commands as CGI/1.1 programs, through a real host.

use std::collections::BTreeMap;
use std::time::Instant;

use http::Method;

use crate::process::Program;
use crate::support::{Answer, TestHost};
use crate::wire::Wire;

/// The environment that the app answers with.
fn variables(answer: &Answer) -> BTreeMap<String, String> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let pairs = answer.text().lines().filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn assert_variables(found: &BTreeMap<String, String>, expected: &[(&str, &str)]) {
    for (name, value) in expected {
        assert_eq!(found.get(*name).map(String::as_str), Some(*value), "{name} in {found:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_is_told_the_request_in_its_variables() {
    let host = TestHost::builder().app("cgi-bin/prog", "cgi-rust").start().await;
    let headers = [
        ("content-type", "text/x-example"),
        ("x-two-words", "one"),
        ("x-two-words", "two"),
        ("cookie", "a=1"),
        ("authorization", "Basic eHl6"),
        ("x-forwarded-prefix", "/forged"),
    ];
    let path = "/cgi-bin/prog/some%20path/%C3%A9?q=%20x&y";
    let answer = host.send(Method::GET, path, &headers, "".into()).await.expect("an answer");
    let port = host.address().port().to_string();
    let own = format!("127.0.0.1:{port}");
    let found = variables(&answer);
    assert_variables(
        &found,
        &[
            ("GATEWAY_INTERFACE", "CGI/1.1"),
            ("SERVER_PROTOCOL", "HTTP/1.1"),
            ("SERVER_NAME", "127.0.0.1"),
            ("SERVER_PORT", &port),
            ("REMOTE_ADDR", "127.0.0.1"),
            ("REQUEST_METHOD", "GET"),
            ("SCRIPT_NAME", "/cgi-bin/prog"),
            ("PATH_INFO", "/some path/é"),
            ("QUERY_STRING", "q=%20x&y"),
            ("REQUEST_URI", path),
            ("CONTENT_TYPE", "text/x-example"),
            ("HTTP_HOST", &own),
            ("HTTP_X_TWO_WORDS", "one, two"),
            ("HTTP_COOKIE", "a=1"),
            ("HTTP_AUTHORIZATION", "Basic eHl6"),
            ("HTTP_X_FORWARDED_PREFIX", "/cgi-bin/prog"),
        ],
    );
    for absent in ["REMOTE_USER", "AUTH_TYPE", "HTTPS", "HTTP_CONTENT_TYPE", "PATH", "HOME"] {
        assert_eq!(found.get(absent), None, "{absent}");
    }
    host.settled("cgi-bin/prog").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_mount_is_taken_off_a_programs_path_once() {
    let host = TestHost::builder().app("cgi", "cgi-rust").app("index", "cgi-rust").start().await;
    let twice = variables(&host.get("/cgi/cgi/x").await);
    assert_variables(
        &twice,
        &[("SCRIPT_NAME", "/cgi"), ("PATH_INFO", "/cgi/x"), ("REQUEST_URI", "/cgi/cgi/x")],
    );
    let bare = variables(&host.get("/cgi?q").await);
    assert_variables(&bare, &[("SCRIPT_NAME", "/cgi"), ("PATH_INFO", ""), ("REQUEST_URI", "/cgi?q")]);
    let root = variables(&host.get("/elsewhere").await);
    assert_variables(&root, &[("SCRIPT_NAME", ""), ("PATH_INFO", "/elsewhere"), ("QUERY_STRING", "")]);
    assert_eq!(root.get("HTTP_X_FORWARDED_PREFIX"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_header_never_becomes_a_variable() {
    let host = TestHost::with(&["cgi-rust"]).await;
    let headers = [("proxy", "http://evil.example:3128"), ("x-kept", "yes")];
    let answer = host.send(Method::GET, "/cgi-rust", &headers, "".into()).await.expect("an answer");
    assert!(!answer.text().contains("evil.example"), "{}", answer.text());
    assert_eq!(variables(&answer).get("HTTP_X_KEPT").map(String::as_str), Some("yes"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_is_the_programs_standard_input_whether_it_is_read_ahead_or_streamed() {
    let host = TestHost::with(&["cgi-rust", "cgi-c"]).await;
    for length in [0, 1, 64 << 10, (64 << 10) + 1, 2 << 20] {
        let body: Vec<u8> = (0..length).map(|at| (at % 253) as u8).collect();
        let answer = host.post("/cgi-rust", body.clone()).await;
        assert_eq!(answer.status, 200);
        assert!(answer.body == body, "{length} bytes came back as {}", answer.body.len());
        let counted = host.post("/cgi-c", body).await;
        assert!(counted.text().ends_with(&format!("\nbody={length} bytes\n")), "{}", counted.text());
    }
    host.settled("cgi-rust").await;
    host.settled("cgi-c").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_is_told_the_length_that_its_client_declared() {
    let host = TestHost::with(&["cgi-rust"]).await;
    let answer = host.send(Method::PUT, "/cgi-rust", &[], "12345".into()).await.expect("an answer");
    assert_variables(&variables(&answer), &[("CONTENT_LENGTH", "5"), ("REQUEST_METHOD", "PUT")]);
    let mut wire = Wire::connect(host.address()).await;
    wire.say("PUT /cgi-rust HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n").await;
    let (_, stated) = wire.answer().await.expect("an answer");
    assert!(stated.contains("\nCONTENT_LENGTH=0\n") || stated.starts_with("CONTENT_LENGTH=0\n"), "{stated}");
    let none = host.get("/cgi-rust").await;
    assert!(!none.text().contains("CONTENT_LENGTH"), "{}", none.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_chooses_its_status_and_where_its_client_goes() {
    let host = TestHost::with(&["cgi-rust"]).await;
    let teapot = host.get("/cgi-rust?mode=status").await;
    assert_eq!((teapot.status.as_u16(), teapot.text()), (418, "short and stout\n"));
    assert_eq!(teapot.header("status"), "");
    let elsewhere = host.get("/cgi-rust?mode=redirect").await;
    assert_eq!(elsewhere.status, 302);
    assert_eq!(elsewhere.header("location"), "https://example.org/elsewhere");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_local_redirect_is_served_as_a_new_request_and_its_client_sees_none() {
    let host = TestHost::with(&["cgi-rust"]).await;
    let answer = host.post("/cgi-rust?mode=local", "").await;
    assert_variables(
        &variables(&answer),
        &[
            ("REQUEST_METHOD", "GET"),
            ("PATH_INFO", "/moved"),
            ("QUERY_STRING", "mode=env"),
            ("REQUEST_URI", "/cgi-rust/moved?mode=env"),
        ],
    );
    assert_eq!(answer.header("location"), "");
    host.settled("cgi-rust").await;
}

/// A core module that prints this and returns.
fn printing(text: &str) -> Vec<u8> {
    let escaped: String = text.bytes().map(|byte| format!("\\{byte:02x}")).collect();
    let length = text.len();
    wat::parse_str(format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write"
                (func $write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 0) "\10\00\00\00")
            (data (i32.const 16) "{escaped}")
            (func (export "_start")
                (i32.store (i32.const 4) (i32.const {length}))
                (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#
    ))
    .expect("a module")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn local_redirects_that_lead_in_a_circle_end_in_502() {
    let circle = printing("Location: /circle\n\n");
    let astray = printing("Location: /nowhere\n\n");
    let host = TestHost::builder().bytes("circle", &circle).bytes("astray", &astray).start().await;
    assert_eq!(host.get("/circle").await.status, 502);
    assert_eq!(host.get("/astray").await.status, 404);
    host.settled("circle").await;
    host.settled("astray").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn output_that_is_no_cgi_response_is_answered_with_502() {
    let nonsense = [
        ("nothing", ""),
        ("no-colon", "this is not a header\n\nbody"),
        ("cut-short", "Content-Type: text/plain\n"),
        ("nph", "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nbody"),
        ("bad-status", "Status: many\nContent-Type: text/plain\n\nbody"),
    ];
    let builder = nonsense
        .iter()
        .fold(TestHost::builder(), |builder, (name, output)| builder.bytes(name, &printing(output)));
    let host = builder.app("cgi-rust", "cgi-rust").start().await;
    for (name, _) in nonsense {
        let answer = host.get(&format!("/{name}")).await;
        assert_eq!(answer.status, 502, "{name}: {}", answer.text());
        assert_ne!(answer.header("x-error-id"), "", "{name}");
        host.settled(name).await;
    }
    let bad = host.get("/cgi-rust?mode=bad").await;
    assert_eq!(bad.status, 502);
    assert!(!bad.text().contains("not a header"), "{}", bad.text());
    host.settled("cgi-rust").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_fails_gives_no_whole_answer() {
    let host = TestHost::with(&["cgi-rust"]).await;
    for query in ["mode=exit", "mode=trap", "mode=exit&after=1", "mode=trap&after=1"] {
        let answer = host.get(&format!("/cgi-rust?{query}")).await;
        assert_eq!(answer.status, 500, "{query}: {}", answer.text());
        assert_ne!(answer.header("x-error-id"), "", "{query}");
        assert!(!answer.text().contains("asked to trap"), "{}", answer.text());
        host.settled("cgi-rust").await;
    }
    assert_eq!(host.get("/cgi-rust").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_that_a_program_flushes_arrive_while_it_waits() {
    let host = TestHost::with(&["cgi-rust"]).await;
    let began = Instant::now();
    let mut wire = Wire::connect(host.address()).await;
    wire.ask("/cgi-rust?mode=stream&n=3&ms=1000").await;
    let head = wire.head().await.expect("a head");
    assert_eq!((head.status, head.header("transfer-encoding")), (200, "chunked"));
    assert_eq!(wire.chunk().await.expect("a chunk").as_deref(), Some(&b"line 1\n"[..]));
    let first = began.elapsed();
    assert_eq!(wire.body(&head).await.expect("the rest"), b"line 2\nline 3\n");
    let rest = began.elapsed() - first;
    assert!(rest.as_millis() >= 1500, "the first line came only {rest:?} before the last");
    host.settled("cgi-rust").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standard_error_goes_to_the_log_and_not_to_the_client() {
    let program = Program::serve(&["cgi-rust"], "").await;
    let mut wire = Wire::connect(program.address()).await;
    wire.ask("/cgi-rust?mode=stderr").await;
    let (head, body) = wire.answer().await.expect("an answer");
    assert_eq!((head.status, &*body), (200, "three lines logged\n"));
    for line in ["first line for the log", "second line for the log", "third line for the log"] {
        program.logged(line).await;
    }
}
