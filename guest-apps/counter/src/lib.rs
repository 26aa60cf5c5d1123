//! Leaves a mark in every kind of state that a WebAssembly instance has, and says what marks it
//! found: a clean instance always gives the same answer, one that was used before does not.
//!
//! ```text
//! count=1 global=1 table=1 memory_pages=17 grown_page=zero handle=3 env=unset
//! ```
//!
//! - `count`: a counter in linear memory
//! - `global`: a counter in a WebAssembly global
//! - `table`: how many entries of a table are set
//! - `memory_pages`: the size of the memory before it is grown by one page
//! - `grown_page`: `zero`, or `dirty` if the new page is not empty
//! - `handle`: the number the host gives to a new resource; three are kept open each time
//! - `env`: an environment variable, which each request sets
//!
//! `?scan=1` adds `traces=0`: how often a pattern that each request leaves on the heap and on the
//! stack is found anywhere in memory. `?random=1` adds a random number and a seed of the standard
//! library's, which are to differ, and the time. `?end=t` makes it end in another way, see `ending`.

#![feature(asm_experimental_arch)]

mod ending;
mod state;

use std::arch::wasm32::{memory_grow, memory_size};
use std::hash::{BuildHasher, RandomState};
use std::mem;
use std::sync::atomic::{AtomicU32, Ordering};
use wasip2::clocks::{monotonic_clock, wall_clock};
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, ResponseOutparam};
use wasip2::random::random::get_random_u64;

const PAGE: usize = 64 * 1024;

static COUNT: AtomicU32 = AtomicU32::new(0);

struct Counter;

wasip2::http::proxy::export!(Counter);

impl Guest for Counter {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let count = COUNT.fetch_add(1, Ordering::Relaxed) + 1;
        let global = state::count_in_global();
        let table = state::set_one_more_in_table();
        let memory_pages = memory_size::<0>();
        let grown_page = grow_and_mark();
        let handle = keep_handles_open();
        let mut answer = format!(
            "count={count} global={global} table={table} memory_pages={memory_pages} \
             grown_page={grown_page} handle={handle} env={}",
            state::set_variable()
        );
        let query = kit::Query::of(&request);
        if query.flag("scan") {
            answer += &format!(" traces={}", state::find_traces());
        }
        if query.flag("random") {
            let (seed, now) = (RandomState::new().hash_one(0), wall_clock::now());
            let clock = now.seconds * 1_000_000_000 + u64::from(now.nanoseconds);
            answer += &format!(" random={:016x} seed={seed:016x} clock={clock:016x}", get_random_u64());
        }
        state::leave_traces();
        answer += "\n";
        match query.text("end").and_then(|end| end.chars().next()) {
            Some(end) => ending::end(end, request, out, &answer),
            None => kit::send_text(out, 200, &answer),
        }
    }
}

/// Adds a page to the memory, looks whether it is empty, and writes to it.
fn grow_and_mark() -> &'static str {
    let first = memory_grow::<0>(1);
    if first == usize::MAX {
        return "refused";
    }
    // SAFETY: the page was just added at the end, and nobody else knows of it.
    let page = unsafe { std::slice::from_raw_parts_mut((first * PAGE) as *mut u8, PAGE) };
    let clean = page.iter().all(|byte| *byte == 0);
    page.fill(0xA5);
    if clean { "zero" } else { "dirty" }
}

/// Takes three resources of different kinds and never drops them; the number of the first.
fn keep_handles_open() -> u32 {
    let fields = Fields::new();
    let number = fields.handle();
    mem::forget(fields);
    mem::forget(monotonic_clock::subscribe_duration(1));
    mem::forget(wasip2::cli::stdout::get_stdout());
    number
}
