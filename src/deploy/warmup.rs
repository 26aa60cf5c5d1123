//! Asking a new release before it goes live: the paths of `warmup`, one after the other. These are no requests of a
//! client's: neither counted nor logged as such, and made by the host from loopback.

use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use http::header::{HOST, USER_AGENT};
use http::{HeaderValue, Method};
use http_body_util::BodyExt;

use crate::instance::{Client, GuestBody, GuestRequest, Outcome, exchange};
use crate::metrics::{AppCounters, ReleaseCounters};
use crate::pool::PrewarmError;
use crate::release::Release;
use crate::server::body::ResponseBody;

/// Bytes of an answer that are taken; the rest is of no interest.
const MOST_TAKEN: usize = 1 << 20;

/// The new release does not answer as it should.
#[derive(Debug, thiserror::Error)]
#[error("its warmup request for {path} failed: {what}")]
pub struct WarmupError {
    pub path: String,
    pub what: String,
}

/// Asks all of them, and has as many instances ready in the end as before.
///
/// `local`: where apps are served.
///
/// # Errors
/// A trap, a limit or deadline that passed, no answer, or one of 5xx.
pub(super) async fn warm_up(release: &Release, local: SocketAddr) -> Result<(), WarmupError> {
    for path in &release.config.warmup {
        let asked = tokio::time::timeout(release.config.request_timeout, ask(release, local, path)).await;
        let late = || Err(format!("the request_timeout of {:?} passed", release.config.request_timeout));
        asked.unwrap_or_else(|_| late()).map_err(|what| WarmupError { path: path.clone(), what })?;
    }
    match (release.config.warmup.last(), release.pool.prewarm().await) {
        (Some(path), Err(error @ (PrewarmError::Make(_) | PrewarmError::Closed))) => {
            Err(WarmupError { path: path.clone(), what: error.to_string() })
        }
        // Upkeep makes up for what is missing.
        _ => Ok(()),
    }
}

async fn ask(release: &Release, local: SocketAddr, path: &str) -> Result<(), String> {
    let request = request(release, local, path).map_err(|error| error.to_string())?;
    let lease = release.pool.lease().await.map_err(|error| error.to_string())?;
    // Counters of its own, which nobody reads.
    let counters = ReleaseCounters::new(AppCounters::new(release.app.clone()));
    let exchanged = exchange(lease, request, &release.config, &counters, &release.expired).await;
    match exchanged.map_err(|failure| failure.to_string())? {
        Outcome::LocalRedirect(_) => Ok(()),
        Outcome::Response(response) if response.status().is_server_error() => {
            Err(format!("it answered {}", response.status()))
        }
        Outcome::Response(response) => take(response.into_body()).await,
    }
}

/// Takes an answer's body to its end, or as much of it as is of interest.
async fn take(mut body: ResponseBody) -> Result<(), String> {
    let mut taken = 0;
    while taken < MOST_TAKEN {
        match body.frame().await {
            None => return Ok(()),
            Some(Ok(frame)) => taken += frame.data_ref().map_or(0, Bytes::len),
            Some(Err(error)) => return Err(format!("its answer broke off: {error}")),
        }
    }
    Ok(())
}

fn request(release: &Release, local: SocketAddr, path: &str) -> Result<GuestRequest, http::Error> {
    // A command is told its mount and the rest apart, in variables made from the whole path.
    let prefix = if release.kind.is_command() { release.mount.prefix() } else { "" };
    let named = release.config.hosts.iter().find(|host| !host.starts_with('*'));
    let request = http::Request::builder().method(Method::GET).uri(format!("{prefix}{path}"));
    let request = request.header(HOST, named.cloned().unwrap_or_else(|| local.to_string()));
    let (mut parts, ()) = request.body(())?.into_parts();
    parts.headers.insert(USER_AGENT, HeaderValue::from_static("hostler-warmup"));
    release.tell_prefix(&mut parts.headers);
    let client =
        Client { remote: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), local, mount: release.mount.clone() };
    Ok(GuestRequest { parts, body: GuestBody::Whole(Bytes::new()), id: 0, client })
}
