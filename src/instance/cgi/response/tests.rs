use super::*;

const LIMIT: usize = 1024;

/// The outcome of a whole output, given in these chunks: the head with the whole body in `rest`, or the fault.
pub(super) fn outcome<'a>(
    chunks: impl IntoIterator<Item = &'a [u8]>,
    limit: usize,
) -> Result<Head, BadResponse> {
    let mut parser = Parser::new(limit);
    let mut found = None;
    for chunk in chunks {
        match &mut found {
            None => found = parser.feed(chunk)?,
            Some(Head::Document(document) | Head::ClientRedirect(document)) => {
                document.rest = [&document.rest, chunk].concat().into();
            }
            Some(Head::LocalRedirect { .. }) => panic!("a local redirect came before the end"),
        }
    }
    match found {
        Some(head) => Ok(head),
        None => parser.finish().map(|head| head.expect("an end without a head or a fault")),
    }
}

fn parse(output: &[u8]) -> Result<Head, BadResponse> {
    outcome([output], LIMIT)
}

fn document(output: &str) -> Document {
    match parse(output.as_bytes()) {
        Ok(Head::Document(document)) => document,
        other => panic!("{output:?} gave {other:?}"),
    }
}

fn redirect(output: &str) -> (u16, String) {
    match parse(output.as_bytes()) {
        Ok(Head::ClientRedirect(document)) => {
            let location = document.headers.get("location").unwrap();
            (document.status.as_u16(), location.to_str().unwrap().to_owned())
        }
        other => panic!("{output:?} gave {other:?}"),
    }
}

fn fault(output: &str) -> BadResponse {
    match parse(output.as_bytes()) {
        Err(fault) => fault,
        other => panic!("{output:?} gave {other:?}"),
    }
}

#[test]
fn a_document_has_status_200_unless_it_says_otherwise() {
    for (output, status, body) in [
        ("Content-Type: text/plain\n\nhello", 200, "hello"),
        ("Content-Type: text/plain\r\n\r\nhello", 200, "hello"),
        ("content-type:text/plain\n\n", 200, ""),
        ("CONTENT-TYPE: \t text/html; charset=utf-8 \t\n\n\n\n", 200, "\n\n"),
        ("Status: 404 Not found\nContent-Type: text/plain\n\nno", 404, "no"),
        ("Content-Type: text/plain\nStatus: 599\n\n", 599, ""),
        ("Status: 204 No Content\n\n", 204, ""),
        ("Status: 500 \r\n\r\n", 500, ""),
    ] {
        let document = document(output);
        assert_eq!(document.status.as_u16(), status, "{output:?}");
        assert_eq!(document.rest, body, "{output:?}");
        assert!(!document.headers.contains_key("status"), "{output:?}");
    }
}

#[test]
fn other_fields_are_kept_in_order_and_repeated_ones_too() {
    let document = document(
        "Content-Type: text/plain\nSet-Cookie: a=1\nX-Empty:\nContent-Length: 5\nSet-Cookie: b=2; Path=/\n\nhello",
    );
    let cookies: Vec<_> = document.headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a=1", "b=2; Path=/"]);
    assert_eq!(document.headers["x-empty"], "");
    assert_eq!(document.headers["content-length"], "5");
}

#[test]
fn fields_of_the_connection_are_dropped_and_named() {
    let document = document(
        "Content-Type: text/plain\nConnection: close\nTransfer-Encoding: chunked\nKeep-Alive: x\nUpgrade: h2c\nTE: x\n\
         Trailer: x\nProxy-Authenticate: Basic\nX-CGI-Special: x\nX-Kept: 1\n\n",
    );
    let kept: Vec<_> = document.headers.keys().map(HeaderName::as_str).collect();
    assert_eq!(kept, ["content-type", "x-kept"]);
    let dropped: Vec<_> = document.dropped.iter().map(HeaderName::as_str).collect();
    assert_eq!(
        dropped,
        [
            "connection",
            "transfer-encoding",
            "keep-alive",
            "upgrade",
            "te",
            "trailer",
            "proxy-authenticate",
            "x-cgi-special"
        ]
    );
}

#[test]
fn a_lone_location_with_a_path_is_a_local_redirect() {
    for path in ["/", "/a/b?c=d&e", "/a%20b", "/a/../b", "/a:b"] {
        let head = parse(format!("Location: {path}\n\n").as_bytes());
        let expected = Head::LocalRedirect { path_query: path.to_owned() };
        assert_eq!(head, Ok(expected));
    }
}

