//! The slow lane: threads for guests that run for long, of so low a priority that the kernel takes them off the processor
//! the moment that a thread which serves requests has something to do.
//!
//! Guests can be interrupted only now and then, and whoever is ready meanwhile waits. The kernel interrupts at any
//! instruction, and at once if the two priorities are far enough apart ([`give_way_to_all`]) and the thread here has not
//! slept just before ([`let_others_first`]).
//!
//! Such a thread gets hardly anything while the others are never at rest. So as long as there is work here, busy pools
//! leave it its share of the time ([`super::cores`]). Other programs don't: where they leave it next to none, the lane is
//! *starved*, and what would come here is done in the threads that serve requests, until the lane has been seen to get on
//! again ([`Lane::is_starved`]). One of its threads alone says nothing: the kernel may have left it where others are busy.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

use crate::engine::{ThreadClock, give_way_to_all, let_others_first};

/// A lane is starved where an errand takes each of its threads so long: one poll of a guest takes 2 ms of a processor.
const STARVED: Duration = Duration::from_millis(50);

/// So long after the last errand it is tried anew whether the lane is starved.
const ANEW: Duration = Duration::from_millis(250);

/// A thread that something else keeps from its processor, while others of the lane get on, takes no errand for so long: it
/// would hold that up. The kernel may give it another processor meanwhile, which it does to none that wants to run.
const PAUSE: Duration = Duration::from_millis(100);

/// Something to be done in the slow lane. Whoever wants to know of its panics has to catch them.
pub type Errand = Box<dyn FnOnce() + Send>;

/// Threads that do errands in the order in which they come.
#[derive(Default)]
pub struct Lane(Arc<Inner>);

#[derive(Default)]
struct Inner {
    errands: Mutex<Errands>,
    some: Condvar,
    /// What is there to be done at the lowest priority, and the most of it since this was last asked.
    present: AtomicU32,
    peak: AtomicU32,
    came: Notify,
    /// Of its threads.
    clocks: Mutex<Vec<ThreadClock>>,
}

#[derive(Default)]
struct Errands {
    /// No more than there are instances.
    waiting: VecDeque<Waiting>,
    threads: u32,
    idle: usize,
    /// Those that are being done.
    under_way: usize,
    /// Threads that took very long for their last errand.
    slow: u32,
    /// When one was done, or came where there was none.
    moved: Option<Instant>,
    is_starved: bool,
    is_closed: bool,
}

struct Waiting {
    errand: Errand,
    since: Instant,
    /// None if it only tries how long it takes.
    presence: Option<Presence>,
}

/// There is something to be done at the lowest priority, until this is dropped.
pub struct Presence(Arc<Inner>);

impl Drop for Presence {
    fn drop(&mut self) {
        self.0.present.fetch_sub(1, SeqCst);
    }
}

impl Lane {
    /// Has the errand done by one of at most so many threads.
    ///
    /// # Errors
    /// The errand: no thread can be started for it.
    pub fn run(&self, errand: Errand, most: u32) -> Result<(), Errand> {
        let presence = Some(self.enter());
        let mut errands = self.0.errands.lock();
        if errands.waiting.len() >= errands.idle && errands.threads < most {
            self.start_thread(&mut errands);
        }
        if errands.threads == 0 {
            return Err(errand);
        }
        self.push(&mut errands, errand, presence);
        Ok(())
    }

    fn push(&self, errands: &mut Errands, errand: Errand, presence: Option<Presence>) {
        let since = Instant::now();
        if errands.is_empty() {
            errands.moved = Some(since);
        }
        errands.waiting.push_back(Waiting { errand, since, presence });
        self.0.some.notify_one();
    }

