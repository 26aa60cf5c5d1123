use super::*;

fn origin(text: &str) -> Origin {
    text.parse().unwrap_or_else(|message| panic!("{text}: {message}"))
}

#[test]
fn an_origin_is_scheme_host_and_port() {
    let table = [
        ("https://api.example.com", "https://api.example.com"),
        ("HTTPS://API.example.com.:443", "https://api.example.com"),
        ("http://api.example.com:80", "http://api.example.com"),
        ("https://api.example.com:80", "https://api.example.com:80"),
        ("http://*.internal:8080", "http://*.internal:8080"),
        ("http://127.0.0.1:9000", "http://127.0.0.1:9000"),
        ("http://[0::1]:9000", "http://[::1]:9000"),
        ("http://[::1]", "http://[::1]"),
        ("https://*", "https://*"),
    ];
    for (text, form) in table {
        assert_eq!(origin(text).to_string(), form, "{text}");
        assert_eq!(origin(form), origin(text), "{text}");
    }
}

#[test]
fn what_is_no_origin_is_told_why() {
    let parse = |text: &str| text.parse::<Origin>().unwrap_err();
    let example = "for example \"https://api.example.com\" or \"http://*.internal:8080\"";
    assert_eq!(parse("api.example.com"), format!("not an origin, write {example}"));
    assert_eq!(parse("ftp://a"), format!("unknown scheme \"ftp\", use http or https, {example}"));
    for text in ["https://a/", "https://a/b", "https://u@a", "https://a?b", "https://a\\b"] {
        let message = "an origin is scheme, host and port only, without a path or a user";
        assert_eq!(parse(text), format!("{message}, {example}"), "{text}");
    }
    for text in ["https://a:0", "https://a:65536", "https://a:", "https://a:+80", "https://a:http"] {
        assert_eq!(parse(text), format!("not a port from 1 to 65535, write {example}"), "{text}");
    }
    for text in [
        "https://",
        "https://*.",
        "https://a.*",
        "https://0x7f.1",
        "https://127.1",
        "https://*.1.2.3.4",
        "http://::1",
    ] {
        parse(text);
    }
}

#[test]
fn a_request_matches_the_origin_it_goes_to() {
    let table = [
        ("https://api.example.com", true, "api.example.com", 443),
        ("https://api.example.com", true, "API.Example.com.", 443),
        ("http://*.internal:8080", false, "a.internal", 8080),
        ("http://*.internal:8080", false, "A.B.Internal", 8080),
        ("http://127.0.0.1:9000", false, "127.0.0.1", 9000),
        ("http://[::1]", false, "[0:0::1]", 80),
        ("http://[::1]", false, "::1", 80),
        ("https://*", true, "anything.example", 443),
        ("https://*", true, "localhost", 443),
    ];
    for (text, https, host, port) in table {
        assert!(origin(text).matches(https, host, port), "{text} {host}");
    }
    let table = [
        ("https://api.example.com", false, "api.example.com", 443),
        ("https://api.example.com", true, "api.example.com", 8443),
        ("https://api.example.com", true, "xapi.example.com", 443),
        ("https://api.example.com", true, "a.api.example.com", 443),
        ("http://*.internal:8080", false, "internal", 8080),
        ("http://*.internal:8080", false, ".internal", 8080),
        ("http://*.internal:8080", false, "ainternal", 8080),
        ("http://*.internal:8080", false, "a.internal.evil.example", 8080),
        ("https://*", true, "", 443),
        ("https://*", true, "10.0.0.1", 443),
        ("https://*", true, "[::1]", 443),
        ("https://*", true, "0x7f.1", 443),
        ("https://*", true, "2130706433", 443),
        ("http://127.0.0.1:9000", false, "127.1", 9000),
        ("http://127.0.0.1:9000", false, "[::ffff:127.0.0.1]", 9000),
    ];
    for (text, https, host, port) in table {
        assert!(!origin(text).matches(https, host, port), "{text} {host}");
    }
}

#[test]
fn a_destination_covers_no_more_than_it_names() {
    let covers = |granted: &str, asked: &str| granted.parse::<Destination>().unwrap().covers(&origin(asked));
    assert!(covers("https://*.example.com", "https://a.example.com"));
    assert!(covers("https://*.example.com", "https://*.a.example.com"));
    assert!(covers("https://*", "https://*.example.com") && covers("https://*", "https://*"));
    assert!(covers("10.0.0.0/8", "http://10.1.2.3:99") && covers("10.0.0.1", "https://10.0.0.1"));
    assert!(covers("fd00::/8", "http://[fd00::1]"));
    assert!(covers("10.0.0.0/8", "http://[::ffff:10.0.0.1]"));
    assert!(!covers("https://*.example.com", "https://example.com"));
    assert!(!covers("https://*.example.com", "https://*"));
    assert!(!covers("https://*", "http://a.example") && !covers("https://*", "https://10.0.0.1"));
    assert!(!covers("10.0.0.0/8", "http://11.0.0.1") && !covers("10.0.0.0/8", "http://a.example"));
    assert!(!covers("http://10.0.0.1:80", "http://10.0.0.1:81"));
}

#[test]
fn a_network_is_written_in_one_form() {
    let parse = |text: &str| text.parse::<Destination>();
    assert_eq!(parse("10.1.2.3/8"), Err("this network is written 10.0.0.0/8".to_owned()));
    assert_eq!(parse("::ffff:10.0.0.1"), parse("10.0.0.1"));
    assert!(parse("10.0.0.0/33").is_err() && parse("a.example").is_err() && parse("").is_err());
}