#[test]
fn a_location_elsewhere_is_a_client_redirect() {
    for (output, status, location) in [
        ("Location: https://a.example/x?y#z\n\n", 302, "https://a.example/x?y#z"),
        ("Location: mailto:a@b.example\n\n", 302, "mailto:a@b.example"),
        ("Location: https://a.example/\nSet-Cookie: a=1\n\n", 302, "https://a.example/"),
        ("Location: https://a.example/\nContent-Type: text/html\n\n<a>", 302, "https://a.example/"),
        ("Status: 301 Moved\nLocation: https://a.example/\n\n", 301, "https://a.example/"),
        ("Status: 303 See Other\nLocation: /login\nSet-Cookie: a=1\n\n", 303, "/login"),
        ("Status: 307\nLocation: next#part\n\n", 307, "next#part"),
    ] {
        assert_eq!(redirect(output), (status, location.to_owned()), "{output:?}");
    }
}

#[test]
fn a_created_document_may_have_a_location() {
    let created = document("Status: 201 Created\nLocation: /things/5\nContent-Type: text/plain\n\nok");
    assert_eq!(created.status, 201);
    assert_eq!(created.headers["location"], "/things/5");
}

#[test]
fn what_is_not_a_response_is_named() {
    use BadResponse::*;
    let printed = |text: &str| text.to_owned();
    let long = "x".repeat(61);
    let cut = format!("{}…", "x".repeat(60));
    let cases = [
        ("", Nothing),
        ("Hello", Unfinished { printed: printed("Hello") }),
        ("A: b\n", Unfinished { printed: printed("A: b") }),
        ("A: b\r\nC: d\r", Unfinished { printed: printed(r"C: d\r") }),
        ("Hello\n\n", NotAField { printed: printed("Hello") }),
        (&format!("{long}\n"), NotAField { printed: cut }),
        ("<p>a: b\n\n", NotAField { printed: printed("<p>a: b") }),
        (": b\n\n", NotAField { printed: printed(": b") }),
        ("A : b\n\n", NotAField { printed: printed("A : b") }),
        (" A: b\n\n", NotAField { printed: printed(" A: b") }),
        ("A\u{e9}: b\n\n", NotAField { printed: printed(r"A\xc3\xa9: b") }),
        ("\u{feff}A: b\n\n", NotAField { printed: printed(r"\xef\xbb\xbfA: b") }),
        ("A: b\rc\n\n", NotAField { printed: printed(r"A: b\rc") }),
        ("A: b\r\r\n\n", NotAField { printed: printed(r"A: b\r") }),
        ("A: b\0\n\n", NotAField { printed: printed(r"A: b\x00") }),
        ("A: b\n c\n\n", Folded { printed: printed(" c") }),
        ("A: b\n\tc\n\n", Folded { printed: printed(r"\tc") }),
        ("\n", NoCgiField),
        ("X-A: b\n\nbody", NoCgiField),
        ("Connection: close\n\n", NoCgiField),
        ("HTTP/1.1 200 OK\r\n", StatusLine { printed: printed("HTTP/1.1 200 OK") }),
        ("Status: 200\n\nbody", NoContentType { printed: printed("body") }),
        ("Location: http://a/\n\nbody", NoContentType { printed: printed("body") }),
    ];
    for (output, expected) in cases {
        assert_eq!(fault(output), expected, "{output:?}");
    }
}

#[test]
fn a_field_that_steers_the_response_is_there_once() {
    for field in ["Content-Type: text/plain", "Status: 200", "Location: /a", "Content-Length: 1"] {
        let output = format!("{field}\nX-Other: 1\n{field}\n\n");
        let fault = fault(&output);
        assert!(matches!(fault, BadResponse::Duplicate { .. }), "{output:?}: {fault}");
    }
}

#[test]
fn a_bad_value_of_a_cgi_field_is_named() {
    for status in
        ["", "OK", "20", "2000", "200OK", "200\tOK", "99", "100 Continue", "199", "600", "999", "+20", "2 0"]
    {
        let fault = fault(&format!("Status: {status}\n\n"));
        assert!(matches!(fault, BadResponse::Status { .. }), "{status:?}: {fault}");
    }
    for kind in
        ["", "text", "text/", "/plain", "text/plain/x", "te xt/plain", ";a", "text /plain", "text/html, x/y"]
    {
        let fault = fault(&format!("Content-Type: {kind}\n\n"));
        assert!(matches!(fault, BadResponse::ContentType { .. }), "{kind:?}: {fault}");
    }
    for length in ["", "-1", "+1", "0x10", "1 2", "1, 1", "18446744073709551616"] {
        let fault = fault(&format!("Content-Type: a/b\nContent-Length: {length}\n\n"));
        assert!(matches!(fault, BadResponse::ContentLength { .. }), "{length:?}: {fault}");
    }
    for location in
        ["", "x", "//a.example/", "/a b", "/a#b", "/%zz", "/%4", "/a\\b", "/é", "1http://a/", "http:", "?a"]
    {
        let fault = fault(&format!("Location: {location}\n\n"));
        assert!(matches!(fault, BadResponse::Location { .. }), "{location:?}: {fault}");
    }
}

