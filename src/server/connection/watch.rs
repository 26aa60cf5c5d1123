//! The clock of one connection: how long it may be idle, how long a head may take, and what a drain does to it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::activity::{Activity, Phase};
use crate::server::drain::DrainSignal;

/// What the connection has to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The drain has begun.
    Drain,
    /// Nothing has happened for long enough: end when nothing is under way.
    Finish,
    /// A request was begun and not completed in time.
    TooSlow,
    /// It was told to finish and did not.
    Overdue,
    /// The drain's time is over.
    Abort,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) header: Duration,
    pub(super) idle: Duration,
    pub(super) drain_grace: Duration,
}

/// The time between two requests of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rest {
    /// Requests that had come before it.
    pub(super) requests: u64,
    /// When it began.
    pub(super) since: Instant,
}

pub(super) struct Watch {
    activity: Arc<Activity>,
    times: Times,
    drain: DrainSignal,
    // Both are polled once, to leave the task's waker there; after that the signal's flags are enough.
    signals: [Pin<Box<WaitForCancellationFutureOwned>>; 2],
    registered: bool,
    timer: Pin<Box<Sleep>>,
    /// This task's waker is with the timer.
    armed: bool,
    phase: Phase,
    requests: u64,
    /// When the phase began.
    since: Instant,
    draining: Option<Instant>,
    finishing: Option<Instant>,
}

impl Watch {
    /// `began`: when the connection was accepted; the first head counts from there.
    pub(super) fn new(
        activity: Arc<Activity>,
        times: Times,
        drain: DrainSignal,
        phase: Phase,
        began: Instant,
    ) -> Self {
        Self {
            activity,
            times,
            signals: [Box::pin(drain.draining()), Box::pin(drain.aborting())],
            drain,
            registered: false,
            timer: Box::pin(sleep_until(began + times.header)),
            armed: false,
            phase,
            requests: 0,
            since: began,
            draining: None,
            finishing: None,
        }
    }

    /// Call it each time the connection has been polled and is pending, from one and the same task.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Verdict> {
        self.register(cx);
        if self.drain.is_aborting() {
            return Poll::Ready(Verdict::Abort);
        }
        let now = self.note_phase();
        if self.draining.is_none() && self.drain.is_draining() {
            self.draining = Some(now.unwrap_or_else(Instant::now));
            return Poll::Ready(Verdict::Drain);
        }
        self.poll_deadline(cx)
    }

    /// Where it stands since the last poll if a request has come before and the next one is waited for.
    pub(super) fn rest(&self) -> Option<Rest> {
        let Self { phase, requests, since, .. } = *self;
        (phase == Phase::Idle && requests > 0).then_some(Rest { requests, since })
    }

    fn register(&mut self, cx: &mut Context<'_>) {
        if std::mem::replace(&mut self.registered, true) {
            return;
        }
        for signal in &mut self.signals {
            let _ = poll_surely(signal.as_mut(), cx);
        }
    }

    /// Notes when a phase begins; a request that came and went between two looks counts as well.
    fn note_phase(&mut self) -> Option<Instant> {
        let phase = self.activity.phase();
        let requests = self.activity.requests();
        if phase == self.phase && requests == self.requests {
            return None;
        }
        let now = Instant::now();
        self.phase = phase;
        self.requests = requests;
        self.since = now;
        Some(now)
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<Verdict> {
        let Some((deadline, verdict)) = self.deadline() else {
            return Poll::Pending;
        };
        if deadline < self.timer.deadline() {
            self.timer.as_mut().reset(deadline);
            self.armed = false;
        }
        // An armed timer wakes this task; it need not be polled for each request.
        if self.armed && !self.timer.is_elapsed() {
            return Poll::Pending;
        }
        while poll_surely(self.timer.as_mut(), cx).is_ready() {
            if deadline <= Instant::now() {
                self.finishing.get_or_insert_with(Instant::now);
                return Poll::Ready(verdict);
            }
            self.timer.as_mut().reset(deadline);
        }
        self.armed = true;
        Poll::Pending
    }

    fn deadline(&self) -> Option<(Instant, Verdict)> {
        match (self.phase, self.finishing, self.draining) {
            (Phase::Busy, ..) => None,
            (Phase::Reading, ..) => Some((self.since + self.times.header, Verdict::TooSlow)),
            // HTTP/2: the client is to confirm that it has heard the goodbye.
            (Phase::Idle, Some(told), None) => {
                Some((told.max(self.since) + self.times.header, Verdict::Overdue))
            }
            (Phase::Idle, Some(told), Some(_)) => {
                let patience = self.times.drain_grace * 4;
                Some((told.max(self.since) + patience, Verdict::Overdue))
            }
            // A request may be on the wire: from the moment the client could last think that it is welcome.
            (Phase::Idle, None, Some(began)) => {
                Some((began.max(self.since) + self.times.drain_grace, Verdict::Finish))
            }
            (Phase::Idle, None, None) => Some((self.since + self.times.idle, Verdict::Finish)),
        }
    }
}

/// Polls `future` even if the task has used up its share of this turn: what is polled once must leave its waker.
fn poll_surely(future: Pin<&mut impl Future<Output = ()>>, cx: &mut Context<'_>) -> Poll<()> {
    Pin::new(&mut tokio::task::unconstrained(future)).poll(cx)
}
