use super::upstream::{Upstream, answer};
use super::*;

async fn greeter() -> Upstream {
    Upstream::http(async |_| answer(200, &[], "hello")).await
}

fn granted(texts: &[&str]) -> Outbound {
    Outbound { granted_networks: networks(texts), ..policy() }
}

#[tokio::test]
async fn an_allowed_request_to_a_granted_address_is_answered() {
    let server = greeter().await;
    let app = app(policy(), &[("127.0.0.1", server.port())]);
    assert_eq!(fetch(&app, &format!("http://{}/", server.address)).await.unwrap(), "hello");
}

#[tokio::test]
async fn an_address_that_is_not_granted_is_never_connected_to() {
    let server = greeter().await;
    let app = app(granted(&["127.0.0.2/32"]), &[("127.0.0.1", server.port())]);
    let error = failure(&app, &format!("http://{}/", server.address)).await;
    assert_error!(error, Error::DestinationIpProhibited);
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn a_name_that_leads_to_loopback_is_refused_by_its_address() {
    let server = greeter().await;
    let uri = format!("http://localhost:{}/", server.port());
    let hosts = [("localhost", server.port())];
    assert_error!(failure(&app(granted(&[]), &hosts), &uri).await, Error::DestinationIpProhibited);
    assert_eq!(server.connections(), 0);
    assert_eq!(fetch(&app(policy(), &hosts), &uri).await.unwrap(), "hello");
}

#[tokio::test]
async fn spellings_of_a_loopback_address_are_refused_too() {
    let server = greeter().await;
    let port = server.port();
    for host in [
        "2130706433",
        "0x7f000001",
        "127.1",
        "0177.0.0.1",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "0.0.0.0",
    ] {
        let uri = format!("http://{host}:{port}/");
        let target = request::Target::of(&uri.parse().unwrap()).unwrap();
        let app = app(granted(&[]), &[(&target.host, port)]);
        // Whether a resolver knows the odd ones is its own affair.
        assert_error!(failure(&app, &uri).await, Error::DestinationIpProhibited | Error::DnsError { .. });
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn an_origin_that_is_not_allowed_is_refused() {
    let server = greeter().await;
    let port = server.port();
    let app = app(policy(), &[("127.0.0.1", port)]);
    for uri in [
        format!("http://127.0.0.2:{port}/"),
        format!("http://localhost:{port}/"),
        format!("https://127.0.0.1:{port}/"),
        "http://127.0.0.1/".to_owned(),
    ] {
        assert_error!(failure(&app, &uri).await, Error::HttpRequestDenied);
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn nothing_is_allowed_unless_configured() {
    let client = OutboundClient::new(OutboundLimits::default());
    let app = client.for_app("shop", Outbound::default());
    assert_error!(failure(&app, "https://a.example/").await, Error::HttpRequestDenied);
}

#[tokio::test]
async fn a_redirect_is_the_guests_to_follow_and_checked_again() {
    let inner = greeter().await;
    let location = format!("http://127.0.0.2:{}/secret", inner.port());
    let header = location.clone();
    let outer = Upstream::http(move |_| {
        let answer = answer(302, &[("location", &header)], "");
        async move { answer }
    })
    .await;
    let hosts = [("127.0.0.1", outer.port()), ("127.0.0.2", inner.port())];
    let app = app(granted(&["127.0.0.1/32"]), &hosts);
    let response = response(&app, &format!("http://{}/", outer.address)).await.unwrap();
    assert_eq!(response.status(), 302);
    assert_eq!(response.headers()["location"], location);
    assert_error!(failure(&app, &location).await, Error::DestinationIpProhibited);
    assert_eq!(inner.connections(), 0);
}

#[tokio::test]
async fn the_hosts_own_listener_is_refused_in_spite_of_a_wide_grant() {
    let server = greeter().await;
    let client = OutboundClient::new(OutboundLimits::default());
    let hosts = [("127.0.0.1", server.port())];
    let uri = format!("http://{}/", server.address);
    let everywhere: SocketAddr = ([0, 0, 0, 0], server.port()).into();
    for listener in [server.address, everywhere, (std::net::Ipv6Addr::UNSPECIFIED, server.port()).into()] {
        client.set_listeners(&[listener]);
        let wide = app_of(&client, granted(&["127.0.0.0/8"]), &hosts);
        assert_error!(failure(&wide, &uri).await, Error::DestinationIpProhibited);
    }
    assert_eq!(server.connections(), 0);
    let literal = app_of(&client, granted(&["127.0.0.1/32"]), &hosts);
    assert_eq!(fetch(&literal, &uri).await.unwrap(), "hello");
}

#[tokio::test]
async fn a_connection_of_one_app_is_never_lent_to_another() {
    let server = greeter().await;
    let client = OutboundClient::new(OutboundLimits::default());
    let hosts = [("127.0.0.1", server.port())];
    let uri = format!("http://{}/", server.address);
    let trusted = app_of(&client, policy(), &hosts);
    assert_eq!(fetch(&trusted, &uri).await.unwrap(), "hello");
    let other = app_of(&client, granted(&[]), &hosts);
    assert_error!(failure(&other, &uri).await, Error::DestinationIpProhibited);
}

#[tokio::test]
async fn a_request_without_a_proper_target_is_refused() {
    let app = app(policy(), &[("127.0.0.1", 80)]);
    for uri in [
        "/path",
        "http://me@127.0.0.1/",
        "http://127.0.0.1:0/",
        "ftp://127.0.0.1/",
        "http://127.0.0.1:99999/",
    ] {
        assert_error!(failure(&app, uri).await, Error::HttpRequestUriInvalid);
    }
    let connect = http::Request::builder().method("CONNECT").uri("http://127.0.0.1/").body(empty()).unwrap();
    let error = app.send(connect, None).await.map(drop).unwrap_err();
    assert_error!(error, Error::HttpRequestMethodInvalid);
}
