//! Counters, per app and for the host.

mod tally;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use http::StatusCode;
use serde::Serialize;

use crate::instance::Failure;
use crate::recording::Recorder;
pub use tally::{Counted, Tally};

/// Whose counters a request goes into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnsweredBy {
    /// Not known yet, or nobody.
    None,
    App,
    /// The host itself, from the app's static files.
    Files,
}

/// What happened to one app's requests, over all its releases.
#[derive(Debug)]
pub struct AppCounters {
    recorder: Recorder,
    app: Arc<str>,
    requests: AtomicU64,
    static_requests: AtomicU64,
    static_not_modified: AtomicU64,
    static_failed: AtomicU64,
    /// By class of status: 1xx to 5xx.
    responses: [AtomicU64; 5],
    trapped: AtomicU64,
    cpu_time_exceeded: AtomicU64,
    deadline_passed: AtomicU64,
    bad_answers: AtomicU64,
    client_gone: AtomicU64,
    cpu_nanos: AtomicU64,
    upkeep_nanos: AtomicU64,
    rollbacks: AtomicU64,
}

/// What happened to one release's requests: counted for its app, and how they ended also for itself.
#[derive(Debug)]
pub struct ReleaseCounters {
    pub app: Arc<AppCounters>,
    pub tally: Tally,
}

/// A snapshot of [`AppCounters`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct AppMetrics {
    /// Those that went to the app, and what came of them.
    pub requests: u64,
    pub responses_1xx: u64,
    pub responses_2xx: u64,
    pub responses_3xx: u64,
    pub responses_4xx: u64,
    pub responses_5xx: u64,
    pub trapped: u64,
    pub cpu_time_exceeded: u64,
    pub deadline_passed: u64,
    pub bad_answers: u64,
    pub client_gone: u64,
    /// Time inside the guest, nanoseconds.
    pub cpu_nanos: u64,
    /// Time spent on making instances, their start functions included, and on dropping them, nanoseconds.
    pub upkeep_nanos: u64,
    /// Those that were answered from static files; they are not among `requests` and the responses above.
    pub static_requests: u64,
    /// Of them: the client had the file already.
    pub static_not_modified: u64,
    /// Of them: the host could not read the file.
    pub static_failed: u64,
    /// Releases that were undone, by an order or by themselves.
    pub rollbacks: u64,
}

impl ReleaseCounters {
    pub fn new(app: Arc<AppCounters>) -> Arc<ReleaseCounters> {
        Arc::new(ReleaseCounters { app, tally: Tally::default() })
    }

    /// A response that was begun came to nothing.
    pub fn broken_off(&self, failure: &Failure) {
        if failure.is_the_clients() {
            return self.app.client_gone();
        }
        self.app.failure(failure);
        self.tally.broken_off();
    }
}

impl AppCounters {
    /// Where its requests are taken down.
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    pub fn new(app: Arc<str>) -> Arc<AppCounters> {
        Arc::new(AppCounters {
            app,
            requests: AtomicU64::new(0),
            static_requests: AtomicU64::new(0),
            static_not_modified: AtomicU64::new(0),
            static_failed: AtomicU64::new(0),
            responses: Default::default(),
            trapped: AtomicU64::new(0),
            cpu_time_exceeded: AtomicU64::new(0),
            deadline_passed: AtomicU64::new(0),
            bad_answers: AtomicU64::new(0),
            client_gone: AtomicU64::new(0),
            cpu_nanos: AtomicU64::new(0),
            upkeep_nanos: AtomicU64::new(0),
            rollbacks: AtomicU64::new(0),
            recorder: Recorder::default(),
        })
    }

    pub fn app(&self) -> &Arc<str> {
        &self.app
    }

    pub fn request(&self, answered_by: AnsweredBy) {
        let counter = match answered_by {
            AnsweredBy::None => return,
            AnsweredBy::App => &self.requests,
            AnsweredBy::Files => &self.static_requests,
        };
        counter.fetch_add(1, Relaxed);
    }

    pub fn response(&self, answered_by: AnsweredBy, status: StatusCode) {
        if answered_by == AnsweredBy::Files {
            let counter = match status {
                StatusCode::NOT_MODIFIED => &self.static_not_modified,
                status if status.is_server_error() => &self.static_failed,
                _ => return,
            };
            counter.fetch_add(1, Relaxed);
            return;
        }
        let class = usize::from(status.as_u16() / 100).saturating_sub(1);
        if let Some(counter) = self.responses.get(class) {
            counter.fetch_add(1, Relaxed);
        }
    }

    pub fn failure(&self, failure: &Failure) {
        let counter = match failure {
            Failure::Trapped(_) => &self.trapped,
            Failure::CpuTime(_) => &self.cpu_time_exceeded,
            Failure::Deadline(_) | Failure::Replaced(_) => &self.deadline_passed,
            Failure::NoAnswer
            | Failure::ErrorAnswer(_)
            | Failure::BadAnswer(_)
            | Failure::BadStatus(_)
            | Failure::BrokenBody
            | Failure::BodyTooLarge(_) => &self.bad_answers,
            Failure::BadRequest(_) | Failure::Upload(_) | Failure::SlowClient(_) => return,
        };
        counter.fetch_add(1, Relaxed);
    }

    pub fn client_gone(&self) {
        self.client_gone.fetch_add(1, Relaxed);
    }

    pub fn rolled_back(&self) {
        self.rollbacks.fetch_add(1, Relaxed);
    }

    pub fn add_cpu_time(&self, time: Duration) {
        add(&self.cpu_nanos, time);
    }

    pub fn add_upkeep(&self, time: Duration) {
        add(&self.upkeep_nanos, time);
    }

    pub fn snapshot(&self) -> AppMetrics {
        let [r1, r2, r3, r4, r5] = &self.responses;
        AppMetrics {
            requests: self.requests.load(Relaxed),
            responses_1xx: r1.load(Relaxed),
            responses_2xx: r2.load(Relaxed),
            responses_3xx: r3.load(Relaxed),
            responses_4xx: r4.load(Relaxed),
            responses_5xx: r5.load(Relaxed),
            trapped: self.trapped.load(Relaxed),
            cpu_time_exceeded: self.cpu_time_exceeded.load(Relaxed),
            deadline_passed: self.deadline_passed.load(Relaxed),
            bad_answers: self.bad_answers.load(Relaxed),
            client_gone: self.client_gone.load(Relaxed),
            cpu_nanos: self.cpu_nanos.load(Relaxed),
            upkeep_nanos: self.upkeep_nanos.load(Relaxed),
            static_requests: self.static_requests.load(Relaxed),
            static_not_modified: self.static_not_modified.load(Relaxed),
            static_failed: self.static_failed.load(Relaxed),
            rollbacks: self.rollbacks.load(Relaxed),
        }
    }
}

fn add(nanos: &AtomicU64, time: Duration) {
    nanos.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Relaxed);
}
