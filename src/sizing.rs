//! How many instances there may be, from the machine: made out at the start, and anew each second.
//!
//! The allocator is made once, so its size is fixed at the start: as large as the address space and the kernel's bound
//! on mappings allow, since a slot that is not in use costs next to nothing. The limit below it moves with what
//! instances turn out to take of RAM. `measure` learns that, `derive` makes a number and a sentence of it; both are
//! pure. Here they meet the machine and the budget.

use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;

use crate::config;
use crate::machine::{Machine, Stall};
use crate::pool::{Budget, Pressure};

mod derive;
mod measure;

pub use derive::{Backend, Bound, Sized, Terms, bytes};
pub use measure::{Measure, Seen};

/// Mappings that the kernel keeps for one instance: two for a stack's slot, made at the start in each of the two
/// engines, and four (counted for small apps and for Python) for the memory of one that lives.
const MAPPINGS_PER_INSTANCE: u64 = 8;

/// The part of all mappings that is left to the host: threads, apps' code, the heap.
const MAPPINGS_OF_HOST: u64 = 8;

/// More than anybody has had a use for; and as many slots of 4 GiB don't fit into 47 bits anyway.
const MOST_INSTANCES: u32 = 100_000;

/// Instances that the allocator is to be made for, before the address space is asked.
///
/// With the kernel's usual 65,530 mappings these are 7,167. Compared with 1,000 that costs 4 MiB and some milliseconds
/// at the start; what isn't used costs nothing after that.
pub fn allocator_size(asked: Option<u32>, machine: &Machine) -> u32 {
    let mappings = |most: u64| (most - most / MAPPINGS_OF_HOST) / MAPPINGS_PER_INSTANCE;
    let mappings = machine.max_mappings().map_or(u64::MAX, mappings);
    let most = u32::try_from(mappings).unwrap_or(u32::MAX).clamp(1, MOST_INSTANCES);
    asked.map_or(most, |asked| asked.min(most))
}

/// Keeps the budget's limit in step with the machine.
pub struct Sizing {
    machine: Machine,
    budget: Budget,
    pool: config::Pool,
    bound: Bound,
    cpus: u32,
    state: Mutex<State>,
}

struct State {
    measure: Measure,
    status: Status,
    /// The limit that was last logged.
    logged: u32,
}

/// The sizing as status shows it. Sizes are in bytes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// The derivation in a sentence.
    pub sentence: String,
    /// Instances that there may be now.
    pub limit: u32,
    pub cpus: u32,
    /// Of the machine, or of the control group if it allows less.
    pub memory_limit: Option<u64>,
    /// This process's own memory that is in RAM.
    pub resident: Option<u64>,
    /// How much of that is not the instances'.
    pub host_resident: u64,
    pub instance_resident: u64,
    /// `instance_resident` was measured; else it is assumed.
    pub is_measured: bool,
    pub pressure: Pressure,
    pub stall: Stall,
}

/// What the live apps have in use just now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InUse {
    /// Idle instances.
    pub idle: u32,
    pub backends: Vec<Backend>,
}

impl Sizing {
    /// Sets the budget's first limit and logs its derivation. Call it when the allocator is made and no instance yet:
    /// what is resident then is the host's own.
    pub fn start(machine: Machine, pool: &config::Pool, budget: &Budget) -> Arc<Sizing> {
        let slots = budget.units();
        let bound = match pool.max_instances {
            Some(asked) if asked <= slots => Bound::Asked,
            _ if allocator_size(pool.max_instances, &machine) <= slots => Bound::Mappings,
            _ => Bound::AddressSpace,
        };
        let measure = Measure::new(machine.resident().unwrap_or(0));
        let status = Status {
            sentence: String::new(),
            limit: slots,
            cpus: u32::try_from(machine.cpus()).unwrap_or(u32::MAX),
            memory_limit: None,
            resident: None,
            host_resident: 0,
            instance_resident: 0,
            is_measured: false,
            pressure: Pressure::None,
            stall: Stall::default(),
        };
        let sizing = Sizing {
            cpus: status.cpus,
            machine,
            budget: budget.clone(),
            pool: pool.clone(),
            bound,
            state: Mutex::new(State { measure, status, logged: 0 }),
        };
        sizing.upkeep(&InUse::default());
        Arc::new(sizing)
    }

    /// Looks at the machine and sets limit and pressure: part of the host's upkeep, once a second.
    pub fn upkeep(&self, in_use: &InUse) {
        let used = self.budget.units() - self.budget.free();
        let resident = self.machine.resident();
        let memory = self.machine.memory();
        let stall = self.machine.stall();
        let pressure = derive::pressure(stall);
        let mut state = self.state.lock();
        if let Some(resident) = resident {
            let busy = used.saturating_sub(in_use.idle);
            state.measure.observe(Seen { resident, instances: used, busy });
        }
        let terms = Terms {
            asked: self.pool.max_instances,
            memory,
            budget: self.pool.memory_budget,
            host: state.measure.host(),
            each: state.measure.each(),
            is_measured: state.measure.is_measured(),
            slots: self.budget.units(),
            bound: self.bound,
            cpus: self.cpus,
        };
        let sized = terms.derive();
        let sentence = terms.sentence(sized, &in_use.backends, stall);
        self.say(&mut state, sized.instances, &sentence, pressure);
        state.status = Status {
            sentence,
            limit: sized.instances,
            cpus: self.cpus,
            memory_limit: memory.map(|memory| memory.limit),
            resident,
            host_resident: terms.host,
            instance_resident: terms.each,
            is_measured: terms.is_measured,
            pressure,
            stall,
        };
        drop(state);
        self.budget.set_limit(sized.instances);
        self.budget.set_pressure(pressure);
    }

    pub fn status(&self) -> Status {
        self.state.lock().status.clone()
    }

    /// At the start, and what has changed by so much that somebody may wonder.
    fn say(&self, state: &mut State, limit: u32, sentence: &str, pressure: Pressure) {
        if u64::from(state.logged.abs_diff(limit)) * 4 > u64::from(state.logged) {
            tracing::info!("{sentence}");
            state.logged = limit;
        }
        if state.status.pressure != pressure {
            tracing::warn!(%pressure, "memory pressure has changed");
        }
    }
}

#[cfg(test)]
mod tests;
