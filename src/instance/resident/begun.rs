//! The begin of an answer's body, taken where the guest runs: most bodies are whole by then, and go to their request in one
//! piece. Otherwise request and instance would have to wake each other for each of the body's parts.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use wasmtime_wasi_http::{Error, WasiBody};

/// How often the store goes on before a body that has no more is left to its request: a guest that has something to do
/// does it at once.
const TURNS: u32 = 4;

/// Bytes that are taken at most.
const MOST: usize = 64 << 10;

/// Takes what there is of a body. Also whether that is all of it.
pub(super) async fn begin(mut body: WasiBody) -> (Begun, bool) {
    let (mut first, mut bytes, mut turns) = (VecDeque::new(), 0, 0);
    let is_whole = poll_fn(|cx| {
        loop {
            match Pin::new(&mut body).poll_frame(cx) {
                Poll::Ready(None) => return Poll::Ready(true),
                Poll::Ready(Some(frame)) => {
                    let has_failed = frame.is_err();
                    bytes += frame.as_ref().ok().and_then(Frame::data_ref).map_or(0, Bytes::len);
                    first.push_back(frame);
                    turns = 0;
                    if has_failed || bytes >= MOST {
                        return Poll::Ready(false);
                    }
                }
                Poll::Pending if turns == TURNS => return Poll::Ready(false),
                Poll::Pending => {
                    turns += 1;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
        }
    });
    let is_whole = is_whole.await;
    let rest = if is_whole { None } else { Some(body) };
    (Begun { first, rest }, is_whole)
}

/// A body whose first frames have been taken.
pub(super) struct Begun {
    first: VecDeque<Result<Frame<Bytes>, Error>>,
    rest: Option<WasiBody>,
}

impl Begun {
    /// The body, its rest as `change` makes it.
    pub(super) fn body(self, change: impl FnOnce(WasiBody) -> WasiBody) -> WasiBody {
        Begun { rest: self.rest.map(change), ..self }.boxed_unsync()
    }
}

impl Body for Begun {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Some(frame) = self.first.pop_front() {
            return Poll::Ready(Some(frame));
        }
        match &mut self.rest {
            Some(rest) => Pin::new(rest).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;
    use crate::server::body::{ResponseBody, channel};

    fn boxed<B: Body<Data = Bytes> + Send + 'static>(body: B) -> WasiBody {
        body.map_err(|_| Error::HttpProtocolError).boxed_unsync()
    }

    #[tokio::test]
    async fn a_body_that_is_there_is_taken_whole() {
        let (begun, is_whole) = begin(boxed(Full::new(Bytes::from_static(b"all")))).await;
        assert!(is_whole);
        let body = begun.body(|_| unreachable!("there is no rest"));
        assert_eq!(body.collect().await.expect("a body").to_bytes(), "all");
    }

    #[tokio::test]
    async fn of_one_that_is_not_the_begin_comes_before_the_rest() {
        let (mut sender, receiver) = channel(1_000);
        sender.send(Bytes::from_static(b"one ")).await.expect("room");
        let (begun, is_whole) = begin(boxed(ResponseBody::<()>::stream(receiver, None))).await;
        assert!(!is_whole);
        sender.send(Bytes::from_static(b"two")).await.expect("room");
        sender.finish(None);
        assert_eq!(begun.body(|rest| rest).collect().await.expect("a body").to_bytes(), "one two");
    }

    #[tokio::test]
    async fn no_more_is_taken_than_there_is_room_for() {
        let (mut sender, receiver) = channel(usize::MAX);
        for _ in 0..4 {
            sender.send(Bytes::from(vec![0; MOST / 2])).await.expect("room");
        }
        sender.finish(None);
        let (begun, is_whole) = begin(boxed(ResponseBody::<()>::stream(receiver, None))).await;
        assert!(!is_whole);
        assert_eq!(begun.first.len(), 2);
        assert_eq!(begun.body(|rest| rest).collect().await.expect("a body").to_bytes().len(), 2 * MOST);
    }
}
