//! What this process has open and holds.

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::HashSet;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::support::until;

/// What may be left on the heap: as a rule it is nothing.
const LEAK_KIB: usize = 64;

/// Resident memory may grow by so much: each slot of the allocator keeps what its first hungry guest needed.
const LEVEL_KIB: usize = 16 << 10;

#[derive(Debug)]
pub struct Footprint {
    descriptors: usize,
    threads: usize,
    /// Files of the code cache that are mapped.
    pub artifacts: usize,
    pub mappings: usize,
    /// Allocated and not freed.
    pub heap_kib: usize,
    /// Resident memory that is not a file's: the heap with its holes, and what guests have.
    pub anonymous_kib: usize,
}

impl Footprint {
    pub fn now() -> Footprint {
        let entries = |folder: &str| fs::read_dir(folder).expect("/proc").count();
        let maps = fs::read_to_string("/proc/self/maps").expect("/proc/self/maps");
        let mapped = maps.lines().filter(|line| line.contains("test-cache"));
        // The inode: the cache may have replaced a file of the same name.
        let artifacts =
            mapped.filter_map(|line| line.split_whitespace().nth(4)).collect::<HashSet<_>>().len();
        let status = fs::read_to_string("/proc/self/status").expect("/proc/self/status");
        let resident = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let kib = resident.and_then(|line| line.trim().split(' ').next()).and_then(|kib| kib.parse().ok());
        Footprint {
            descriptors: entries("/proc/self/fd"),
            threads: entries("/proc/self/task"),
            artifacts,
            mappings: maps.lines().count(),
            heap_kib: ALLOCATED.load(Relaxed) >> 10,
            anonymous_kib: kib.expect("a number of KiB"),
        }
    }

    /// Fails if more memory is held than before, beyond what may be left.
    #[track_caller]
    pub fn has_not_grown(&self, before: &Footprint) {
        assert!(self.has_freed(before), "something was not freed");
        assert!(self.anonymous_kib <= before.anonymous_kib + LEVEL_KIB, "memory grew");
    }

    /// Waits until there are no more descriptors and threads than come and go by themselves, and the heap is as it was.
    /// Threads for blocking work end when they have been idle for a while, and what a guest had may be dropped in another.
    pub async fn near(before: &Footprint) -> Footprint {
        until("descriptors, threads and the heap are as before", || Footprint::now().is_near(before)).await;
        Footprint::now()
    }

    fn is_near(&self, before: &Footprint) -> bool {
        self.descriptors <= before.descriptors + 2
            && self.threads <= before.threads + 2
            && self.has_freed(before)
    }

    fn has_freed(&self, before: &Footprint) -> bool {
        self.heap_kib <= before.heap_kib + LEAK_KIB
    }
}

/// Bytes that are allocated. Resident memory alone tells little: holes that were freed hide a leak for long.
static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static COUNTED: Counted = Counted;

struct Counted;

#[expect(
    unsafe_code,
    reason = "an allocator is unsafe by its interface; this one counts and passes everything on"
)]
// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(memory, layout) }
    }
}
