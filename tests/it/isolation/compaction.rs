//! Memory compaction, forced: pages that are just being migrated look to some questions as if they were not there.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;

const FILE: &str = "/proc/sys/vm/compact_memory";

/// A thread that has the kernel compact memory over and over, where the machine lets us.
pub struct Compaction {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Result<u32, std::io::Error>>,
    migrated: u64,
}

impl Compaction {
    pub fn force() -> Compaction {
        let over = Arc::new(AtomicBool::new(false));
        let stop = over.clone();
        let thread = std::thread::spawn(move || {
            let mut times = 0;
            // Holes, for pages to be moved into.
            let mut churned = vec![Vec::new(); BLOCKS];
            while !stop.load(Relaxed) {
                for _ in 0..BLOCKS / 8 {
                    churned[fastrand::usize(..BLOCKS)] = vec![1_u8; BLOCK];
                    churned[fastrand::usize(..BLOCKS)] = Vec::new();
                }
                std::fs::write(FILE, "1")?;
                times += 1;
            }
            Ok(times)
        });
        Compaction { over, thread, migrated: migrated() }
    }

    /// Ends it and says, past the capture of the tests' output, how often it was done: a run without it proves less.
    pub fn end(self, name: &str) {
        self.over.store(true, Relaxed);
        let said = match self.thread.join().expect("an orderly end") {
            Ok(times) => {
                let pages = migrated().saturating_sub(self.migrated);
                format!("memory was compacted {times} times, which moved {pages} pages of the machine")
            }
            Err(error) => format!("memory was NOT compacted, {FILE}: {error}"),
        };
        let _ = writeln!(std::io::stderr(), "isolation, {name}: {said}");
    }
}

/// Pages that the kernel has moved since the machine was started.
fn migrated() -> u64 {
    let all = std::fs::read_to_string("/proc/vmstat").unwrap_or_default();
    let line = all.lines().find_map(|line| line.strip_prefix("pgmigrate_success "));
    line.and_then(|count| count.parse().ok()).unwrap_or(0)
}

const BLOCKS: usize = 512;
const BLOCK: usize = 256 << 10;
