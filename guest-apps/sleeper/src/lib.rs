//! Waits `?ms=1000` in the host, using no CPU, then answers; with `?after=1` it answers first.

use wasip2::clocks::monotonic_clock;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

struct Sleeper;

wasip2::http::proxy::export!(Sleeper);

impl Guest for Sleeper {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let query = kit::Query::of(&request);
        let ms = query.number("ms").unwrap_or(1000);
        if query.flag("after") {
            kit::send_text(out, 200, "sleeping on\n");
            sleep(ms);
        } else {
            sleep(ms);
            kit::send_text(out, 200, &format!("slept {ms} ms\n"));
        }
    }
}

fn sleep(ms: u64) {
    monotonic_clock::subscribe_duration(ms.saturating_mul(1_000_000)).block();
}
