use std::collections::HashMap;

use http::HeaderMap;
use proptest::prelude::*;

use super::*;

const GET: Method = Method::GET;

fn headers(fields: &[(&str, &[u8])]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        map.append(name, HeaderValue::from_bytes(value).unwrap());
    }
    map
}

fn request<'a>(path: &'a str, mount: &'a str, headers: &'a HeaderMap) -> CgiRequest<'a> {
    CgiRequest {
        method: &GET,
        path,
        query: None,
        version: Version::HTTP_11,
        headers,
        authority: None,
        mount,
        remote: "203.0.113.9:40000".parse().unwrap(),
        local: "127.0.0.1:8080".parse().unwrap(),
        https: false,
        body_length: Some(0),
    }
}

/// The variables by name; a name that is given twice is a failure.
fn variables(request: &CgiRequest<'_>) -> HashMap<String, String> {
    variables_over(request, &[])
}

fn variables_over(request: &CgiRequest<'_>, env: &[(&str, &str)]) -> HashMap<String, String> {
    let env: Vec<_> = env.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let list = meta_variables(request, &env);
    let map: HashMap<_, _> = list.iter().cloned().collect();
    assert_eq!(map.len(), list.len(), "a name is given twice: {list:?}");
    map
}

fn http_names(map: &HashMap<String, String>) -> Vec<&str> {
    let mut names: Vec<_> = map.keys().map(String::as_str).collect();
    names.retain(|name| name.starts_with("HTTP_"));
    names.sort_unstable();
    names
}

