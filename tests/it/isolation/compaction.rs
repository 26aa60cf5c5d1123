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
}

impl Compaction {
    pub fn force() -> Compaction {
        let over = Arc::new(AtomicBool::new(false));
        let stop = over.clone();
        let thread = std::thread::spawn(move || {
            let mut times = 0;
            while !stop.load(Relaxed) {
                std::fs::write(FILE, "1")?;
                times += 1;
            }
            Ok(times)
        });
        Compaction { over, thread }
    }

    /// Ends it and says, past the capture of the tests' output, how often it was done: a run without it proves less.
    pub fn end(self, name: &str) {
        self.over.store(true, Relaxed);
        let said = match self.thread.join().expect("an orderly end") {
            Ok(times) => format!("memory was compacted {times} times"),
            Err(error) => format!("memory was NOT compacted, {FILE}: {error}"),
        };
        let _ = writeln!(std::io::stderr(), "isolation, {name}: {said}");
    }
}