    fn start_thread(&self, errands: &mut Errands) {
        let inner = Arc::clone(&self.0);
        let name = format!("slow-{}", errands.threads);
        let started = std::thread::Builder::new().name(name).spawn(move || {
            give_way_to_all();
            inner.clocks.lock().extend(ThreadClock::of_this_thread());
            inner.work();
        });
        match started {
            Ok(_) => errands.threads += 1,
            Err(error) => tracing::debug!("no thread for the slow lane: {error}"),
        }
    }

    /// Something is to be done at the lowest priority, here or by a thread that has given way to all.
    pub fn enter(&self) -> Presence {
        let present = self.0.present.fetch_add(1, SeqCst) + 1;
        if self.0.peak.fetch_max(present, SeqCst) == 0 {
            self.0.came.notify_one();
        }
        Presence(Arc::clone(&self.0))
    }

    /// Do other programs leave it next to no time? Then whatever is urgent is better done elsewhere.
    ///
    /// It is found by what is done here, and where nothing is, by an errand that does nothing: no request has to find it.
    pub fn is_starved(&self) -> bool {
        let mut errands = self.0.errands.lock();
        let unmoved = errands.moved.map(|moved| moved.elapsed());
        if !errands.is_empty() {
            // While it goes on it says nothing of how it will end.
            if unmoved.is_some_and(|unmoved| unmoved > STARVED) {
                errands.found(true);
            }
        } else if unmoved.is_none_or(|unmoved| unmoved > ANEW) {
            if errands.threads == 0 {
                self.start_thread(&mut errands);
            }
            if errands.threads > 0 {
                self.push(&mut errands, Box::new(|| {}), None);
            }
        }
        errands.is_starved
    }

    /// Is there anything to be done at the lowest priority?
    pub fn has_work(&self) -> bool {
        self.present() > 0
    }

    pub(super) fn present(&self) -> u32 {
        self.0.present.load(SeqCst)
    }

    /// The most that was present since this was last asked.
    pub(super) fn take_peak(&self) -> u32 {
        self.0.peak.swap(self.present(), SeqCst)
    }

    /// What its threads have had of the processors so far.
    pub(super) fn time(&self) -> Duration {
        self.0.clocks.lock().iter().map(|clock| clock.time()).sum()
    }

    /// Something has come where there was nothing.
    pub(super) async fn came(&self) {
        self.0.came.notified().await;
    }
}

impl Drop for Lane {
    /// What waits is dropped, what is being done goes on to its end.
    fn drop(&mut self) {
        let mut errands = self.0.errands.lock();
        errands.is_closed = true;
        let waiting = std::mem::take(&mut errands.waiting);
        drop(errands);
        drop(waiting);
        self.0.some.notify_all();
    }
}

impl Errands {
    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.under_way == 0
    }

    fn found(&mut self, is_starved: bool) {
        if self.is_starved != is_starved {
            tracing::debug!(is_starved, "the slow lane");
        }
        self.is_starved = is_starved;
    }
}

