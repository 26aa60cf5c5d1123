//! One client connection, from its first byte to its end.
//!
//! ```text
//! first bytes --"PRI * HTTP/2.0"--> HTTP/2 --+
//!      |                                     +--> idle <-> reading <-> busy --> closed | reset
//!      +--------------anything else--> HTTP/1-+
//! ```
//!
//! Every wait for a client has a limit: the first bytes and a request head (`header_timeout`), the time between two
//! requests (`idle_timeout`), each wait for the client to take response bytes (`write_timeout`). Request bodies
//! have theirs in [`super::body`]. A connection that ends with an answer half said is reset, never closed.

use std::convert::Infallible;
use std::error::Error;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::drain::DrainSignal;
use crate::after_poll;
use activity::{Activity, Phase};
use busy_poll::BusyPoll;
use preface::Protocol;
use watch::{Times, Watch};

pub use arriving::Arriving;
pub use check::{MAX_TARGET, Refusal, check_request, host};

// What a connection is doing, and what follows from it.
mod activity;
mod busy_poll;
mod watch;
// The bytes: which protocol, where requests begin and end, how a socket ends.
mod framing;
mod preface;
mod rounds;
mod socket;
// The two protocols, and what is done to each request and response.
mod arriving;
mod check;
mod exchange;
mod http1;
mod http2;

pub use rounds::Crowd;

/// What a handler has to say to a request.
pub struct Answered<B> {
    pub response: Response<B>,
    /// The busy pool that answered it, or refused to: while a thread has no rest, its connections wait for each other.
    pub crowd: Option<Crowd>,
}

impl<B> From<Response<B>> for Answered<B> {
    fn from(response: Response<B>) -> Self {
        Self { response, crowd: None }
    }
}

/// Answers requests. It is polled in the connection's own task (HTTP/1) or in the stream's (HTTP/2), and dropped
/// when the client goes away.
pub trait Handler: Clone + Send + Sync + 'static {
    /// A body error ends the response visibly broken.
    type Body: http_body::Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static;

    /// The request is unchecked: [`check_request`] is the first thing to call. The status must not be 1xx.
    fn handle(
        &self,
        request: Request<Arriving>,
        peer: Peer,
    ) -> impl Future<Output = Answered<Self::Body>> + Send;

    /// May threads be kept awake for the next request? Not where others wait for the processor.
    fn may_busy_poll(&self) -> bool;
}

/// The two ends of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    pub remote: SocketAddr,
    pub local: SocketAddr,
}

/// A request whose body length can't be trusted; found in the request's extensions by [`check_request`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct AmbiguousLength;

/// The bounds of every connection. All times are positive and at most some days.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Open connections; further ones wait in the kernel's backlog.
    pub max_connections: usize,
    /// From the connection's begin, or from a request's first byte, to the end of its head.
    pub header_timeout: Duration,
    /// The longest time without a request on a connection.
    pub idle_timeout: Duration,
    /// The longest wait for a client to take some more of a response.
    pub write_timeout: Duration,
    /// How long a request goes on after its client shut down its sending side (or went away: both look the same).
    pub half_close_time: Duration,
    /// At a drain: how long a quiet connection waits for a request that may be on the wire.
    pub drain_grace: Duration,
    /// How long a client that still sends is listened to after its connection's last answer.
    pub linger_time: Duration,
    /// Bytes of one request's head, at least 1 KiB.
    pub max_header_bytes: usize,
    /// Requests at once on one HTTP/2 connection.
    pub max_streams: u32,
    /// HTTP/2: how often a client is asked whether it is there, and how long it may take to say so.
    pub ping_interval: Duration,
    /// A thread that has nothing to do stays awake for a moment when a client is likely to send its next request at once.
    pub busy_poll: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(30),
            half_close_time: Duration::from_secs(1),
            drain_grace: Duration::from_millis(250),
            linger_time: Duration::from_secs(2),
            max_header_bytes: 32 * 1024,
            max_streams: 100,
            ping_interval: Duration::from_secs(20),
            busy_poll: true,
        }
    }
}

/// Serves one connection to its end. Only the drain's task tracker and its own limits end it.
pub(super) async fn serve<H: Handler>(
    stream: TcpStream,
    remote: SocketAddr,
    limits: Arc<Limits>,
    handler: H,
    drain: DrainSignal,
) {
    let began = Instant::now();
    // Small answers must not wait for the client's delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    let Ok(local) = stream.local_addr() else {
        return;
    };
    let peer = Peer { remote, local };
    let Some((protocol, first)) = preface::read(&stream, &limits, &drain, began).await else {
        return;
    };
    let connection = Connection { stream, first, peer, began, limits, drain };
    match protocol {
        Protocol::Http1 => connection.serve_http1(handler).await,
        Protocol::Http2 => connection.serve_http2(handler).await,
    }
}

/// A connection whose protocol is known.
struct Connection {
    stream: TcpStream,
    /// What was read to find the protocol.
    first: Bytes,
    peer: Peer,
    began: Instant,
    limits: Arc<Limits>,
    drain: DrainSignal,
}

/// A protocol's own part in being driven and ended.
trait Drive {
    fn poll_serve(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<hyper::Result<()>>;

    /// The drain has begun.
    fn drain(&mut self);

    /// End as soon as nothing is under way.
    fn finish(&mut self);
}

/// How serving ended.
#[derive(Debug)]
enum End {
    Served(hyper::Result<()>),
    TooSlow,
    Overdue,
    Aborted,
}

impl Connection {
    fn watch(&self, activity: Arc<Activity>, phase: Phase) -> Watch {
        let times = Times {
            header: self.limits.header_timeout,
            idle: self.limits.idle_timeout,
            drain_grace: self.limits.drain_grace,
        };
        Watch::new(activity, times, self.drain.clone(), phase, self.began)
    }

    fn busy_poll<H: Handler>(&self, handler: &H) -> BusyPoll<impl Fn() -> bool + use<H>> {
        let (is_on, handler) = (self.limits.busy_poll, handler.clone());
        BusyPoll::new(move || is_on && handler.may_busy_poll())
    }
}

async fn drive<M: Fn() -> bool>(
    protocol: &mut impl Drive,
    watch: &mut Watch,
    busy_poll: &mut BusyPoll<M>,
) -> End {
    use std::task::Poll;
    use watch::Verdict;

    poll_fn(|cx| {
        let polled = busy_poll.polls();
        loop {
            // An instance that has answered is brought back when its answer is on its way.
            if let Poll::Ready(result) = after_poll::polled(|| protocol.poll_serve(cx)) {
                return Poll::Ready(End::Served(result));
            }
            let Poll::Ready(verdict) = watch.poll(cx) else {
                busy_poll.waits(polled, watch.rest(), cx);
                return Poll::Pending;
            };
            match verdict {
                Verdict::Drain => protocol.drain(),
                Verdict::Finish => protocol.finish(),
                Verdict::TooSlow => return Poll::Ready(End::TooSlow),
                Verdict::Overdue => return Poll::Ready(End::Overdue),
                Verdict::Abort => return Poll::Ready(End::Aborted),
            }
        }
    })
    .await
}

/// One request through the handler; errors are answers.
async fn exchange<H: Handler>(
    handler: H,
    request: Request<Arriving>,
    peer: Peer,
    exchange: exchange::Exchange,
) -> Result<Response<exchange::Outgoing<H::Body>>, Infallible> {
    Ok(exchange.finish(handler.handle(request, peer).await))
}
