//! Where a release's code is while it is not in memory: in the code cache, or else in the store as the app's bytes, to be
//! compiled again.

use std::sync::Arc;

use tokio::runtime::Handle;
use wasmtime::Engine;

use super::builder::Builder;
use super::store::Store;
use crate::compile::queue::{Asked, Standing};
use crate::compile::{Compiler, Order};
use crate::engine::{CodeCache, CompileError, Engines, Key, Loaded, Reset};
use crate::instance::Shelf;
use crate::prepare::Digest;

pub(super) struct Kept {
    order: Order,
    digest: Digest,
    cache: Arc<CodeCache>,
    store: Arc<Store>,
    compiler: Arc<Compiler>,
    control: Handle,
}

impl Kept {
    /// That of a release which is being built: nothing without a store.
    pub(super) fn of(builder: &Builder, order: Order, digest: Digest) -> Option<Arc<dyn Shelf>> {
        Some(Arc::new(Kept {
            order,
            digest,
            cache: builder.cache.clone(),
            store: builder.store.clone()?,
            compiler: builder.compiler.clone(),
            control: builder.control.clone(),
        }))
    }

    /// That of instances which are brought back in this way.
    fn order(&self, reset: Reset) -> Order {
        Order { reset, ..self.order.clone() }
    }

    fn compile(&self, engines: &Engines, reset: Reset) -> Result<Vec<u8>, CompileError> {
        tracing::warn!(
            digest = %self.digest,
            "the code of an app that was idle is in the code cache no more and is compiled again: raise max_size under \
             [cache], or code_idle_time"
        );
        let wasm = self.store.code(self.digest).map_err(|error| {
            CompileError::Load(format!(
                "the app's bytes can't be read from the store ({error}); restart the app"
            ))
        })?;
        // A request waits for it.
        let asked = Asked::default();
        asked.note();
        self.compiler.compile_in_turn(
            &self.control,
            Standing::Back,
            asked,
            engines,
            &self.order(reset),
            &wasm,
        )
    }
}

impl Shelf for Kept {
    fn has(&self, engine: &Engine, reset: Reset) -> bool {
        let order = self.order(reset);
        let key = Key::new(engine, order.code_kind(), order.digest(&self.digest).as_bytes());
        self.cache.has(&key) && self.store.has(self.digest)
    }

    fn load(&self, engines: &Engines, reset: Reset) -> Result<Loaded, CompileError> {
        let order = self.order(reset);
        let engine = engines.get(order.engine_kind());
        let engine = engine.map_err(|error| CompileError::Compile(format!("{error:#}")))?;
        let compile = || self.compile(engines, reset);
        self.cache.code_with(engine, order.code_kind(), order.digest(&self.digest).as_bytes(), compile)
    }
}
