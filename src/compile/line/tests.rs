use futures_util::FutureExt;

use super::*;

/// A place if there is one at once.
async fn at_once(line: &Arc<Line>) -> Option<Place> {
    let (standing, asked) = (Standing::Other, Asked::default());
    line.place(standing, asked).now_or_never().map(|place| place.expect("an open line"))
}

#[tokio::test]
async fn there_are_so_many_places_and_one_that_is_left_goes_to_who_waits() {
    let line = Line::new(2);
    let (first, second) = (at_once(&line).await, at_once(&line).await);
    assert!(first.is_some() && second.is_some());
    let waiting = tokio::spawn({
        let line = line.clone();
        async move { line.place(Standing::Other, Asked::default()).await }
    });
    while line.waiting() == 0 {
        tokio::task::yield_now().await;
    }
    drop(first);
    let third = waiting.await.expect("no panic").expect("an open line");
    assert!(at_once(&line).await.is_none());
    drop((second, third));
    assert!(at_once(&line).await.is_some());
}

#[tokio::test]
async fn who_stops_waiting_is_forgotten_even_when_already_called_in() {
    let line = Line::new(1);
    let first = at_once(&line).await;
    assert!(at_once(&line).await.is_none());
    assert_eq!((line.waiting(), line.0.lock().calls.len()), (0, 0));
    // Called in, but dropped before it has noticed.
    let mut called = Box::pin(line.place(Standing::Other, Asked::default()));
    assert!(called.as_mut().now_or_never().is_none());
    drop(first);
    drop(called);
    assert!(at_once(&line).await.is_some());
}

#[tokio::test]
async fn a_closed_line_sends_everyone_home() {
    let line = Line::new(1);
    let _first = at_once(&line).await.expect("a place");
    let mut waiting = Box::pin(line.place(Standing::Other, Asked::default()));
    assert!(waiting.as_mut().now_or_never().is_none());
    line.close();
    assert_eq!(waiting.await.err(), Some(Closed));
    assert_eq!(line.place(Standing::Ready, Asked::default()).await.err(), Some(Closed));
}
