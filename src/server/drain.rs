//! Drain: the server's orderly end.
//!
//! ```text
//! serving --begin--> draining --timeout--> aborting
//!                       |                      |
//!                       +---- all ended -------+--> done
//! ```
//!
//! While *draining*, the acceptor takes what the kernel has already accepted and closes the port; every HTTP/1
//! answer carries `connection: close`, every HTTP/2 connection gets a GOAWAY; a connection between two requests
//! gets a short grace, so that a request already on the wire is still answered. *Aborting* ends what is left.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// How long tasks may take to notice that they were aborted: a guest inside a long poll notices late.
const ABORT_GRACE: Duration = Duration::from_secs(1);

/// The one who orders the drain. Dropping it orders nothing.
#[derive(Debug)]
pub struct Drain {
    shared: Arc<Shared>,
}

/// What every acceptor and connection holds: it tells when to end, and it counts who is still there.
#[derive(Debug, Clone)]
pub struct DrainSignal {
    shared: Arc<Shared>,
}

/// What was left when the drain's time was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were ended with requests in flight, or before they had said goodbye.
    pub aborted: usize,
    /// Connections that did not even notice the abort.
    pub stuck: usize,
}

/// Counts one open connection for as long as it lives.
#[derive(Debug)]
pub struct ConnectionGuard {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    // The flags say the same as the tokens without the tokens' lock: they are read for every response.
    draining: AtomicBool,
    aborting: AtomicBool,
    begun: CancellationToken,
    abort: CancellationToken,
    tasks: TaskTracker,
    connections: AtomicUsize,
}

impl Drain {
    pub fn new() -> Self {
        let shared = Shared {
            draining: AtomicBool::new(false),
            aborting: AtomicBool::new(false),
            begun: CancellationToken::new(),
            abort: CancellationToken::new(),
            tasks: TaskTracker::new(),
            connections: AtomicUsize::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    pub fn signal(&self) -> DrainSignal {
        DrainSignal { shared: self.shared.clone() }
    }

    /// Connections that are open now.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Acquire)
    }

    /// Tasks of acceptors, connections and HTTP/2 streams that are alive now.
    pub fn tasks(&self) -> usize {
        self.shared.tasks.len()
    }

    /// Begins to drain and returns at once.
    pub fn begin(&self) {
        self.shared.tasks.close();
        self.shared.draining.store(true, Ordering::Release);
        self.shared.begun.cancel();
    }

    /// Drains: waits until everything has ended, at most `timeout`, then aborts what is left.
    pub async fn finish(&self, timeout: Duration) -> Drained {
        self.begin();
        if tokio::time::timeout(timeout, self.shared.tasks.wait()).await.is_ok() {
            return Drained { aborted: 0, stuck: 0 };
        }
        let aborted = self.connections();
        tracing::warn!(aborted, "drain timeout passed: ending what is left");
        self.shared.aborting.store(true, Ordering::Release);
        self.shared.abort.cancel();
        let late = tokio::time::timeout(ABORT_GRACE, self.shared.tasks.wait()).await;
        let stuck = if late.is_ok() { 0 } else { self.connections() };
        if stuck > 0 {
            tracing::error!(stuck, "connections did not end when they were aborted");
        }
        Drained { aborted, stuck }
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}

impl DrainSignal {
    pub fn is_draining(&self) -> bool {
        self.shared.draining.load(Ordering::Acquire)
    }

    pub fn is_aborting(&self) -> bool {
        self.shared.aborting.load(Ordering::Acquire)
    }

    /// Resolves when the drain begins.
    pub fn draining(&self) -> WaitForCancellationFutureOwned {
        self.shared.begun.clone().cancelled_owned()
    }

    /// Resolves when the drain's time is over.
    pub fn aborting(&self) -> WaitForCancellationFutureOwned {
        self.shared.abort.clone().cancelled_owned()
    }

    /// Runs `task` on its own; the drain waits for it.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.shared.tasks.spawn(task);
    }

    /// The drain waits for the holder of this token.
    pub fn token(&self) -> TaskTrackerToken {
        self.shared.tasks.token()
    }

    pub fn connection(&self) -> ConnectionGuard {
        self.shared.connections.fetch_add(1, Ordering::AcqRel);
        ConnectionGuard { shared: self.shared.clone() }
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.shared.connections.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests;
