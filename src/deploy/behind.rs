//! Work on many files that nobody's request waits for, done by threads that give way to all others.

use std::io;
use std::sync::OnceLock;

use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::engine::{give_way_to_all, let_others_first};

/// At once, of all hosts of the process.
const THREADS: usize = 2;

/// Does work that may block where it keeps nobody from running. It must not ask for the runtime that it is done in.
///
/// A thread that has given way can't take that back, so these are threads of their own. They end when they were idle for
/// some seconds.
pub fn spawn_behind<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    static RUNTIME: OnceLock<io::Result<Runtime>> = OnceLock::new();
    let start = || {
        Builder::new_current_thread()
            .thread_name("behind")
            .max_blocking_threads(THREADS)
            .on_thread_start(give_way_to_all)
            .build()
    };
    match RUNTIME.get_or_init(start) {
        Ok(runtime) => runtime.spawn_blocking(|| {
            let_others_first();
            work()
        }),
        Err(error) => {
            tracing::debug!("no threads that give way: {error}");
            spawn_blocking(work)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::gives_way_to_all;

    #[tokio::test]
    async fn work_is_done_by_a_thread_that_gives_way_and_its_panic_is_told() {
        assert!(spawn_behind(gives_way_to_all).await.unwrap());
        assert!(!gives_way_to_all(), "this thread");
        assert!(spawn_behind(|| panic!("as any code may")).await.unwrap_err().is_panic());
        assert!(spawn_behind(gives_way_to_all).await.unwrap());
    }
}
