//! A greeting by `wasi:http` 0.3, whose functions are `async`: one instance can work on several
//! requests at once.
//!
//! - a `POST` is answered with its own body, as it arrives
//! - `?stream=5&ms=100`: five lines, one each 100 ms
//! - `?spin=1` never ends; `?trap=after` sends a piece of the body and fails

use wasip3::clocks::monotonic_clock;
use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{ErrorCode, Fields, Method, Request, Response};
use wasip3::wit_bindgen::StreamReader;
use wasip3::{spawn_local, wit_future, wit_stream};

const GREETING: &str = "Hello from Hostler, in wasi:http 0.3!\n";

struct Hello;

wasip3::http::service::export!(Hello);

impl Guest for Hello {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        if let Method::Post = request.get_method() {
            let (_, done) = wit_future::new(|| Ok(()));
            let (body, _trailers) = Request::consume_body(request, done);
            return Ok(respond(body, None));
        }
        let query = request.get_path_with_query().unwrap_or_default();
        if let Some(lines) = number(&query, "stream") {
            let pause = number(&query, "ms").unwrap_or(100);
            return Ok(respond(stream(lines, pause), None));
        }
        if query.contains("trap=after") {
            return Ok(respond(trap_after_a_piece(), None));
        }
        if query.contains("spin=1") {
            loop {
                std::hint::black_box(());
            }
        }
        Ok(respond(whole(GREETING), Some(GREETING.len())))
    }
}

/// A text response. Its body is a stream that is filled while the response is on its way.
fn respond(body: StreamReader<u8>, length: Option<usize>) -> Response {
    let headers = Fields::new();
    let _ = headers.append("content-type", b"text/plain");
    if let Some(length) = length {
        let _ = headers.append("content-length", length.to_string().as_bytes());
    }
    // No trailers: the other end of this future is dropped, which sends the default.
    let (_, no_trailers) = wit_future::new(|| Ok(None));
    let (response, _sent) = Response::new(headers, Some(body), no_trailers);
    response
}

fn whole(text: &'static str) -> StreamReader<u8> {
    let (mut writer, reader) = wit_stream::new();
    spawn_local(async move {
        writer.write_all(text.into()).await;
    });
    reader
}

fn stream(lines: u64, pause_ms: u64) -> StreamReader<u8> {
    let (mut writer, reader) = wit_stream::new();
    spawn_local(async move {
        for line in 1..=lines {
            if line > 1 {
                monotonic_clock::wait_for(pause_ms.saturating_mul(1_000_000)).await;
            }
            let unread = writer.write_all(format!("line {line}\n").into()).await;
            if !unread.is_empty() {
                return;
            }
        }
    });
    reader
}

fn trap_after_a_piece() -> StreamReader<u8> {
    let (mut writer, reader) = wit_stream::new();
    spawn_local(async move {
        writer.write_all("the beginning of a body\n".into()).await;
        panic!("asked to trap");
    });
    reader
}

/// The number given as `name=` after the question mark.
fn number(path_with_query: &str, name: &str) -> Option<u64> {
    let (_, query) = path_with_query.split_once('?')?;
    query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name)?.1.parse().ok()
}
