use std::io::ErrorKind;

use tokio::io::AsyncWriteExt;

use crate::server::testing::{Edge, Raw, patient};

mod clients;

/// A status line, a `connection: close` and the end of the connection.
async fn assert_refused(client: &mut Raw, status: u16) {
    let answer = client.answer().await;
    assert_eq!(answer.status, status, "{}", answer.head);
    assert!(answer.has("connection: close"), "{}", answer.head);
    client.assert_closed().await;
}

#[tokio::test]
async fn a_connection_is_kept_and_pipelined_requests_are_answered_in_order() {
    let edge = Edge::start(patient());
    let mut client = edge.connect().await;
    client.get("/hello").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.text()), (200, "hello".into()));
    assert!(answer.has("date: ") && answer.has("content-length: 5"));
    let post = "POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc";
    let get = "GET /hello HTTP/1.1\r\nhost: a\r\n\r\n";
    client.send([post, get, post, get].concat()).await;
    for expected in ["abc", "hello", "abc", "hello"] {
        assert_eq!(client.answer().await.text(), expected);
    }
    drop(client);
    edge.done().await;
}

#[tokio::test]
async fn bodies_of_every_size_come_back_whole() {
    let edge = Edge::start(patient());
    let mut client = edge.connect().await;
    for size in [0, 1, 2 * 1024 * 1024 + 1] {
        let body = vec![b'y'; size];
        let head = format!("POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: {size}\r\n\r\n");
        let request = [head.as_bytes(), &body].concat();
        let (mut reading, mut writing) = client.stream.split();
        let sent = async {
            writing.write_all(&request).await.unwrap();
        };
        let received = async {
            let mut whole = Vec::new();
            while !whole.ends_with(b"0\r\n\r\n") {
                tokio::io::AsyncReadExt::read_buf(&mut reading, &mut whole).await.unwrap();
            }
            whole
        };
        let ((), whole) = tokio::join!(sent, received);
        assert_eq!(whole.iter().filter(|&&byte| byte == b'y').count(), size);
    }
    client.get("/big").await;
    assert_eq!(client.answer().await.body.len(), 2 * 1024 * 1024 + 1);
    drop(client);
    edge.done().await;
}

