//! Takes things from the host and never gives them back.
//!
//! - `?n=100`: that many `fields` resources, whose handles are forgotten: `leaked=100`
//! - `?headers=1000`: one `fields` resource with that many bytes of values:
//!   `headers=1000 refused=false`, or `true` as soon as the host says that it is too much

use kit::Query;
use std::mem;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, ResponseOutparam};

const VALUE: [u8; 1000] = [b'x'; 1000];

struct Leaker;

wasip2::http::proxy::export!(Leaker);

impl Guest for Leaker {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let query = Query::of(&request);
        let answer = match query.number("headers") {
            Some(bytes) => fill_headers(bytes),
            None => leak(query.number("n").unwrap_or(100)),
        };
        kit::send_text(out, 200, &answer);
    }
}

fn leak(count: u64) -> String {
    for _ in 0..count {
        // A host that has had enough lets this call trap.
        mem::forget(Fields::new());
    }
    format!("leaked={count}\n")
}

fn fill_headers(bytes: u64) -> String {
    let fields = Fields::new();
    let mut held = 0;
    while held < bytes {
        let now = (bytes - held).min(VALUE.len() as u64);
        if fields.append("x-fill", &VALUE[..now as usize]).is_err() {
            return format!("headers={held} refused=true\n");
        }
        held += now;
    }
    format!("headers={held} refused=false\n")
}
