//! Goes wrong in the way it is asked to, by `?when=`:
//!
//! - `before` (the default): traps before there is a response
//! - `after`: sends status, headers and `?bytes=5` bytes of the body, then traps
//! - `nothing`: returns without a response
//! - `error`: sets an error in place of a response

use kit::{Query, Reply};
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{ErrorCode, IncomingRequest, ResponseOutparam};

struct Trapper;

wasip2::http::proxy::export!(Trapper);

impl Guest for Trapper {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let query = Query::of(&request);
        match query.text("when").as_deref() {
            None | Some("before") => panic!("asked to trap before the response"),
            Some("after") => {
                let bytes = query.number("bytes").unwrap_or(5);
                let headers = [("content-type", "text/plain")];
                let mut reply = Reply::start(out, 200, &headers);
                for _ in 0..bytes {
                    let _ = reply.write(b"x");
                }
                let _ = reply.flush();
                panic!("asked to trap after {bytes} bytes");
            }
            Some("nothing") => {}
            Some("error") => {
                let error = ErrorCode::InternalError(Some("asked to fail".into()));
                ResponseOutparam::set(out, Err(error));
            }
            Some(other) => kit::send_text(out, 400, &format!("unknown: when={other}\n")),
        }
    }
}
