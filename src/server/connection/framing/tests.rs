use proptest::prelude::*;

use super::*;

fn follow(bytes: &[u8]) -> Framing {
    let mut framing = Framing::new(4096);
    framing.feed(bytes);
    framing
}

const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc";
const CHUNKED: &str = "POST / HTTP/1.1\r\nTransfer-Encoding:  Chunked \r\n\r\n\
    3;name=\"v\"\r\nabc\r\n0A \r\n0123456789\r\n0\r\nx: 1\r\n\r\n";

#[test]
fn whole_requests_are_counted_and_nothing_is_suspect() {
    let framing = follow([GET, POST, CHUNKED, "\r\n", GET].concat().as_bytes());
    assert_eq!((framing.heads(), framing.first_suspect()), (4, None));
    assert!(framing.between_requests());
}

#[test]
fn both_lengths_make_that_request_suspect_in_either_order() {
    let bad = [
        "POST / HTTP/1.1\r\nContent-Length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\ntransfer-encoding:chunked\ncontent-length:0\n\n0\r\n\r\n",
    ];
    for request in bad {
        let framing = follow([GET, request, GET].concat().as_bytes());
        assert_eq!((framing.heads(), framing.first_suspect()), (3, Some(2)));
    }
}

#[test]
fn what_it_cannot_follow_makes_everything_later_suspect() {
    let lost = [
        "POST / HTTP/1.1\r\ncontent-length: 3x\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length: +3\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length: 99999999999999999999999\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked, gzip\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked, chunked\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
    ];
    for request in lost {
        let framing = follow([GET, request].concat().as_bytes());
        assert_eq!(framing.first_suspect(), Some(2), "{request}");
        assert!(!framing.between_requests());
    }
    let chunks = ["x\r\n", "\r\n", "3\nabc", "3\r\nabcd\r\n", "0\r\na: b\n\n", "-1\r\n", "1 1\r\n"];
    for body in chunks {
        let head = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";
        let framing = follow([head, body, GET].concat().as_bytes());
        assert_eq!((framing.heads(), framing.first_suspect()), (1, Some(2)));
    }
}

#[test]
fn a_line_without_an_end_is_not_kept_for_ever() {
    let mut framing = Framing::new(100);
    framing.feed(&[b'a'; 60]);
    assert!(framing.in_head());
    framing.feed(&[b'a'; 60]);
    assert_eq!(framing.first_suspect(), Some(1));
    assert_eq!(framing.line.capacity(), 0);
}

#[test]
fn a_head_that_has_begun_is_in_head_and_a_body_is_not() {
    assert!(follow(b"G").in_head());
    assert!(follow(b"GET / HTTP/1.1\r\n").in_head());
    assert!(!follow(b"\r\n").in_head());
    let body = follow(b"POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nab");
    assert!(!body.in_head() && !body.between_requests());
}

fn request() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        Just(GET),
        Just(POST),
        Just(CHUNKED),
        Just("\r\n"),
        Just("POST / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        Just("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"),
    ]
}

proptest! {
    #[test]
    fn how_the_bytes_are_cut_makes_no_difference(
        requests in proptest::collection::vec(request(), 0..6),
        cuts in proptest::collection::vec(1_usize..40, 1..20),
    ) {
        let bytes = requests.concat();
        let whole = follow(bytes.as_bytes());
        let mut cut = Framing::new(4096);
        let mut rest = bytes.as_bytes();
        for size in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (part, behind) = rest.split_at((*size).min(rest.len()));
            cut.feed(part);
            rest = behind;
        }
        prop_assert_eq!(whole.heads(), cut.heads());
        prop_assert_eq!(whole.first_suspect(), cut.first_suspect());
        prop_assert_eq!(whole.between_requests(), cut.between_requests());
    }

    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        follow(&bytes);
    }
}
