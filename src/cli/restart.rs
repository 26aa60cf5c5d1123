//! `hostler restart APP`: has a running host build an app's present files anew.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use clap::Args;
use http::header::{CONTENT_TYPE, HOST};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::Exit;
use super::settings;
use crate::config::Overrides;
use crate::deploy::AppName;

#[derive(Debug, Args)]
pub struct Restart {
    /// The app's name in the folder of apps, such as shop or api/v1.
    app: String,
    /// Address and port of the running host's admin listener [default: that of the configuration].
    #[arg(long, value_name = "ADDR")]
    admin: Option<SocketAddr>,
    /// The operator's configuration file [default: hostler.toml, if there is one].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// What the host answers.
#[derive(Debug, Deserialize)]
struct Answer {
    release: Option<u64>,
    replaced: Option<u64>,
    error: Option<String>,
}

/// The host answers within five minutes whatever happens.
const PATIENCE: Duration = Duration::from_secs(330);

const LARGEST_ANSWER: usize = 1 << 20;

/// What stands for itself in a path.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');

impl Restart {
    pub fn run(self) -> anyhow::Result<Exit> {
        let Some(admin) = (match self.admin {
            Some(admin) => Some(admin),
            None => match settings::load(Overrides { config: self.config, ..Overrides::default() }) {
                Ok((config, _)) => config.admin.listen,
                Err(problems) => return Ok(settings::report(&problems)),
            },
        }) else {
            bail!(
                "no admin listener is configured: start the host with `hostler serve --admin 127.0.0.1:9090` or with \
                 listen under [admin] in its configuration, and name the same address here with --admin"
            );
        };
        ensure!(admin.port() != 0, "the admin listener has any free port: name the one it got with --admin");
        let app = AppName::parse(&self.app).with_context(|| format!("{:?} is no app's name", self.app))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let asked = async { tokio::time::timeout(PATIENCE, ask(admin, &app)).await };
        let answer = runtime.block_on(asked).context("no answer in time")??;
        if let Some(error) = answer.error {
            bail!("{app} is not restarted: {error}");
        }
        let release = answer.release.context("the host's answer has no release")?;
        match answer.replaced {
            Some(before) => {
                println!("{app} is restarted: release {release} is live, release {before} drains")
            }
            None => println!("{app} is live: release {release}"),
        }
        Ok(Exit::Success)
    }
}

async fn ask(admin: SocketAddr, app: &AppName) -> anyhow::Result<Answer> {
    let stream = tokio::net::TcpStream::connect(admin).await;
    let stream =
        stream.with_context(|| format!("no host answers at {admin}: is it running, with --admin?"))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let path = format!("/apps/{}/restart", utf8_percent_encode(app.as_str(), ESCAPED));
    let request = Request::post(path)
        .header(HOST, admin.to_string())
        .header(CONTENT_TYPE, "application/json")
        .body(Empty::<Bytes>::new())?;
    let connection = tokio::spawn(connection);
    let response = sender.send_request(request).await.with_context(|| format!("{admin} gives no answer"))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), LARGEST_ANSWER).collect().await;
    connection.abort();
    let body = body.map_err(|error| anyhow::anyhow!("the answer breaks off: {error}"))?.to_bytes();
    match serde_json::from_slice::<Answer>(&body) {
        Ok(answer) if answer.error.is_some() == (status != StatusCode::OK) => Ok(answer),
        _ => bail!("{admin} answers {status}, so it is no admin listener of Hostler"),
    }
}
