//! A guest's future that is polled in the slow lane if it runs for long.
//!
//! It goes there for one poll at a time, and comes back to the task that owns it: what it has made meanwhile, its
//! deadline and its cancellation stay that task's business. Whoever drops it while it is away has it dropped there, as
//! soon as its poll ends, which is at the guest's next interruption at the latest.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::measured::Measured;

/// A measured guest, here or in the slow lane.
pub struct Laned<F: Future> {
    place: Place<F>,
    is_away: bool,
}

enum Place<F: Future> {
    Here(Measured<F>),
    There(Arc<Errand<F>>),
    /// It has ended.
    Nowhere,
}

/// One poll in the slow lane. It is the guest's waker from then on until the next.
struct Errand<F: Future> {
    task: AtomicWaker,
    /// The guest was woken since the poll began.
    woken: AtomicBool,
    state: Mutex<State<F>>,
}

enum State<F: Future> {
    Away,
    /// To be set aside when it is back.
    Unwanted,
    Back(Measured<F>),
    Ended(F::Output),
    Panicked(Box<dyn Any + Send>),
    /// Nobody waits for it any more, or it was taken.
    Over,
}

impl<F: Future> Laned<F> {
    pub fn new(guest: Measured<F>) -> Self {
        Laned { place: Place::Here(guest), is_away: false }
    }

    /// Was its poll under way in another thread when it was last polled here? Then what it has given meanwhile is looked
    /// at when it is back, and not before: a body that breaks off says nothing of why.
    pub fn is_away(&self) -> bool {
        self.is_away
    }

    /// Its owner has nothing more to do for it: if it waits, its turn is another's until it is woken.
    pub fn rest(&self) {
        match &self.place {
            Place::Here(guest) => guest.rest(),
            Place::There(errand) => {
                errand.with_guest(Measured::rest);
            }
            Place::Nowhere => {}
        }
    }

    /// Until its next poll the guest does not run, even if it could: its owner waits for something else.
    pub fn set_aside(&self) {
        match &self.place {
            Place::Here(guest) => guest.set_aside(),
            Place::There(errand) => errand.set_aside(),
            Place::Nowhere => {}
        }
    }
}

impl<F> Future for Laned<F>
where
    F: Future<Output: Send> + Unpin + Send + 'static,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Self { place, is_away } = self.get_mut();
        *is_away = false;
        loop {
            *place = match std::mem::replace(place, Place::Nowhere) {
                Place::Here(mut guest) => match guest.turn() {
                    Some(turn) if turn.is_for_lane() => {
                        let turn = Arc::clone(turn);
                        let errand = Errand::new(cx);
                        let (doing, runtime) = (Arc::clone(&errand), Handle::current());
                        turn.run_in_lane(Box::new(move || doing.poll(guest, &runtime)));
                        Place::There(errand)
                    }
                    _ => {
                        let polled = Pin::new(&mut guest).poll(cx);
                        if polled.is_pending() {
                            *place = Place::Here(guest);
                        }
                        return polled;
                    }
                },
                Place::There(errand) => match errand.take(cx) {
                    Some(State::Back(guest)) => Place::Here(guest),
                    Some(State::Ended(output)) => return Poll::Ready(output),
                    Some(State::Panicked(panic)) => resume_unwind(panic),
                    still => {
                        *is_away = still.is_some();
                        *place = Place::There(errand);
                        return Poll::Pending;
                    }
                },
                Place::Nowhere => return Poll::Pending,
            };
        }
    }
}

impl<F: Future> Drop for Laned<F> {
    fn drop(&mut self) {
        if let Place::There(errand) = &self.place {
            let gone = std::mem::replace(&mut *errand.state.lock(), State::Over);
            drop(gone);
        }
    }
}

impl<F: Future> Errand<F> {
    fn set_aside(&self) {
        if !self.with_guest(Measured::set_aside) {
            let mut state = self.state.lock();
            if matches!(*state, State::Away) {
                *state = State::Unwanted;
            }
        }
    }

