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

/// How often each of an instance's requests can go on, before a body that has no more is left to its request: a guest that
/// has something to do does it at once.
const TURNS: usize = 4;

/// Bytes that are taken at most.
const MOST: usize = 64 << 10;

/// Takes what there is of a body. Also whether that is all of it. `others`: requests that the instance is at work on too.
///
/// A store lets only one of the guest's tasks that have given way go on before it takes new requests. So as many turns
/// are waited for as there may be of them: with the answer given before, the next requests would come first, again and
/// again, and bodies that their clients have long had would never end.
pub(super) async fn begin(mut body: WasiBody, others: usize) -> (Begun, bool) {
    let (mut first, mut bytes, mut turns) = (VecDeque::new(), 0, 0);
    let most_turns = TURNS * (others + 1);
    let is_whole = loop {
        match poll_fn(|cx| Poll::Ready(Pin::new(&mut body).poll_frame(cx))).await {
            Poll::Ready(None) => break true,
            Poll::Ready(Some(frame)) => {
                let has_failed = frame.is_err();
                bytes += frame.as_ref().ok().and_then(Frame::data_ref).map_or(0, Bytes::len);
                first.push_back(frame);
                turns = 0;
                if has_failed || bytes >= MOST {
                    break false;
                }
            }
            Poll::Pending if turns == most_turns => break false,
            Poll::Pending => {
                turns += 1;
                // Not by waking itself: then it would be polled again before the guest is.
                tokio::task::yield_now().await;
            }
        }
    };
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
        let (begun, is_whole) = begin(boxed(Full::new(Bytes::from_static(b"all"))), 0).await;
        assert!(is_whole);
        let body = begun.body(|_| unreachable!("there is no rest"));
        assert_eq!(body.collect().await.expect("a body").to_bytes(), "all");
    }

    #[tokio::test]
    async fn of_one_that_is_not_the_begin_comes_before_the_rest() {
        let (mut sender, receiver) = channel(1_000);
        sender.send(Bytes::from_static(b"one ")).await.expect("room");
        let (begun, is_whole) = begin(boxed(ResponseBody::<()>::stream(receiver, None)), 0).await;
        assert!(!is_whole);
        sender.send(Bytes::from_static(b"two")).await.expect("room");
        sender.finish(None);
        assert_eq!(begun.body(|rest| rest).collect().await.expect("a body").to_bytes(), "one two");
    }

    /// Whether a body is taken whole whose end comes after so many turns of others.
    async fn is_taken_whole(after: usize, others: usize) -> bool {
        let (sender, receiver) = channel(1_000);
        let ends = async {
            for _ in 0..after {
                tokio::task::yield_now().await;
            }
            sender.finish(None);
            std::future::pending().await
        };
        let taken = begin(boxed(ResponseBody::<()>::stream(receiver, None)), others);
        tokio::select! {
            (_, is_whole) = taken => is_whole,
            () = ends => false,
        }
    }

    #[tokio::test]
    async fn each_of_the_others_is_given_its_turns_before_a_body_is_left_to_its_request() {
        assert!(is_taken_whole(TURNS * 30, 31).await);
        assert!(!is_taken_whole(TURNS * 30, 0).await);
    }

    #[tokio::test]
    async fn no_more_is_taken_than_there_is_room_for() {
        let (mut sender, receiver) = channel(usize::MAX);
        for _ in 0..4 {
            sender.send(Bytes::from(vec![0; MOST / 2])).await.expect("room");
        }
        sender.finish(None);
        let (begun, is_whole) = begin(boxed(ResponseBody::<()>::stream(receiver, None)), 0).await;
        assert!(!is_whole);
        assert_eq!(begun.first.len(), 2);
        assert_eq!(begun.body(|rest| rest).collect().await.expect("a body").to_bytes().len(), 2 * MOST);
    }
}
