use std::collections::VecDeque;
use std::future::poll_fn;

use futures_util::FutureExt;
use proptest::prelude::*;

use super::*;

async fn next(receiver: &mut Receiver) -> Option<Result<Frame<Bytes>, ResponseError>> {
    poll_fn(|cx| receiver.poll_next(cx)).await
}

async fn data(receiver: &mut Receiver) -> Bytes {
    let frame = next(receiver).await.unwrap().unwrap();
    frame.into_data().unwrap()
}

#[tokio::test]
async fn a_finished_body_comes_whole_with_its_trailers() {
    let (mut sender, mut receiver) = channel(100);
    sender.send("one".into()).await.unwrap();
    sender.send("".into()).await.unwrap();
    sender.send("two".into()).await.unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("x", "1".parse().unwrap());
    sender.finish(Some(trailers));
    assert_eq!(data(&mut receiver).await, "one");
    assert_eq!(data(&mut receiver).await, "two");
    assert!(!receiver.is_end());
    let frame = next(&mut receiver).await.unwrap().unwrap();
    assert_eq!(frame.into_trailers().unwrap().len(), 1);
    assert!(receiver.is_end());
    assert!(next(&mut receiver).await.is_none());
}

#[tokio::test]
async fn a_dropped_or_aborted_sender_breaks_the_body_behind_what_was_sent() {
    for abort in [true, false] {
        let (mut sender, mut receiver) = channel(100);
        sender.send("one".into()).await.unwrap();
        match abort {
            true => sender.abort("trapped"),
            false => drop(sender),
        }
        assert_eq!(data(&mut receiver).await, "one");
        assert!(!receiver.is_end());
        let error = next(&mut receiver).await.unwrap().unwrap_err();
        assert_eq!(matches!(error, ResponseError::Aborted(_)), abort);
        assert!(next(&mut receiver).await.is_none());
    }
}

#[tokio::test]
async fn a_full_queue_makes_the_sender_wait_until_there_is_room() {
    let (mut sender, mut receiver) = channel(100);
    sender.send(vec![0; 300].into()).await.unwrap();
    assert!(sender.send("x".into()).now_or_never().is_none());
    let waiting = tokio::spawn(async move { sender.send("x".into()).await });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    assert_eq!(data(&mut receiver).await.len(), 300);
    waiting.await.unwrap().unwrap();
    assert_eq!(data(&mut receiver).await, "x");
}

#[tokio::test]
async fn one_byte_chunks_are_not_free() {
    let (mut sender, _receiver) = channel(64 * 1024);
    let mut sent = 0;
    while let Some(result) = sender.send("x".into()).now_or_never() {
        result.unwrap();
        sent += 1;
    }
    assert!(sent < 1100, "{sent}");
}

#[tokio::test]
async fn a_receiver_that_goes_is_noticed_by_whoever_waits() {
    let (mut sender, receiver) = channel(1);
    sender.send("x".into()).await.unwrap();
    let waiting = tokio::spawn(async move {
        assert_eq!(sender.send("y".into()).await, Err(SendError));
        sender.closed().await;
        sender
    });
    tokio::task::yield_now().await;
    drop(receiver);
    let mut sender = waiting.await.unwrap();
    assert!(sender.is_closed());
    assert_eq!(sender.queue("z".into()), Err(SendError));

    let (mut sender, receiver) = channel(1);
    let waiting = tokio::spawn(async move { sender.closed().await });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    drop(receiver);
    waiting.await.unwrap();
}

#[tokio::test]
async fn a_body_that_is_finished_in_one_chunk_can_be_taken_whole() {
    let (mut sender, mut receiver) = channel(100);
    sender.send("one".into()).await.unwrap();
    assert_eq!(receiver.take_whole(), None);
    sender.finish(None);
    assert_eq!(receiver.take_whole(), Some("one".into()));
    let (sender, mut receiver) = channel(100);
    drop(sender);
    assert_eq!(receiver.take_whole(), None);
}

#[derive(Debug, Clone)]
enum Step {
    Send(usize),
    Take,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![(0_usize..200).prop_map(Step::Send), Just(Step::Take)]
}

proptest! {
    /// Against the plainest model: a list of chunks, and a bound on their cost.
    #[test]
    fn chunks_come_out_as_they_went_in_and_the_bound_holds(
        steps in proptest::collection::vec(step(), 0..60),
        capacity in 1_usize..500,
    ) {
        let (mut sender, mut receiver) = channel(capacity);
        let mut model: VecDeque<usize> = VecDeque::new();
        let cost = |model: &VecDeque<usize>| model.iter().map(|n| n + CHUNK_COST).sum::<usize>();
        for step in steps {
            match step {
                Step::Send(length) => {
                    let room = cost(&model) < capacity;
                    let sent = sender.send(vec![0; length].into()).now_or_never();
                    prop_assert_eq!(sent.is_some(), room);
                    if room && length > 0 {
                        model.push_back(length);
                    }
                }
                Step::Take => {
                    let taken = data(&mut receiver).now_or_never().map(|data| data.len());
                    prop_assert_eq!(taken, model.pop_front());
                }
            }
            prop_assert_eq!(sender.room(), capacity.saturating_sub(cost(&model)));
        }
    }
}
