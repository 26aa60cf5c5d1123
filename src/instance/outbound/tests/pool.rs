use std::sync::atomic::{AtomicUsize, Ordering};

use super::upstream::{Upstream, answer, read_head};
use super::*;

/// Answers with a head and the first bytes of a body that never ends.
async fn endless() -> Upstream {
    Upstream::canned(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhel", false).await
}

/// Waits until the app has so many permits again.
async fn permits_are(app: &AppOutbound, permits: usize) {
    while app.permits.available_permits() != permits {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn requests_over_the_limit_are_refused_at_once() {
    let server = endless().await;
    let uri = format!("http://{}/", server.address);
    let app = app(Outbound { max_concurrent: 2, ..policy() }, &[("127.0.0.1", server.port())]);
    let first = response(&app, &uri).await.unwrap();
    let second = response(&app, &uri).await.unwrap();
    assert_error!(failure(&app, &uri).await, Error::ConnectionLimitReached);
    drop(first);
    let third = response(&app, &uri).await.unwrap();
    assert_error!(failure(&app, &uri).await, Error::ConnectionLimitReached);
    drop((second, third));
    assert_eq!(app.permits.available_permits(), 2);
}

#[tokio::test]
async fn the_permit_comes_back_at_the_end_of_the_body() {
    let server = Upstream::http(async |_| answer(200, &[], "hello")).await;
    let app = app(Outbound { max_concurrent: 1, ..policy() }, &[("127.0.0.1", server.port())]);
    let mut body = response(&app, &format!("http://{}/", server.address)).await.unwrap().into_body();
    assert_eq!(app.permits.available_permits(), 0);
    while body.frame().await.is_some() {}
    assert_eq!(app.permits.available_permits(), 1, "though the body is still there");
}

#[tokio::test]
async fn a_response_without_a_body_holds_no_permit() {
    let server = Upstream::http(async |_| answer(204, &[], "")).await;
    let app = app(Outbound { max_concurrent: 1, ..policy() }, &[("127.0.0.1", server.port())]);
    let response = response(&app, &format!("http://{}/", server.address)).await.unwrap();
    assert_eq!(app.permits.available_permits(), 1);
    drop(response);
    assert_eq!(app.permits.available_permits(), 1);
}

#[tokio::test]
async fn the_permit_comes_back_from_a_request_that_failed_or_was_given_up() {
    let server = Upstream::raw(async |_tcp| std::future::pending().await).await;
    let uri = format!("http://{}/", server.address);
    let short = Outbound { max_concurrent: 1, timeout: Duration::from_millis(20), ..policy() };
    let app = app(short, &[("127.0.0.1", server.port())]);
    assert_error!(failure(&app, &uri).await, Error::HttpResponseTimeout);
    assert_eq!(app.permits.available_permits(), 1);
    let given_up = tokio::spawn({
        let app = app.clone();
        let uri = uri.clone();
        async move { app.send(get(&uri), None).await.map(drop) }
    });
    while server.connections() < 2 {
        tokio::task::yield_now().await;
    }
    given_up.abort();
    permits_are(&app, 1).await;
}

#[tokio::test]
async fn dropping_a_body_closes_its_connection() {
    let closed = Arc::new(Semaphore::new(0));
    let signal = closed.clone();
    let server = Upstream::raw(move |mut tcp| {
        let signal = signal.clone();
        async move {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            read_head(&mut tcp).await;
            tcp.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhel").await.unwrap();
            assert!(matches!(tcp.read(&mut [0]).await, Ok(0) | Err(_)));
            signal.add_permits(1);
        }
    })
    .await;
    let app = app(policy(), &[("127.0.0.1", server.port())]);
    drop(response(&app, &format!("http://{}/", server.address)).await.unwrap());
    closed.acquire().await.unwrap().forget();
}

#[tokio::test]
async fn a_connection_is_used_again_for_an_exact_origin_only() {
    let server = Upstream::http(async |_| answer(200, &[], "hello")).await;
    let uri = format!("http://localhost:{}/", server.port());
    let exact = app(policy(), &[("localhost", server.port())]);
    let mut requests = 0;
    // Whether the connection is back before the next request is a race; that it is once in a while is enough.
    while server.connections() >= requests {
        assert!(requests < 1000, "no connection is ever used again");
        fetch(&exact, &uri).await.unwrap();
        requests += 1;
    }
    let sub = Origin { subdomains: true, ..origin(false, "example", server.port()) };
    let target =
        request::Target::of(&format!("http://a.example:{}/", server.port()).parse().unwrap()).unwrap();
    let mut parts = get("http://a.example/").into_parts().0;
    let matched = target.allowed_by(&[sub]).unwrap();
    request::prepare(&mut parts, &target, matched).unwrap();
    assert_eq!(parts.headers["connection"], "close");
}

#[tokio::test]
async fn the_hosts_connections_are_bounded_and_come_back() {
    let server = endless().await;
    let uri = format!("http://{}/", server.address);
    let client = OutboundClient::new(OutboundLimits { max_connections: 1, ..OutboundLimits::default() });
    let hosts = [("127.0.0.1", server.port())];
    let (one, other) = (app_of(&client, policy(), &hosts), app_of(&client, policy(), &hosts));
    let held = response(&one, &uri).await.unwrap();
    assert_error!(failure(&other, &uri).await, Error::ConnectionLimitReached);
    drop(held);
    while client.connections.available_permits() == 0 {
        tokio::task::yield_now().await;
    }
    response(&other, &uri).await.unwrap();
}

#[tokio::test]
async fn idle_connections_end_with_their_release() {
    let server = Upstream::http(async |_| answer(200, &[], "hello")).await;
    let limits = OutboundLimits { idle_timeout: LONG, ..OutboundLimits::default() };
    let client = OutboundClient::new(limits.clone());
    let app = app_of(&client, policy(), &[("127.0.0.1", server.port())]);
    fetch(&app, &format!("http://{}/", server.address)).await.unwrap();
    drop(app);
    while client.connections.available_permits() < limits.max_connections {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_guest_that_reads_slowly_slows_the_sender() {
    const TOTAL: usize = 64 << 20;
    let blocked = Arc::new(Semaphore::new(0));
    let sent = Arc::new(AtomicUsize::new(0));
    let (signal, counter) = (blocked.clone(), sent.clone());
    let server = Upstream::raw(move |mut tcp| {
        let (signal, counter) = (signal.clone(), counter.clone());
        async move {
            use tokio::io::AsyncWriteExt;
            read_head(&mut tcp).await;
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {TOTAL}\r\n\r\n");
            tcp.write_all(head.as_bytes()).await.unwrap();
            let chunk = vec![b'x'; 64 << 10];
            while counter.load(Ordering::SeqCst) < TOTAL {
                // No progress for so long: the other side doesn't take any more.
                while timeout(Duration::from_millis(200), tcp.writable()).await.is_err() {
                    signal.add_permits(1);
                }
                let left = TOTAL - counter.load(Ordering::SeqCst);
                if let Ok(written) = tcp.try_write(&chunk[..left.min(chunk.len())]) {
                    counter.fetch_add(written, Ordering::SeqCst);
                }
            }
            signal.close();
        }
    })
    .await;
    let app = app(policy(), &[("127.0.0.1", server.port())]);
    let mut body = response(&app, &format!("http://{}/", server.address)).await.unwrap().into_body();
    blocked.acquire().await.expect("all was sent to a guest that had read nothing").forget();
    assert!(sent.load(Ordering::SeqCst) < TOTAL / 2);
    let mut received = 0;
    while let Some(frame) = body.frame().await {
        received += frame.unwrap().into_data().map_or(0, |data| data.len());
    }
    assert_eq!(received, TOTAL);
}
