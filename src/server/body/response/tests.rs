use std::sync::Arc;

use http_body_util::{Full, StreamBody};
use parking_lot::Mutex;

use super::super::channel::channel;
use super::*;

type Told = Arc<Mutex<Vec<(BodyEnd, u64)>>>;

struct Teller(Told);

impl Watch for Teller {
    fn ended(self, end: BodyEnd, sent: u64) {
        self.0.lock().push((end, sent));
    }
}

/// Collects `body` and says how it ended, for the client and for what went along.
async fn collect(body: ResponseBody) -> (Option<Bytes>, Vec<(BodyEnd, u64)>) {
    let told = Told::default();
    let body = body.watched(Teller(told.clone()));
    let collected = body.collect().await.ok().map(|whole| whole.to_bytes());
    let told = std::mem::take(&mut *told.lock());
    (collected, told)
}

#[tokio::test]
async fn fixed_bodies_have_their_length_and_end_at_once() {
    let body = ResponseBody::fixed("hello");
    assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(5), false));
    assert_eq!(collect(body).await, (Some("hello".into()), vec![(BodyEnd::Complete, 5)]));
    assert!(ResponseBody::empty().is_end_stream());
    assert_eq!(collect(ResponseBody::empty()).await.1, [(BodyEnd::Complete, 0)]);
}

#[tokio::test]
async fn what_goes_along_is_told_with_the_last_frame_already() {
    let told = Told::default();
    let mut body = ResponseBody::fixed("hello").watched(Teller(told.clone()));
    body.frame().await.unwrap().unwrap();
    assert_eq!(*told.lock(), [(BodyEnd::Complete, 5)]);
    drop(body);
    assert_eq!(told.lock().len(), 1);
}

#[tokio::test]
async fn a_body_that_nobody_takes_is_abandoned() {
    let told = Told::default();
    drop(ResponseBody::fixed("hello").watched(Teller(told.clone())));
    let (mut sender, receiver) = channel(100);
    sender.send("x".into()).await.unwrap();
    let mut body = ResponseBody::stream(receiver, None).watched(Teller(told.clone()));
    body.frame().await.unwrap().unwrap();
    drop(body);
    assert_eq!(*told.lock(), [(BodyEnd::Abandoned, 0), (BodyEnd::Abandoned, 1)]);
    assert!(sender.is_closed());
}

async fn streamed(finish: bool, declared: Option<u64>) -> (Option<Bytes>, Vec<(BodyEnd, u64)>) {
    let (mut sender, receiver) = channel(100);
    sender.send("abc".into()).await.unwrap();
    sender.send("def".into()).await.unwrap();
    match finish {
        true => sender.finish(None),
        false => drop(sender),
    }
    collect(ResponseBody::stream(receiver, declared)).await
}

#[tokio::test]
async fn a_stream_is_whole_only_if_it_was_finished_with_the_declared_length() {
    let whole = (Some(Bytes::from("abcdef")), vec![(BodyEnd::Complete, 6)]);
    assert_eq!(streamed(true, None).await, whole);
    assert_eq!(streamed(true, Some(6)).await, whole);
    for (finish, declared) in
        [(true, Some(7)), (true, Some(5)), (true, Some(0)), (false, None), (false, Some(6))]
    {
        let (body, told) = streamed(finish, declared).await;
        assert_eq!(body, None, "{finish} {declared:?}");
        assert_eq!(told[0].0, BodyEnd::Broken);
    }
}

#[tokio::test]
async fn any_body_can_be_boxed_and_its_errors_break_it() {
    let body = ResponseBody::boxed(Full::new(Bytes::from("hello")), None);
    assert_eq!(body.size_hint().exact(), Some(5));
    assert_eq!(collect(body).await.0, Some("hello".into()));
    let frames = [Ok(Frame::data(Bytes::from("x"))), Err("broken")];
    let body = ResponseBody::boxed(StreamBody::new(futures_util::stream::iter(frames)), None);
    assert_eq!(collect(body).await, (None, vec![(BodyEnd::Broken, 1)]));
}
