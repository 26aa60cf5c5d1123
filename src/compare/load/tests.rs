use super::*;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::connection::FAILURES;

/// Serves on threads of its own with what `answer` makes of the number of the request, and counts them.
async fn server(
    answer: impl Fn(u64) -> Response<Full<Bytes>> + Send + Sync + 'static,
) -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, served) = (listener.local_addr().unwrap(), Arc::new(AtomicU64::new(0)));
    let (answer, counted) = (Arc::new(answer), served.clone());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (answer, counted) = (answer.clone(), counted.clone());
            let service = service_fn(move |_: Request<Incoming>| {
                let response = answer(counted.fetch_add(1, Ordering::Relaxed));
                async move { Ok::<_, Infallible>(response) }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    (address, served)
}

fn ask(path: &str, body: &'static [u8]) -> Ask {
    Ask {
        method: Method::GET,
        request: format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").into(),
        expected: Expected { status: 200, body: Some(Bytes::from_static(body)) },
    }
}

fn load(address: SocketAddr, connections: usize) -> Load {
    Load {
        address,
        asks: [ask("/", b"hello")].into(),
        pace: Pace::Closed,
        connections,
        duration: Duration::from_millis(200),
        grace: Duration::from_secs(10),
        cores: None,
        gives_way: false,
    }
}

fn hello() -> Response<Full<Bytes>> {
    Response::new(Full::new(Bytes::from_static(b"hello")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_that_was_served_is_counted_once() {
    let (address, served) = server(|_| hello()).await;
    let outcome = load(address, 7).run().await.unwrap();
    let right = served.load(Ordering::Relaxed);
    assert!(right > 7);
    assert_eq!(outcome.counts, Counts { right, ..Counts::default() });
    assert_eq!(outcome.latencies.len(), right);
    assert!(outcome.elapsed >= Duration::from_millis(200) && outcome.cpu > Duration::ZERO);
    let mean = outcome.latencies.mean() / 1e9;
    assert!((outcome.rate() * mean - 7.0).abs() < 2.0, "seven requests are under way at any time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_statuses_and_bodies_are_no_fast_answers() {
    let (address, served) = server(|n| match n % 5 {
        4 => Response::builder().status(503).body(Full::new(Bytes::from_static(b"later"))).unwrap(),
        0 => hello(),
        1 => Response::builder().status(500).body(Full::new(Bytes::from_static(b"hello"))).unwrap(),
        2 => Response::new(Full::new(Bytes::from_static(b"hell"))),
        _ => Response::new(Full::new(Bytes::from_static(b"hello!"))),
    })
    .await;
    let outcome = load(address, 1).run().await.unwrap();
    let served = served.load(Ordering::Relaxed);
    let (right, refused) = (served.div_ceil(5), served / 5);
    let wrong = served - right - refused;
    assert_eq!(outcome.counts, Counts { right, refused, wrong, ..Counts::default() });
    assert_eq!(outcome.latencies.len(), right);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_vary_are_judged_by_their_status() {
    let (address, served) = server(|n| Response::new(Full::new(n.to_string().into()))).await;
    let mut load = load(address, 2);
    let mut any = ask("/", b"");
    any.expected.body = None;
    load.asks = [any].into();
    let outcome = load.run().await.unwrap();
    assert_eq!(outcome.counts, Counts { right: served.load(Ordering::Relaxed), ..Counts::default() });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_closes_after_each_answer_is_connected_to_again() {
    let (address, served) = server(|_| {
        let mut response = hello();
        response.headers_mut().insert("connection", "close".parse().unwrap());
        response
    })
    .await;
    let outcome = load(address, 2).run().await.unwrap();
    let right = served.load(Ordering::Relaxed);
    assert_eq!(outcome.counts, Counts { right, reconnects: right, ..Counts::default() });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_break_off_are_errors_and_end_a_connection_that_only_fails() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 100];
            if stream.read(&mut request).await.is_ok() {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel").await;
            }
        }
    });
    let mut load = load(address, 3);
    load.duration = Duration::from_secs(60);
    let outcome = load.run().await.unwrap();
    assert_eq!(outcome.counts, Counts { errors: u64::from(3 * FAILURES), ..Counts::default() });
    assert_eq!(outcome.rate(), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_not_there_is_an_error_for_each_try() {
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let outcome = load(address, 2).run().await.unwrap();
    assert_eq!(outcome.counts, Counts { errors: u64::from(2 * FAILURES), ..Counts::default() });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slice_ends_in_time_and_says_what_was_unfinished() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut load = load(listener.local_addr().unwrap(), 5);
    load.duration = Duration::from_millis(10);
    load.grace = Duration::from_millis(50);
    let outcome = load.run().await.unwrap();
    assert_eq!(outcome.counts, Counts { unfinished: 5, ..Counts::default() });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_shared_out_among_the_cores() {
    let (address, served) = server(|_| hello()).await;
    let mut load = load(address, 5);
    load.cores = Some(Cores::allowed().unwrap());
    let outcome = load.run().await.unwrap();
    assert_eq!(outcome.counts, Counts { right: served.load(Ordering::Relaxed), ..Counts::default() });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_slice_closes_its_connections_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut load = load(listener.local_addr().unwrap(), 1);
    load.duration = Duration::from_secs(600);
    let mut client = tokio::select! {
        _ = load.run() => panic!("nobody answered"),
        accepted = listener.accept() => accepted.unwrap().0,
    };
    let mut sent = Vec::new();
    let end = client.read_to_end(&mut sent).await;
    assert!(end.is_err() || sent.is_empty() || sent == load.asks[0].request.as_ref());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_requests_are_taken_in_turn_and_each_is_held_to_its_own_answer() {
    let (address, _) = server(|n| match n % 2 {
        0 => hello(),
        _ => Response::new(Full::new(Bytes::from_static(b"hello!"))),
    })
    .await;
    let mut load = load(address, 1);
    load.asks = [ask("/a", b"hello"), ask("/b", b"hello!")].into();
    let outcome = load.run().await.unwrap();
    assert!(outcome.counts.right > 1 && outcome.counts.wrong == 0, "{:?}", outcome.counts);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_loop_asks_as_often_as_it_is_told() {
    let (address, served) = server(|_| hello()).await;
    for cores in [None, Some(Cores::allowed().unwrap())] {
        served.store(0, Ordering::Relaxed);
        let load = Load { pace: Pace::Open { rate: 250.0 }, cores, ..load(address, 4) };
        let outcome = load.run().await.unwrap();
        // 50 in 200 ms, at 0, 4, 8 ms and so on. On a machine that stands still some come to nothing, but none is lost.
        let Counts { right, unfinished, unsent, .. } = outcome.counts;
        assert_eq!((right + unfinished + unsent, outcome.counts.failed()), (50, unfinished + unsent));
        assert_eq!((outcome.latencies.len(), outcome.lags.len()), (50, 50));
        assert!(right > 0 && (right..=right + unfinished).contains(&served.load(Ordering::Relaxed)));
        assert!(outcome.elapsed >= load.duration);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_loop_hides_nothing_of_a_server_that_stands_still() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut load = load(listener.local_addr().unwrap(), 2);
    load.pace = Pace::Open { rate: 100.0 };
    load.grace = Duration::from_millis(100);
    let outcome = load.run().await.unwrap();
    let Counts { unfinished, unsent, right, .. } = outcome.counts;
    assert_eq!((unfinished, unsent, right), (2, 18, 0));
    assert_eq!(outcome.latencies.len(), 20);
    let longest = Duration::from_nanos(outcome.latencies.max());
    assert!(longest >= Duration::from_millis(299), "the first one has waited since the begin: {longest:?}");
}