#[tokio::test]
async fn heads_without_bodies_are_right_for_head_204_and_304() {
    let edge = Edge::start(patient());
    let mut client = edge.connect().await;
    client.send("HEAD /hello HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let answer = client.try_answer("HEAD").await.unwrap();
    assert!(answer.has("content-length: 5"), "{}", answer.head);
    client.send("HEAD /stream HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(client.try_answer("HEAD").await.unwrap().status, 200);
    for path in ["/204", "/304", "/304-declared"] {
        client.get(path).await;
        let answer = client.answer().await;
        assert!(!answer.has("content-length") && !answer.has("transfer-encoding"));
    }
    client.send("HEAD /204 HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(!client.try_answer("HEAD").await.unwrap().has("content-length"));
    client.get("/205").await;
    let answer = client.answer().await;
    assert!(answer.has("content-length: 0") && answer.text().is_empty(), "{}", answer.head);
    client.get("/empty").await;
    assert!(client.answer().await.has("content-length: 0"));
    drop(client);
    edge.done().await;
}

#[tokio::test]
async fn trailers_of_a_request_arrive() {
    let edge = Edge::start(patient());
    let mut client = edge.connect().await;
    let head = "POST /count HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    client.send([head, "3\r\nabc\r\n0\r\nx: 1\r\n\r\n"].concat()).await;
    assert_eq!(client.answer().await.text(), "3 bytes, 1 trailers");
    client.get("/hello").await;
    assert_eq!(client.answer().await.status, 200);
    drop(client);
    edge.done().await;
}

#[tokio::test]
async fn a_client_that_asks_is_told_to_continue_when_the_body_is_wanted() {
    let edge = Edge::start(patient());
    let mut client = edge.connect().await;
    let head = "HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n";
    client.send(format!("POST /count {head}")).await;
    assert_eq!(client.answer().await.status, 100);
    client.send("abc").await;
    assert_eq!(client.answer().await.text(), "3 bytes, 0 trailers");
    client.send(format!("POST /refuse-body {head}")).await;
    assert_eq!(client.answer().await.status, 413);
    client.assert_closed().await;
    edge.done().await;
}

#[tokio::test]
async fn an_answer_says_close_if_the_rest_of_the_body_is_in_the_way() {
    let edge = Edge::start(patient());
    for (left, body) in
        [("content-length: 100000", "begin"), ("transfer-encoding: chunked", "3\r\nabc\r\n0\r\n\r\n")]
    {
        let mut client = edge.connect().await;
        client.send(format!("POST /hello HTTP/1.1\r\nhost: a\r\n{left}\r\n\r\n{body}")).await;
        assert_refused(&mut client, 200).await;
    }
    let mut client = edge.connect().await;
    // One that is here already is passed over.
    client.send("POST /hello HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc").await;
    assert!(!client.answer().await.has("connection"));
    // One that is still read is not left.
    client.send("POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 6\r\n\r\nabc").await;
    let head = client.until(b"\r\n\r\n").await.unwrap();
    assert!(!String::from_utf8_lossy(&head).contains("connection"));
    client.send("def").await;
    client.until(b"0\r\n\r\n").await.unwrap();
    client.get("/hello").await;
    assert_eq!(client.answer().await.text(), "hello");
    drop(client);
    edge.done().await;
}

#[tokio::test]
async fn codings_that_are_not_undone_are_refused_and_what_follows_is_never_run() {
    let edge = Edge::start(patient());
    for coding in ["gzip, chunked", "chunked, chunked", "gzip\r\ntransfer-encoding: chunked"] {
        let mut client = edge.connect().await;
        let head = format!("POST /count HTTP/1.1\r\nhost: a\r\ntransfer-encoding: {coding}\r\n\r\n");
        client
            .send([&head, "3\r\nabc\r\n0\r\n\r\n", "GET /hello HTTP/1.1\r\nhost: a\r\n\r\n"].concat())
            .await;
        assert_refused(&mut client, 501).await;
    }
    edge.done().await;
}

#[tokio::test]
async fn ambiguous_lengths_are_refused_and_what_follows_is_never_run() {
    let edge = Edge::start(patient());
    let smuggled = "GET /hello HTTP/1.1\r\nhost: a\r\n\r\n";
    let lengths = [
        "content-length: 5\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 5\r\n",
        "content-length: 5\r\ncontent-length: 6\r\n",
        "content-length: 5, 6\r\n",
        "content-length: 5x\r\n",
        "transfer-encoding: chunked, gzip\r\n",
        "transfer-encoding : chunked\r\n",
        "x: 1\r\n content-length: 5\r\n",
    ];
    for length in lengths {
        let mut client = edge.connect().await;
        let head = format!("POST /count HTTP/1.1\r\nhost: a\r\n{length}\r\n");
        client.send([&head, "0\r\n\r\n", smuggled].concat()).await;
        assert_refused(&mut client, 400).await;
    }
    edge.done().await;
}

#[tokio::test]
async fn a_bad_chunk_breaks_the_body_and_ends_the_connection() {
    let edge = Edge::start(patient());
    for body in ["zz\r\n", "3\r\nabcd\r\n", "FFFFFFFFFFFFFFFFF\r\n", "3\nabc\r\n"] {
        let mut client = edge.connect().await;
        let head = "POST /count HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
        client.send([head, body, "GET /hello HTTP/1.1\r\nhost: a\r\n\r\n"].concat()).await;
        assert_refused(&mut client, 400).await;
    }
    edge.done().await;
}

#[tokio::test]
async fn a_host_is_required_and_strange_methods_are_refused() {
    let edge = Edge::start(patient());
    let mut client = edge.connect().await;
    let requests = [
        ("GET /hello HTTP/1.1\r\n\r\n", 400),
        ("GET /hello HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
        ("GET http://b/hello HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("GET http://a/hello HTTP/1.1\r\nhost: a\r\n\r\n", 200),
        ("CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n", 501),
        ("TRACE / HTTP/1.1\r\nhost: a\r\n\r\n", 501),
        ("GET /hello HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n", 200),
        ("GET /hello HTTP/1.1\r\nhost: a\r\n\r\n", 200),
    ];
    for (request, status) in requests {
        client.send(request).await;
        assert_eq!(client.answer().await.status, status, "{request}");
    }
    drop(client);
    edge.done().await;
}

#[tokio::test]
async fn too_large_heads_are_refused_with_431_and_long_targets_with_414() {
    let edge = Edge::start(patient());
    let filler = "x".repeat(9 * 1024);
    let many: String = (0..101).map(|n| format!("x{n}: 1\r\n")).collect();
    let large = format!("GET /hello HTTP/1.1\r\nhost: a\r\nx: {filler}\r\ny: {filler}\r\n\r\n");
    let unending = format!("GET /hello HTTP/1.1\r\nhost: a\r\nx: {filler}{filler}");
    let numerous = format!("GET /hello HTTP/1.1\r\n{many}\r\n");
    for request in [large, unending, numerous] {
        let mut client = edge.connect().await;
        client.send(request).await;
        assert_refused(&mut client, 431).await;
    }
    let mut client = edge.connect().await;
    client.get(&format!("/{filler}")).await;
    assert_eq!(client.answer().await.status, 414);
    drop(client);
    edge.done().await;
}

#[tokio::test]
async fn garbage_is_refused() {
    let edge = Edge::start(patient());
    for garbage in ["\x16\x03\x01\x02\x00\x01\x00\x01\x00", "hello\r\n\r\n", "PRI * HTTP/2.1\r\n\r\n"] {
        let mut client = edge.connect().await;
        client.send(garbage).await;
        assert_refused(&mut client, 400).await;
    }
    edge.done().await;
}

#[tokio::test]
async fn streams_are_chunked_or_sized_as_declared() {
    let edge = Edge::start(patient());
    let mut client = edge.connect().await;
    client.get("/stream").await;
    let answer = client.answer().await;
    assert!(answer.has("transfer-encoding: chunked") && answer.text() == "onetwosix");
    client.get("/stream-known").await;
    let answer = client.answer().await;
    assert!(answer.has("content-length: 9") && answer.text() == "onetwosix");
    drop(client);
    let mut old = edge.connect().await;
    old.send("GET /stream HTTP/1.0\r\n\r\n").await;
    assert_eq!(old.answer().await.text(), "onetwosix");
    edge.done().await;
}

#[tokio::test]
async fn a_broken_answer_is_reset_in_every_framing() {
    let edge = Edge::start(patient());
    let requests = [
        ("GET /break HTTP/1.1\r\nhost: a\r\n\r\n", "9\r\nbeginning\r\n"),
        ("GET /break-known HTTP/1.1\r\nhost: a\r\n\r\n", "beginning"),
        // Without a length or chunks, only a reset tells half a body from a whole one.
        ("GET /break HTTP/1.0\r\n\r\n", "beginning"),
    ];
    for (request, begin) in requests {
        let mut client = edge.connect().await;
        client.send(request).await;
        client.until(b"\r\n\r\n").await.unwrap();
        assert_eq!(client.take(begin.len()).await.unwrap(), begin.as_bytes());
        let end = client.rest().await.unwrap_err();
        assert_eq!(end.kind(), ErrorKind::ConnectionReset, "{request}");
    }
    edge.done().await;
}

#[tokio::test]
async fn a_body_that_has_not_its_declared_length_never_seems_whole() {
    let edge = Edge::start(patient());
    for path in ["/short", "/long", "/lies"] {
        let mut client = edge.connect().await;
        client.get(path).await;
        let end = client.try_answer("GET").await.unwrap_err();
        assert_eq!(end.kind(), ErrorKind::ConnectionReset, "{path}");
    }
    edge.done().await;
}

#[tokio::test]
async fn a_status_that_is_not_final_is_never_sent() {
    let edge = Edge::start(patient());
    let mut client = edge.connect().await;
    client.send("GET /101 HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 502);
    client.get("/hello").await;
    assert_eq!(client.answer().await.text(), "hello");
    drop(client);
    edge.done().await;
}

#[tokio::test]
async fn a_panic_resets_one_connection_and_harms_no_other() {
    let edge = Edge::start(patient());
    let mut client = edge.connect().await;
    client.get("/panic").await;
    assert_eq!(client.rest().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    let mut other = edge.connect().await;
    other.get("/hello").await;
    assert_eq!(other.answer().await.status, 200);
    drop(other);
    edge.done().await;
}

#[tokio::test]
async fn each_chunk_is_sent_at_once() {
    let edge = Edge::start(patient());
    let mut client = edge.connect().await;
    client.get("/slow-maker").await;
    assert!(client.until(b"first\r\n").await.unwrap().ends_with(b"5\r\nfirst\r\n"));
    edge.app.open(1);
    assert!(client.until(b"0\r\n\r\n").await.is_ok());
    drop(client);
    edge.done().await;
}

const GOOD: [&str; 4] = [
    "GET /hello HTTP/1.1\r\nhost: a\r\n\r\n",
    "POST /count HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nGET /",
    "POST /count HTTP/1.1\r\nhost: a\r\nTransfer-Encoding: Chunked\r\n\r\n3;x=\"y\"\r\nGET\r\n0\r\nt: 1\r\n\r\n",
    "\r\nPOST /count HTTP/1.1\nhost: a\ncontent-length: 3\ncontent-length: 3\n\nabc",
];
const BAD: [&str; 4] = [
    "POST /count HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST /count HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 0\r\n\r\n0\r\n\r\n",
    "POST /count HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nabcde",
    "POST /count HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\na: b\n\n\r\n\r\n",
];

/// The statuses that `requests`, cut into `pieces`, are answered with.
async fn statuses(edge: &Edge, requests: &str, piece: usize) -> Vec<u16> {
    let mut client = edge.connect().await;
    for part in requests.as_bytes().chunks(piece) {
        if client.stream.write_all(part).await.is_err() {
            break;
        }
        tokio::task::yield_now().await;
    }
    let _ = client.stream.shutdown().await;
    let mut statuses = Vec::new();
    while let Ok(answer) = client.try_answer("GET").await {
        statuses.push(answer.status);
    }
    statuses
}

#[tokio::test]
async fn pipelined_requests_are_answered_up_to_the_first_whose_length_is_ambiguous() {
    let edge = Edge::start(patient());
    for (n, bad) in BAD.iter().enumerate() {
        for piece in [1, 7, 10_000] {
            let requests = [GOOD.concat(), (*bad).to_owned(), GOOD.concat()].concat();
            let found = statuses(&edge, &requests, piece).await;
            // The last one is a whole request for hyper, but where it ends is not beyond doubt: the next is refused.
            let expected: &[u16] =
                if n < 3 { &[200, 200, 200, 200, 400] } else { &[200, 200, 200, 200, 200, 400] };
            assert_eq!(found, expected, "{bad:?} in pieces of {piece}");
        }
    }
    edge.done().await;
}
