mod access;
mod message;
mod pool;
mod time;
mod upstream;

use bytes::Bytes;
use http_body_util::Empty;

use super::*;
use crate::config::{GrantedNetwork, Origin};

/// Long enough that no test waits for it.
const LONG: Duration = Duration::from_secs(300);

/// An app that may send to anything on loopback, in both senses of "may".
fn policy() -> Outbound {
    Outbound {
        allow: vec![],
        granted_networks: networks(&["127.0.0.0/8", "::1/128"]),
        max_concurrent: 8,
        connect_timeout: LONG,
        timeout: LONG,
    }
}

fn networks(texts: &[&str]) -> Vec<GrantedNetwork> {
    let grant = |text: &&str| GrantedNetwork { network: text.parse().unwrap(), port: None };
    texts.iter().map(grant).collect()
}

fn origin(https: bool, host: &str, port: u16) -> Origin {
    Origin { https, host: host.to_owned(), subdomains: false, port }
}

/// An app with that policy and `http` to each of the hosts and ports allowed.
fn app_of(client: &Arc<OutboundClient>, policy: Outbound, hosts: &[(&str, u16)]) -> Arc<AppOutbound> {
    let allow = hosts.iter().map(|(host, port)| origin(false, host, *port)).collect();
    client.for_app("shop", Outbound { allow, ..policy })
}

/// The same with a client of its own.
fn app(policy: Outbound, hosts: &[(&str, u16)]) -> Arc<AppOutbound> {
    app_of(&OutboundClient::new(OutboundLimits::default()), policy, hosts)
}

fn empty() -> WasiBody {
    Empty::<Bytes>::new().map_err(|never| match never {}).boxed_unsync()
}

fn get(uri: &str) -> http::Request<WasiBody> {
    http::Request::get(uri).body(empty()).unwrap()
}

async fn response(app: &Arc<AppOutbound>, uri: &str) -> Result<http::Response<WasiBody>, Error> {
    let (response, io) = app.send(get(uri), None).await?;
    io.await?;
    Ok(response)
}

/// The body of a GET.
async fn fetch(app: &Arc<AppOutbound>, uri: &str) -> Result<Bytes, Error> {
    Ok(response(app, uri).await?.into_body().collect().await?.to_bytes())
}

/// What a GET fails with.
async fn failure(app: &Arc<AppOutbound>, uri: &str) -> Error {
    fetch(app, uri).await.expect_err("the request should have failed")
}

macro_rules! assert_error {
    ($error:expr, $pattern:pat) => {
        let error = $error;
        assert!(matches!(error, $pattern), "{error:?}");
    };
}
use assert_error;