impl Inner {
    fn work(&self) {
        let mut errands = self.errands.lock();
        let (mut free, mut is_slow) = (Instant::now(), false);
        loop {
            if let Some(Waiting { errand, since, presence }) = errands.waiting.pop_front() {
                errands.under_way += 1;
                drop(errands);
                let_others_first();
                // A thread is not lost over it.
                let _ = std::panic::catch_unwind(AssertUnwindSafe(errand));
                drop(presence);
                errands = self.errands.lock();
                errands.under_way -= 1;
                let now = Instant::now();
                errands.slow -= u32::from(is_slow);
                is_slow = now - free.max(since) > STARVED;
                errands.slow += u32::from(is_slow);
                let is_starved = errands.slow == errands.threads;
                errands.found(is_starved);
                errands.moved = Some(now);
                free = now;
                if is_slow && !is_starved {
                    drop(errands);
                    std::thread::sleep(PAUSE);
                    errands = self.errands.lock();
                    free = Instant::now();
                }
            } else if errands.is_closed {
                return;
            } else {
                errands.idle += 1;
                self.some.wait(&mut errands);
                errands.idle -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::engine::gives_way_to_all;

    #[test]
    fn errands_are_done_in_order_by_threads_that_give_way_to_all() {
        let (sender, done) = mpsc::channel();
        let lane = Lane::default();
        for number in 0..100 {
            let sender = sender.clone();
            assert!(
                lane.run(Box::new(move || sender.send((number, gives_way_to_all())).unwrap()), 1).is_ok()
            );
        }
        let all: Vec<_> = done.iter().take(100).collect();
        assert_eq!(all, (0..100).map(|number| (number, true)).collect::<Vec<_>>());
        assert!(!gives_way_to_all(), "this thread");
    }

    #[test]
    fn what_waits_when_the_lane_is_gone_is_dropped_and_what_is_under_way_ends() {
        let (begun, has_begun) = mpsc::channel();
        let (go_on, may_go_on) = mpsc::channel::<()>();
        let (sender, done) = mpsc::channel();
        let lane = Lane::default();
        let last = sender.clone();
        let under_way = move || {
            begun.send(()).unwrap();
            may_go_on.recv().unwrap();
            sender.send("done").unwrap();
        };
        assert!(lane.run(Box::new(under_way), 1).is_ok());
        assert!(lane.run(Box::new(move || last.send("never").unwrap()), 1).is_ok());
        has_begun.recv().unwrap();
        assert_eq!((lane.present(), lane.take_peak()), (2, 2));
        while !lane.is_starved() {
            std::thread::yield_now();
        }
        drop(lane);
        go_on.send(()).unwrap();
        assert_eq!(done.iter().collect::<Vec<_>>(), ["done"]);
    }

    #[test]
    fn a_lane_of_which_one_thread_gets_on_is_not_starved_and_leaves_the_other_out_for_a_while() {
        let lane = Lane::default();
        let (sender, done) = mpsc::channel();
        assert!(lane.run(Box::new(|| std::thread::sleep(2 * STARVED)), 2).is_ok());
        let (began, mut threads) = (Instant::now(), std::collections::HashSet::new());
        while began.elapsed() < 3 * STARVED {
            let (sender, before) = (sender.clone(), Instant::now());
            assert!(lane.run(Box::new(move || sender.send(std::thread::current().id()).unwrap()), 2).is_ok());
            threads.insert(done.recv().unwrap());
            if before.elapsed() > STARVED / 2 {
                // The machine is too busy to tell.
                return;
            }
            assert!(!lane.is_starved());
        }
        assert_eq!(threads.len(), 1);
    }

    #[test]
    fn there_are_no_more_threads_than_were_asked_for() {
        let lane = Lane::default();
        let (sender, done) = mpsc::channel();
        for _ in 0..50 {
            let sender = sender.clone();
            let errand = move || sender.send(std::thread::current().id()).unwrap();
            assert!(lane.run(Box::new(errand), 2).is_ok());
        }
        let threads: std::collections::HashSet<_> = done.iter().take(50).collect();
        assert!(threads.len() <= 2, "{threads:?}");
        while lane.present() > 0 {
            std::thread::yield_now();
        }
    }

    #[test]
    fn one_that_was_starved_is_tried_anew_without_a_request() {
        let lane = Lane::default();
        assert!(lane.run(Box::new(|| std::thread::sleep(2 * STARVED)), 1).is_ok());
        while lane.present() > 0 {
            std::thread::yield_now();
        }
        assert!(lane.is_starved() && lane.is_starved());
        let later = |lane: &Lane| lane.0.errands.lock().moved = Instant::now().checked_sub(2 * ANEW);
        later(&lane);
        assert!(lane.is_starved(), "as long as it has not been seen to get on");
        while lane.is_starved() {
            // On a busy machine it may have been too slow this time.
            if lane.0.errands.lock().is_empty() {
                later(&lane);
            }
            std::thread::yield_now();
        }
        assert_eq!(lane.take_peak(), 1, "what was tried is nothing to leave time for");
    }
}
