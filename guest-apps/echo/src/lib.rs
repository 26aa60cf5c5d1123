//! Sends the request's body back while it arrives. A `GET` or `HEAD` without a body is answered
//! with a description of the request.

use kit::Reply;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingRequest, Method, ResponseOutparam};
use wasip2::io::streams::{InputStream, StreamError};

const CHUNK: u64 = 64 * 1024;

struct Echo;

wasip2::http::proxy::export!(Echo);

impl Guest for Echo {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        // The stream belongs to the body: it must go first, and does, in reverse order.
        let body = request.consume().expect("the body is taken once");
        let input = body.stream().expect("the stream is taken once");
        let first = next_chunk(&input);
        let asks = matches!(request.method(), Method::Get | Method::Head);
        match first {
            Ok(None) if asks => kit::send_text(out, 200, &describe(&request)),
            first => echo(&request, first, &input, out),
        }
    }
}

fn echo(
    request: &IncomingRequest,
    mut chunk: Result<Option<Vec<u8>>, StreamError>,
    input: &InputStream,
    out: ResponseOutparam,
) {
    let content_type =
        header(request, "content-type").unwrap_or_else(|| String::from("application/octet-stream"));
    let mut reply = Reply::start(out, 200, &[("content-type", &content_type)]);
    loop {
        match chunk {
            Ok(Some(bytes)) => {
                // Waits while the client reads slowly, and so slows down the sender too.
                if reply.write(&bytes).is_err() {
                    return;
                }
            }
            Ok(None) => return reply.finish(),
            // The upload broke off: so must the answer.
            Err(_) => return,
        }
        chunk = next_chunk(input);
    }
}

/// The next piece of the body, `None` at its end.
fn next_chunk(input: &InputStream) -> Result<Option<Vec<u8>>, StreamError> {
    loop {
        match input.blocking_read(CHUNK) {
            Ok(bytes) if bytes.is_empty() => {}
            Ok(bytes) => return Ok(Some(bytes)),
            Err(StreamError::Closed) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

fn describe(request: &IncomingRequest) -> String {
    let path = request.path_with_query().unwrap_or_default();
    let mut lines: Vec<String> = request
        .headers()
        .entries()
        .iter()
        .map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(value)))
        .collect();
    lines.sort();
    format!("{} {path}\n{}", name(&request.method()), lines.concat())
}

fn header(request: &IncomingRequest, name: &str) -> Option<String> {
    let value = request.headers().get(name).into_iter().next()?;
    String::from_utf8(value).ok()
}

fn name(method: &Method) -> &str {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Connect => "CONNECT",
        Method::Options => "OPTIONS",
        Method::Trace => "TRACE",
        Method::Patch => "PATCH",
        Method::Other(name) => name,
    }
}
