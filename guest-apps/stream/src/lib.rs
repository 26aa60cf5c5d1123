//! Answers that take a while.
//!
//! - `?n=5&ms=100`: five server-sent events, one each 100 ms, the first at once
//! - `?bytes=1000000`: a body of that many bytes, `0123456789abcdef` over and over

use kit::{Gone, Query, Reply};
use wasip2::clocks::monotonic_clock;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

const CHUNK: usize = 64 * 1024;
const PATTERN: &[u8] = b"0123456789abcdef";

struct Stream;

wasip2::http::proxy::export!(Stream);

impl Guest for Stream {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let query = Query::of(&request);
        let done = match query.number("bytes") {
            Some(bytes) => download(out, bytes),
            None => {
                let count = query.number("n").unwrap_or(5);
                let pause = query.number("ms").unwrap_or(100);
                events(out, count, pause)
            }
        };
        if let Ok(reply) = done {
            reply.finish();
        }
    }
}

fn events(out: ResponseOutparam, count: u64, pause_ms: u64) -> Result<Reply, Gone> {
    let headers = [("content-type", "text/event-stream"), ("cache-control", "no-cache")];
    let mut reply = Reply::start(out, 200, &headers);
    for number in 1..=count {
        if number > 1 {
            monotonic_clock::subscribe_duration(pause_ms.saturating_mul(1_000_000)).block();
        }
        reply.write(format!("id: {number}\ndata: tick {number}\n\n").as_bytes())?;
        // Without this an event could wait in a buffer for the next one.
        reply.flush()?;
    }
    Ok(reply)
}

fn download(out: ResponseOutparam, bytes: u64) -> Result<Reply, Gone> {
    let chunk = PATTERN.repeat(CHUNK / PATTERN.len());
    let headers = [("content-type", "application/octet-stream")];
    let mut reply = Reply::start(out, 200, &headers);
    let mut left = bytes;
    while left > 0 {
        let now = left.min(CHUNK as u64);
        reply.write(&chunk[..now as usize])?;
        left -= now;
    }
    Ok(reply)
}
