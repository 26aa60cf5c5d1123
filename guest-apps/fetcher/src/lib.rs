//! Asks another server: `?url=http://127.0.0.1:9000/path`.
//!
//! `&method=POST&body=text` sends a body, `&follow=1` goes where a redirect points, up to five
//! times. The answer is `status=200`, an empty line and the other server's body; or, with status
//! 502, the name of what went wrong, such as `connection-refused`.

mod url;

use kit::Query;
use url::Url;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingRequest, IncomingResponse, Method, OutgoingBody, OutgoingRequest,
    ResponseOutparam,
};
use wasip2::io::streams::{InputStream, StreamError};

const MAX_BODY: usize = 1024 * 1024;
const MAX_REDIRECTS: usize = 5;

struct Fetcher;

wasip2::http::proxy::export!(Fetcher);

impl Guest for Fetcher {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let query = Query::of(&request);
        let Some(url) = query.text("url").as_deref().and_then(Url::parse) else {
            return kit::send_text(out, 400, "say where: ?url=http://host/path\n");
        };
        match fetch(&query, url) {
            Ok((status, body)) => {
                let answer = [format!("status={status}\n\n").as_bytes(), &body].concat();
                kit::send(out, 200, "application/octet-stream", &answer);
            }
            Err(error) => kit::send_text(out, 502, &(name(&error) + "\n")),
        }
    }
}

fn fetch(query: &Query, mut url: Url) -> Result<(u16, Vec<u8>), ErrorCode> {
    let follow = query.flag("follow");
    let mut redirects = 0;
    loop {
        let response = send(query, &url)?;
        let status = response.status();
        if let Some(next) = location(&response, &url)
            && follow
        {
            redirects += 1;
            if redirects > MAX_REDIRECTS {
                return Err(ErrorCode::LoopDetected);
            }
            url = next;
            continue;
        }
        return Ok((status, read_body(&response)?));
    }
}

/// Sends one request and waits for the head of its response.
fn send(query: &Query, url: &Url) -> Result<IncomingResponse, ErrorCode> {
    let text = query.text("body").unwrap_or_default();
    let headers = Fields::new();
    if !text.is_empty() {
        let length = text.len().to_string();
        let _ = headers.append("content-length", length.as_bytes());
    }
    let request = OutgoingRequest::new(headers);
    let valid = request.set_method(&method(query)).is_ok()
        && request.set_scheme(Some(&url.scheme)).is_ok()
        && request.set_authority(Some(&url.authority)).is_ok()
        && request.set_path_with_query(Some(&url.path)).is_ok();
    if !valid {
        return Err(ErrorCode::HttpRequestUriInvalid);
    }
    let body = request.body().expect("the body is taken once");
    let answer = outgoing_handler::handle(request, None)?;
    let stream = body.write().expect("the stream is taken once");
    for chunk in text.as_bytes().chunks(4096) {
        stream.blocking_write_and_flush(chunk).map_err(|_| ErrorCode::ConnectionTerminated)?;
    }
    drop(stream);
    OutgoingBody::finish(body, None)?;
    answer.subscribe().block();
    answer.get().expect("it is ready").expect("it is taken once")
}

fn method(query: &Query) -> Method {
    match query.text("method").as_deref() {
        None | Some("GET") => Method::Get,
        Some("POST") => Method::Post,
        Some("PUT") => Method::Put,
        Some(other) => Method::Other(other.to_owned()),
    }
}

/// Where a redirect points.
fn location(response: &IncomingResponse, from: &Url) -> Option<Url> {
    if !matches!(response.status(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let value = response.headers().get("location").into_iter().next()?;
    from.join(&String::from_utf8(value).ok()?)
}

fn read_body(response: &IncomingResponse) -> Result<Vec<u8>, ErrorCode> {
    let body = response.consume().expect("the body is taken once");
    let stream: InputStream = body.stream().expect("the stream is taken once");
    let mut bytes = Vec::new();
    while bytes.len() < MAX_BODY {
        match stream.blocking_read((MAX_BODY - bytes.len()) as u64) {
            Ok(chunk) => bytes.extend(chunk),
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(_)) => {
                return Err(ErrorCode::HttpResponseIncomplete);
            }
        }
    }
    Ok(bytes)
}

/// The error's name without its details, as in `connection-refused`.
fn name(error: &ErrorCode) -> String {
    let debug = format!("{error:?}");
    let case = debug.trim_start_matches("ErrorCode::");
    let mut name = String::new();
    for letter in case.chars().take_while(char::is_ascii_alphanumeric) {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('-');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}
