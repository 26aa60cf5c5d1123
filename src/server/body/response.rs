//! Response bodies.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;

use super::channel::Receiver;

/// Why a response body is broken. The client sees a reset connection or stream.
#[derive(Debug, thiserror::Error)]
pub enum ResponseError {
    #[error("the body's maker went away before the body was finished")]
    Dropped,
    #[error("the body was aborted")]
    Aborted(#[source] Box<dyn Error + Send + Sync>),
    #[error("the body has {actual} bytes or more, where {declared} were declared")]
    WrongLength { declared: u64, actual: u64 },
}

/// How a response body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyEnd {
    /// Handed over wholly.
    Complete,
    /// It failed, and the client was shown so.
    Broken,
    /// Nobody wanted the rest: the client went away, or it asked for the head only.
    Abandoned,
}

/// What goes along with a body and is told once when it is over: a lease, an access-log line.
pub trait Watch {
    /// `sent`: bytes handed over to the connection.
    fn ended(self, end: BodyEnd, sent: u64);
}

impl Watch for () {
    fn ended(self, _: BodyEnd, _: u64) {}
}

/// The body a handler answers with, and what goes along with it.
#[derive(Debug)]
pub struct ResponseBody<W: Watch = ()> {
    kind: Kind,
    /// Bytes that are still to come, if the length was declared.
    left: Option<u64>,
    sent: u64,
    watch: Option<W>,
}

#[derive(Debug)]
enum Kind {
    Fixed(Bytes),
    Stream(Receiver),
    Boxed(UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>),
    Ended,
}

impl ResponseBody {
    pub fn empty() -> Self {
        Self::fixed(Bytes::new())
    }

    /// A body that is all here: it is sent with its length.
    pub fn fixed(data: impl Into<Bytes>) -> Self {
        let data = data.into();
        let left = Some(data.len() as u64);
        Self::new(Kind::Fixed(data), left)
    }

    /// A body that comes through a channel. A body that turns out not to have the `declared` length is broken.
    pub fn stream(receiver: Receiver, declared: Option<u64>) -> Self {
        Self::new(Kind::Stream(receiver), declared)
    }

    /// Any other body.
    pub fn boxed<B>(body: B, declared: Option<u64>) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let declared = declared.or_else(|| body.size_hint().exact());
        Self::new(Kind::Boxed(body.map_err(Into::into).boxed_unsync()), declared)
    }

    fn new(kind: Kind, left: Option<u64>) -> Self {
        Self { kind, left, sent: 0, watch: None }
    }
}

impl<W: Watch> ResponseBody<W> {
    /// The same body with `watch` going along.
    pub fn watched<V: Watch>(mut self, watch: V) -> ResponseBody<V> {
        ResponseBody {
            kind: std::mem::replace(&mut self.kind, Kind::Ended),
            left: self.left,
            sent: self.sent,
            watch: Some(watch),
        }
    }

    fn poll_kind(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ResponseError>>> {
        match &mut self.kind {
            Kind::Ended => Poll::Ready(None),
            Kind::Fixed(data) if data.is_empty() => Poll::Ready(None),
            Kind::Fixed(data) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(data))))),
            Kind::Stream(receiver) => receiver.poll_next(cx),
            Kind::Boxed(body) => Pin::new(body)
                .poll_frame(cx)
                .map(|frame| frame.map(|result| result.map_err(ResponseError::Aborted))),
        }
    }

    /// Counts a frame, or the end, against the declared length.
    fn account(&mut self, frame: Option<&Frame<Bytes>>) -> Result<(), ResponseError> {
        let length = frame.and_then(Frame::data_ref).map_or(0, |data| data.len() as u64);
        self.sent = self.sent.saturating_add(length);
        let Some(left) = &mut self.left else {
            return Ok(());
        };
        let wrong = ResponseError::WrongLength { declared: *left + (self.sent - length), actual: self.sent };
        *left = left.checked_sub(length).ok_or(wrong)?;
        let ended = frame.is_none_or(Frame::is_trailers);
        if ended && *left > 0 {
            return Err(ResponseError::WrongLength { declared: *left + self.sent, actual: self.sent });
        }
        Ok(())
    }

    fn end(&mut self, end: BodyEnd) {
        self.kind = Kind::Ended;
        if let Some(watch) = self.watch.take() {
            watch.ended(end, self.sent);
        }
    }
}

impl<W: Watch + Unpin> Body for ResponseBody<W> {
    type Data = Bytes;
    type Error = ResponseError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ResponseError>>> {
        let me = self.get_mut();
        if matches!(me.kind, Kind::Ended) {
            return Poll::Ready(None);
        }
        let frame = match ready!(me.poll_kind(cx)) {
            Some(Ok(frame)) => me.account(Some(&frame)).map(|()| Some(frame)),
            Some(Err(error)) => Err(error),
            None => me.account(None).map(|()| None),
        };
        match &frame {
            Ok(None) => me.end(BodyEnd::Complete),
            Err(_) => me.end(BodyEnd::Broken),
            // The one who sends may not ask again after the last frame.
            Ok(Some(_)) if me.is_end_stream() => me.end(BodyEnd::Complete),
            Ok(Some(_)) => {}
        }
        Poll::Ready(frame.transpose())
    }

    fn is_end_stream(&self) -> bool {
        let ended = match &self.kind {
            Kind::Ended => return true,
            Kind::Fixed(data) => data.is_empty(),
            Kind::Stream(receiver) => receiver.is_end(),
            Kind::Boxed(body) => body.is_end_stream(),
        };
        // An end that comes too early is to be found by polling: it is an error.
        ended && self.left.unwrap_or(0) == 0
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.kind, self.left) {
            (Kind::Ended, _) => SizeHint::with_exact(0),
            (_, Some(left)) => SizeHint::with_exact(left),
            (Kind::Boxed(body), None) => body.size_hint(),
            (_, None) => SizeHint::default(),
        }
    }
}

impl<W: Watch> Drop for ResponseBody<W> {
    fn drop(&mut self) {
        let end = match &self.kind {
            // An empty body is complete without being asked for.
            Kind::Fixed(data) if data.is_empty() => BodyEnd::Complete,
            Kind::Stream(receiver) if receiver.is_end() && self.left.unwrap_or(0) == 0 => BodyEnd::Complete,
            _ => BodyEnd::Abandoned,
        };
        self.end(end);
    }
}

#[cfg(test)]
mod tests;
