//! What the verbs that give orders have in common: finding the running host's admin listener, and asking it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use clap::Args;
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{Exit, settings};
use crate::config::HostConfig;
use crate::deploy::AppName;

#[derive(Debug, Args)]
pub struct AdminArgs {
    /// Address and port of the running host's admin listener [default: that of the configuration].
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<SocketAddr>,
    /// The operator's configuration file [default: hostler.toml, if there is one].
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// The host answers within five minutes whatever happens.
const PATIENCE: Duration = Duration::from_secs(330);

const LARGEST_ANSWER: usize = 16 << 20;

/// What stands for itself in a path.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Where the admin listener is: what a flag or the environment says, or else the configuration.
pub fn listener(config: &HostConfig) -> anyhow::Result<SocketAddr> {
    let Some(admin) = config.admin.listen else {
        bail!(
            "no admin listener is configured: start the host with `hostler serve --admin 127.0.0.1:9090` or with \
             listen under [admin] in its configuration, and name the same address here with --admin"
        );
    };
    ensure!(admin.port() != 0, "the admin listener has any free port: name the one it got with --admin");
    Ok(admin)
}

/// What a verb does with an app of a running host, once both are known.
pub fn with_app(
    args: &AdminArgs,
    app: &str,
    act: impl FnOnce(SocketAddr, AppName) -> anyhow::Result<Exit>,
) -> anyhow::Result<Exit> {
    match settings::load_for(args) {
        Ok((config, _)) => act(listener(&config)?, app_name(app)?),
        Err(problems) => Ok(settings::report(&problems)),
    }
}

pub fn app_name(text: &str) -> anyhow::Result<AppName> {
    AppName::parse(text).with_context(|| format!("{text:?} is no app's name"))
}

/// The path of what is asked for of an app.
pub fn path_of(app: &AppName, about: &str) -> String {
    format!("/apps/{}/{about}", utf8_percent_encode(app.as_str(), ESCAPED))
}

/// No host answers there.
#[derive(Debug, thiserror::Error)]
#[error("no host answers at {0}: is it running, with --admin?")]
pub struct NoHost(pub SocketAddr);

/// What the host says: what was asked for, or why not.
pub type Told<T> = Result<T, String>;

/// Asks the host and waits for its answer, in a runtime of its own.
pub fn ask<T: DeserializeOwned>(admin: SocketAddr, method: Method, path: &str) -> anyhow::Result<Told<T>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let asked = async { tokio::time::timeout(PATIENCE, send(admin, method, path)).await };
    let (status, body) = runtime.block_on(asked).context("no answer in time")??;
    let refused = serde_json::from_slice::<Refused>(&body).map(|refused| refused.error);
    match (status, refused, serde_json::from_slice(&body)) {
        (StatusCode::OK, _, Ok(answer)) => Ok(Ok(answer)),
        (StatusCode::OK, ..) => {
            bail!("{admin} gives an answer that is not understood: is it the same version?")
        }
        (_, Ok(reason), _) => Ok(Err(reason)),
        _ => bail!("{admin} answers {status}, so it is no admin listener of Hostler"),
    }
}

#[derive(Debug, Deserialize)]
struct Refused {
    error: String,
}

async fn send(admin: SocketAddr, method: Method, path: &str) -> anyhow::Result<(StatusCode, Bytes)> {
    let stream = tokio::net::TcpStream::connect(admin).await.map_err(|_| NoHost(admin))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, admin.to_string())
        .header(CONTENT_TYPE, "application/json")
        .body(Empty::<Bytes>::new())?;
    let connection = tokio::spawn(connection);
    let response = sender.send_request(request).await.with_context(|| format!("{admin} gives no answer"))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), LARGEST_ANSWER).collect().await;
    connection.abort();
    let body = body.map_err(|error| anyhow::anyhow!("the answer breaks off: {error}"))?.to_bytes();
    Ok((status, body))
}
