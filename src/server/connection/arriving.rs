//! A request's body as it comes from its client. If it is dropped before its end, what is left of it stands between its
//! connection and the next request.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

/// The body of a request that has come to a [`super::Handler`].
#[derive(Debug)]
pub struct Arriving {
    incoming: Incoming,
    /// None if nobody needs to know: nothing is to come, or nothing follows it.
    rest: Option<Arc<Rest>>,
}

/// What is left of a body that nobody will read.
#[derive(Debug)]
pub(super) struct Rest {
    was_dropped: AtomicBool,
    /// The body's length was declared: hyper passes over the rest if that has come. In chunks, it does not.
    pub(super) has_length: bool,
}

impl Rest {
    /// Whether the body was dropped before its end.
    pub(super) fn is_left(&self) -> bool {
        self.was_dropped.load(Relaxed)
    }
}

impl Arriving {
    pub(super) fn new(incoming: Incoming) -> Self {
        Self { incoming, rest: None }
    }

    /// One of which is to be known whether it is read.
    pub(super) fn followed(incoming: Incoming) -> (Self, Option<Arc<Rest>>) {
        let rest = (!incoming.is_end_stream()).then(|| {
            let has_length = incoming.size_hint().exact().is_some();
            Arc::new(Rest { was_dropped: AtomicBool::new(false), has_length })
        });
        (Self { incoming, rest: rest.clone() }, rest)
    }
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let me = self.get_mut();
        let polled = Pin::new(&mut me.incoming).poll_frame(cx);
        let has_ended = match &polled {
            Poll::Ready(Some(Ok(frame))) => frame.is_trailers(),
            Poll::Ready(None) => true,
            _ => false,
        };
        if has_ended {
            me.rest = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        if let Some(rest) = self.rest.take().filter(|_| !self.incoming.is_end_stream()) {
            rest.was_dropped.store(true, Relaxed);
        }
    }
}
