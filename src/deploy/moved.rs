//! The same release in other engines: what is left of a deploy when the engines are replaced under the apps.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::builder::{Builder, DeployError};
use crate::engine::{Code, with_verdict};
use crate::pool::{Pool, PrewarmError};
use crate::release::{Release, pool_policy};

impl Builder {
    /// Makes a live release again in the engines that are in use now. Its code comes from the code cache, or else
    /// from the code itself: the files it was deployed from may have changed since.
    ///
    /// # Errors
    /// See [`DeployError`].
    pub async fn moved(self: &Arc<Self>, live: &Arc<Release>) -> Result<Arc<Release>, DeployError> {
        let (builder, release, engines) = (self.clone(), live.clone(), self.engines()?);
        let factory = tokio::task::spawn_blocking(move || {
            let load = |engine: &wasmtime::Engine, code: &Code| {
                let order = release.order();
                let payload = || match &release.preload {
                    Some(verdict) => with_verdict(code.payload()?, verdict),
                    None => code.payload(),
                };
                let digest = order.digest(&release.digest);
                let loaded =
                    builder.cache.code_with(engine, order.code_kind(), digest.as_bytes(), payload)?;
                Ok(loaded.code)
            };
            release.pool.manager().moved(&engines, load)
        });
        let factory = factory.await?.map_err(|error| DeployError::Link(format!("{error:#}")))?;
        let factory = factory.telling(self.engines_replaced.clone());
        let reset = factory.way_of_reset();
        let policy = pool_policy(&live.config, live.max_instances);
        let pool = Pool::new(&live.app, factory, policy, live.units, &self.budget)?;
        match pool.prewarm().await {
            // The instances of the old pool may be on their way out; upkeep makes up for what is missing.
            Ok(()) | Err(PrewarmError::NoRoom) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(Arc::new(Release {
            number: self.next_number(),
            app: live.app.clone(),
            digest: live.digest,
            file: live.file.clone(),
            kind: live.kind,
            reset,
            preload: live.preload.clone(),
            config: live.config.clone(),
            mount: live.mount.clone(),
            forwarded_prefix: live.forwarded_prefix.clone(),
            units: live.units,
            max_instances: live.max_instances,
            pool,
            counters: live.counters.clone(),
            code: live.code,
            files: live.files.clone(),
            downloads: TaskTracker::new(),
            expired: CancellationToken::new(),
        }))
    }
}
