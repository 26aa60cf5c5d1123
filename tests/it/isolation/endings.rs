//! However a request ends, the next one finds all as new.

use bytes::Bytes;
use hostler::engine::EngineSettings;
use http::{Method, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::on_demand;
use super::probe::Probe;
use crate::support::TestHost;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_each_way_to_end_the_next_answer_is_as_the_first() {
    after_each_way_to_end(|_| {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_each_way_to_end_the_next_answer_is_as_the_first_on_demand() {
    after_each_way_to_end(on_demand).await;
}

/// How the guest is told to end, and the status that the client sees; none if its answer breaks off.
const ENDINGS: [(&str, Option<u16>); 9] = [
    ("answers", Some(200)),
    ("traps", Some(500)),
    ("T: traps after its answer has begun", Some(500)),
    ("spins, until its cpu_time is used up", Some(504)),
    ("S: spins after its answer has begun", None),
    ("waits, until its deadline", Some(504)),
    ("W: waits after its answer has begun", None),
    ("x: exits with a failure", Some(500)),
    ("memory is refused", Some(200)),
];

async fn after_each_way_to_end(set: impl FnOnce(&mut EngineSettings)) {
    let state = Probe::named("state");
    let host = TestHost::builder()
        .settings(set)
        .bytes("state", &state.wasm().expect("a probe of our own"))
        // One instance: each request is in the place of the one before it.
        .app_config(
            "state",
            "max_instances = 1\nmemory_limit = \"4MiB\"\ncpu_time = \"500ms\"\nrequest_timeout = \"1s\"",
        )
        .start()
        .await;
    let first = state.ask(&host).await;
    for (order, status) in ENDINGS {
        let ended = host.send(Method::POST, "/state", &[], Bytes::from(order)).await;
        let ended = ended.ok().map(|answer| answer.status.as_u16());
        assert_eq!(ended, status, "{order}");
        assert_eq!(state.ask(&host).await, first, "after one that {order}");
    }
    for (order, begins) in [("w", false), ("W", true)] {
        leave(&host, order, begins).await;
        assert_eq!(state.ask(&host).await, first, "after a client that left, {order}");
    }
    let much = Bytes::from(vec![b'a'; 1 << 20]);
    // A connection whose request was not read to its end can't be used again.
    let headers = [("x-mark", "left"), ("connection", "close")];
    let ended = host.send(Method::POST, "/state", &headers, much).await.expect("an answer");
    assert_eq!(ended.status, StatusCode::OK);
    assert_eq!(state.ask(&host).await, first, "after a body that was not read");
    host.settled("state").await;
}

/// Sends a request and goes away while the guest waits: when its answer has begun, or before.
async fn leave(host: &TestHost, order: &str, begins: bool) {
    let mut client = TcpStream::connect(host.address()).await.expect("a connection");
    let request = format!("POST /state HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n{order}");
    client.write_all(request.as_bytes()).await.expect("sent");
    if begins {
        let mut begin = [0; 12];
        client.read_exact(&mut begin).await.expect("the beginning of an answer");
        assert_eq!(&begin, b"HTTP/1.1 200");
    } else {
        let leased = || host.app("state").release.expect("a live release").instances.leased == 1;
        host.until("the request is under way", leased).await;
    }
    drop(client);
    host.settled("state").await;
}
