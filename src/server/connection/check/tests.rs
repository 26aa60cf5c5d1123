use http::Request;

use super::*;

fn parts(method: &str, target: &str, version: Version, hosts: &[&str]) -> Parts {
    let mut request = Request::builder().method(method).uri(target).version(version);
    for host in hosts {
        request = request.header(HOST, *host);
    }
    request.body(()).unwrap().into_parts().0
}

fn check(method: &str, target: &str, hosts: &[&str]) -> Result<(), Refusal> {
    check_request(&parts(method, target, Version::HTTP_11, hosts))
}

#[test]
fn an_ordinary_request_passes() {
    for host in ["a", "a.example:8080", "127.0.0.1", "[::1]:80", "a_b", ""] {
        assert_eq!(check("GET", "/x?y", &[host]), Ok(()), "{host}");
    }
    assert_eq!(check("OPTIONS", "*", &["a"]), Ok(()));
    assert_eq!(check("GET", "http://A.example/x", &["a.example"]), Ok(()));
    let http2 = parts("GET", "http://a.example/x", Version::HTTP_2, &[]);
    assert_eq!(check_request(&http2), Ok(()));
    assert_eq!(host(&http2), Some("a.example"));
}

#[test]
fn a_host_that_passes_is_an_authority() {
    let names = ["a", "A.b-c", "a_b", "..", "-", "_", "1.2.3.4.", "a:", "a:0", "a:99999", "[::1]", "[::1]:"];
    let odd = ["[1.2.3.4]", "[-]", "[:::::::]", "[v1.a]:80", "a-:65536"];
    for host in names.iter().chain(&odd) {
        assert_eq!(check("GET", "/", &[host]), Ok(()), "{host}");
        assert!(Authority::try_from(*host).is_ok(), "{host} can't be told to a guest");
    }
}

#[test]
fn a_host_is_required_once_and_well_formed() {
    assert_eq!(check("GET", "/", &[]), Err(Refusal::MissingHost));
    assert_eq!(check("GET", "/", &["a", "a"]), Err(Refusal::ManyHosts));
    for bad in ["a b", "a/b", "u@a", "a:b", "a:123456", "[::1", "[::1]x", "[g_]", "é", ":80", "a,b"] {
        assert_eq!(check("GET", "/", &[bad]), Err(Refusal::BadHost), "{bad}");
    }
    let old = parts("GET", "/", Version::HTTP_10, &[]);
    assert_eq!((check_request(&old), host(&old)), (Ok(()), None));
}

#[test]
fn a_target_with_a_host_does_not_stand_for_the_header() {
    assert_eq!(check("GET", "http://a.example/", &[]), Err(Refusal::MissingHost));
    let old = parts("GET", "http://a.example/", Version::HTTP_10, &[]);
    assert_eq!(check_request(&old), Ok(()));
}

#[test]
fn no_coding_is_taken_but_chunked_once() {
    let coded = |codings: &[&str]| {
        let mut request = parts("POST", "/", Version::HTTP_11, &["a"]);
        for coding in codings {
            request.headers.append(TRANSFER_ENCODING, coding.parse().unwrap());
        }
        check_request(&request)
    };
    assert_eq!((coded(&["chunked"]), coded(&["Chunked"])), (Ok(()), Ok(())));
    let strange: [&[&str]; 6] = [
        &["gzip, chunked"],
        &["chunked, chunked"],
        &["chunked", "chunked"],
        &["gzip", "chunked"],
        &["gzip"],
        &[""],
    ];
    for codings in strange {
        let refused = coded(codings).unwrap_err();
        assert_eq!((refused, refused.status().as_u16()), (Refusal::CodingNotImplemented, 501), "{codings:?}");
    }
}

#[test]
fn a_target_that_names_another_host_is_refused() {
    let found = check("GET", "http://a.example/", &["b.example"]);
    assert_eq!(found, Err(Refusal::HostMismatch));
    let userinfo = check("GET", "http://u:p@a.example/", &["u:p@a.example"]);
    assert_eq!(userinfo, Err(Refusal::BadHost));
}

#[test]
fn strange_methods_and_targets_are_refused() {
    assert_eq!(check("CONNECT", "a:443", &["a"]), Err(Refusal::MethodNotImplemented));
    assert_eq!(check("TRACE", "/", &["a"]), Err(Refusal::MethodNotImplemented));
    assert_eq!(check("GET", "*", &["a"]), Err(Refusal::BadTarget));
    assert_eq!(check("GET", "ftp://a/", &["a"]), Err(Refusal::BadTarget));
    let long = format!("/{}", "x".repeat(MAX_TARGET));
    let refused = check("GET", &long, &["a"]).unwrap_err();
    assert_eq!((refused, refused.status().as_u16()), (Refusal::TargetTooLong, 414));
}

#[test]
fn a_suspect_request_is_refused_before_anything_else() {
    let mut request = parts("TRACE", "*", Version::HTTP_11, &[]);
    request.extensions.insert(AmbiguousLength);
    assert_eq!(check_request(&request), Err(Refusal::AmbiguousLength));
}
