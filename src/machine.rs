//! What this process has of the machine: memory, processors, and how scarce memory is just now.
//!
//! All of it is read from files that the kernel makes, below one root, so that tests can make a machine of their own.
//! A container's limits count before the machine's: the least along the way from the process's own control group to
//! the root, in either version of control groups. What can't be read is not known, and whoever asks is told so.
//!
//! `groups` finds the control groups; `formats` reads the text of the files, purely.

use std::path::PathBuf;

use serde::Serialize;

mod formats;
mod groups;
#[cfg(test)]
mod tests;

use groups::Groups;

/// The machine as this process sees it.
#[derive(Debug)]
pub struct Machine {
    root: PathBuf,
    /// Found once: a supervisor moves a process before it starts it.
    groups: Groups,
}

/// Memory that this process may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Bytes.
    pub limit: u64,
    /// It is the limit of a control group, not all that the machine has.
    pub is_grouped: bool,
}

/// How much of the last ten seconds some task stood still for want of memory, in per cent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Stall {
    /// Of this process's control group. `None` where the kernel doesn't say.
    pub group: Option<f64>,
    /// Of the whole machine.
    pub machine: Option<f64>,
}

impl Machine {
    /// The one that this process runs on.
    pub fn this() -> Machine {
        Machine::at("/")
    }

    /// A machine whose `/proc` and control groups are below another root.
    pub fn at(root: impl Into<PathBuf>) -> Machine {
        let mut machine = Machine { root: root.into(), groups: Groups::default() };
        let memberships = machine.read("proc/self/cgroup").unwrap_or_default();
        let mounts = machine.read("proc/self/mountinfo").unwrap_or_default();
        machine.groups = Groups::find(&memberships, &mounts);
        machine
    }

    /// The least of what the machine has and what a control group allows.
    pub fn memory(&self) -> Option<Memory> {
        let machine = formats::kilobytes(&self.read("proc/meminfo")?, "MemTotal")?;
        let v2 = self.groups.unified().flat_map(|group| {
            ["memory.max", "memory.high"].map(|file| formats::bytes(&self.read(&format!("{group}/{file}"))?))
        });
        let v1 = self
            .groups
            .memory()
            .map(|group| formats::bytes(&self.read(&format!("{group}/memory.limit_in_bytes"))?));
        // Version 1 says "no limit" with a number larger than any machine.
        let group = v2.chain(v1).flatten().min().filter(|limit| *limit < machine);
        Some(Memory { limit: group.unwrap_or(machine), is_grouped: group.is_some() })
    }

    /// Processors that this process may use: those it is bound to, and no more than its time allows, rounded up.
    /// At least one.
    pub fn cpus(&self) -> usize {
        let bound = self.read("proc/self/status").and_then(|status| formats::cpus_allowed(&status));
        let bound = bound.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        let v2 =
            self.groups.unified().map(|group| formats::cpu_max(&self.read(&format!("{group}/cpu.max"))?));
        let v1 = self.groups.cpu().map(|group| {
            let read = |file: &str| self.read(&format!("{group}/{file}"));
            formats::cfs_quota(&read("cpu.cfs_quota_us")?, &read("cpu.cfs_period_us")?)
        });
        v2.chain(v1).flatten().fold(bound, usize::min).max(1)
    }

    /// Bytes of this process's own memory that are in RAM: written pages and shared memory. Pages of files don't
    /// count, and with them an app's code: the kernel can drop them.
    pub fn resident(&self) -> Option<u64> {
        let status = self.read("proc/self/status")?;
        let anonymous = formats::kilobytes(&status, "RssAnon")?;
        Some(anonymous + formats::kilobytes(&status, "RssShmem").unwrap_or(0))
    }

    /// How scarce memory is just now.
    pub fn stall(&self) -> Stall {
        let read = |path: &str| formats::some_avg10(&self.read(path)?);
        let own = self.groups.unified().next();
        Stall {
            group: own.and_then(|group| read(&format!("{group}/memory.pressure"))),
            machine: read("proc/pressure/memory"),
        }
    }

    /// Mappings that this process may have.
    pub fn max_mappings(&self) -> Option<u64> {
        formats::bytes(&self.read("proc/sys/vm/max_map_count")?)
    }

    /// A file's text, by its path without the first slash.
    fn read(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.root.join(path)).ok()
    }
}
