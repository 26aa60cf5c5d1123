//! A canary among the apps of a running host: it takes part in their engines, allocator and budget, now and then.
//!
//! Each look is by code that the allocator has not seen before, so it has no favourite slot: Wasmtime gives it one that
//! was never used until a hundred are free and warm, and from then on the one that was free for longest, whoever was in
//! it. After that the canary's own marks are looked for in the same slot. It holds no instance between two looks.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::cage::{self, Cage, Ending, Look, Setup};
use super::canary::{Canary, Shape};
use super::{CheckError, Finding, Record};
use crate::config::Mode;
use crate::engine::{EngineKind, Engines, EnginesInUse};
use crate::pool::Budget;

/// How often it is looked.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// How long one look may take, with its wait for an instance. One that takes longer came to nothing.
const PATIENCE: Duration = Duration::from_secs(5);

/// Pages of its memory.
const PAGES: u32 = 20;

/// Looks of one canary: at what others left, and then at what it left itself.
const LOOKS: usize = 3;

/// Where it is put back: it is known only after some of them of what types the handles are that it leaves.
const LOOKS_REWOUND: usize = 12;

pub struct Watch {
    engines: Arc<EnginesInUse>,
    budget: Budget,
    record: Arc<Record>,
    /// Compiled canaries. Engines that take the place of others have the same code.
    payloads: HashMap<(EngineKind, Shape), Bytes>,
    rounds: usize,
}

impl Watch {
    pub fn new(engines: Arc<EnginesInUse>, budget: Budget, record: Arc<Record>) -> Watch {
        Watch { engines, budget, record, payloads: HashMap::new(), rounds: 0 }
    }

    /// Lets a canary look, in each engine that is in use.
    ///
    /// # Errors
    /// See [`CheckError`]: it could not be looked, which is counted.
    pub async fn look(&mut self) -> Result<Option<Finding>, CheckError> {
        let engines = self.engines.now();
        self.rounds += 1;
        for kind in EngineKind::ALL {
            if engines.made(kind).is_none() {
                continue;
            }
            let looked = match tokio::time::timeout(PATIENCE, self.look_in(&engines, kind)).await {
                Ok(looked) => looked,
                Err(_) => Err(CheckError::NoRoom(format!("it was not over in {PATIENCE:?}"))),
            };
            match looked {
                Ok(None) => {}
                Ok(Some(finding)) => return Ok(Some(finding)),
                Err(error) => {
                    self.record.skipped();
                    return Err(error);
                }
            }
        }
        Ok(None)
    }

    async fn look_in(
        &mut self,
        engines: &Arc<Engines>,
        kind: EngineKind,
    ) -> Result<Option<Finding>, CheckError> {
        let shapes = Shape::of(kind);
        let shape = shapes[self.rounds % shapes.len()];
        let ending = Ending::QUICK[self.rounds / shapes.len() % Ending::QUICK.len()];
        let looks = if kind == EngineKind::Rewound { LOOKS_REWOUND } else { LOOKS };
        let canary = Canary::new(shape, PAGES);
        let payload = self.payload(&canary, engines, kind).await?;
        let setup = Setup { mode: Mode::Pooled, engine: kind, instances: 1 };
        let cage = Cage::new(canary, &payload, setup, engines, &self.budget)?;
        for count in 0..looks {
            let ending = if count == 1 { ending } else { Ending::Answer };
            match cage.look(ending).await? {
                Look::Clean(_) => self.record.looked(),
                Look::Untold => {}
                Look::Found(finding) => {
                    self.record.looked();
                    cage.pool().close();
                    return Ok(Some(finding));
                }
            }
        }
        cage.close().await;
        Ok(None)
    }

    async fn payload(
        &mut self,
        canary: &Canary,
        engines: &Arc<Engines>,
        kind: EngineKind,
    ) -> Result<Bytes, CheckError> {
        if let Some(payload) = self.payloads.get(&(kind, canary.shape)) {
            return Ok(payload.clone());
        }
        let (canary, engines) = (*canary, engines.clone());
        let compiled = tokio::task::spawn_blocking(move || cage::compile(&canary, &engines, kind));
        let payload = compiled.await.map_err(CheckError::of)??;
        self.payloads.insert((kind, canary.shape), payload.clone());
        Ok(payload)
    }
}
