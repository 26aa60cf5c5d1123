//! Apps share the host: what one of them asks for too much waits, and the others' requests pass by.

use futures_util::future::join_all;
use http::StatusCode;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::TestHost;

/// Threads of a test's host, and how many requests of an app may run on them before it is seen to keep them busy.
const THREADS: u32 = 2;
const BURST: u32 = 4 * THREADS;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_spinning_requests_few_run_at_once_while_other_apps_answer() {
    let host = TestHost::builder()
        // A fiftieth of it may go by without a sign of overload, on the slowest machine.
        .config("[defaults]\nqueue_timeout = \"1h\"\nrequest_timeout = \"60s\"")
        .app("spinner", "spinner")
        .app_config("spinner", "cpu_time = \"300ms\"")
        .app("hello", "hello")
        .start()
        .await;
    let spins = join_all((0..20).map(|_| host.get("/spinner")));
    let watched = async {
        let stats = || host.app("spinner").release.expect("a live release").instances;
        host.until("some of them wait", || stats().waiting > 0).await;
        let mut hellos = 0;
        while stats().leased > 0 {
            let now = stats();
            assert!(now.running <= BURST, "{now:?}");
            assert_eq!(host.get("/hello").await.status, StatusCode::OK);
            hellos += 1;
        }
        hellos
    };
    let (spun, hellos) = tokio::join!(spins, watched);
    assert!(spun.iter().all(|answer| answer.status == StatusCode::GATEWAY_TIMEOUT), "{spun:?}");
    assert!(hellos > 0);
    host.settled("spinner").await;
    assert_eq!(host.app("spinner").release.expect("a live release").instances.running, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guests_that_wait_keep_no_other_request_from_running() {
    let host = TestHost::with(&["sleeper"]).await;
    let many = BURST as usize * 3;
    let waits = join_all((0..many).map(|_| host.get("/sleeper?ms=1000")));
    let all_at_once = async {
        let stats = || host.app("sleeper").release.expect("a live release").instances;
        host.until("all of them wait at once", || stats().leased as usize == many).await;
    };
    let (slept, ()) = tokio::join!(waits, all_at_once);
    assert!(slept.iter().all(|answer| answer.status == StatusCode::OK));
    host.settled("sleeper").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_do_not_read_keep_no_other_request_from_running() {
    let host = TestHost::builder()
        .app("stream", "stream")
        .app_config("stream", "response_buffer = \"64KiB\"")
        .start()
        .await;
    // More answers than may run at once, none of which is read.
    let mut clients = Vec::new();
    for _ in 0..2 * BURST {
        clients.push(unread(&host, "/stream?bytes=100000000").await);
    }
    assert_eq!(host.get("/stream?bytes=10").await.status, StatusCode::OK);
    drop(clients);
    host.settled("stream").await;
}

/// A client that has sent a request and does not read the answer.
async fn unread(host: &TestHost, path: &str) -> TcpStream {
    let mut client = TcpStream::connect(host.address()).await.expect("a connection");
    client.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.expect("sent");
    client
}
