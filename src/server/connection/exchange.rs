//! One request and its response on their way through a connection: counted while in flight, marked when their
//! framing is suspect, and the last check that what goes out is a whole and honest answer, or visibly a broken one.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderValue, TRANSFER_ENCODING};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tokio::time::Instant;

use super::activity::{Activity, InFlight};
use super::arriving::{Arriving, Rest};
use super::{AmbiguousLength, Answered};

/// The most bytes of one HTTP/2 body frame: what a client must take within the write timeout to count as alive.
const MAX_FRAME: usize = 64 * 1024;

/// One exchange between the request's arrival and its response's head.
#[derive(Debug)]
pub(super) struct Exchange {
    in_flight: InFlight,
    head_only: bool,
    /// Whether a response may say that it is its connection's last. HTTP/2 has GOAWAY for that.
    http1: bool,
    /// Of the request's body, on HTTP/1 if it has one.
    rest: Option<Arc<Rest>>,
    pace: Option<Arc<Pace>>,
}

/// Since when one HTTP/2 stream has waited for its client to take a frame.
#[derive(Debug)]
pub(super) struct Pace {
    base: Instant,
    /// Milliseconds after `base`, plus one; zero while nothing waits for the client.
    waiting: AtomicU64,
}

pin_project! {
    /// A response body on its way out; the exchange is in flight for as long as it lives.
    pub(super) struct Outgoing<B> {
        #[pin]
        body: Option<B>,
        fault: Option<&'static str>,
        rest: Bytes,
        pace: Option<Arc<Pace>>,
        in_flight: InFlight,
    }
}

impl Exchange {
    /// Also the request as its handler is to have it.
    pub(super) fn begin(
        activity: &Arc<Activity>,
        mut request: Request<Incoming>,
        pace: Option<Arc<Pace>>,
    ) -> (Self, Request<Arriving>) {
        let in_flight = activity.begin();
        let http1 = request.version() < Version::HTTP_2;
        if http1 && activity.is_suspect() {
            request.extensions_mut().insert(AmbiguousLength);
        }
        let head_only = request.method() == Method::HEAD;
        let (parts, incoming) = request.into_parts();
        let (body, rest) = match http1 {
            true => Arriving::followed(incoming),
            false => (Arriving::new(incoming), None),
        };
        (Self { in_flight, head_only, http1, rest, pace }, Request::from_parts(parts, body))
    }

    /// The response as hyper may send it.
    pub(super) fn finish<B: Body<Data = Bytes>>(self, answered: Answered<B>) -> Response<Outgoing<B>> {
        self.in_flight.activity.set_crowd(answered.crowd);
        let (mut parts, body) = answered.response.into_parts();
        // How a body is framed is decided here and nowhere else.
        parts.headers.remove(TRANSFER_ENCODING);
        if self.http1 && self.must_close(parts.status) {
            let close = HeaderValue::from_static("close");
            parts.headers.insert(CONNECTION, close);
        }
        // No final status: a handler's bug, which must not turn the connection into something else.
        let nonsense = parts.status.is_informational();
        if nonsense {
            parts.status = StatusCode::BAD_GATEWAY;
            parts.headers.remove(CONTENT_LENGTH);
        }
        if has_no_body(parts.status) {
            parts.headers.remove(CONTENT_LENGTH);
        }
        let length = body.size_hint().exact();
        let bare = nonsense || self.head_only || has_no_body(parts.status);
        if self.head_only && !nonsense && !has_no_body(parts.status) {
            declare_length(&mut parts.headers, length);
        }
        // hyper trusts a `content-length` that disagrees with the body, which would leave bytes of this response
        // to be read as the next one.
        let fault =
            (!bare && disagrees(&parts.headers, length)).then_some("content-length disagrees with the body");
        let body = (!bare && fault.is_none()).then_some(body);
        let outgoing =
            Outgoing { body, fault, rest: Bytes::new(), pace: self.pace, in_flight: self.in_flight };
        Response::from_parts(parts, outgoing)
    }

