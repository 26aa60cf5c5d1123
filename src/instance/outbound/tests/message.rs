use http_body::Frame;
use http_body_util::{Full, StreamBody};

use super::upstream::{Answer, Upstream, answer, read_head};
use super::*;

/// Answers with the request's head as the body.
async fn mirror() -> Upstream {
    Upstream::raw(async |mut tcp| {
        use tokio::io::AsyncWriteExt;
        let head = read_head(&mut tcp).await;
        let response = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{head}", head.len());
        tcp.write_all(response.as_bytes()).await.unwrap();
    })
    .await
}

/// What the server sees of a request, in lower case.
async fn seen(build: impl FnOnce(http::request::Builder) -> http::request::Builder) -> String {
    let server = mirror().await;
    let app = app(policy(), &[("127.0.0.1", server.port())]);
    let builder = http::Request::get(format!("http://{}/a%20b?c", server.address));
    let request = build(builder).body(empty()).unwrap();
    let (response, _) = app.send(request, None).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap().to_lowercase().replace(&server.port().to_string(), "port")
}

#[tokio::test]
async fn a_request_is_sent_as_http_1_1_with_its_own_fields() {
    let head = seen(|request| request.version(http::Version::HTTP_2).header("x-own", "1")).await;
    assert!(head.starts_with("get /a%20b?c http/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nx-own: 1\r\n"), "{head}");
}

#[tokio::test]
async fn the_host_field_is_the_targets_whatever_the_guest_set() {
    let head = seen(|request| request.header("host", "admin.example").header("host", "b.example")).await;
    assert_eq!(head.matches("host:").count(), 1, "{head}");
    assert!(head.contains("\r\nhost: 127.0.0.1:port\r\n"), "{head}");
}

#[tokio::test]
async fn fields_of_the_connection_are_not_sent() {
    let head = seen(|request| {
        request
            .header("connection", "upgrade, x-hop")
            .header("upgrade", "websocket")
            .header("x-hop", "1")
            .header("te", "trailers")
            .header("transfer-encoding", "chunked")
            .header("proxy-authorization", "Basic eA==")
    })
    .await;
    for name in ["connection", "upgrade", "x-hop", "te", "transfer-encoding", "proxy-authorization"] {
        assert!(!head.contains(&format!("\r\n{name}:")), "{name} in {head}");
    }
}

#[tokio::test]
async fn fields_of_the_connection_are_not_passed_to_the_guest() {
    let canned = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: x-hop, close\r\nx-hop: 1\r\n\
        keep-alive: timeout=5\r\nx-own: 1\r\n\r\n";
    let server = Upstream::canned(canned, true).await;
    let app = app(policy(), &[("127.0.0.1", server.port())]);
    let response = response(&app, &format!("http://{}/", server.address)).await.unwrap();
    let names: Vec<_> = response.headers().keys().map(http::HeaderName::as_str).collect();
    assert_eq!(names, ["content-length", "x-own"]);
}

#[tokio::test]
async fn a_body_is_sent_and_comes_back() {
    let server = Upstream::http(async |request: http::Request<Incoming>| {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Answer::new(http_body_util::combinators::BoxBody::new(Full::new(body)))
    })
    .await;
    let app = app(policy(), &[("127.0.0.1", server.port())]);
    let chunks: Vec<Result<_, Error>> =
        (0..40).map(|_| Ok(Frame::data(Bytes::from(vec![b'x'; 30_000])))).collect();
    let body = StreamBody::new(futures_util::stream::iter(chunks)).boxed_unsync();
    let request = http::Request::post(format!("http://{}/", server.address)).body(body).unwrap();
    let (response, _) = app.send(request, None).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes().len(), 40 * 30_000);
}

#[tokio::test]
async fn a_request_body_that_breaks_off_fails_the_request_with_its_reason() {
    let server = Upstream::http(async |request: http::Request<Incoming>| {
        let _ = request.into_body().collect().await;
        answer(200, &[], "")
    })
    .await;
    let app = app(policy(), &[("127.0.0.1", server.port())]);
    let chunks = [Ok(Frame::data(Bytes::from("abc"))), Err(Error::HttpRequestBodySize(Some(3)))];
    let body = StreamBody::new(futures_util::stream::iter(chunks)).boxed_unsync();
    let request = http::Request::post(format!("http://{}/", server.address)).body(body).unwrap();
    let error = app.send(request, None).await.map(drop).unwrap_err();
    assert_error!(error, Error::HttpRequestBodySize(Some(3)));
}

