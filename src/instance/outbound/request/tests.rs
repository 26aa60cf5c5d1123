use proptest::prelude::*;

use super::*;

fn target(uri: &str) -> Option<(bool, String, u16)> {
    let target = Target::of(&uri.parse().ok()?)?;
    Some((target.https, target.host, target.port))
}

fn origin(host: &str, subdomains: bool) -> Origin {
    Origin { https: true, host: host.to_owned(), subdomains, port: 443 }
}

#[test]
fn a_target_is_read_in_one_form() {
    for (uri, expected) in [
        ("http://a.example", (false, "a.example", 80)),
        ("https://a.example/x", (true, "a.example", 443)),
        ("HTTPS://A.Example./x", (true, "a.example", 443)),
        ("https://a.example:/x", (true, "a.example", 443)),
        ("http://a.example:8080", (false, "a.example", 8080)),
        ("http://127.0.0.1:1", (false, "127.0.0.1", 1)),
        ("http://[::1]", (false, "::1", 80)),
        ("http://[0:0::FFFF:127.0.0.1]:65535", (false, "::ffff:127.0.0.1", 65535)),
    ] {
        let (https, host, port) = expected;
        assert_eq!(target(uri), Some((https, host.to_owned(), port)), "{uri}");
    }
}

#[test]
fn what_is_no_target_is_refused() {
    for uri in [
        "/x",
        "a.example:80",
        "*",
        "ftp://a.example",
        "ws://a.example",
        "http://me@a.example",
        "http://me:secret@a.example",
        "http://a.example:0",
        "http://a.example:65536",
        "http://a.example:99999999999",
        "http://[::1]x",
        "http://[v1.x]",
        "http://.",
        "http://..",
        "http://a..example",
        "http://a.example..",
        "http://:80",
    ] {
        assert_eq!(target(uri), None, "{uri}");
    }
}

#[test]
fn an_exact_origin_counts_before_a_wildcard() {
    let target = Target { https: true, host: "a.example".to_owned(), port: 443 };
    let (exact, wildcard) = (origin("a.example", false), origin("example", true));
    assert_eq!(target.allowed_by(&[]), None);
    assert_eq!(target.allowed_by(&[origin("b.example", false)]), None);
    assert_eq!(target.allowed_by(std::slice::from_ref(&wildcard)), Some(Match::Wildcard));
    assert_eq!(target.allowed_by(&[wildcard, exact]), Some(Match::Exact));
}

#[test]
fn the_request_is_rebuilt_from_the_target_that_was_checked() {
    for (uri, sent, host) in [
        ("https://A.Example.:443/x?y", "https://a.example/x?y", "a.example"),
        ("http://a.example:8080", "http://a.example:8080/", "a.example:8080"),
        ("http://[::1]:81/x", "http://[::1]:81/x", "[::1]:81"),
        ("https://a.example:80/", "https://a.example:80/", "a.example:80"),
    ] {
        let (mut parts, ()) = http::Request::get(uri).body(()).unwrap().into_parts();
        let target = Target::of(&parts.uri).unwrap();
        prepare(&mut parts, &target, Match::Exact).unwrap();
        assert_eq!(parts.uri, sent);
        assert_eq!(parts.headers[header::HOST], host);
        assert_eq!(Target::of(&parts.uri), Some(target));
    }
}

proptest! {
    #[test]
    fn the_request_that_is_sent_has_the_target_that_was_checked(
        authority in "[a-zA-Z0-9.:@_~%\\[\\]-]{1,30}",
        https in any::<bool>(),
    ) {
        let uri = format!("{}://{authority}/x", if https { "https" } else { "http" });
        let Ok(uri) = uri.parse::<Uri>() else { return Ok(()) };
        let Some(target) = Target::of(&uri) else { return Ok(()) };
        prop_assert!(target.port != 0 && !target.host.is_empty() && !target.host.contains('@'));
        let (mut parts, ()) = http::Request::get(uri).body(()).unwrap().into_parts();
        if prepare(&mut parts, &target, Match::Exact).is_ok() {
            prop_assert_eq!(Target::of(&parts.uri), Some(target));
        }
    }
}
