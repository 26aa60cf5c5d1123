//! A response's body on its way to the guest: it may not stall, and holds the request's permit until its end.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};
use wasmtime_wasi_http::Error;

use super::failure::Failure;
use super::report::Call;

/// Passes frames through as they are asked for; nothing is buffered here.
///
/// Cancellation safety: dropping it closes the connection, unless the body has ended, and gives back the permit.
pub(super) struct ResponseBody {
    inner: Incoming,
    /// How long the guest may wait for one frame.
    patience: Duration,
    /// Set while the guest waits for a frame.
    deadline: Option<Pin<Box<Sleep>>>,
    waiting: bool,
    /// Who pays, and for the log what for; gone once the body has ended.
    held: Option<(OwnedSemaphorePermit, Call)>,
}

impl ResponseBody {
    pub(super) fn new(inner: Incoming, patience: Duration, permit: OwnedSemaphorePermit, call: Call) -> Self {
        let mut body = Self { inner, patience, deadline: None, waiting: false, held: Some((permit, call)) };
        body.release_at_end();
        body
    }

    fn poll_inner(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) {
            self.waiting = false;
            return Poll::Ready(frame.map(|frame| frame.map_err(|error| Failure::of_hyper(&error))));
        }
        let until = Instant::now() + self.patience;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if !self.waiting {
            self.waiting = true;
            deadline.as_mut().reset(until);
        }
        ready!(deadline.as_mut().poll(cx));
        Poll::Ready(Some(Err(Failure::BodyTimeout)))
    }

    fn release_at_end(&mut self) {
        if self.inner.is_end_stream() {
            self.held = None;
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match ready!(self.poll_inner(cx)) {
            Some(Ok(frame)) => {
                self.release_at_end();
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(failure)) => {
                if let Some((_permit, call)) = self.held.take() {
                    call.report(&failure);
                }
                Poll::Ready(Some(Err(failure.into())))
            }
            None => {
                self.held = None;
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
