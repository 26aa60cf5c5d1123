//! What this process has open and holds.

use std::collections::HashSet;
use std::fs;

#[derive(Debug)]
pub struct Process {
    descriptors: usize,
    threads: usize,
    /// Files of the code cache that are mapped.
    pub artifacts: usize,
    /// Resident memory that is not a file's.
    pub anonymous_kib: usize,
}

impl Process {
    pub fn now() -> Process {
        let entries = |folder: &str| fs::read_dir(folder).expect("/proc").count();
        let maps = fs::read_to_string("/proc/self/maps").expect("/proc/self/maps");
        let mapped = maps.lines().filter(|line| line.contains("test-cache"));
        // The inode: the cache may have replaced a file of the same name.
        let artifacts =
            mapped.filter_map(|line| line.split_whitespace().nth(4)).collect::<HashSet<_>>().len();
        let status = fs::read_to_string("/proc/self/status").expect("/proc/self/status");
        let resident = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let kib = resident.and_then(|line| line.trim().split(' ').next()).and_then(|kib| kib.parse().ok());
        Process {
            descriptors: entries("/proc/self/fd"),
            threads: entries("/proc/self/task"),
            artifacts,
            anonymous_kib: kib.expect("a number of KiB"),
        }
    }

    /// Whether nothing has grown by more than comes and goes by itself.
    pub fn is_near(&self, before: &Process) -> bool {
        self.descriptors <= before.descriptors + 2 && self.threads <= before.threads + 2
    }
}
