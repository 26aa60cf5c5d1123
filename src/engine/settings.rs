//! Every setting of the engines, in one place.

use std::fmt;
use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, WasmFeatures};

use super::EngineKind;
use super::address_space::{Footprint, plan};
use super::rewound::{Creator, can_rewind};
use crate::prepare::{self, Facts};

/// Tables that one unit of the pool's budget stands for; an app with more takes more units.
const TABLES_PER_INSTANCE: u32 = 8;

/// Core instances that one unit of the budget stands for. Wasmtime only counts them, so this can be generous: a
/// Python component has about thirty.
const CORE_INSTANCES_PER_INSTANCE: u32 = 64;

/// Instances the allocator has room for beyond the budget, so that a permit is always below the allocator's limit.
const ALLOCATOR_MARGIN: u32 = 16;

/// Address space of one guest's stack.
const STACK: u64 = 2 << 20;

/// Guard behind each linear memory: lets compiled code leave out bounds checks for accesses with small offsets.
const MEMORY_GUARD: u64 = 32 << 20;

/// Comparing a small app's memory takes longer than all else that its rewind does.
const SELDOM: NonZero<u64> = NonZero::new(1000).unwrap();

/// Where an instance's memories, tables and stacks come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Allocation {
    /// Slots that are kept mapped and reused. The host's choice.
    Pooling,
    /// Mapped afresh for each instance: slower, for comparison and for machines with little address space.
    OnDemand,
}

/// The settings of all engines. Whatever changes compiled code enters the code cache's keys by way of Wasmtime's
/// compatibility hash.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EngineSettings {
    pub allocation: Allocation,
    /// Units of the pool's budget: instances of all apps together.
    pub instances: u32,
    /// Address space for each linear memory, bytes.
    pub memory_reservation: u64,
    /// Elements that a table may have.
    pub table_elements: usize,
    /// Bytes of each memory that are erased in place when an instance is dropped; the rest is given back to the
    /// kernel.
    pub memory_keep_resident: usize,
    /// The same for each table.
    pub table_keep_resident: usize,
    /// Ask the kernel which pages a guest has touched. Off: on this line of Wasmtime the question misses pages that
    /// are swapped out or just being migrated, which then keep the previous guest's bytes.
    pub pagemap_scan: bool,
    /// Apps may be rewound, if the machine can do that.
    pub rewind: bool,
    /// One in so many instances that were rewound is compared with its first-ready state.
    pub compared: NonZero<u64>,
    /// How often a guest that runs is interrupted, if none was lately; else eight times as often.
    pub epoch_tick: Duration,
    /// Used instances are not reset: for the tests that have to find just that. No release build has it.
    #[cfg(debug_assertions)]
    #[serde(skip)]
    pub reset_is_broken: bool,
}

/// What is kept resident, by `cargo bench --bench instance` before the whole program was optimised as one: microseconds
/// for a clean request, of which the memory costs most. Each setting ran by itself, so a tenth more or less is chance.
///
/// | kept per memory | hello, 2 pages | C command, 2 pages | hello with Rust's stack of 1 MiB |
/// |---|---|---|---|
/// | nothing | 28 | 34 | 30 |
/// | 64 KiB | 28 | 32 | 32 |
/// | 256 KiB | 18 | 18 | 35 |
///
/// An app whose whole memory is kept has neither pages to give back nor pages to fault in again; for one that is larger
/// the bytes at its begin are erased for nothing (JavaScript and Python: no difference above chance). 128 KiB are the two
/// pages of a small app. Of a table no more is erased than it has, so all of a usual one is kept (JavaScript's has 61
/// KiB): nothing kept costs a call into the kernel and page faults for each table.
impl Default for EngineSettings {
    fn default() -> Self {
        EngineSettings {
            allocation: Allocation::Pooling,
            instances: 1000,
            memory_reservation: 4 << 30,
            table_elements: 100_000,
            memory_keep_resident: 128 << 10,
            table_keep_resident: 64 << 10,
            pagemap_scan: false,
            rewind: true,
            compared: if cfg!(debug_assertions) { NonZero::<u64>::MIN } else { SELDOM },
            epoch_tick: Duration::from_millis(2),
            #[cfg(debug_assertions)]
            reset_is_broken: false,
        }
    }
}

impl EngineSettings {
    /// Fits the number of instances and the reservations to the address space there is: fewer instances as long as
    /// there are `enough`, then smaller reservations.
    ///
    /// `memory_limit`: bytes that a linear memory must be able to grow to. Returns what the operator should know, if
    /// there is less than was wanted.
    pub fn fit(&mut self, memory_limit: u64, enough: u32) -> Option<String> {
        let tables = u64::from(TABLES_PER_INSTANCE) * (self.table_elements as u64 * 8).next_multiple_of(4096);
        let footprint = Footprint { memories: 1, memory_limit, guard: MEMORY_GUARD, rest: tables + STACK };
        let slots = |instances: u32| instances.saturating_add(ALLOCATOR_MARGIN);
        let size = plan(slots(self.instances), slots(enough), &footprint);
        self.instances = size.instances.saturating_sub(ALLOCATOR_MARGIN).max(1);
        self.memory_reservation = size.reservation;
        size.note
    }