#[tokio::test]
async fn a_response_that_breaks_off_is_incomplete() {
    for canned in [
        &b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhel"[..],
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel",
        b"HTTP/1.1 200 OK\r\nx-a: ",
        b"",
    ] {
        let server = Upstream::canned(canned, true).await;
        let app = app(policy(), &[("127.0.0.1", server.port())]);
        let error = failure(&app, &format!("http://{}/", server.address)).await;
        assert_error!(error, Error::HttpResponseIncomplete);
    }
}

#[tokio::test]
async fn a_response_that_is_not_http_is_a_protocol_error() {
    let server = Upstream::canned(b"SSH-2.0-server\r\n\r\n", false).await;
    let app = app(policy(), &[("127.0.0.1", server.port())]);
    let error = failure(&app, &format!("http://{}/", server.address)).await;
    assert_error!(error, Error::HttpProtocolError);
}

#[tokio::test]
async fn a_responses_header_section_is_bounded() {
    let long: &'static str = "x".repeat(64 * 1024).leak();
    let large = Upstream::http(async move |_| answer(200, &[("x-long", long)], "")).await;
    let huge: &'static str = "x".repeat(1 << 20).leak();
    let huge = Upstream::http(async move |_| answer(200, &[("x-huge", huge)], "")).await;
    let many = Upstream::http(async |_| answer(200, &[("x-a", "1"); 200], "")).await;
    for server in [large, huge, many] {
        let app = app(policy(), &[("127.0.0.1", server.port())]);
        let error = failure(&app, &format!("http://{}/", server.address)).await;
        assert_error!(error, Error::HttpResponseHeaderSectionSize(_));
    }
}

/// The test certificate, good for `localhost` and `127.0.0.1`; nobody else trusts it.
const CERTIFICATE: &[u8] = include_bytes!("localhost.crt.der");
const KEY: &[u8] = include_bytes!("localhost.key.der");

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn server_tls() -> Arc<rustls::ServerConfig> {
    let key = rustls::pki_types::PrivateKeyDer::try_from(KEY).unwrap();
    let builder = rustls::ServerConfig::builder_with_provider(provider());
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    Arc::new(builder.with_single_cert(vec![CERTIFICATE.into()], key).unwrap())
}

/// A client that trusts the test certificate.
fn trusting_client() -> Arc<OutboundClient> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CERTIFICATE.into()).unwrap();
    let builder = rustls::ClientConfig::builder_with_provider(provider());
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let tls = builder.with_root_certificates(roots).with_no_client_auth();
    OutboundClient::with_tls(OutboundLimits::default(), tls)
}

fn https_app(client: &Arc<OutboundClient>, host: &str, port: u16) -> Arc<AppOutbound> {
    client.for_app("shop", Outbound { allow: vec![origin(true, host, port)], ..policy() })
}

#[tokio::test]
async fn https_is_answered_by_a_server_with_a_good_certificate() {
    let server = Upstream::https("127.0.0.1", server_tls(), async |_| answer(200, &[], "hello")).await;
    for host in ["localhost", "127.0.0.1"] {
        let app = https_app(&trusting_client(), host, server.port());
        assert_eq!(fetch(&app, &format!("https://{host}:{}/", server.port())).await.unwrap(), "hello");
    }
}

#[tokio::test]
async fn a_certificate_of_nobody_or_of_another_name_is_refused() {
    let stranger = OutboundClient::new(OutboundLimits::default());
    for (client, host) in [(stranger, "127.0.0.1"), (trusting_client(), "127.0.0.2")] {
        let server = Upstream::https(host, server_tls(), async |_| answer(200, &[], "hello")).await;
        let app = https_app(&client, host, server.port());
        let error = failure(&app, &format!("https://{host}:{}/", server.port())).await;
        assert_error!(error, Error::TlsCertificateError);
    }
}

#[tokio::test]
async fn a_server_without_tls_is_a_tls_error() {
    let server = Upstream::raw(async |mut tcp| {
        use tokio::io::AsyncWriteExt;
        tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        std::future::pending().await
    })
    .await;
    let app = https_app(&trusting_client(), "localhost", server.port());
    let error = failure(&app, &format!("https://localhost:{}/", server.port())).await;
    assert_error!(error, Error::TlsProtocolError);
}

#[tokio::test]
async fn a_server_that_gives_up_the_handshake_is_a_tls_error() {
    let server = Upstream::raw(async |tcp| drop(tcp)).await;
    let app = https_app(&trusting_client(), "localhost", server.port());
    let error = failure(&app, &format!("https://localhost:{}/", server.port())).await;
    assert_error!(error, Error::TlsProtocolError);
}
