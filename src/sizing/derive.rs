//! The derivation: the least of several terms, and the sentence that says so.

use std::fmt::Write;
use std::sync::Arc;

use crate::config::MemoryBudget;
use crate::machine::{Memory, Stall};
use crate::pool::Pressure;

/// Instances for each processor that there may be whatever the memory: fewer would leave processors idle.
const LEAST_PER_CPU: u32 = 4;

/// Apps whose backends are named in the sentence; the others are counted.
const MOST_NAMED: usize = 8;

/// What the number of instances follows from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Terms {
    /// What the operator set; `None` for `"auto"`.
    pub asked: Option<u32>,
    pub memory: Option<Memory>,
    pub budget: MemoryBudget,
    /// Bytes that the host itself takes.
    pub host: u64,
    /// Bytes that each instance takes, and whether that was measured or is assumed.
    pub each: u64,
    pub is_measured: bool,
    /// What the allocator was made for, and why it was not made for more.
    pub slots: u32,
    pub bound: Bound,
    pub cpus: u32,
}

/// Why the allocator has no more slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    Asked,
    Mappings,
    AddressSpace,
}

/// The outcome: instances in all, and what the memory alone would allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sized {
    pub instances: u32,
    pub memory: Option<u32>,
}

/// An app that is bounded by the connections that its database takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    pub app: Arc<str>,
    pub instances: u32,
    pub connections: u32,
}

impl Terms {
    pub fn derive(&self) -> Sized {
        let memory = self.memory.map(|memory| {
            let share = self.share(memory).saturating_sub(self.host);
            u32::try_from(share / self.each.max(1)).unwrap_or(u32::MAX)
        });
        let fitting = memory.unwrap_or(u32::MAX).max(self.least());
        Sized { instances: fitting.min(self.most()), memory }
    }

    /// Such as `auto: 1180 instances = memory 1180 (75% of 8.0 GiB less 31.2 MiB for the host, 5.2 MiB each measured),
    /// allocator 8191 (vm.max_map_count), backends none`.
    pub fn sentence(&self, sized: Sized, backends: &[Backend], stall: Stall) -> String {
        let mut text = match self.asked {
            Some(asked) => format!("max_instances {asked}"),
            None => "auto".to_owned(),
        };
        let _ = write!(text, ": {} instances = ", sized.instances);
        match (self.memory, sized.memory) {
            (Some(memory), Some(count)) => {
                let _ = write!(text, "memory {count} ({})", self.memory_term(memory));
            }
            _ => text += "memory unknown",
        }
        let bound = match self.bound {
            Bound::Asked => "max_instances",
            Bound::Mappings => "vm.max_map_count",
            Bound::AddressSpace => "address space",
        };
        let _ = write!(text, ", allocator {} ({bound})", self.slots);
        if sized.memory.is_some_and(|memory| memory < self.least()) {
            let _ = write!(text, ", at least {} for {} cpus", self.least().min(self.most()), self.cpus);
        }
        text += ", backends ";
        text += &backend_term(backends);
        if stall.group.is_none() && stall.machine.is_none() {
            text += "; the kernel doesn't tell memory pressure (PSI)";
        }
        text
    }

    fn memory_term(&self, memory: Memory) -> String {
        let whose = if memory.is_grouped { " of the control group" } else { "" };
        let share = match self.budget {
            MemoryBudget::Share(percent) => format!("{percent}% of {}{whose}", bytes(memory.limit)),
            MemoryBudget::Size(size) if size <= memory.limit => bytes(size),
            MemoryBudget::Size(_) => format!("all {}{whose}", bytes(memory.limit)),
        };
        let how = if self.is_measured { "measured" } else { "assumed" };
        format!("{share} less {} for the host, {} each {how}", bytes(self.host), bytes(self.each))
    }

    /// Bytes that host and instances may have together.
    fn share(&self, memory: Memory) -> u64 {
        match self.budget {
            MemoryBudget::Share(percent) => {
                let share = u128::from(memory.limit) * u128::from(percent) / 100;
                u64::try_from(share).unwrap_or(u64::MAX)
            }
            MemoryBudget::Size(size) => size.min(memory.limit),
        }
    }

    fn least(&self) -> u32 {
        self.cpus.saturating_mul(LEAST_PER_CPU)
    }

    fn most(&self) -> u32 {
        self.asked.unwrap_or(u32::MAX).min(self.slots)
    }
}

fn backend_term(backends: &[Backend]) -> String {
    if backends.is_empty() {
        return "none".to_owned();
    }
    let name = |backend: &Backend| {
        let Backend { app, instances, connections } = backend;
        format!("{app} {instances} ({connections} connections)")
    };
    let mut text = backends.iter().take(MOST_NAMED).map(name).collect::<Vec<_>>().join(", ");
    if let Some(more @ 1..) = backends.len().checked_sub(MOST_NAMED) {
        let _ = write!(text, " and {more} more");
    }
    text
}

/// How serious it is.
///
/// Only the standstill of this process's own group is a reason to refuse requests: another container that strains
/// against its own limit makes the whole machine's figure as high as can be, and is not helped by it. But idle
/// instances are given up for others, too. Without a figure of the group the machine's counts fully.
pub fn pressure(stall: Stall) -> Pressure {
    let machine = stall.machine.map_or(Pressure::None, level);
    match stall.group {
        Some(group) => level(group).max(machine.min(Pressure::Spares)),
        None => machine,
    }
}

fn level(percent: f64) -> Pressure {
    match percent {
        _ if percent > 20.0 => Pressure::Shed,
        _ if percent > 10.0 => Pressure::Spares,
        _ if percent > 5.0 => Pressure::Growth,
        _ => Pressure::None,
    }
}

/// A number of bytes as a person reads it.
pub fn bytes(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match units.into_iter().find(|(_, shift)| bytes >> shift > 0) {
        Some((unit, shift)) => format!("{:.1} {unit}", bytes as f64 / f64::from(1u32 << shift)),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests;
