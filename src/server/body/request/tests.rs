use futures_util::stream;
use http_body_util::{BodyExt, Full, StreamBody};

use super::super::channel::{Receiver, Sender, channel};
use super::super::response::{ResponseBody, ResponseError};
use super::*;

const SECOND: Duration = Duration::from_secs(1);

type Streamed = RequestBody<ResponseBody>;

fn sent(declared: Option<u64>, limit: u64) -> (Sender, Streamed) {
    let (sender, receiver): (Sender, Receiver) = channel(1 << 20);
    let inner = ResponseBody::stream(receiver, declared);
    (sender, RequestBody::new(inner, limit, SECOND).unwrap())
}

fn whole(small: Small<ResponseBody>) -> Bytes {
    match small {
        Small::Whole(data, _) => data,
        Small::Streaming(body) => panic!("streaming {body:?}"),
    }
}

fn streaming(small: Small<ResponseBody>) -> Streamed {
    match small {
        Small::Whole(data, _) => panic!("whole: {} bytes", data.len()),
        Small::Streaming(body) => body,
    }
}

#[tokio::test(start_paused = true)]
async fn a_small_body_comes_whole_however_it_was_cut() {
    let empty = RequestBody::new(ResponseBody::empty(), 10, SECOND).unwrap();
    assert_eq!(whole(read_small(empty, 10, SECOND).await.unwrap()), "");
    let one = RequestBody::new(ResponseBody::fixed("abc"), 10, SECOND).unwrap();
    assert_eq!(whole(read_small(one, 10, SECOND).await.unwrap()), "abc");
    for declared in [None, Some(6)] {
        let (mut sender, body) = sent(declared, 10);
        sender.queue("abc".into()).unwrap();
        sender.queue("def".into()).unwrap();
        sender.finish(None);
        assert_eq!(whole(read_small(body, 6, SECOND).await.unwrap()), "abcdef");
    }
}

#[tokio::test(start_paused = true)]
async fn trailers_of_a_small_body_are_kept() {
    let (mut sender, body) = sent(None, 10);
    sender.queue("abc".into()).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("x", "1".parse().unwrap());
    sender.finish(Some(trailers));
    match read_small(body, 10, SECOND).await.unwrap() {
        Small::Whole(data, Some(trailers)) => {
            assert_eq!((&data[..], trailers.len()), (&b"abc"[..], 1))
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_larger_body_is_streamed_with_nothing_lost() {
    let (mut sender, body) = sent(None, 100);
    for chunk in ["abc", "def", "ghi"] {
        sender.queue(chunk.into()).unwrap();
    }
    sender.finish(None);
    let body = streaming(read_small(body, 4, SECOND).await.unwrap());
    assert_eq!(body.received(), 6);
    assert_eq!(body.collect().await.unwrap().to_bytes(), "abcdefghi");
    let declared = RequestBody::new(ResponseBody::fixed("abcdef"), 100, SECOND).unwrap();
    let body = streaming(read_small(declared, 4, SECOND).await.unwrap());
    assert_eq!((body.received(), body.size_hint().exact()), (0, Some(6)));
    assert_eq!(body.collect().await.unwrap().to_bytes(), "abcdef");
}

#[tokio::test(start_paused = true)]
async fn a_conversation_is_streamed_when_it_goes_quiet() {
    let (mut sender, body) = sent(None, 100);
    sender.queue("hello".into()).unwrap();
    let mut body = streaming(read_small(body, 50, SECOND).await.unwrap());
    let frame = body.frame().await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "hello");
    sender.queue("again".into()).unwrap();
    sender.finish(None);
    assert_eq!(body.collect().await.unwrap().to_bytes(), "again");
}

#[tokio::test(start_paused = true)]
async fn a_declared_body_that_trickles_is_too_slow() {
    let (mut sender, body) = sent(Some(50), 100);
    let trickle = tokio::spawn(async move {
        while sender.queue("x".into()).is_ok() {
            tokio::time::sleep(SECOND / 10).await;
        }
    });
    let begun = Instant::now();
    let error = read_small(body, 50, SECOND).await.unwrap_err();
    assert_eq!((error.status().as_u16(), begun.elapsed()), (408, SECOND));
    trickle.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_declared_body_on_a_slow_line_gets_the_time_it_earns() {
    let length = 20 * 1024;
    let (mut sender, body) = sent(Some(length), length);
    let slow = tokio::spawn(async move {
        for _ in 0..10 {
            sender.queue(vec![0; 2048].into()).unwrap();
            tokio::time::sleep(SECOND * 9 / 10).await;
        }
        sender.finish(None);
    });
    let data = whole(read_small(body, 1 << 20, SECOND * 2).await.unwrap());
    assert_eq!(data.len() as u64, length);
    slow.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_streamed_body_may_pause_for_the_stall_time_and_no_longer() {
    let (mut sender, mut body) = sent(None, 100);
    let pausing = tokio::spawn(async move {
        for _ in 0..3 {
            tokio::time::sleep(SECOND * 9 / 10).await;
            sender.queue("x".into()).unwrap();
        }
        sender
    });
    for _ in 0..3 {
        body.frame().await.unwrap().unwrap();
    }
    let _sender = pausing.await.unwrap();
    // Time in which nobody asks is not the client's.
    tokio::time::sleep(SECOND * 10).await;
    let begun = Instant::now();
    let error = body.frame().await.unwrap().unwrap_err();
    assert!(matches!(error, RequestError::TooSlow));
    assert_eq!(begun.elapsed(), SECOND);
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn a_body_beyond_its_limit_is_too_large_at_once_if_declared() {
    let error = RequestBody::new(Full::new(Bytes::from("abcd")), 3, SECOND).unwrap_err();
    assert_eq!(error.status().as_u16(), 413);
    assert!(RequestBody::new(Full::new(Bytes::from("abc")), 3, SECOND).is_ok());
    let (mut sender, mut body) = sent(None, 3);
    sender.queue("ab".into()).unwrap();
    sender.queue("cd".into()).unwrap();
    body.frame().await.unwrap().unwrap();
    let error = body.frame().await.unwrap().unwrap_err();
    assert!(matches!(error, RequestError::TooLarge { limit: 3 }));
    assert!(body.frame().await.is_none() && body.is_end_stream());
}

#[tokio::test]
async fn a_broken_body_is_an_error_read_ahead_or_streamed() {
    let frames = || {
        let frames = [Ok(Frame::data(Bytes::from("x"))), Err(ResponseError::Dropped)];
        StreamBody::new(stream::iter(frames))
    };
    let body = RequestBody::new(frames(), 10, SECOND).unwrap();
    let error = read_small(body, 10, SECOND).await.unwrap_err();
    assert_eq!(error.status().as_u16(), 400);
    let body = RequestBody::new(frames(), 10, SECOND).unwrap();
    assert!(body.collect().await.is_err());
}
