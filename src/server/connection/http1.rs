//! HTTP/1 on one connection.

use std::pin::Pin;
use std::task::{Context, Poll};

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::TokioIo;

use super::activity::{Activity, Phase};
use super::exchange::{Exchange, Outgoing};
use super::framing::Framing;
use super::socket::Socket;
use super::{Connection, Drive, End, Handler, drive, exchange, rounds};

/// Bytes buffered for one connection in each direction; hyper's own minimum is 8 KiB.
const BUFFER: usize = 64 * 1024;

/// What a client gets that began a request and did not go on.
const TOO_SLOW: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

impl Connection {
    pub(super) async fn serve_http1<H: Handler>(self, handler: H) {
        let activity = Activity::new(self.drain.clone());
        let (limits, drain) = (self.limits.clone(), self.drain.clone());
        let mut watch = self.watch(activity.clone(), Phase::Reading);
        let mut busy_poll = self.busy_poll(&handler);
        let (peer, exchanges) = (self.peer, activity.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let (begun, request) = Exchange::begin(&exchanges, request, None);
            exchange(handler.clone(), request, peer, begun)
        });
        let socket = Socket::new(self.stream, self.first, activity.clone(), limits.write_timeout)
            .following(Framing::new(limits.max_header_bytes.max(BUFFER)), limits.half_close_time);
        let mut http = Http1 {
            connection: builder(limits.max_header_bytes).serve_connection(TokioIo::new(socket), service),
            activity: &activity,
            is_in_line: false,
        };
        let end = drive(&mut http, &mut watch, &mut busy_poll).await;
        // Taking the connection apart drops what is in flight.
        let busy = activity.phase() == Phase::Busy;
        let Http1 { connection, .. } = http;
        let mut socket = connection.into_parts().io.into_inner();
        match end {
            End::Served(Ok(())) => {
                activity.set_clean();
                let half_said = activity.is_mid_request();
                socket.linger(limits.linger_time, half_said, &drain).await;
            }
            // hyper has answered it: 400, 414 or 431.
            End::Served(Err(error)) if error.is_parse() => {
                tracing::debug!(peer = %peer.remote, %error, "bad request");
                activity.set_clean();
                socket.linger(limits.linger_time, true, &drain).await;
            }
            End::Served(Err(error)) => {
                tracing::debug!(peer = %peer.remote, %error, "connection broken");
            }
            End::TooSlow => {
                activity.set_clean();
                let answer = if activity.is_in_head() { TOO_SLOW } else { b"" };
                socket.say_and_close(answer).await;
            }
            End::Overdue => activity.set_clean(),
            End::Aborted if !busy => activity.set_clean(),
            End::Aborted => {}
        }
    }
}

struct Http1<'a, S: HttpService<Incoming>> {
    connection: http1::Connection<TokioIo<Socket>, S>,
    activity: &'a Activity,
    is_in_line: bool,
}

impl<S: HttpService<Incoming>> Http1<'_, S> {
    /// Has the next request to wait before it is read, if there is one?
    fn stays_in_line(&mut self, cx: &Context<'_>) -> bool {
        self.is_in_line = match self.activity.crowd() {
            Some(crowd) if !self.is_in_line => !rounds::enter(crowd, cx.waker()),
            // It was let in, or need not wait.
            _ => false,
        };
        self.is_in_line
    }
}

impl<S, B> Drive for Http1<'_, S>
where
    S: HttpService<Incoming, ResBody = Outgoing<B>>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: http_body::Body<Data = bytes::Bytes> + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn poll_serve(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        if self.stays_in_line(cx) {
            return Poll::Pending;
        }
        // hyper's own `graceful_shutdown` is not used: it would drop a request that is in the socket already.
        Pin::new(&mut self.connection).poll(cx)
    }

    /// Each response says `connection: close` from now on; a quiet connection is ended by the watch.
    fn drain(&mut self) {}

    fn finish(&mut self) {
        self.activity.finish();
    }
}

fn builder(max_header_bytes: usize) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .max_buf_size(max_header_bytes.max(BUFFER))
        .max_header_size(max_header_bytes)
        // The watch has both clocks, for a head and for idleness; hyper's single one can't tell them apart.
        .header_read_timeout(None)
        // The socket decides how long a half-closed connection is served.
        .half_close(false);
    builder
}

#[cfg(test)]
mod tests;
