//! How long an instance may take for all that it does.

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::engine::thread_cpu_time;

/// Of the processor. What has come of an app is kept, so it must not depend on how busy the machine was: a compiler
/// has the lowest priority.
const COMPUTES: Duration = Duration::from_secs(10);

/// For something to happen, while it computes nothing.
const WAITS: Duration = Duration::from_secs(60);

/// The time of one instance, of which everything that it does is in one thread.
pub struct Time {
    computes_until: Duration,
    may_wait: Duration,
}

/// It is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Late {
    Computed,
    Waited,
}

impl Time {
    /// Counts what this thread does from now on.
    pub fn start() -> Time {
        Time { computes_until: thread_cpu_time() + COMPUTES, may_wait: WAITS }
    }

    /// Drives `future`, which gives way now and then, in the thread in which the time was started.
    pub async fn limit<F: Future>(&mut self, future: F) -> Result<F::Output, Late> {
        let mut future = pin!(future);
        let mut over = pin!(sleep(self.may_wait));
        let mut waits_since = None;
        poll_fn(|cx| {
            if let Some(since) = waits_since.take() {
                self.may_wait = self.may_wait.saturating_sub(Instant::now() - since);
            }
            if thread_cpu_time() > self.computes_until {
                return Poll::Ready(Err(Late::Computed));
            }
            if let Poll::Ready(done) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(done));
            }
            let now = Instant::now();
            waits_since = Some(now);
            over.as_mut().reset(now + self.may_wait);
            over.as_mut().poll(cx).map(|()| Err(Late::Waited))
        })
        .await
    }
}

/// What it took.
impl fmt::Display for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Late::Computed => write!(f, "more than {} seconds of the processor", COMPUTES.as_secs()),
            Late::Waited => write!(f, "more than {} seconds in which it only waited", WAITS.as_secs()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_waits_has_a_minute() {
        let mut time = Time::start();
        assert_eq!(time.limit(sleep(WAITS / 2)).await, Ok(()));
        // All that one instance does is within the same time, and what it does in between does not count.
        tokio::time::advance(WAITS).await;
        let begun = Instant::now();
        assert_eq!(time.limit(std::future::pending::<()>()).await, Err(Late::Waited));
        assert_eq!(begun.elapsed().as_secs(), WAITS.as_secs() / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_kept_from_the_processor_does_not_wait() {
        let mut time = Time::start();
        let preempted = async {
            for _ in 0..10 {
                tokio::time::advance(WAITS / 2).await;
            }
        };
        assert_eq!(time.limit(preempted).await, Ok(()));
    }

    #[tokio::test]
    async fn what_computes_has_its_share_of_the_processor() {
        let mut time =
            Time { computes_until: thread_cpu_time() + Duration::from_millis(20), ..Time::start() };
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
