//! Asking a new release before it goes live. These are no requests of a client's: neither counted nor logged as such, and
//! made by the host from loopback.

use std::net::SocketAddr;

use bytes::Bytes;
use http::header::{HOST, USER_AGENT};
use http::{HeaderValue, Method, StatusCode};
use http_body_util::BodyExt;

use crate::instance::{Factory, GuestBody, GuestRequest, Outcome, exchange};
use crate::metrics::{AppCounters, ReleaseCounters};
use crate::pool::Lease;
use crate::release::Release;
use crate::server::body::ResponseBody;

/// Bytes of an answer that are taken; the rest is of no interest.
const MOST_TAKEN: usize = 1 << 20;

/// Has a leased instance answer a GET for a path below the app's own. A redirect to another path of the host counts as
/// what the client would see of it first.
///
/// # Errors
/// What went wrong: a trap, a limit or deadline that passed, or no answer.
pub(super) async fn ask(
    release: &Release,
    lease: Lease<Factory>,
    local: SocketAddr,
    path: &str,
) -> Result<StatusCode, String> {
    let request = request(release, local, path).map_err(|error| error.to_string())?;
    // Counters of its own, which nobody reads.
    let counters = ReleaseCounters::new(AppCounters::new(release.app.clone()));
    let asked = async {
        let exchanged = exchange(lease, request, &release.config, &counters, &release.expired).await;
        match exchanged.map_err(|failure| failure.to_string())? {
            Outcome::LocalRedirect(_) => Ok(StatusCode::FOUND),
            Outcome::Response(response) => {
                let status = response.status();
                take(response.into_body()).await.map(|()| status)
            }
        }
    };
    let late = |_| Err(format!("the request_timeout of {:?} passed", release.config.request_timeout));
    tokio::time::timeout(release.config.request_timeout, asked).await.unwrap_or_else(late)
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
    let body = GuestBody::Whole(Bytes::new());
    Ok(GuestRequest::of_the_host(parts, body, Some(local), release.mount.clone()))
}
