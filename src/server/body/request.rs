//! Request bodies: limited in size, in waiting, and read ahead when they are small.

use std::collections::VecDeque;
use std::error::Error;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

use crate::server::connection::Arriving;

/// While a small body is read ahead, each second pays for this many bytes more: a slow line may take its time, a
/// client that trickles may not.
const MIN_BYTES_PER_SECOND: u64 = 1024;

/// A body whose length is not known may be a conversation: if it is quiet for this long, it is streamed.
const QUIET: Duration = Duration::from_millis(100);

/// Why a request body ended early.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    #[error("the request body is larger than max_request_body ({limit} bytes)")]
    TooLarge { limit: u64 },
    #[error("the request body did not come within its time")]
    TooSlow,
    #[error("the request body is malformed or the client went away")]
    Broken(#[source] Box<dyn Error + Send + Sync>),
}

impl RequestError {
    pub fn status(&self) -> StatusCode {
        match self {
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Broken(_) => StatusCode::BAD_REQUEST,
        }
    }
}

/// A request body that yields at most so many bytes and waits at most so long for each of its frames. Time during
/// which nobody polls it doesn't count: that is the guest's, not the client's.
#[derive(Debug)]
pub struct RequestBody<B = Arriving> {
    inner: B,
    /// What was read ahead and not yet taken.
    replay: VecDeque<Bytes>,
    trailers: Option<HeaderMap>,
    received: u64,
    limit: u64,
    stall: Duration,
    waiting_since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    ended: bool,
}

/// A request body after [`read_small`].
#[derive(Debug)]
pub enum Small<B = Arriving> {
    /// It is all here.
    Whole(Bytes, Option<HeaderMap>),
    /// There is more: what was read is replayed, then the rest is streamed.
    Streaming(RequestBody<B>),
}

impl<B> RequestBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    /// `limit`: bytes of the whole body; `stall`: the longest wait for the client to send some more. A declared
    /// length above the limit is refused at once.
    pub fn new(inner: B, limit: u64, stall: Duration) -> Result<Self, RequestError> {
        if inner.size_hint().lower() > limit {
            return Err(RequestError::TooLarge { limit });
        }
        Ok(Self {
            inner,
            replay: VecDeque::new(),
            trailers: None,
            received: 0,
            limit,
            stall,
            waiting_since: None,
            timer: None,
            ended: false,
        })
    }

    /// Bytes that have come from the client so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    fn poll_client(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, RequestError>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) else {
            ready!(self.poll_stalled(cx));
            return Poll::Ready(Some(Err(RequestError::TooSlow)));
        };
        self.waiting_since = None;
        Poll::Ready(match frame {
            None => None,
            Some(Err(error)) => Some(Err(RequestError::Broken(error.into()))),
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                self.received = self.received.saturating_add(length);
                Some(match self.received > self.limit {
                    true => Err(RequestError::TooLarge { limit: self.limit }),
                    false => Ok(frame),
                })
            }
        })
    }

    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = *self.waiting_since.get_or_insert_with(Instant::now) + self.stall;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        while timer.as_mut().poll(cx).is_ready() {
            if timer.deadline() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

impl<B> Body for RequestBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = RequestError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestError>>> {
        let me = self.get_mut();
        if let Some(data) = me.replay.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if me.ended {
            return Poll::Ready(me.trailers.take().map(|fields| Ok(Frame::trailers(fields))));
        }
        let frame = ready!(me.poll_client(cx));
        me.ended = !matches!(frame, Some(Ok(_)));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.replay.is_empty() && self.trailers.is_none() && (self.ended || self.inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let replay: u64 = self.replay.iter().map(|data| data.len() as u64).sum();
        let rest = match self.ended {
            true => SizeHint::with_exact(0),
            false => self.inner.size_hint(),
        };
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(replay));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(replay));
        }
        hint
    }
}

/// Reads a body of at most `most` bytes wholly; a larger one, and one that may be a conversation, is left to be
/// streamed. All the waiting together may take `time` and a little more for each byte that came.
pub async fn read_small<B>(
    mut body: RequestBody<B>,
    most: usize,
    time: Duration,
) -> Result<Small<B>, RequestError>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    if body.is_end_stream() {
        return Ok(Small::Whole(Bytes::new(), None));
    }
    let declared = body.size_hint().exact();
    if declared.is_some_and(|length| length > most as u64) {
        return Ok(Small::Streaming(body));
    }
    let begun = Instant::now();
    let mut read = VecDeque::new();
    loop {
        let earned = Duration::from_secs(body.received() / MIN_BYTES_PER_SECOND);
        let mut deadline = begun + time + earned;
        if declared.is_none() {
            deadline = deadline.min(Instant::now() + QUIET);
        }
        let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx));
        match timeout_at(deadline, frame).await {
            Err(_) if declared.is_some() => return Err(RequestError::TooSlow),
            Err(_) => break,
            Ok(None) => return Ok(Small::Whole(join(read), None)),
            Ok(Some(frame)) => match frame?.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => read.push_back(data),
                Err(other) => {
                    return Ok(Small::Whole(join(read), other.into_trailers().ok()));
                }
            },
        }
        if body.received() > most as u64 {
            break;
        }
        if body.is_end_stream() {
            return Ok(Small::Whole(join(read), None));
        }
    }
    body.replay = read;
    Ok(Small::Streaming(body))
}

fn join(mut read: VecDeque<Bytes>) -> Bytes {
    if read.len() <= 1 {
        return read.pop_front().unwrap_or_default();
    }
    let mut whole = BytesMut::with_capacity(read.iter().map(Bytes::len).sum());
    for data in &read {
        whole.extend_from_slice(data);
    }
    whole.freeze()
}

#[cfg(test)]
mod tests;
