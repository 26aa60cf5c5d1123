//! Can an app's instances be kept? Nothing in its exports says whether an instance answers a second request, so one
//! is asked twice before the release goes live.

use std::net::SocketAddr;

use super::asking::ask;
use crate::config::Mode;
use crate::instance::{Factory, MakeError};
use crate::pool::{Budget, LeaseError, OnEnd, Policy, PolicyError, Pool};
use crate::release::Release;

/// An instance answers one request and not another one after it, or could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error(
        "its instances can't be kept: one that had answered a GET of {path} did not answer the next one ({what}); use \
         mode pooled, or name a path in warmup that it answers again and again"
    )]
    OnlyOnce { path: String, what: String },
    #[error("its probe can't be made: {0}")]
    Pool(#[from] PolicyError),
    #[error("there is no instance for its probe: {0}")]
    Lease(#[from] LeaseError<MakeError>),
}

/// Has one instance answer two requests, in a mode that keeps instances as the guest leaves them: for the first path of
/// `warmup`, or else for `/`. An app that does not answer the first tells nothing by it, and is let pass with a warning.
///
/// `local`: where apps are served.
///
/// # Errors
/// See [`ProbeError`].
pub(super) async fn probe(release: &Release, budget: &Budget, local: SocketAddr) -> Result<(), ProbeError> {
    if release.config.mode != Mode::Kept {
        return Ok(());
    }
    let path = release.config.warmup.first().map_or("/", String::as_str);
    // A pool of one: whoever is next waits until the instance is back.
    let policy = Policy {
        weight: release.config.weight,
        ..Policy::for_asking(1, OnEnd::Keep, release.config.request_timeout)
    };
    let pool = Pool::new(&release.app, release.pool.manager().twin(), policy, release.units, budget)?;
    let probed = ask_twice(release, &pool, local, path).await;
    pool.close();
    pool.drained().await;
    probed
}

async fn ask_twice(
    release: &Release,
    pool: &Pool<Factory>,
    local: SocketAddr,
    path: &str,
) -> Result<(), ProbeError> {
    if let Err(what) = ask(release, pool.lease().await?, local, path).await {
        tracing::warn!(app = %release.app, release = release.number,
            "it can't be told whether its instances can be kept: the first GET of {path} failed: {what}; name a path in \
             warmup that it answers");
        return Ok(());
    }
    let only_once = |what| ProbeError::OnlyOnce { path: path.to_owned(), what };
    let lease = pool.lease().await?;
    if lease.uses() == 0 {
        return Err(only_once("it failed after its answer".to_owned()));
    }
    ask(release, lease, local, path).await.map(drop).map_err(only_once)
}
