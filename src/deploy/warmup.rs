//! Asking a new release before it goes live: the paths of `warmup`, one after the other.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::asking::ask;
use crate::pool::PrewarmError;
use crate::release::Release;

/// How long all warm-up requests of a deploy may take together, whatever the app's `request_timeout`: a deploy has a place
/// meanwhile that others wait for.
pub const WARMUP_DEADLINE: Duration = Duration::from_secs(60);

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
    let deadline = Instant::now() + WARMUP_DEADLINE;
    for path in &release.config.warmup {
        let asked = async {
            let lease = release.pool.lease().await.map_err(|error| error.to_string())?;
            let status = ask(release, lease, local, path).await?;
            if status.is_server_error() { Err(format!("it answered {status}")) } else { Ok(()) }
        };
        until(deadline, asked).await.map_err(|what| WarmupError { path: path.clone(), what })?;
    }
    match (release.config.warmup.last(), release.pool.prewarm().await) {
        (Some(path), Err(error @ (PrewarmError::Make(_) | PrewarmError::Closed))) => {
            Err(WarmupError { path: path.clone(), what: error.to_string() })
        }
        // Upkeep makes up for what is missing.
        _ => Ok(()),
    }
}

/// The one deadline of all that are asked one after the other.
async fn until(deadline: Instant, asked: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    let late = |_| Err(format!("all warmup requests together took longer than {WARMUP_DEADLINE:?}"));
    timeout_at(deadline, asked).await.unwrap_or_else(late)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn all_warmup_requests_have_one_deadline_together() {
        let deadline = Instant::now() + WARMUP_DEADLINE;
        let asked = async || {
            let slow = async {
                tokio::time::sleep(Duration::from_secs(25)).await;
                Ok(())
            };
            until(deadline, slow).await
        };
        assert_eq!((asked().await, asked().await), (Ok(()), Ok(())));
        assert_eq!(asked().await, Err("all warmup requests together took longer than 60s".to_owned()));
        assert_eq!(Instant::now(), deadline);
    }
}
