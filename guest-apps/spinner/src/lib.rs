//! Uses CPU and never waits.
//!
//! - `?ms=200` stops after about that time and answers; without it, never
//! - `?fill=1` spends the time in `memory.fill`, which cannot be interrupted
//! - `?hostcalls=1` spends it in very many tiny calls of the host

use kit::Query;
use std::hint::black_box;
use wasip2::clocks::monotonic_clock;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

const FILL_BYTES: usize = 16 * 1024 * 1024;

struct Spinner;

wasip2::http::proxy::export!(Spinner);

impl Guest for Spinner {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let query = Query::of(&request);
        let limit_ms = query.number("ms");
        if query.flag("fill") {
            let mut block = vec![0_u8; FILL_BYTES];
            spin(limit_ms, || black_box(&mut block).fill(1));
        } else if query.flag("hostcalls") {
            spin(limit_ms, || {
                for _ in 0..1000 {
                    black_box(monotonic_clock::now());
                }
            });
        } else {
            spin(limit_ms, || {
                for number in 0..100_000 {
                    black_box(number);
                }
            });
        }
        kit::send_text(out, 200, &format!("spun {} ms\n", limit_ms.unwrap_or_default()));
    }
}

/// Repeats `step` until the time is over. Without a limit it never asks for the time: a loop
/// that calls no host function is the harder one to stop.
fn spin(limit_ms: Option<u64>, mut step: impl FnMut()) {
    let Some(ms) = limit_ms else {
        loop {
            step();
        }
    };
    let end = monotonic_clock::now().saturating_add(ms.saturating_mul(1_000_000));
    while monotonic_clock::now() < end {
        step();
    }
}