    /// The same with what decides how an instance is reset as simple as it can be: nothing is rewound, and every memory,
    /// table and stack is mapped afresh, so no byte of one instance is ever where another's was. Compiled code is the same.
    pub fn safest(&self) -> EngineSettings {
        EngineSettings {
            allocation: Allocation::OnDemand,
            memory_keep_resident: 0,
            table_keep_resident: 0,
            pagemap_scan: false,
            rewind: false,
            #[cfg(debug_assertions)]
            reset_is_broken: false,
            ..self.clone()
        }
    }

    /// Whether apps can be rewound.
    pub fn can_rewind(&self) -> bool {
        self.rewind && can_rewind().is_ok()
    }

    /// An engine that compiles the same code as a host's with these settings, and runs none: without the address space
    /// that the pooling allocator reserves for instances.
    pub fn compiling_engine(&self, kind: EngineKind) -> wasmtime::Result<Engine> {
        Engine::new(&EngineSettings { allocation: Allocation::OnDemand, ..self.clone() }.config(kind))
    }

    pub(super) fn config(&self, kind: EngineKind) -> Config {
        let mut config = Config::new();
        config
            .epoch_interruption(true)
            .memory_reservation(self.memory_reservation)
            .memory_guard_size(MEMORY_GUARD)
            .async_stack_size(STACK as usize)
            .concurrency_support(kind == EngineKind::Concurrent)
            .wasm_features(WasmFeatures::all(), false)
            .wasm_features(prepare::features(kind.example()), true)
            // Frames of a trap are for the log; the machine's own unwinder needs nothing of them.
            .native_unwind_info(false)
            .allocation_strategy(match self.allocation {
                // What is rewound is made seldom, and its memories are our own.
                _ if kind == EngineKind::Rewound => InstanceAllocationStrategy::OnDemand,
                Allocation::Pooling => InstanceAllocationStrategy::Pooling(self.pooling()),
                Allocation::OnDemand => InstanceAllocationStrategy::OnDemand,
            });
        if kind == EngineKind::Rewound {
            config
                .with_host_memory(Arc::new(Creator))
                .memory_init_cow(false)
                // The host knows where a memory is. The reservation covers the highest limit that any app is granted.
                .memory_may_move(false);
        }
        config
    }

    fn pooling(&self) -> PoolingAllocationConfig {
        let total = self.instances + ALLOCATOR_MARGIN;
        let mut pooling = PoolingAllocationConfig::new();
        pooling
            .total_component_instances(total)
            .total_core_instances(total.saturating_mul(CORE_INSTANCES_PER_INSTANCE))
            .total_memories(total)
            .total_stacks(total)
            .total_tables(total.saturating_mul(TABLES_PER_INSTANCE))
            .max_memories_per_module(8)
            .max_tables_per_module(TABLES_PER_INSTANCE)
            .max_core_instance_size(4 << 20)
            .max_component_instance_size(4 << 20)
            .table_elements(self.table_elements)
            .max_memory_size(usize::try_from(self.memory_reservation).unwrap_or(usize::MAX))
            .linear_memory_keep_resident(self.memory_keep_resident)
            .table_keep_resident(self.table_keep_resident)
            .pagemap_scan(if self.pagemap_scan { Enabled::Yes } else { Enabled::No });
        pooling
    }
}

/// Units of the pool's budget that one instance of an app takes: as many as its scarcest kind of allocator slot needs.
pub fn units(facts: &Facts) -> u32 {
    let count = |slots: usize| u32::try_from(slots).unwrap_or(u32::MAX);
    count(facts.memories.len()).max(count(facts.tables.len()).div_ceil(TABLES_PER_INSTANCE)).max(1)
}

/// The settings that decide how an instance is reset, in one line for log and status.
impl fmt::Display for EngineSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let allocation = match self.allocation {
            Allocation::Pooling => "pooling",
            Allocation::OnDemand => "on-demand",
        };
        write!(
            f,
            "reset by replace: {allocation} allocator, {} instances, {} MiB reserved per memory, kept resident: {} KiB \
             per memory and {} KiB per table, pagemap_scan {}; rewind {}",
            self.instances,
            self.memory_reservation >> 20,
            self.memory_keep_resident >> 10,
            self.table_keep_resident >> 10,
            if self.pagemap_scan { "ON (unsafe on this Wasmtime)" } else { "off" },
            match (self.rewind, can_rewind()) {
                (false, _) => "off".to_owned(),
                (true, Ok(())) => "possible".to_owned(),
                (true, Err(why)) => format!("not possible on this machine ({why}): it is replace instead"),
            },
        )
    }
}
