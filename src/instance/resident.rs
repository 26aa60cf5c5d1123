//! Mode `resident`: few instances, each at work on many requests at once.
//!
//! A pool of seats stands before them, so that admission, queue and fairness are those of any other mode: each request
//! leases a seat, and is given a place at an instance when it is called. [`roster`], pure, says at which; [`task`] is what
//! each instance runs in, and [`begun`] how answers leave it.
//!
//! No single call of a store can be ended. So a request that takes too long has its instance retired: it takes no more,
//! and ends when the others have had their time. A trap ends all that is on it at once.

mod begun;
mod roster;
mod task;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Notify, SetOnce, mpsc, oneshot};

use super::call::Sender;
use super::clock::{CpuClock, CpuTimeExceeded};
use super::{Factory, GuestRequest, MakeError};
use crate::pool::{expiry, now};
use roster::{Bounds, Overdue, Roster};

/// The resident instances of one release.
pub struct Resident {
    factory: Factory,
    /// Where they run: a deploy begins them, and its runtime is not for guests.
    serving: Handle,
    roster: Mutex<Roster<AtWork>>,
    /// An instance is being begun: one at a time.
    beginning: tokio::sync::Mutex<()>,
    /// A place may have become free.
    changed: Notify,
    seats: AtomicUsize,
}

/// How an instance at work is reached. When all of these are dropped it takes no more requests.
struct AtWork {
    jobs: mpsc::UnboundedSender<Job>,
    ended: Arc<SetOnce<Ended>>,
}

/// One request, on its way to an instance.
struct Job {
    place: roster::Place,
    request: GuestRequest,
    answer: Sender,
    /// Told when the answer's body has ended, or the request could not be put to the guest.
    done: oneshot::Sender<wasmtime::Result<()>>,
}

/// An instance is gone.
struct Ended {
    cause: Cause,
    /// Its store is there for as long as somebody has this.
    keeps_store: Option<mpsc::Sender<Infallible>>,
}

/// Why an instance is gone.
#[derive(Debug, Clone, thiserror::Error)]
enum Cause {
    #[error("it was retired")]
    Retired,
    #[error("its guest was busy for longer than its cpu_time of {0:?}")]
    CpuTime(Duration),
    #[error("its requests have had the request_timeout of {0:?}, and none can be ended by itself")]
    Overdue(Duration),
    #[error("{0}")]
    Trapped(Arc<str>),
    #[error("its task was ended")]
    Lost,
}

/// The request took longer than its `request_timeout`, and was ended with its instance.
#[derive(Debug, thiserror::Error)]
#[error("the request_timeout of {0:?} passed")]
pub struct RequestTimeExceeded(pub Duration);

/// What a request leases of a resident app: the right to a place at one of its instances.
pub struct Seat {
    resident: Arc<Resident>,
    clock: Arc<CpuClock>,
    /// Keeps the store of an instance that has failed until the lease ends.
    failed: Option<mpsc::Sender<Infallible>>,
}

impl Resident {
    /// `factory`: makes the instances.
    pub fn new(factory: Factory, serving: Handle) -> Arc<Resident> {
        let config = factory.config();
        let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        let bounds = Bounds {
            least: count(config.min_instances).max(1),
            most: config.most_instances().map_or(usize::MAX, count).max(1),
            max_concurrent: count(config.max_concurrent).max(1),
            idle_time: config.idle_time,
            request_timeout: config.request_timeout,
        };
        Arc::new(Resident {
            factory,
            serving,
            roster: Mutex::new(Roster::new(bounds)),
            beginning: tokio::sync::Mutex::new(()),
            changed: Notify::new(),
            seats: AtomicUsize::new(0),
        })
    }

    /// Where its instances run.
    pub fn serving(&self) -> &Handle {
        &self.serving
    }

    /// Instances that take requests.
    pub fn at_work(&self) -> usize {
        self.roster.lock().at_work()
    }

    /// A seat. Begins an instance if there are fewer than `min_instances`, or none.
    ///
    /// # Errors
    /// It can't be made.
    pub async fn seat(self: &Arc<Self>) -> Result<Seat, MakeError> {
        // Counted first: without a seat there are no instances.
        self.seats.fetch_add(1, SeqCst);
        let clock = CpuClock::new(Duration::MAX);
        let seat = Seat { resident: Arc::clone(self), clock, failed: None };
        self.begin_if(Roster::is_short).await?;
        Ok(seat)
    }

