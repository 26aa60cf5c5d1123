//! The seam for the benches: the host's own way to make, call and drop an instance, without pool and socket.

use std::sync::Arc;

use anyhow::{anyhow, bail};
use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::sync::oneshot;

use super::measured::Measured;
use super::{
    Answer, AppCode, Factory, GuestBody, GuestRequest, Instance, InstancePolicy, LinkedCode, MakeError,
    RewindStatus,
};
use crate::config::Policy;
use crate::engine::{CodeCache, CodeKind, EngineKind, EngineSettings, Engines, Reset};
use crate::prepare;
use crate::router::Mount;

/// An app that is ready to be instantiated, in engines of its own.
pub struct App {
    factory: Factory,
}

impl App {
    /// The code comes from the cache if it is there: many settings share it.
    ///
    /// # Errors
    /// What a deploy would fail with.
    pub fn load(wasm: &[u8], settings: EngineSettings, cache: &CodeCache) -> anyhow::Result<App> {
        App::load_for(Reset::Replace, wasm, settings, cache)
    }

    /// The same for instances that are brought back so.
    ///
    /// # Errors
    /// As [`App::load`].
    pub fn load_for(
        reset: Reset,
        wasm: &[u8],
        settings: EngineSettings,
        cache: &CodeCache,
    ) -> anyhow::Result<App> {
        let checked = prepare::check(wasm)?;
        let failed = |error: wasmtime::Error| anyhow!("{error:#}");
        let engines = Engines::new(settings).map_err(failed)?;
        let engine = engines.get(EngineKind::of(checked.kind, reset)).map_err(failed)?;
        let kind = CodeKind::of(checked.kind, reset);
        let loaded = cache.code(engine, wasm, kind, checked.digest.as_bytes())?;
        let config =
            Policy::default().app_config("bench", None).map_err(|problems| anyhow!("{problems:?}"))?;
        let policy = InstancePolicy::alone("bench", Arc::new(config));
        let code = AppCode::link(checked.kind, &loaded.code).map_err(failed)?;
        Ok(App { factory: Factory::new(engines, LinkedCode::new(code, None), policy) })
    }

    /// # Errors
    /// The app can't be instantiated.
    pub async fn make(&self) -> Result<Instance, MakeError> {
        self.factory.instance().await
    }

    /// Brings an instance back.
    ///
    /// # Errors
    /// The app can't be instantiated.
    pub async fn reset(&self, used: Instance) -> Result<Instance, MakeError> {
        self.factory.reset_instance(used).await
    }

    /// How many instances have been rewound, and how many could not be.
    pub fn rewinds(&self) -> RewindStatus {
        self.factory.rewinds().unwrap_or_default()
    }

    /// `GET /` to the end of the guest; the body of its answer.
    ///
    /// # Errors
    /// A trap, or an answer that is none.
    pub async fn call(&self, instance: &mut Instance) -> anyhow::Result<Bytes> {
        let (parts, ()) = http::Request::get("/").header("host", "bench").body(())?.into_parts();
        let request = GuestRequest::of_the_host(parts, GuestBody::Whole(Bytes::new()), None, Mount::root());
        let (sender, answer) = oneshot::channel();
        let clock = instance.clock();
        let guest = Measured::new(Box::pin(instance.call(request, sender)), clock, None);
        let taken = async {
            match answer.await {
                Ok(Answer::Response(response)) => Ok(response.into_body().collect().await?.to_bytes()),
                _ => bail!("no response"),
            }
        };
        let (ended, body) = tokio::join!(guest, taken);
        ended.map_err(|error| anyhow!("{error:?}"))?;
        body
    }
}
