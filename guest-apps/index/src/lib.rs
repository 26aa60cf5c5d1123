//! The page at `/`: says what this is and links the other apps. Other paths that no other app has are answered
//! with 404.

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

struct Index;

wasip2::http::proxy::export!(Index);

impl Guest for Index {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        match target.split('?').next() {
            Some("" | "/") => {
                kit::send(out, 200, "text/html; charset=utf-8", include_bytes!("index.html"));
            }
            _ => kit::send_text(out, 404, "there is no app and no page here\n"),
        }
    }
}