    /// Gives a request a place at an instance; waits until there is one.
    async fn place(
        self: &Arc<Self>,
        request: GuestRequest,
        answer: Sender,
        done: oneshot::Sender<wasmtime::Result<()>>,
    ) -> Result<Arc<SetOnce<Ended>>, MakeError> {
        let mut waiting = Some((request, answer, done));
        loop {
            // Before the look, so that nothing is missed after it.
            let changed = self.changed.notified();
            let may_add = {
                let mut roster = self.roster.lock();
                if let Some((place, instance)) = roster.take(now())
                    && let Some((request, answer, done)) = waiting.take()
                {
                    let ended = Arc::clone(&instance.ended);
                    // One that has just ended drops the job: the request learns it from `ended`.
                    let _ = instance.jobs.send(Job { place, request, answer, done });
                    return Ok(ended);
                }
                roster.may_add()
            };
            if may_add {
                self.begin_if(|roster| roster.may_add() && !roster.has_place()).await?;
            } else {
                changed.await;
            }
        }
    }

    /// Begins an instance if that is still wanted when it is its turn.
    async fn begin_if(
        self: &Arc<Self>,
        is_wanted: impl Fn(&Roster<AtWork>) -> bool,
    ) -> Result<(), MakeError> {
        if !is_wanted(&self.roster.lock()) {
            return Ok(());
        }
        let _turn = self.beginning.lock().await;
        if !is_wanted(&self.roster.lock()) {
            return Ok(());
        }
        let instance = self.factory.instance().await?;
        let (jobs, incoming) = mpsc::unbounded_channel();
        let ended = Arc::new(SetOnce::new());
        let config = self.factory.config();
        let requests = config.max_requests.clone().map_or(u64::MAX, fastrand::u64);
        let now = now();
        let expires = config.max_lifetime.map(|time| expiry(now, time));
        let reached = AtWork { jobs, ended: Arc::clone(&ended) };
        let id = self.roster.lock().add(reached, requests, expires, now);
        self.serving.spawn(task::run(Arc::clone(self), id, instance, incoming, ended));
        self.changed.notify_waiters();
        Ok(())
    }

    /// An instance is gone: others take its place at once.
    fn gone(self: &Arc<Self>, id: roster::Id) {
        self.roster.lock().remove(id);
        self.make_up();
    }

    /// A request has ended; its place is another's.
    fn ended(self: &Arc<Self>, place: roster::Place, is_worn: bool) {
        self.roster.lock().ended(place, is_worn, now());
        self.make_up();
    }

    fn overdue(self: &Arc<Self>, id: roster::Id) -> Overdue {
        let (overdue, was_retired) = self.roster.lock().overdue(id, now());
        if was_retired {
            self.make_up();
        }
        overdue
    }

    /// Lets those look again who wait for a place, and begins what is missing as long as somebody may ask for it.
    fn make_up(self: &Arc<Self>) {
        self.changed.notify_waiters();
        if self.seats.load(SeqCst) > 0 && self.roster.lock().is_short() {
            let resident = Arc::clone(self);
            // If it fails, the next request says so.
            self.serving.spawn(async move { drop(resident.begin_if(Roster::is_short).await) });
        }
    }
}

impl Seat {
    pub(super) fn clock(&self) -> Arc<CpuClock> {
        Arc::clone(&self.clock)
    }

    /// Has an instance answer a request, until the answer's body has ended.
    ///
    /// # Errors
    /// The instance failed, by this request or by another; or there is none.
    pub(super) async fn call(&mut self, request: GuestRequest, answer: Sender) -> wasmtime::Result<()> {
        let (done, worked) = oneshot::channel();
        let instance = self.resident.place(request, answer, done).await.map_err(wasmtime::Error::new)?;
        if let Ok(worked) = worked.await {
            return worked;
        }
        let ended = instance.wait().await;
        self.failed = ended.keeps_store.clone();
        Err(ended.cause.error())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let was_last = self.resident.seats.fetch_sub(1, SeqCst) == 1;
        let mut roster = self.resident.roster.lock();
        if was_last { roster.retire_all() } else { roster.trim(now()) }
    }
}

impl Cause {
    fn of(error: &wasmtime::Error) -> Cause {
        match error.downcast_ref::<CpuTimeExceeded>() {
            Some(exceeded) => Cause::CpuTime(exceeded.0),
            None => Cause::Trapped(format!("{error:?}").into()),
        }
    }

    /// What it is to a request that was on the instance.
    fn error(&self) -> wasmtime::Error {
        match self {
            Cause::CpuTime(limit) => wasmtime::Error::new(CpuTimeExceeded(*limit)),
            // All of them have had it, this one too: its own timer may be about to say so.
            Cause::Overdue(limit) => wasmtime::Error::new(RequestTimeExceeded(*limit)),
            cause => wasmtime::Error::msg(format!("the resident instance that it was on ended: {cause}")),
        }
    }
}