    /// Does something to the guest if it is back. Never under the lock: that lets other guests run, which takes the locks
    /// of theirs.
    fn with_guest(&self, act: impl FnOnce(&Measured<F>)) -> bool {
        let mut state = self.state.lock();
        match std::mem::replace(&mut *state, State::Away) {
            State::Back(guest) => {
                drop(state);
                act(&guest);
                self.put(State::Back(guest));
                // Who woke it meanwhile took it to be away.
                if self.woken.load(SeqCst) {
                    self.task.wake();
                }
                true
            }
            other => {
                *state = other;
                false
            }
        }
    }

    /// It is back, or has ended. True if it is to be set aside.
    fn put(&self, back: State<F>) -> bool {
        let mut state = self.state.lock();
        let (gone, is_unwanted) = match &*state {
            // Nobody waits for it: it must not stay here, where it would keep its waker, which is this.
            State::Over => (back, false),
            before => {
                let is_unwanted = matches!(before, State::Unwanted);
                (std::mem::replace(&mut *state, back), is_unwanted)
            }
        };
        drop(state);
        drop(gone);
        is_unwanted
    }
}

impl<F> Errand<F>
where
    F: Future<Output: Send> + Unpin + Send + 'static,
{
    fn new(cx: &Context<'_>) -> Arc<Self> {
        let task = AtomicWaker::new();
        task.register(cx.waker());
        Arc::new(Errand { task, woken: AtomicBool::new(false), state: Mutex::new(State::Away) })
    }

    /// What came of it, if anything yet. `None` if the guest waits, which then stays where it is, for this is its waker.
    fn take(&self, cx: &Context<'_>) -> Option<State<F>> {
        self.task.register(cx.waker());
        let mut state = self.state.lock();
        match &*state {
            State::Back(_) if !self.woken.load(SeqCst) => None,
            State::Away | State::Unwanted => Some(State::Away),
            _ => Some(std::mem::replace(&mut *state, State::Over)),
        }
    }

    /// Polls the guest, in a thread of the slow lane.
    fn poll(self: Arc<Self>, mut guest: Measured<F>, runtime: &Handle) {
        // What the guest waits for, and what its end leaves to be done, is this runtime's.
        let _runtime = runtime.enter();
        let waker = Waker::from(Arc::clone(&self));
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let polled = Pin::new(&mut guest).poll(&mut Context::from_waker(&waker));
            (polled, guest)
        }));
        let back = match polled {
            Ok((Poll::Pending, guest)) => State::Back(guest),
            Ok((Poll::Ready(output), _)) => State::Ended(output),
            Err(panic) => State::Panicked(panic),
        };
        if self.put(back) {
            self.set_aside();
        }
        self.task.wake();
    }
}

