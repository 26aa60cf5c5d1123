//! The waits are real, as sockets don't know a paused clock; each test ends in the same way however slow the machine is.

use super::upstream::{Upstream, answer};
use super::*;

const SHORT: Duration = Duration::from_millis(50);

/// Accepts connections and says nothing.
async fn silent() -> Upstream {
    Upstream::raw(async |_tcp| std::future::pending().await).await
}

fn options(set: impl FnOnce(&mut RequestOptions)) -> Option<RequestOptions> {
    let mut options = RequestOptions::default();
    set(&mut options);
    Some(options)
}

async fn send(app: &Arc<AppOutbound>, uri: &str, options: Option<RequestOptions>) -> Error {
    app.send(get(uri), options).await.map(drop).expect_err("the request should have failed")
}

#[tokio::test]
async fn a_response_that_does_not_come_is_waited_for_only_so_long() {
    let server = silent().await;
    let app = app(Outbound { timeout: SHORT, ..policy() }, &[("127.0.0.1", server.port())]);
    let error = send(&app, &format!("http://{}/", server.address), None).await;
    assert_error!(error, Error::HttpResponseTimeout);
}

#[tokio::test]
async fn a_guest_may_be_less_patient_than_its_policy() {
    let server = silent().await;
    let app = app(policy(), &[("127.0.0.1", server.port())]);
    let options = options(|options| options.first_byte_timeout = Some(SHORT));
    let error = send(&app, &format!("http://{}/", server.address), options).await;
    assert_error!(error, Error::HttpResponseTimeout);
}

#[tokio::test]
async fn a_guest_may_not_be_more_patient_than_its_policy() {
    let server = silent().await;
    let app = app(Outbound { timeout: SHORT, ..policy() }, &[("127.0.0.1", server.port())]);
    let options = options(|options| {
        options.connect_timeout = Some(LONG);
        options.first_byte_timeout = Some(LONG);
    });
    let error = send(&app, &format!("http://{}/", server.address), options).await;
    assert_error!(error, Error::HttpResponseTimeout);
}

#[tokio::test]
async fn a_handshake_that_does_not_end_is_a_connection_timeout() {
    let server = silent().await;
    let uri = format!("https://{}/", server.address);
    let allow = vec![origin(true, "127.0.0.1", server.port())];
    let client = OutboundClient::new(OutboundLimits::default());
    let app = client.for_app("shop", Outbound { allow: allow.clone(), connect_timeout: SHORT, ..policy() });
    assert_error!(send(&app, &uri, None).await, Error::ConnectionTimeout);
    let app = client.for_app("shop", Outbound { allow, ..policy() });
    let options = options(|options| options.connect_timeout = Some(SHORT));
    assert_error!(send(&app, &uri, options).await, Error::ConnectionTimeout);
}

#[tokio::test]
async fn a_body_that_stalls_is_broken_off() {
    let server = Upstream::canned(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhel", false).await;
    let app = app(policy(), &[("127.0.0.1", server.port())]);
    let options = options(|options| options.between_bytes_timeout = Some(Duration::from_millis(300)));
    let (response, _) = app.send(get(&format!("http://{}/", server.address)), options).await.unwrap();
    let mut body = response.into_body();
    let first = body.frame().await.unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "hel");
    assert_error!(body.frame().await.unwrap().unwrap_err(), Error::ConnectionReadTimeout);
}

#[tokio::test]
async fn the_time_between_frames_does_not_run_while_the_guest_does_something_else() {
    let server = Upstream::http(async |_| answer(200, &[], "hello")).await;
    let app = app(policy(), &[("127.0.0.1", server.port())]);
    let options = options(|options| options.between_bytes_timeout = Some(SHORT));
    let (response, _) = app.send(get(&format!("http://{}/", server.address)), options).await.unwrap();
    // The guest is away for longer than that; the clock, not the machine, decides when this is over.
    tokio::time::timeout(2 * SHORT, std::future::pending::<()>()).await.unwrap_err();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello");
}

#[tokio::test]
async fn a_closed_port_is_a_refused_connection() {
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let app = app(policy(), &[("127.0.0.1", port)]);
    assert_error!(failure(&app, &format!("http://127.0.0.1:{port}/")).await, Error::ConnectionRefused);
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_a_dns_error() {
    // Too long for a label, so that no resolver needs to be asked.
    let host = format!("{}.example", "a".repeat(70));
    let app = app(policy(), &[(&host, 80)]);
    assert_error!(failure(&app, &format!("http://{host}/")).await, Error::DnsError { .. });
}
