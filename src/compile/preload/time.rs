//! How long an instance may take for all that it does.

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::engine::thread_cpu_time;

/// Of the processor. What has come of an app is kept, so it must not depend on how busy the machine was: a compiler
/// has the lowest priority.
const COMPUTES: Duration = Duration::from_secs(10);

/// By the clock: one that waits for something computes nothing.
const LASTS: Duration = Duration::from_secs(60);

/// The time of one instance, of which everything that it does is in one thread.
pub struct Time {
    computes_until: Duration,
    until: Instant,
}

/// It is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Late {
    Computed,
    Lasted,
}

impl Time {
    /// Counts what this thread does from now on.
    pub fn start() -> Time {
        Time { computes_until: thread_cpu_time() + COMPUTES, until: Instant::now() + LASTS }
    }

    /// Drives `future`, which gives way now and then, in the thread in which the time was started.
    pub async fn limit<F: Future>(&self, future: F) -> Result<F::Output, Late> {
        let mut future = pin!(future);
        let computing = poll_fn(|cx| match thread_cpu_time() > self.computes_until {
            true => Poll::Ready(Err(Late::Computed)),
            false => future.as_mut().poll(cx).map(Ok),
        });
        timeout_at(self.until, computing).await.unwrap_or(Err(Late::Lasted))
    }
}

/// What it took.
impl fmt::Display for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Late::Computed => write!(f, "more than {} seconds of the processor", COMPUTES.as_secs()),
            Late::Lasted => write!(f, "longer than {} seconds", LASTS.as_secs()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_waits_has_a_minute() {
        let time = Time::start();
        assert_eq!(time.limit(tokio::time::sleep(LASTS / 2)).await, Ok(()));
        // Everything that one instance does is within the same time.
        let begun = Instant::now();
        assert_eq!(time.limit(std::future::pending::<()>()).await, Err(Late::Lasted));
        assert_eq!(begun.elapsed().as_secs(), LASTS.as_secs() / 2);
    }

    #[tokio::test]
    async fn what_computes_has_its_share_of_the_processor() {
        let time = Time { computes_until: thread_cpu_time() + Duration::from_millis(20), ..Time::start() };
        let before = thread_cpu_time();
        let spins = async {
            loop {
                tokio::task::yield_now().await;
            }
        };
        assert_eq!(time.limit::<_>(spins).await, Err::<(), _>(Late::Computed));
        assert!(thread_cpu_time() - before >= Duration::from_millis(20));
    }
}
