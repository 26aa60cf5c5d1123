//! A release: one immutable pair of code and config of an app, with the pool of its instances.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::compile::Order;
use crate::config::{AppConfig, Mode};
use crate::engine::Reset;
use crate::instance::Factory;
use crate::metrics::ReleaseCounters;
use crate::pool::{OnEnd, Policy, Pool};
use crate::prepare::preload::Verdict;
use crate::prepare::{Digest, Kind};
use crate::public::Manifest;
use crate::router::Mount;

/// What an app's live or draining code and config are.
pub struct Release {
    pub app: Arc<str>,
    /// Counts the host's deploys: a later release has a greater number.
    pub number: u64,
    /// SHA-256 of the app's bytes.
    pub digest: Digest,
    /// The file, as it is named below the apps folder.
    pub file: String,
    pub kind: Kind,
    /// How its instances are brought back after a request.
    pub reset: Reset,
    /// What has come of preloading it, where that was asked for.
    pub preload: Option<Verdict>,
    pub config: Arc<AppConfig>,
    pub mount: Mount,
    /// What the guest is told of its mount path: none at the root.
    pub forwarded_prefix: Option<HeaderValue>,
    /// Units of the budget that one of its instances takes.
    pub units: u32,
    pub pool: Pool<Factory>,
    /// Instances that the pool has at most.
    pub max_instances: u32,
    pub counters: Arc<ReleaseCounters>,
    /// Where its code came from and how long that took.
    pub code: CodeOrigin,
    /// The files of its `public/`, as they were at its deploy.
    pub files: Option<Arc<Manifest>>,
    /// Static files that are being sent.
    pub downloads: TaskTracker,
    /// Ends the streams that outlive `drain_timeout`.
    pub expired: CancellationToken,
}

/// How a release got its machine code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodeOrigin {
    Compiled(Duration),
    /// From the code cache.
    Loaded(Duration),
    /// Compiled for each request, as `cold` has it.
    PerRequest,
}

impl std::fmt::Display for CodeOrigin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CodeOrigin::Compiled(time) => write!(f, "compiled in {}", Millis(*time)),
            CodeOrigin::Loaded(time) => write!(f, "loaded in {}", Millis(*time)),
            CodeOrigin::PerRequest => f.write_str("compiled for each request"),
        }
    }
}

struct Millis(Duration);

impl std::fmt::Display for Millis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.1} ms", self.0.as_secs_f64() * 1000.0)
    }
}

/// The pool's policy for an app: what its mode means for its instances. `room`: instances of it that would fit if
/// there were no others.
pub fn pool_policy(config: &AppConfig, room: u32) -> Policy {
    // What the operator or the app wrote counts even where there is less room: the pool says that it doesn't fit.
    let max = config.most_instances().unwrap_or_else(|| room.max(config.min_instances).max(1));
    // What many requests share is pooled as seats at it: each request in flight counts as an instance does elsewhere.
    let is_shared = config.mode == Mode::Resident;
    let max = if is_shared { max.saturating_mul(config.max_concurrent).min(room.max(1)) } else { max };
    let (min_idle, max_idle, on_end) = match config.mode {
        Mode::Cold | Mode::Cached => (0, 0, OnEnd::Drop),
        Mode::Pooled => (config.min_instances, max, OnEnd::Reset),
        Mode::Kept | Mode::Resident => (config.min_instances.min(max), max, OnEnd::Keep),
    };
    Policy {
        min_idle,
        max_idle,
        max,
        weight: config.weight,
        max_lifetime: config.max_lifetime.filter(|_| !is_shared),
        queue_size: config.queue_size,
        queue_timeout: config.queue_timeout,
        idle_time: config.idle_time,
        sleep_after: config.code_idle_time,
        on_end,
        max_uses: config.max_requests.clone().filter(|_| !is_shared),
    }
}

impl Release {
    /// What its code was made by.
    pub fn order(&self) -> Order {
        Order { kind: self.kind, reset: self.reset, preload: self.config.preloading().map(Arc::new) }
    }

    /// The value of `x-forwarded-prefix` for an app mounted there.
    pub fn forwarded_prefix(mount: &Mount) -> Option<HeaderValue> {
        let prefix = mount.prefix();
        if prefix.is_empty() { None } else { HeaderValue::from_str(prefix).ok() }
    }

    /// Puts the mount path that the guest is told into a request's headers, and nobody else's word for it.
    pub fn tell_prefix(&self, headers: &mut HeaderMap) {
        const FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
        match &self.forwarded_prefix {
            Some(prefix) => headers.insert(FORWARDED_PREFIX, prefix.clone()),
            // A client must not tell an app where it is mounted.
            None => headers.remove(FORWARDED_PREFIX),
        };
    }

    /// Closes the pool to new leases and waits until the leased instances and the downloads under way have ended, at most
    /// `drain_timeout`.
    pub async fn drain(&self) {
        self.pool.close();
        self.downloads.close();
        let ended = async {
            self.pool.drained().await;
            self.downloads.wait().await;
        };
        if tokio::time::timeout(self.config.drain_timeout, ended).await.is_err() {
            let (leased, downloads) = (self.pool.stats().leased, self.downloads.len());
            tracing::warn!(app = %self.app, release = self.number, leased, downloads,
                "requests of a replaced release outlived drain_timeout: they are ended");
            self.expired.cancel();
        }
    }
}
