//! Asking a new release before it goes live: the paths of `warmup`, one after the other.

use std::net::SocketAddr;

use super::asking::ask;
use crate::pool::PrewarmError;
use crate::release::Release;

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
        let asked = async {
            let lease = release.pool.lease().await.map_err(|error| error.to_string())?;
            let status = ask(release, lease, local, path).await?;
            if status.is_server_error() { Err(format!("it answered {status}")) } else { Ok(()) }
        };
        asked.await.map_err(|what| WarmupError { path: path.clone(), what })?;
    }
    match (release.config.warmup.last(), release.pool.prewarm().await) {
        (Some(path), Err(error @ (PrewarmError::Make(_) | PrewarmError::Closed))) => {
            Err(WarmupError { path: path.clone(), what: error.to_string() })
        }
        // Upkeep makes up for what is missing.
        _ => Ok(()),
    }
}
