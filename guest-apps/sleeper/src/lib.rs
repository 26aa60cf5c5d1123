//! Waits `?ms=1000` in the host, using no CPU, then answers.

use wasip2::clocks::monotonic_clock;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

struct Sleeper;

wasip2::http::proxy::export!(Sleeper);

impl Guest for Sleeper {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let ms = kit::Query::of(&request).number("ms").unwrap_or(1000);
        monotonic_clock::subscribe_duration(ms.saturating_mul(1_000_000)).block();
        kit::send_text(out, 200, &format!("slept {ms} ms\n"));
    }
}