#[test]
fn a_local_redirect_has_nothing_else() {
    for output in
        ["Location: /a\nX-B: c\n\n", "Content-Type: a/b\nLocation: /a\n\n", "Connection: x\nLocation: /a\n\n"]
    {
        let fault = fault(output);
        assert!(matches!(fault, BadResponse::LocationNotAlone { .. }), "{output:?}: {fault}");
    }
    let expected = BadResponse::BodyAfterLocalRedirect { printed: "\\n".to_owned() };
    assert_eq!(fault("Location: /a\n\n\n"), expected);
}

#[test]
fn a_location_goes_with_a_status_that_has_one() {
    for status in [200, 204, 404, 500] {
        let fault = fault(&format!("Status: {status}\nLocation: /a\n\n"));
        assert!(matches!(fault, BadResponse::LocationStatus { .. }), "{fault}");
    }
}

#[test]
fn a_message_says_what_was_printed_and_what_was_expected() {
    let message = fault("Hello \u{1b}[31m\n").to_string();
    assert!(message.contains(r"Hello \x1b[31m"), "{message}");
    assert!(message.contains("Content-Type: text/plain"), "{message}");
    let message = fault(&format!("Status: {}\n", "9".repeat(900))).to_string();
    assert!(message.len() < 250, "{message}");
}

#[test]
fn a_header_section_may_be_as_long_as_the_limit_and_no_longer() {
    let head = b"Content-Type: text/plain\n\n";
    assert!(outcome([&head[..]], head.len()).is_ok());
    let limit = head.len() - 1;
    assert_eq!(outcome([&head[..]], limit), Err(BadResponse::TooLong { limit }));
    let endless = vec![b'a'; LIMIT + 1];
    assert_eq!(parse(&endless), Err(BadResponse::TooLong { limit: LIMIT }));
    assert!(matches!(parse(&endless[1..]), Err(BadResponse::Unfinished { .. })));
}

#[test]
fn a_body_does_not_count_against_the_limit() {
    let output = format!("Content-Type: text/plain\n\n{}", "x".repeat(10 * LIMIT));
    assert_eq!(document(&output).rest.len(), 10 * LIMIT);
}

#[test]
fn the_number_of_fields_is_bounded() {
    let fields = |count: usize| format!("Status: 200\n{}\n", "a:\n".repeat(count - 1));
    assert!(outcome([fields(MAX_FIELDS).as_bytes()], usize::MAX).is_ok());
    let over = outcome([fields(MAX_FIELDS + 1).as_bytes()], usize::MAX);
    assert_eq!(over, Err(BadResponse::TooManyFields));
    let dropped = format!("Status: 200\n{}\n", "TE: x\n".repeat(MAX_FIELDS));
    let over = outcome([dropped.as_bytes()], usize::MAX);
    assert_eq!(over, Err(BadResponse::TooManyFields));
}

#[test]
fn a_document_is_known_at_its_blank_line_and_not_before() {
    let mut parser = Parser::new(LIMIT);
    assert_eq!(parser.feed(b"Content-Type: text/plain\r\n\r"), Ok(None));
    assert!(matches!(parser.feed(b"\n"), Ok(Some(Head::Document(_)))));
    assert_eq!(parser.finish(), Ok(None));
}

#[test]
fn a_fault_is_known_at_the_end_of_its_line() {
    let mut parser = Parser::new(LIMIT);
    assert_eq!(parser.feed(b"Content-Type: text/plain\nnonsense"), Ok(None));
    assert!(matches!(parser.feed(b"\n"), Err(BadResponse::NotAField { .. })));
}

#[test]
fn a_response_without_a_body_waits_for_the_end() {
    let mut parser = Parser::new(LIMIT);
    assert_eq!(parser.feed(b"Status: 204\n\n"), Ok(None));
    assert_eq!(parser.feed(b""), Ok(None));
    assert!(matches!(parser.feed(b"x"), Err(BadResponse::NoContentType { .. })));
}
