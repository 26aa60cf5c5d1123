//! Memory compaction, forced: pages that are just being migrated look to some questions as if they were not there.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;

const FILE: &str = "/proc/sys/vm/compact_memory";

/// Blocks of memory that come and go, for holes that pages are moved into, and their size in bytes.
const BLOCKS: usize = 512;
const BLOCK: usize = 256 << 10;

/// A thread that has the kernel compact memory over and over, where the machine lets us.
pub struct Compaction {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<std::io::Result<u32>>>,
    migrated: u64,
}

/// What came of it: a check without it proves less.
#[derive(Debug)]
pub enum Compacted {
    Times { times: u32, pages: u64 },
    Refused(std::io::Error),
}

impl Compaction {
    pub fn force() -> Compaction {
        let over = Arc::new(AtomicBool::new(false));
        let stop = over.clone();
        let thread = std::thread::Builder::new().name("compaction".into()).spawn(move || compact(&stop));
        Compaction { over, thread: thread.ok(), migrated: migrated() }
    }

    pub fn end(mut self) -> Compacted {
        self.over.store(true, Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        match ended {
            Some(Ok(Ok(times))) => {
                Compacted::Times { times, pages: migrated().saturating_sub(self.migrated) }
            }
            Some(Ok(Err(error))) => Compacted::Refused(error),
            Some(Err(_)) | None => Compacted::Refused(std::io::Error::other("no thread for it")),
        }
    }
}

impl Drop for Compaction {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl fmt::Display for Compacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Compacted::Times { times, pages } => {
                write!(f, "memory was compacted {times} times, which moved {pages} pages of the machine")
            }
            Compacted::Refused(error) => {
                write!(f, "memory could not be compacted meanwhile, {FILE}: {error}")
            }
        }
    }
}

fn compact(stop: &AtomicBool) -> std::io::Result<u32> {
    let mut times = 0;
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
}

/// Pages that the kernel has moved since the machine was started.
fn migrated() -> u64 {
    let all = std::fs::read_to_string("/proc/vmstat").unwrap_or_default();
    let line = all.lines().find_map(|line| line.strip_prefix("pgmigrate_success "));
    line.and_then(|count| count.parse().ok()).unwrap_or(0)
}
