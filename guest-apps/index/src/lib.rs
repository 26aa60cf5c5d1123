//! The page at `/`: says what this is and links the other apps.

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

struct Index;

wasip2::http::proxy::export!(Index);

impl Guest for Index {
    fn handle(_request: IncomingRequest, out: ResponseOutparam) {
        kit::send(out, 200, "text/html; charset=utf-8", include_bytes!("index.html"));
    }
}