impl<F> Wake for Errand<F>
where
    F: Future<Output: Send> + Unpin + Send + 'static,
{
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, SeqCst);
        // While it is away its coming back wakes the task.
        if !matches!(*self.state.lock(), State::Away | State::Unwanted) {
            self.task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::AtomicU32;
    use std::time::Duration;

    use super::*;
    use crate::instance::clock::CpuClock;
    use crate::pool::{Cores, Load, Turn};

    type Guest = Pin<Box<dyn Future<Output = u32> + Send>>;

    fn thread() -> String {
        std::thread::current().name().unwrap_or_default().to_owned()
    }

    /// A request's turn that is for the slow lane, as of one that has run for long.
    fn long(cores: &Arc<Cores>) -> Arc<Turn> {
        let turn = Load::new(cores.clone(), 1).turn();
        turn.worked(Duration::from_secs(1), false);
        turn
    }

    fn laned(turn: &Arc<Turn>, guest: impl Future<Output = u32> + Send + 'static) -> Laned<Guest> {
        let clock = CpuClock::new(Duration::from_secs(1));
        Laned::new(Measured::new(Box::pin(guest), clock, Some(turn.clone())))
    }

    #[tokio::test]
    async fn one_that_has_run_for_long_goes_on_in_the_slow_lane_until_it_waits_and_one_that_has_not_stays() {
        let cores = Arc::<Cores>::default();
        let short = Load::new(cores.clone(), 1).turn();
        let here = thread();
        assert_eq!(laned(&short, async move { u32::from(thread() == here) }).await, 1);
        let runs = laned(&long(&cores), async {
            let before = thread();
            let begun = std::time::Instant::now();
            while begun.elapsed() < Duration::from_millis(1) {}
            tokio::task::yield_now().await;
            // Of the runtime, though it is not one of its threads.
            let after = thread();
            tokio::time::sleep(Duration::from_millis(1)).await;
            u32::from(
                before.starts_with("slow") && after.starts_with("slow") && !thread().starts_with("slow"),
            )
        });
        assert_eq!(runs.await, 1);
    }

    #[tokio::test]
    async fn what_wakes_it_while_it_is_away_or_back_is_not_lost() {
        let turn = long(&Arc::default());
        let (kept, polls) = (Arc::new(Mutex::new(None::<Waker>)), Arc::new(AtomicU32::new(0)));
        let (keeps, counts) = (kept.clone(), polls.clone());
        let mut guest = laned(
            &turn,
            poll_fn(move |cx| {
                // Woken at once the first time, from outside the second time.
                match counts.fetch_add(1, SeqCst) {
                    0 => cx.waker().wake_by_ref(),
                    1 => *keeps.lock() = Some(cx.waker().clone()),
                    _ => return Poll::Ready(7),
                }
                Poll::Pending
            }),
        );
        let wakes = async {
            while kept.lock().is_none() {
                tokio::task::yield_now().await;
            }
            kept.lock().take().unwrap().wake();
        };
        assert_eq!(tokio::join!(&mut guest, wakes).0, 7);
        assert_eq!(polls.load(SeqCst), 3);
    }

    #[tokio::test]
    async fn one_that_is_dropped_while_it_is_away_is_dropped_when_it_is_back() {
        struct Dropped(Option<tokio::sync::oneshot::Sender<bool>>);
        impl Drop for Dropped {
            fn drop(&mut self) {
                let _ = self.0.take().unwrap().send(Handle::try_current().is_ok());
            }
        }
        let (sender, dropped) = tokio::sync::oneshot::channel();
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
        let ends = Dropped(Some(sender));
        let turn = long(&Arc::default());
        let mut guest = laned(&turn, async move {
            let _ends = ends;
            begun.send(()).unwrap();
            may_go_on.recv().unwrap();
            std::future::pending().await
        });
        tokio::select! {
            _ = &mut guest => unreachable!("it never ends"),
            begun = has_begun => begun.unwrap(),
        }
        assert!(guest.is_away());
        guest.set_aside();
        drop(guest);
        go_on.send(()).unwrap();
        assert!(dropped.await.unwrap(), "in the runtime, where others may have to be told");
    }

    #[tokio::test]
    async fn one_set_aside_while_it_is_away_leaves_its_turn() {
        let cores = Arc::<Cores>::default();
        let load = Load::new(cores, 1);
        let turn = load.turn();
        turn.worked(Duration::from_secs(1), false);
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
        let mut guest = laned(&turn, async move {
            begun.send(()).unwrap();
            may_go_on.recv().unwrap();
            tokio::task::yield_now().await;
            1
        });
        tokio::select! {
            _ = &mut guest => unreachable!("it may not go on"),
            begun = has_begun => begun.unwrap(),
        }
        guest.set_aside();
        assert_eq!(load.running(), 1);
        go_on.send(()).unwrap();
        while load.running() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(guest.await, 1);
    }

    #[tokio::test]
    async fn a_panic_is_its_owners() {
        let turn = long(&Arc::default());
        let guest = laned(&turn, async { panic!("as a host function may") });
        assert!(tokio::spawn(guest).await.unwrap_err().is_panic());
    }
}