    fn must_close(&self, status: StatusCode) -> bool {
        let activity = &self.in_flight.activity;
        let error = status.is_client_error() || status.is_server_error();
        let more_to_come = activity.is_mid_request();
        // The rest of a body that nobody wants is not waited for, nor that of a refused one.
        let dropped = self.rest.as_ref().filter(|rest| rest.is_left());
        let unread = dropped.is_some_and(|rest| more_to_come || !rest.has_length);
        unread || (error && more_to_come) || activity.is_ending() || activity.is_suspect()
    }
}

impl Pace {
    pub(super) fn new(base: Instant) -> Self {
        Self { base, waiting: AtomicU64::new(0) }
    }

    /// Since when the client has owed a read.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        let since = self.waiting.load(Relaxed).checked_sub(1)?;
        Some(self.base + std::time::Duration::from_millis(since))
    }

    fn handed_over(&self) {
        let since = u64::try_from(self.base.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.waiting.store(since + 1, Relaxed);
    }

    fn asked_for_more(&self) {
        self.waiting.store(0, Relaxed);
    }
}

impl<B> Outgoing<B> {
    /// HTTP/2 frames are handed over in pieces, so that a slow reader shows progress and a stalled one doesn't hide
    /// behind a large buffer.
    fn piece(rest: &mut Bytes, pace: &Pace) -> Bytes {
        pace.handed_over();
        let end = rest.len().min(MAX_FRAME);
        rest.split_to(end)
    }
}

impl<B> Body for Outgoing<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let mut me = self.project();
        if let Some(fault) = me.fault.take() {
            return Poll::Ready(Some(Err(fault.into())));
        }
        if let Some(pace) = me.pace.as_deref() {
            pace.asked_for_more();
            if me.rest.has_remaining() {
                return Poll::Ready(Some(Ok(Frame::data(Self::piece(me.rest, pace)))));
            }
        }
        let Some(body) = me.body.as_mut().as_pin_mut() else {
            return Poll::Ready(None);
        };
        let frame = std::task::ready!(body.poll_frame(cx));
        Poll::Ready(match (frame, me.pace.as_deref()) {
            (None, _) => None,
            (Some(Err(error)), _) => Some(Err(error.into())),
            (Some(Ok(frame)), None) => Some(Ok(frame)),
            (Some(Ok(frame)), Some(pace)) => Some(Ok(match frame.into_data() {
                Ok(data) => {
                    *me.rest = data;
                    Frame::data(Self::piece(me.rest, pace))
                }
                Err(frame) => frame,
            })),
        })
    }

    fn is_end_stream(&self) -> bool {
        let body_ended = self.body.as_ref().is_none_or(Body::is_end_stream);
        self.fault.is_none() && self.rest.is_empty() && body_ended
    }

    fn size_hint(&self) -> SizeHint {
        let Some(body) = &self.body else {
            return match self.fault {
                None => SizeHint::with_exact(0),
                Some(_) => SizeHint::default(),
            };
        };
        let mut hint = body.size_hint();
        let rest = self.rest.len() as u64;
        if rest > 0 {
            if let Some(upper) = hint.upper() {
                hint.set_upper(upper + rest);
            }
            hint.set_lower(hint.lower() + rest);
        }
        hint
    }
}

/// Nor a length (RFC 9110, 8.6 and 15.3.6): a 304 might tell that of what it stands for, but hyper takes it for a fault.
fn has_no_body(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED)
}

/// A HEAD answer says how long the body would have been, if that is known.
fn declare_length(headers: &mut HeaderMap, length: Option<u64>) {
    if let Some(length) = length.filter(|_| !headers.contains_key(CONTENT_LENGTH)) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
}

fn disagrees(headers: &HeaderMap, length: Option<u64>) -> bool {
    let Some(length) = length else {
        return false;
    };
    headers.get_all(CONTENT_LENGTH).iter().any(|declared| {
        let declared = declared.to_str().ok().and_then(|text| text.parse().ok());
        declared != Some(length)
    })
}
