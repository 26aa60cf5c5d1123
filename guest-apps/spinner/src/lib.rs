//! Uses CPU and never waits.
//!
//! - `?ms=200` stops after about that time and answers; without it, never
//! - `?rounds=1000` stops after a fixed amount of work, however long that takes: a round is about a microsecond
//! - `?fill=1` spends the time in `memory.fill`, which cannot be interrupted
//! - `?hostcalls=1` spends it in very many tiny calls of the host
//! - `?after=1` answers first, and then does all this

use kit::Query;
use std::hint::black_box;
use wasip2::clocks::monotonic_clock;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

const FILL_BYTES: usize = 16 * 1024 * 1024;
const ROUND: u32 = 1000;

struct Spinner;

wasip2::http::proxy::export!(Spinner);

impl Guest for Spinner {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let query = Query::of(&request);
        if query.flag("after") {
            kit::send_text(out, 200, "spinning on\n");
            work(&query);
        } else {
            work(&query);
            let answer = match query.number("rounds") {
                Some(rounds) => format!("spun {rounds} rounds\n"),
                None => format!("spun {} ms\n", query.number("ms").unwrap_or_default()),
            };
            kit::send_text(out, 200, &answer);
        }
    }
}

fn work(query: &Query) {
    let limit_ms = query.number("ms");
    if let Some(rounds) = query.number("rounds") {
        (0..rounds).for_each(|_| count(ROUND));
    } else if query.flag("fill") {
        let mut block = vec![0_u8; FILL_BYTES];
        spin(limit_ms, || black_box(&mut block).fill(1));
    } else if query.flag("hostcalls") {
        spin(limit_ms, || {
            for _ in 0..1000 {
                black_box(monotonic_clock::now());
            }
        });
    } else {
        spin(limit_ms, || count(100_000));
    }
}

fn count(to: u32) {
    for number in 0..to {
        black_box(number);
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