#[test]
fn a_plain_request_has_the_variables_of_rfc_3875() {
    let headers = headers(&[("host", b"shop.example:8080"), ("accept", b"text/html")]);
    let mut request = request("/shop/a%20b/c", "/shop", &headers);
    request.query = Some("q=%20x&y");
    let map = variables(&request);
    for (name, value) in [
        ("GATEWAY_INTERFACE", "CGI/1.1"),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("SERVER_NAME", "shop.example"),
        ("SERVER_PORT", "8080"),
        ("REMOTE_ADDR", "203.0.113.9"),
        ("REMOTE_HOST", "203.0.113.9"),
        ("REQUEST_METHOD", "GET"),
        ("SCRIPT_NAME", "/shop"),
        ("PATH_INFO", "/a b/c"),
        ("QUERY_STRING", "q=%20x&y"),
        ("REQUEST_URI", "/shop/a%20b/c?q=%20x&y"),
        ("HTTP_HOST", "shop.example:8080"),
        ("HTTP_ACCEPT", "text/html"),
    ] {
        assert_eq!(map.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(map["SERVER_SOFTWARE"].starts_with("Hostler/"));
    for absent in [
        "AUTH_TYPE",
        "REMOTE_USER",
        "REMOTE_IDENT",
        "PATH_TRANSLATED",
        "CONTENT_LENGTH",
        "CONTENT_TYPE",
        "HTTPS",
    ] {
        assert!(!map.contains_key(absent), "{absent}");
    }
}

#[test]
fn script_name_and_path_info_divide_the_path_at_the_mount() {
    let none = HeaderMap::new();
    for (path, mount, script_name, path_info) in [
        ("/", "/", "", "/"),
        ("/a", "/", "", "/a"),
        ("/a", "", "", "/a"),
        ("/a", "/a", "/a", ""),
        ("/a/", "/a", "/a", "/"),
        ("/ab", "/a", "/a", "/ab"),
        ("/api/v1/x", "/api/v1", "/api/v1", "/x"),
        ("/caf%C3%A9/%E2%82%AC", "/caf%C3%A9", "/café", "/€"),
        ("/a/%2Fb", "/a", "/a", "//b"),
        ("/a/%FF%00", "/a", "/a", "/\u{fffd}\u{fffd}"),
        ("/a/%2500", "/a", "/a", "/%00"),
    ] {
        let map = variables(&request(path, mount, &none));
        assert_eq!(map["SCRIPT_NAME"], script_name, "{path} at {mount}");
        assert_eq!(map["PATH_INFO"], path_info, "{path} at {mount}");
        assert_eq!(map["REQUEST_URI"], path);
    }
}

#[test]
fn query_string_is_set_even_if_there_is_no_query() {
    let none = HeaderMap::new();
    let mut request = request("/", "/", &none);
    assert_eq!(variables(&request)["QUERY_STRING"], "");
    assert_eq!(variables(&request)["REQUEST_URI"], "/");
    request.query = Some("");
    assert_eq!(variables(&request)["QUERY_STRING"], "");
    assert_eq!(variables(&request)["REQUEST_URI"], "/?");
}

#[test]
fn content_length_is_the_known_length_of_a_body() {
    let none = HeaderMap::new();
    let stated = headers(&[("content-length", b"0"), ("content-type", b"text/plain")]);
    for (body_length, fields, expected) in [
        (Some(0), &none, None),
        (Some(7), &none, Some("7")),
        (None, &none, None),
        (Some(0), &stated, Some("0")),
    ] {
        let mut request = request("/", "/", fields);
        request.body_length = body_length;
        let map = variables(&request);
        let length = map.get("CONTENT_LENGTH").map(String::as_str);
        assert_eq!(length, expected, "{body_length:?} {fields:?}");
        assert!(http_names(&map).is_empty(), "not repeated as HTTP_*");
    }
    let map = variables(&request("/", "/", &stated));
    assert_eq!(map["CONTENT_TYPE"], "text/plain");
}

#[test]
fn a_proxy_field_never_becomes_a_variable() {
    let headers = headers(&[("Proxy", b"http://evil.example"), ("x-proxy", b"1")]);
    let map = variables(&request("/", "/", &headers));
    assert_eq!(http_names(&map), ["HTTP_X_PROXY"]);
}

#[test]
fn a_field_name_that_could_pass_for_another_is_dropped() {
    let headers = headers(&[
        ("x-user", b"true"),
        ("x_user", b"forged"),
        ("x.user", b"forged"),
        ("x'user", b"forged"),
        ("x!user", b"forged"),
        ("x|user", b"forged"),
    ]);
    let map = variables(&request("/", "/", &headers));
    assert_eq!(http_names(&map), ["HTTP_X_USER"]);
    assert_eq!(map["HTTP_X_USER"], "true");
}

#[test]
fn fields_of_the_connection_are_not_passed() {
    let headers = headers(&[
        ("connection", b"keep-alive, X-Private"),
        ("keep-alive", b"timeout=5"),
        ("x-private", b"1"),
        ("te", b"trailers"),
        ("trailer", b"x"),
        ("transfer-encoding", b"chunked"),
        ("upgrade", b"websocket"),
        ("proxy-authorization", b"Basic eA=="),
        ("x-public", b"1"),
    ]);
    let map = variables(&request("/", "/", &headers));
    assert_eq!(http_names(&map), ["HTTP_X_PUBLIC"]);
}

#[test]
fn repeated_fields_are_joined() {
    let headers = headers(&[
        ("accept", b"text/html"),
        ("cookie", b"a=1"),
        ("accept", b"text/plain"),
        ("cookie", b"b=2"),
    ]);
    let map = variables(&request("/", "/", &headers));
    assert_eq!(map["HTTP_ACCEPT"], "text/html, text/plain");
    assert_eq!(map["HTTP_COOKIE"], "a=1; b=2");
}

#[test]
fn authorization_is_the_apps_business_and_forges_no_auth_type() {
    let headers = headers(&[("authorization", b"Bearer abc")]);
    let map = variables(&request("/", "/", &headers));
    assert_eq!(map["HTTP_AUTHORIZATION"], "Bearer abc");
    assert!(!map.contains_key("AUTH_TYPE"));
}

#[test]
fn the_apps_own_variables_come_first_and_stay() {
    let headers = headers(&[("x-key", b"forged"), ("x-other", b"1")]);
    let request = request("/", "/", &headers);
    let env = [("HTTP_X_KEY", "configured"), ("SERVER_NAME", "canonical")];
    let map = variables_over(&request, &env);
    assert_eq!(map["HTTP_X_KEY"], "configured");
    assert_eq!(map["SERVER_NAME"], "canonical");
    assert_eq!(map["HTTP_X_OTHER"], "1");
    let own = [("ONE".to_owned(), "1".to_owned())];
    assert_eq!(meta_variables(&request, &own)[0], own[0]);
}

#[test]
fn server_name_is_a_host_name_or_the_local_address() {
    let none = HeaderMap::new();
    let local_v6: SocketAddr = "[::1]:80".parse().unwrap();
    let mapped: SocketAddr = "[::ffff:10.0.0.1]:80".parse().unwrap();
    for (authority, local, expected) in [
        (Some("Shop.Example"), local_v6, "shop.example"),
        (Some("shop.example:81"), local_v6, "shop.example"),
        (Some("[2001:DB8::1]:81"), local_v6, "[2001:db8::1]"),
        (Some("[nonsense]"), local_v6, "[::1]"),
        (Some("$(reboot)"), local_v6, "[::1]"),
        (Some(""), local_v6, "[::1]"),
        (None, local_v6, "[::1]"),
        (None, mapped, "10.0.0.1"),
    ] {
        let mut request = request("/", "/", &none);
        request.authority = authority;
        request.local = local;
        assert_eq!(variables(&request)["SERVER_NAME"], expected, "{authority:?}");
        assert_eq!(variables(&request)["SERVER_PORT"], "80");
    }
}

#[test]
fn an_http_2_authority_becomes_the_host_variable() {
    let none = HeaderMap::new();
    let mut request = request("/", "/", &none);
    request.version = Version::HTTP_2;
    request.authority = Some("shop.example");
    request.https = true;
    let map = variables(&request);
    assert_eq!(map["HTTP_HOST"], "shop.example");
    assert_eq!(map["SERVER_PROTOCOL"], "HTTP/2.0");
    assert_eq!(map["HTTPS"], "on");
}

#[test]
fn a_mapped_client_address_is_given_as_ipv4() {
    let none = HeaderMap::new();
    let mut request = request("/", "/", &none);
    request.remote = "[::ffff:203.0.113.9]:1".parse().unwrap();
    assert_eq!(variables(&request)["REMOTE_ADDR"], "203.0.113.9");
    request.remote = "[2001:db8::9]:1".parse().unwrap();
    assert_eq!(variables(&request)["REMOTE_ADDR"], "2001:db8::9");
}

#[test]
fn a_query_never_becomes_an_argument() {
    assert_eq!(arguments("/caf%C3%A9"), ["/café"]);
    assert_eq!(arguments("/"), ["/"]);
    assert_eq!(arguments(""), ["/"]);
}

proptest! {
    #[test]
    fn every_name_is_a_plain_variable_name_and_no_value_has_nul(
        fields in proptest::collection::vec(
            ("[!#$%&'*+.^_`|~0-9A-Za-z-]{1,20}", proptest::collection::vec(any::<u8>(), 0..30)),
            0..20,
        ),
        path in "(/[a-zA-Z0-9%._~-]{0,12}){1,4}",
        query in proptest::option::of("[ -~]{0,20}"),
    ) {
        let mut map = HeaderMap::new();
        for (name, value) in &fields {
            let name = HeaderName::from_bytes(name.as_bytes());
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
                map.append(name, value);
            }
        }
        let mut request = request(&path, "/", &map);
        request.query = query.as_deref();
        let list = meta_variables(&request, &[]);
        let mut names = std::collections::HashSet::new();
        for (name, value) in &list {
            prop_assert!(name.bytes().all(|b| matches!(b, b'A'..=b'Z' | b'0'..=b'9' | b'_')), "{name}");
            prop_assert!(!value.contains('\0'));
            prop_assert!(names.insert(name.clone()), "{} twice", name);
        }
        prop_assert!(!names.contains("HTTP_PROXY"));
    }
}
