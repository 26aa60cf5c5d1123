//! A body on its way from the one who makes it to the one who sends it: a queue that is bounded by bytes.
//!
//! The sender says how it ends: [`Sender::finish`] makes a whole body, [`Sender::abort`] and a plain drop (a trap, a
//! cancelled task) make a broken one.

use std::collections::VecDeque;
use std::error::Error;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use parking_lot::Mutex;

use super::response::ResponseError;

/// What a chunk costs on top of its bytes, so that one-byte chunks can't fill memory with their bookkeeping.
const CHUNK_COST: usize = 64;

/// The receiver is gone: the client went away, or the response was replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nobody receives this body any more")]
pub struct SendError;

/// Makes a body. There is one sender for one receiver.
#[derive(Debug)]
pub struct Sender {
    shared: Arc<Mutex<State>>,
    capacity: usize,
}

/// Takes the body's frames; a [`super::ResponseBody`] has one inside.
#[derive(Debug)]
pub struct Receiver {
    shared: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    chunks: VecDeque<Bytes>,
    queued: usize,
    trailers: Option<HeaderMap>,
    end: Option<End>,
    receiver_gone: bool,
    receiver: Option<Waker>,
    sender: Option<Waker>,
    closed: Option<Waker>,
}

#[derive(Debug)]
enum End {
    Finished,
    Broken(ResponseError),
    /// The end was told to the receiver.
    Told,
}

/// A pair that holds about `capacity` bytes: a chunk is taken whenever less than that is queued.
pub fn channel(capacity: usize) -> (Sender, Receiver) {
    let shared = Arc::new(Mutex::new(State::default()));
    let sender = Sender { shared: shared.clone(), capacity: capacity.max(1) };
    (sender, Receiver { shared })
}

impl Sender {
    /// Queues `data` once there is room. Cancellation safety: a cancelled send has queued nothing.
    pub async fn send(&mut self, data: Bytes) -> Result<(), SendError> {
        poll_fn(|cx| self.poll_ready(cx)).await?;
        self.queue(data)
    }

    /// Ready when [`Sender::queue`] may be called.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        let mut state = self.shared.lock();
        if state.receiver_gone {
            return Poll::Ready(Err(SendError));
        }
        if state.queued < self.capacity {
            return Poll::Ready(Ok(()));
        }
        set(&mut state.sender, cx);
        Poll::Pending
    }

    /// Queues `data` without waiting; callers that don't ask [`Sender::poll_ready`] before have no bound.
    pub fn queue(&mut self, data: Bytes) -> Result<(), SendError> {
        if data.is_empty() {
            return Ok(());
        }
        let waker = {
            let mut state = self.shared.lock();
            if state.receiver_gone {
                return Err(SendError);
            }
            state.queued += data.len() + CHUNK_COST;
            state.chunks.push_back(data);
            state.receiver.take()
        };
        wake(waker);
        Ok(())
    }

    /// Bytes that would be taken without waiting now.
    pub fn room(&self) -> usize {
        self.capacity.saturating_sub(self.shared.lock().queued)
    }

    /// Resolves when the receiver is gone.
    pub async fn closed(&mut self) {
        poll_fn(|cx| {
            let mut state = self.shared.lock();
            if state.receiver_gone {
                return Poll::Ready(());
            }
            set(&mut state.closed, cx);
            Poll::Pending
        })
        .await
    }

    pub fn is_closed(&self) -> bool {
        self.shared.lock().receiver_gone
    }

    /// The body is whole.
    pub fn finish(self, trailers: Option<HeaderMap>) {
        self.shared.lock().trailers = trailers;
        self.end(End::Finished);
    }

    /// The body is broken, and the client is to see it.
    pub fn abort(self, error: impl Into<Box<dyn Error + Send + Sync>>) {
        self.end(End::Broken(ResponseError::Aborted(error.into())));
    }

    fn end(&self, end: End) {
        let waker = {
            let mut state = self.shared.lock();
            if state.end.is_some() {
                return;
            }
            state.end = Some(end);
            state.receiver.take()
        };
        wake(waker);
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.end(End::Broken(ResponseError::Dropped));
    }
}

impl Receiver {
    /// The next frame; none is the end of a whole body.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ResponseError>>> {
        let (frame, waker) = {
            let mut state = self.shared.lock();
            match state.next() {
                Some(frame) => (frame, state.sender.take()),
                None => {
                    set(&mut state.receiver, cx);
                    return Poll::Pending;
                }
            }
        };
        wake(waker);
        Poll::Ready(frame)
    }

    /// The whole body, if all of it has been sent and finished already in at most one chunk and without trailers. A
    /// response that is complete when its head is known can so be sent as a fixed one.
    pub fn take_whole(&mut self) -> Option<Bytes> {
        let mut state = self.shared.lock();
        let finished = matches!(state.end, Some(End::Finished));
        if !finished || state.trailers.is_some() || state.chunks.len() > 1 {
            return None;
        }
        state.end = Some(End::Told);
        state.queued = 0;
        Some(state.chunks.pop_front().unwrap_or_default())
    }

    /// Nothing more will come, and all is well.
    pub fn is_end(&self) -> bool {
        let state = self.shared.lock();
        let ended = matches!(state.end, Some(End::Finished | End::Told));
        ended && state.chunks.is_empty() && state.trailers.is_none()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let wakers = {
            let mut state = self.shared.lock();
            state.receiver_gone = true;
            state.chunks = VecDeque::new();
            state.queued = 0;
            [state.sender.take(), state.closed.take()]
        };
        wakers.into_iter().for_each(wake);
    }
}

impl State {
    /// A frame or the end; none if neither has come yet. What was sent before a break is delivered before it.
    fn next(&mut self) -> Option<Option<Result<Frame<Bytes>, ResponseError>>> {
        if let Some(data) = self.chunks.pop_front() {
            self.queued = self.queued.saturating_sub(data.len() + CHUNK_COST);
            return Some(Some(Ok(Frame::data(data))));
        }
        match self.end.as_ref()? {
            End::Finished | End::Told => Some(self.trailers.take().map(|fields| Ok(Frame::trailers(fields)))),
            End::Broken(_) => match self.end.replace(End::Told) {
                Some(End::Broken(error)) => Some(Some(Err(error))),
                _ => Some(None),
            },
        }
    }
}

fn set(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *slot = Some(cx.waker().clone()),
    }
}

/// Called without the lock: a waker may run anything.
fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests;
