use super::*;
use proptest::prelude::*;

/// What a whole stream of bytes was, however it came in pieces.
#[derive(Debug, Default, PartialEq, Clone)]
struct Seen {
    responses: Vec<(u16, Vec<u8>, bool)>,
    error: Option<FramingError>,
}

fn read(method: &Method, pieces: &[&[u8]]) -> Seen {
    let mut framer = Framer::new(method);
    let (mut seen, mut kept, mut open) = (Seen::default(), Vec::new(), None::<(u16, Vec<u8>)>);
    for piece in pieces {
        kept.extend_from_slice(piece);
        loop {
            match framer.advance(&kept) {
                Err(error) => {
                    seen.error = Some(error);
                    return seen;
                }
                Ok((used, event)) => {
                    let more = event == Event::More;
                    match event {
                        Event::More | Event::Interim => (),
                        Event::Head { status } => open = Some((status, Vec::new())),
                        Event::Body(body) => open.as_mut().unwrap().1.extend_from_slice(body),
                        Event::End { keep_alive } => {
                            let (status, body) = open.take().unwrap();
                            seen.responses.push((status, body, keep_alive));
                        }
                    }
                    kept.drain(..used);
                    if more {
                        break;
                    }
                }
            }
        }
    }
    if let Some((status, body)) = open {
        match framer.finish() {
            Ok(()) => seen.responses.push((status, body, false)),
            Err(error) => seen.error = Some(error),
        }
    }
    seen
}

fn whole(bytes: &[u8]) -> Seen {
    read(&Method::GET, &[bytes])
}

fn only(status: u16, body: &[u8], keep_alive: bool) -> Seen {
    Seen { responses: vec![(status, body.to_vec(), keep_alive)], error: None }
}

#[test]
fn a_length_ends_a_body_and_the_connection_stays() {
    let seen = whole(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 204 No Content\r\n\r\n");
    assert_eq!(seen.responses, [(200, b"hello".to_vec(), true), (204, vec![], true)]);
    assert_eq!(seen.error, None);
}

#[test]
fn chunks_extensions_and_trailers_are_framing_and_not_body() {
    let seen = whole(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5;a=b\r\nhello\r\n1\r\n!\r\n0\r\nx: y\r\nz: 1\r\n\r\n",
    );
    assert_eq!(seen, only(200, b"hello!", true));
}

#[test]
fn a_body_without_a_length_ends_with_the_connection() {
    assert_eq!(whole(b"HTTP/1.1 200 OK\r\n\r\nall of it"), only(200, b"all of it", false));
}

#[test]
fn a_connection_that_ends_within_a_body_is_truncated() {
    for bytes in [
        &b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello"[..],
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ] {
        assert_eq!(whole(bytes).error, Some(FramingError::Truncated));
    }
}

#[test]
fn interim_responses_are_passed_over() {
    let seen = whole(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(seen, only(200, b"", true));
}

#[test]
fn head_and_not_modified_have_a_length_and_no_body() {
    let seen = read(&Method::HEAD, &[b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"]);
    assert_eq!(seen, only(200, b"", true));
    assert_eq!(whole(b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n"), only(304, b"", true));
}

#[test]
fn the_server_says_whether_the_connection_stays() {
    let close = whole(b"HTTP/1.1 200 OK\r\nconnection: x, Close\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(close, only(200, b"", false));
    assert_eq!(whole(b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n"), only(200, b"", false));
    let kept = whole(b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(kept, only(200, b"", true));
}

#[test]
fn nonsense_is_malformed() {
    for bytes in [
        &b"SSH-2.0-OpenSSH_9\r\n"[..],
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nx\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nab\r\n",
    ] {
        assert_eq!(whole(bytes).error, Some(FramingError::Malformed), "{}", bytes.escape_ascii());
    }
}

#[test]
fn header_and_trailer_sections_are_bounded() {
    let endless = "x".repeat(2 * MAX_HEAD);
    let head = format!("HTTP/1.1 200 OK\r\nx: {endless}");
    assert_eq!(whole(head.as_bytes()).error, Some(FramingError::HeadTooLarge));
    for trailer in [format!("x: {endless}"), "x: y\r\n".repeat(MAX_HEAD / 4)] {
        let body = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n{trailer}");
        assert_eq!(whole(body.as_bytes()).error, Some(FramingError::HeadTooLarge));
    }
}

#[test]
fn a_request_carries_its_host_and_its_length() {
    let asked = Asked {
        method: Method::POST,
        path: "/x".to_owned(),
        headers: vec![(HeaderName::from_static("accept"), HeaderValue::from_static("a/b"))],
        body: Bytes::from_static(b"hi"),
    };
    assert_eq!(
        asked.encode("/app/x", "127.0.0.1:80"),
        "POST /app/x HTTP/1.1\r\nhost: 127.0.0.1:80\r\naccept: a/b\r\ncontent-length: 2\r\n\r\nhi"
    );
    let named = Asked {
        method: Method::GET,
        headers: vec![(http::header::HOST, HeaderValue::from_static("a.example"))],
        body: Bytes::new(),
        ..asked
    };
    assert_eq!(named.encode("/", "127.0.0.1:80"), "GET / HTTP/1.1\r\nhost: a.example\r\n\r\n");
}

/// One response's bytes and its body, in one of the framings.
fn response() -> impl Strategy<Value = (Vec<u8>, (u16, Vec<u8>, bool))> {
    let body = prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..5);
    (body, any::<bool>(), any::<bool>()).prop_map(|(parts, chunked, interim)| {
        let body = parts.concat();
        let mut bytes = if interim { b"HTTP/1.1 100 Continue\r\n\r\n".to_vec() } else { Vec::new() };
        if chunked {
            bytes.extend_from_slice(b"HTTP/1.1 201 Created\r\ntransfer-encoding: chunked\r\n\r\n");
            for part in &parts {
                bytes.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
                bytes.extend_from_slice(part);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\n\r\n");
        } else {
            let head = format!("HTTP/1.1 201 Created\r\nx: y\r\ncontent-length: {}\r\n\r\n", body.len());
            bytes.extend_from_slice(head.as_bytes());
            bytes.extend_from_slice(&body);
        }
        (bytes, (201, body, true))
    })
}

proptest! {
    #[test]
    fn responses_are_the_same_however_their_bytes_are_split(
        responses in prop::collection::vec(response(), 1..4),
        cuts in prop::collection::vec(1usize..30, 1..60),
    ) {
        let bytes = responses.iter().flat_map(|(bytes, _)| bytes.clone()).collect::<Vec<_>>();
        let mut pieces = Vec::new();
        let (mut rest, mut cuts) = (&bytes[..], cuts.iter().cycle());
        while !rest.is_empty() {
            let (piece, after) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        let expected = responses.into_iter().map(|(_, response)| response).collect::<Vec<_>>();
        prop_assert_eq!(read(&Method::GET, &pieces), Seen { responses: expected, error: None });
    }

    #[test]
    fn any_bytes_are_read_without_a_panic_and_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        read(&Method::GET, &[&bytes]);
        read(&Method::GET, &[head, &bytes]);
    }
}
