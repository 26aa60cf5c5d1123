//! What one connection is doing, told by its socket, its requests and its responses to its watch.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::task::Waker;

use futures_util::task::AtomicWaker;

use super::rounds::Crowd;
use crate::server::drain::DrainSignal;

/// What the connection is doing, for the watch's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing under way: the client may say nothing for the idle time.
    Idle,
    /// A request has begun to come and is not complete; nothing is being answered.
    Reading,
    /// A request is being answered: the request's own limits hold.
    Busy,
}

/// Shared by the parts of one connection. HTTP/1 has them all in one task; HTTP/2 streams have their own tasks,
/// which touch `in_flight` only. Every value stands for itself, so that relaxed order is enough.
#[derive(Debug)]
pub(super) struct Activity {
    in_flight: AtomicUsize,
    /// Requests that have come so far.
    requests: AtomicU64,
    /// Heads the framing follower has seen wholly, and the first suspect one.
    heads: AtomicU64,
    first_suspect: AtomicU64,
    mid_request: AtomicBool,
    in_head: AtomicBool,
    write_blocked: AtomicBool,
    finishing: AtomicBool,
    clean: AtomicBool,
    /// The client's sending side has ended; the task that reads is to be woken when nothing is in flight.
    half_closed: AtomicBool,
    reader: AtomicWaker,
    /// Which the last request belonged to; zero if to none.
    crowd: AtomicU64,
    drain: DrainSignal,
}

/// One request in flight, until its response has been handed over wholly or was dropped.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) activity: Arc<Activity>,
}

impl Activity {
    pub(super) fn new(drain: DrainSignal) -> Arc<Self> {
        Arc::new(Self {
            in_flight: AtomicUsize::new(0),
            requests: AtomicU64::new(0),
            heads: AtomicU64::new(0),
            first_suspect: AtomicU64::new(u64::MAX),
            mid_request: AtomicBool::new(false),
            in_head: AtomicBool::new(false),
            write_blocked: AtomicBool::new(false),
            finishing: AtomicBool::new(false),
            clean: AtomicBool::new(false),
            half_closed: AtomicBool::new(false),
            reader: AtomicWaker::new(),
            crowd: AtomicU64::new(0),
            drain,
        })
    }

    pub(super) fn phase(&self) -> Phase {
        if self.in_flight() > 0 || self.write_blocked.load(Relaxed) {
            Phase::Busy
        } else if self.mid_request.load(Relaxed) {
            Phase::Reading
        } else {
            Phase::Idle
        }
    }

    pub(super) fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Relaxed);
        self.requests.fetch_add(1, Relaxed);
        InFlight { activity: self.clone() }
    }

    pub(super) fn set_crowd(&self, crowd: Option<Crowd>) {
        self.crowd.store(crowd.map_or(0, Crowd::get), Relaxed);
    }

    /// The crowd that the next request probably belongs to, as the last one did; none while anything is under way.
    pub(super) fn crowd(&self) -> Option<Crowd> {
        let crowd = Crowd::new(self.crowd.load(Relaxed))?;
        (self.phase() == Phase::Idle && !self.is_ending()).then_some(crowd)
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Relaxed)
    }

    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    /// Whether the framing of the newest request can't be trusted (HTTP/1 only).
    pub(super) fn is_suspect(&self) -> bool {
        let request = self.requests();
        request >= self.first_suspect.load(Relaxed) || request > self.heads.load(Relaxed)
    }

    /// Wakes `reader` when nothing is in flight any more.
    pub(super) fn half_closed(&self, reader: &Waker) {
        self.reader.register(reader);
        self.half_closed.store(true, Relaxed);
    }

    pub(super) fn followed(&self, framing: &super::framing::Framing) {
        self.heads.store(framing.heads(), Relaxed);
        if let Some(request) = framing.first_suspect() {
            self.first_suspect.store(request, Relaxed);
        }
        self.mid_request.store(!framing.between_requests(), Relaxed);
        self.in_head.store(framing.in_head(), Relaxed);
    }

    /// Part of a request has come whose rest has not.
    pub(super) fn is_mid_request(&self) -> bool {
        self.mid_request.load(Relaxed)
    }

    pub(super) fn is_in_head(&self) -> bool {
        self.in_head.load(Relaxed)
    }

    pub(super) fn set_write_blocked(&self, blocked: bool) {
        self.write_blocked.store(blocked, Relaxed);
    }

    /// From now on a quiet socket between two requests reads as closed.
    pub(super) fn finish(&self) {
        self.finishing.store(true, Relaxed);
    }

    pub(super) fn is_finishing(&self) -> bool {
        self.finishing.load(Relaxed)
    }

    /// The next response is to be the last one.
    pub(super) fn is_ending(&self) -> bool {
        self.is_finishing() || self.drain.is_draining()
    }

    /// The connection ended with nothing half said: the socket may be closed instead of reset.
    pub(super) fn set_clean(&self) {
        self.clean.store(true, Relaxed);
    }

    pub(super) fn is_clean(&self) -> bool {
        self.clean.load(Relaxed)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.activity.in_flight.fetch_sub(1, Relaxed);
        if self.activity.half_closed.load(Relaxed) {
            self.activity.reader.wake();
        }
    }
}
