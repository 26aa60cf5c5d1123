//! Leaves marks in the state that `wasi:http` 0.3 adds to an instance, and says what it found: tasks
//! that are not finished, timers, streams and futures with an open end. A clean instance always gives
//! the same answer.
//!
//! - `?end=b` answers and leaves a task behind that waits for an hour
//! - `t` traps, `s` spins, `w` waits for an hour, `m` takes memory until it is refused some, and answers
//! - `T`, `S` and `W` do so in the midst of their answer

use std::arch::wasm32::{memory_grow, memory_size};
use std::hash::{BuildHasher, RandomState};
use std::hint::black_box;
use std::mem;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use wasip3::clocks::{monotonic_clock, system_clock};
use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::random::random::get_random_u64;
use wasip3::{spawn_local, wit_future, wit_stream};

const HOUR: u64 = 3_600_000_000_000;

static COUNT: AtomicU32 = AtomicU32::new(0);
/// Tasks that were left behind and went on.
static WOKEN: AtomicU32 = AtomicU32::new(0);

struct Canary;

wasip3::http::service::export!(Canary);

impl Guest for Canary {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let end = end_of(&request.get_path_with_query().unwrap_or_default());
        let answer = look();
        leave_marks();
        read_one_byte(request).await;
        match end {
            't' => panic!("asked to trap"),
            's' => spin(),
            'w' => monotonic_clock::wait_for(HOUR).await,
            'm' => while memory_grow::<0>(1) != usize::MAX {},
            _ => {}
        }
        if end == 'b' {
            spawn_local(monotonic_clock::wait_for(HOUR));
        }
        let (mut writer, body) = wit_stream::new();
        spawn_local(async move {
            writer.write_all(answer.into()).await;
            match end {
                'T' => panic!("asked to trap"),
                'S' => spin(),
                'W' => monotonic_clock::wait_for(HOUR).await,
                _ => {}
            }
        });
        let headers = Fields::new();
        let _ = headers.append("content-type", b"text/plain");
        let (_, no_trailers) = wit_future::new(|| Ok(None));
        Ok(Response::new(headers, Some(body), no_trailers).0)
    }
}

fn look() -> String {
    let count = COUNT.fetch_add(1, Relaxed) + 1;
    let (fields, pages) = (Fields::new(), memory_size::<0>());
    let (handle, now) = (fields.handle(), system_clock::now());
    mem::forget(fields);
    let clock = now.seconds.unsigned_abs() * 1_000_000_000 + u64::from(now.nanoseconds);
    format!(
        "count={count} woken={} pages={pages} handle={handle} random={:016x} seed={:016x} clock={clock:016x}\n",
        WOKEN.load(Relaxed),
        get_random_u64(),
        RandomState::new().hash_one(0),
    )
}

fn leave_marks() {
    memory_grow::<0>(1);
    // A stream that nobody writes to, and a future that is never resolved.
    let (writer, reader) = wit_stream::new::<u8>();
    mem::forget((writer, reader));
    let (writer, reader) = wit_future::new::<Result<(), ErrorCode>>(|| Ok(()));
    mem::forget((writer, reader));
    // A timer that passes when this request is over, or nearly.
    spawn_local(async {
        monotonic_clock::wait_for(1).await;
        WOKEN.fetch_add(1, Relaxed);
    });
}

/// What is behind it stays unread, and the stream open.
async fn read_one_byte(request: Request) {
    let (_, done) = wit_future::new(|| Ok(()));
    let (mut body, trailers) = Request::consume_body(request, done);
    let _ = body.read(Vec::with_capacity(1)).await;
    mem::forget((body, trailers));
}

fn end_of(path_with_query: &str) -> char {
    let end = path_with_query.split_once("end=").and_then(|(_, end)| end.chars().next());
    end.unwrap_or('a')
}

fn spin() {
    loop {
        black_box(());
    }
}
