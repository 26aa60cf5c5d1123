//! Building a release again from what the store keeps: what going back to one and restoring one have in common.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::compile::queue::{Asked, Standing};
use crate::deploy::builder::{Builder, DeployError, Sources};
use crate::deploy::name::AppName;
use crate::deploy::plan::Passes;
use crate::deploy::read::Digests;
use crate::deploy::store::static_files::To;
use crate::deploy::store::{LoadError, Store, Stored};
use crate::metrics::AppCounters;
use crate::release::Release;

/// Why a release that is kept can't be made live again.
#[derive(Debug, thiserror::Error)]
pub(super) enum RestoreError {
    #[error("{0}")]
    Load(#[from] LoadError),
    #[error("release {number} can't be made live again: {error}")]
    Build { number: u64, error: DeployError },
    #[error("it was ended: {0}")]
    Ended(#[from] tokio::task::JoinError),
}

impl RestoreError {
    /// Whether it may be possible later.
    pub fn passes(&self) -> Passes {
        match self {
            RestoreError::Build { error: DeployError::Route(_), .. } => Passes::Surely,
            RestoreError::Build { error, .. } => error.passes(),
            RestoreError::Load(LoadError::Io { .. } | LoadError::Copy { .. }) => Passes::Surely,
            RestoreError::Load(_) | RestoreError::Ended(_) => Passes::Never,
        }
    }
}

/// A place among those whose static files are being copied, for an app of which some are kept.
pub(super) type Copying = Option<OwnedSemaphorePermit>;

/// To be had before a place in the line, so that those who wait for it keep none from apps without static files.
pub(super) async fn copying(store: &Store, places: &Arc<Semaphore>, app: &AppName) -> Copying {
    let record = store.record(app.as_str())?;
    if record.releases.iter().all(|kept| kept.digests.public.is_none()) {
        return None;
    }
    // It is never closed.
    places.clone().acquire_owned().await.ok()
}

/// Reads a kept release, with those of its static files that are to be served. Blocks.
pub(super) fn load(store: &Store, builder: &Builder, app: &str, number: u64) -> Result<Stored, LoadError> {
    let limits = |config: Option<&str>| builder.policy.public_limits(app, config);
    store.load(app, number, &To { copies: &builder.copies, limits: &limits })
}

/// What a release is made of that was made again: without its static files, if they are not served any more.
pub(super) fn digests(release: &Release, kept: Digests) -> Digests {
    Digests { public: release.files.as_ref().map(|files| files.digest()), ..kept }
}

/// What a kept release is made again as.
pub(super) struct As {
    /// `None`: the next one.
    pub number: Option<u64>,
    /// It is known to be good, so its warm-up decides nothing.
    pub is_proven: bool,
    pub standing: Standing,
}

/// Builds a kept release.
pub(super) async fn build(
    builder: &Arc<Builder>,
    counters: Arc<AppCounters>,
    app: &AppName,
    stored: Stored,
    As { number, is_proven, standing }: As,
) -> Result<Arc<Release>, RestoreError> {
    let Stored { kept, wasm, config, public } = stored;
    let config_file = kept.config_file.map(|file| std::path::PathBuf::from(file).into_boxed_path());
    let sources = Sources {
        app: app.as_str().into(),
        file: kept.file,
        wasm,
        config: config_file.zip(config),
        public: public.map(Arc::new),
        asked: Asked::default(),
        standing,
        number,
        is_proven,
    };
    let built = builder.build(sources, counters).await;
    built.map_err(|error| RestoreError::Build { number: kept.number, error })
}
