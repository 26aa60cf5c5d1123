//! Other ways to end than by a whole answer.

use std::arch::wasm32::memory_grow;
use std::hint::black_box;
use std::mem;

use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

const HOUR: u64 = 3_600_000_000_000;

/// Reads one byte of the request's body, and ends: `t` traps, `s` spins, `w` waits for an hour, `m` takes memory until
/// it is refused some, and answers. `T`, `S` and `W` do so in the midst of their answer. Any other letter answers.
pub fn end(how: char, request: IncomingRequest, out: ResponseOutparam, answer: &str) {
    read_one_byte(request);
    match how {
        't' => panic!("asked to trap"),
        's' => spin(),
        'w' => subscribe_duration(HOUR).block(),
        'm' => while memory_grow::<0>(1) != usize::MAX {},
        _ => {}
    }
    let mut reply = kit::Reply::start(out, 200, &[("content-type", "text/plain")]);
    let written = reply.write(answer.as_bytes()).and_then(|()| reply.flush());
    match how {
        'T' => panic!("asked to trap"),
        'S' => spin(),
        'W' => subscribe_duration(HOUR).block(),
        _ => {}
    }
    if written.is_ok() {
        reply.finish();
    }
}

/// What is behind it stays unread, and the stream open.
fn read_one_byte(request: IncomingRequest) {
    if let Ok(body) = request.consume() {
        if let Ok(stream) = body.stream() {
            let _ = stream.blocking_read(1);
            mem::forget(stream);
        }
        mem::forget(body);
    }
    mem::forget(request);
}

fn spin() {
    loop {
        black_box(());
    }
}
