//! HTTP/2 on one connection, in the clear and with prior knowledge.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::rt::bounds::Http2ServerConnExec;
use hyper::server::conn::http2;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};

use super::activity::{Activity, Phase};
use super::exchange::{Exchange, Outgoing, Pace};
use super::socket::Socket;
use super::{Connection, Drive, End, Handler, Limits, drive, exchange};
use crate::server::drain::DrainSignal;

/// Bytes of a request body that a client may send ahead, for each stream and for all of a connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Bytes of a response that a stream buffers ahead of its client.
const SEND_BUFFER: usize = 128 * 1024;

/// Streams that a client reset before we looked at them ("rapid reset"), and streams that we reset for a client's
/// errors, which a connection survives.
const MAX_PENDING_RESETS: usize = 20;
const MAX_ERROR_RESETS: usize = 100;

impl Connection {
    pub(super) async fn serve_http2<H: Handler>(self, handler: H) {
        let activity = Activity::new(self.drain.clone());
        let limits = self.limits.clone();
        // The preface is complete, and a client may connect long before its first request.
        let mut watch = self.watch(activity.clone(), Phase::Idle);
        let mut busy_poll = self.busy_poll(&handler);
        let streams =
            Streams { drain: self.drain, write_timeout: limits.write_timeout, next: Arc::default() };
        let (peer, began) = (self.peer, self.began);
        let (exchanges, next) = (activity.clone(), streams.next.clone());
        let service = service_fn(move |mut request: http::Request<Incoming>| {
            join_cookies(request.headers_mut());
            let pace = Arc::new(Pace::new(began));
            *next.lock() = Some(pace.clone());
            let (begun, request) = Exchange::begin(&exchanges, request, Some(pace));
            exchange(handler.clone(), request, peer, begun)
        });
        let socket = Socket::new(self.stream, self.first, activity.clone(), limits.write_timeout);
        let mut http =
            Http2 { connection: builder(streams, &limits).serve_connection(TokioIo::new(socket), service) };
        match drive(&mut http, &mut watch, &mut busy_poll).await {
            End::Served(Ok(())) | End::TooSlow | End::Overdue => activity.set_clean(),
            End::Served(Err(error)) => {
                tracing::debug!(peer = %peer.remote, %error, "connection broken");
            }
            End::Aborted if activity.phase() != Phase::Busy => activity.set_clean(),
            End::Aborted => {}
        }
    }
}

/// A client may send each cookie in a field of its own, for the sake of compression. Whoever does not speak HTTP/2 has to
/// get them in one (RFC 9113 section 8.2.3): an app is not to see how its client is connected.
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let cookies: Vec<_> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    // Made of bytes that fields have.
    if let Ok(joined) = HeaderValue::from_bytes(&cookies.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

struct Http2<S: HttpService<Incoming>> {
    connection: http2::Connection<TokioIo<Socket>, S, Streams>,
}

impl<S, B> Drive for Http2<S>
where
    S: HttpService<Incoming, ResBody = Outgoing<B>>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: http_body::Body<Data = bytes::Bytes> + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    Streams: Http2ServerConnExec<S::Future, Outgoing<B>>,
{
    fn poll_serve(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        Pin::new(&mut self.connection).poll(cx)
    }

    /// The client is told to open no more streams; those on the wire are still served.
    fn drain(&mut self) {
        Pin::new(&mut self.connection).graceful_shutdown();
    }

    fn finish(&mut self) {
        Pin::new(&mut self.connection).graceful_shutdown();
    }
}

fn builder(streams: Streams, limits: &Limits) -> http2::Builder<Streams> {
    let max_header_bytes = u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX);
    let mut builder = http2::Builder::new(streams);
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(limits.ping_interval)
        .keep_alive_timeout(limits.ping_interval)
        .max_concurrent_streams(limits.max_streams)
        .max_header_list_size(max_header_bytes)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_ERROR_RESETS);
    builder
}

/// Runs each stream as a task of its own, so that one connection can use all cores. A stream's task ends when its
/// connection does.
#[derive(Clone)]
struct Streams {
    drain: DrainSignal,
    write_timeout: Duration,
    /// The pace of the stream that is about to be executed: hyper calls the service and the executor in turn.
    next: Arc<Mutex<Option<Arc<Pace>>>>,
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let pace = self.next.lock().take();
        self.drain.spawn(Paced {
            stream: Some(stream),
            pace,
            write_timeout: self.write_timeout,
            timer: None,
        });
    }
}

pin_project! {
    /// A stream that is dropped, and so reset, when its client doesn't take a frame for the write timeout. A whole
    /// connection that stalls is noticed by its socket; this is for one stream whose window is never opened.
    struct Paced<F> {
        #[pin]
        stream: Option<F>,
        pace: Option<Arc<Pace>>,
        write_timeout: Duration,
        timer: Option<Pin<Box<Sleep>>>,
    }
}

impl<F: Future<Output = ()>> Future for Paced<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut me = self.project();
        let Some(stream) = me.stream.as_mut().as_pin_mut() else {
            return Poll::Ready(());
        };
        if stream.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let Some(since) = me.pace.as_ref().and_then(|pace| pace.waiting_since()) else {
            return Poll::Pending;
        };
        let deadline = since + *me.write_timeout;
        let timer = me.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        while timer.as_mut().poll(cx).is_ready() {
            if deadline <= Instant::now() {
                tracing::debug!("stream reset: the client stopped reading");
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests;
