//! Sending a response: whole, or piece by piece.

use wasip2::http::types::{Fields, OutgoingBody, OutgoingResponse, ResponseOutparam};
use wasip2::io::streams::OutputStream;

/// The client went away, or the host closed the stream: nobody reads on.
#[derive(Debug)]
pub struct Gone;

/// Sends a whole text response.
pub fn send_text(out: ResponseOutparam, status: u16, text: &str) {
    send(out, status, "text/plain", text.as_bytes());
}

/// Sends a whole response; `content-length` is set.
pub fn send(out: ResponseOutparam, status: u16, content_type: &str, body: &[u8]) {
    let length = body.len().to_string();
    let headers = [("content-type", content_type), ("content-length", &length)];
    let mut reply = Reply::start(out, status, &headers);
    if reply.write(body).is_ok() {
        reply.finish();
    }
}

/// A response that has begun: its status and headers are out, its body follows.
///
/// Dropping it without [`finish`](Reply::finish) tells the host that the body is cut short.
pub struct Reply {
    // Declared, and so dropped, before the body that it belongs to.
    stream: OutputStream,
    body: OutgoingBody,
}

impl Reply {
    /// Panics if a header is not a valid one.
    pub fn start(out: ResponseOutparam, status: u16, headers: &[(&str, &str)]) -> Self {
        let fields = Fields::new();
        for (name, value) in headers {
            fields.append(name, value.as_bytes()).expect("a valid header");
        }
        let response = OutgoingResponse::new(fields);
        response.set_status_code(status).expect("a valid status");
        let body = response.body().expect("the body is taken once");
        ResponseOutparam::set(out, Ok(response));
        let stream = body.write().expect("the stream is taken once");
        Self { stream, body }
    }

    /// Writes all of `bytes`, as fast as the reader takes them.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), Gone> {
        while !bytes.is_empty() {
            let room = self.stream.check_write().map_err(|_| Gone)?;
            if room == 0 {
                self.stream.subscribe().block();
                continue;
            }
            let now = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
            self.stream.write(&bytes[..now]).map_err(|_| Gone)?;
            bytes = &bytes[now..];
        }
        Ok(())
    }

    /// Waits until what was written is on its way to the client.
    pub fn flush(&mut self) -> Result<(), Gone> {
        self.stream.blocking_flush().map_err(|_| Gone)
    }

    /// Marks the body as whole.
    pub fn finish(self) {
        drop(self.stream);
        // Fails only if the length differs from a `content-length` that was sent: the host then
        // breaks the response off, which is what is left to do.
        let _ = OutgoingBody::finish(self.body, None);
    }
}
