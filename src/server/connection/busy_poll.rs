//! Looking for the next request for a little longer, instead of going to sleep.
//!
//! A thread that sleeps is woken late and finds cold caches, which can cost more than a small request does. A client that
//! sent its requests at once after the answers will probably do so again: its connection then has the runtime look at its
//! sockets again and again, and lets the thread sleep only when nothing has come. Clients that keep it waiting after all
//! are waited for more and more seldom.
//!
//! A thread that is kept awake is one that others can't have: while there is something to be done at a lower priority,
//! nobody is waited for.

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::task::Context;
use std::time::Duration;

use tokio::time::Instant;

use super::watch::Rest;
use crate::pool;

/// For how long after an answer the next request is looked for: about what a client on the same machine or in the same
/// rack takes, also on a slow machine.
const TIME: Duration = Duration::from_micros(100);

/// Between two looks that follow each other sooner, the thread had nothing else to do.
const LOOK: Duration = Duration::from_micros(5);

/// How many requests in a row must have come so soon before the next one is waited for: at first, and from a client that
/// keeps the connection waiting each time.
const AT_FIRST: u32 = 2;
const AT_MOST: u32 = 1024;

thread_local! {
    /// Until when one of its connections keeps this thread awake: one is enough.
    static AWAKE_UNTIL: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// What one connection does while it waits for its next request.
pub(super) struct BusyPoll<M> {
    /// May a thread be kept awake now?
    may: M,
    habit: Habit,
    /// In which it was when it was last polled.
    rest: Option<Rest>,
    /// When it last looked for a request, if it does.
    looked: Option<Instant>,
}

/// How soon a client sends its next request.
#[derive(Debug)]
struct Habit {
    /// Requests in a row that came soon.
    soon: u32,
    needed: u32,
}

impl<M: Fn() -> bool> BusyPoll<M> {
    pub(super) fn new(may: M) -> Self {
        Self { may, habit: Habit::default(), rest: None, looked: None }
    }

    /// To be called before the connection is polled; the result is for [`BusyPoll::waits`].
    pub(super) fn polls(&self) -> Option<Instant> {
        self.rest.map(|_| Instant::now())
    }

    /// The connection has been polled and waits for something; `rest`: for its next request.
    pub(super) fn waits(&mut self, polled: Option<Instant>, rest: Option<Rest>, cx: &mut Context<'_>) {
        if !(self.may)() {
            return self.sleep(rest);
        }
        if let (Some(before), Some(polled)) = (self.rest, polled) {
            let waited = polled.saturating_duration_since(before.since);
            if rest == self.rest {
                return self.go_on(waited, polled, cx);
            }
            self.came(waited);
        }
        self.rest = rest;
        if let Some(Rest { since, .. }) = rest {
            self.begin(since, cx);
        }
    }

    fn begin(&mut self, now: Instant, cx: &mut Context<'_>) {
        if self.habit.is_worth_it() && AWAKE_UNTIL.get().is_none_or(|until| until <= now) {
            AWAKE_UNTIL.set(Some(now + TIME));
            self.looked = Some(now);
            look_again(cx);
        }
    }

    fn go_on(&mut self, waited: Duration, now: Instant, cx: &mut Context<'_>) {
        let Some(looked) = self.looked else { return };
        if waited >= TIME {
            self.looked = None;
            self.habit.kept_waiting();
            return;
        }
        if now.saturating_duration_since(looked) < LOOK {
            // It could have slept, and is not to be taken for a thread that has no rest.
            pool::thread_awoke();
        }
        self.looked = Some(now);
        look_again(cx);
    }

    /// The thread is needed for something else.
    fn sleep(&mut self, rest: Option<Rest>) {
        self.looks_no_more();
        if rest != self.rest {
            self.rest = None;
        }
    }

    /// Was the next request looked for?
    fn looks_no_more(&mut self) -> bool {
        let was_looked_for = self.looked.take().is_some();
        if was_looked_for {
            AWAKE_UNTIL.set(None);
        }
        was_looked_for
    }

    fn came(&mut self, waited: Duration) {
        let was_looked_for = self.looks_no_more();
        self.habit.came(waited < TIME, was_looked_for);
    }
}

/// Has the task polled again when the runtime has looked at its sockets and timers, and run what else is ready.
fn look_again(cx: &mut Context<'_>) {
    // Its first poll leaves the waker for then.
    let _ = pin!(tokio::task::yield_now()).poll(cx);
}

impl Default for Habit {
    fn default() -> Self {
        Self { soon: 0, needed: AT_FIRST }
    }
}

impl Habit {
    /// Will the next request probably come soon?
    fn is_worth_it(&self) -> bool {
        self.soon >= self.needed
    }

    fn came(&mut self, soon: bool, was_looked_for: bool) {
        self.soon = if soon { self.soon.saturating_add(1) } else { 0 };
        if soon && was_looked_for {
            self.needed = (self.needed / 2).max(AT_FIRST);
        }
    }

    /// It was looked for in vain.
    fn kept_waiting(&mut self) {
        self.soon = 0;
        self.needed = (self.needed * 2).min(AT_MOST);
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::sync::Arc;
    use std::task::Waker;

    use super::super::activity::{Activity, Phase};
    use super::super::watch::{Times, Watch};
    use super::*;
    use crate::server::drain::Drain;
    use crate::server::testing::Wakes;

    /// A connection's part, on a clock that stands still.
    struct Client {
        activity: Arc<Activity>,
        watch: Watch,
        busy_poll: BusyPoll<Box<dyn Fn() -> bool>>,
        may: Rc<Cell<bool>>,
        looks: Arc<Wakes>,
    }

    impl Client {
        fn new() -> Self {
            AWAKE_UNTIL.set(None);
            let signal = Drain::new().signal();
            let activity = Activity::new(signal.clone());
            let long = Duration::from_secs(60);
            let times = Times { header: long, idle: long, drain_grace: long };
            let watch = Watch::new(activity.clone(), times, signal, Phase::Idle, Instant::now());
            let may = Rc::new(Cell::new(true));
            let asked = may.clone();
            let busy_poll: BusyPoll<Box<dyn Fn() -> bool>> = BusyPoll::new(Box::new(move || asked.get()));
            Self { activity, watch, busy_poll, may, looks: Arc::default() }
        }

        /// One poll of the connection; whether it has itself polled again.
        async fn poll(&mut self, work: impl FnOnce(&Arc<Activity>)) -> bool {
            let before = self.looks.count();
            let waker = Waker::from(self.looks.clone());
            let polled = self.busy_poll.polls();
            work(&self.activity);
            let mut cx = Context::from_waker(&waker);
            assert!(self.watch.poll(&mut cx).is_pending());
            self.busy_poll.waits(polled, self.watch.rest(), &mut cx);
            tokio::task::yield_now().await;
            self.looks.count() > before
        }

        /// A request comes after that time and is answered at once.
        async fn asks_after(&mut self, micros: u64) -> bool {
            tokio::time::advance(Duration::from_micros(micros)).await;
            self.poll(|activity| drop(activity.begin())).await
        }

        async fn nothing_comes_for(&mut self, micros: u64) -> bool {
            tokio::time::advance(Duration::from_micros(micros)).await;
            self.poll(|_| ()).await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_is_looked_for_once_it_was_quick_and_until_it_is_not() {
        let mut client = Client::new();
        assert!(!client.asks_after(0).await, "the first request says nothing");
        assert!(!client.asks_after(20).await);
        assert!(client.asks_after(20).await, "it was quick twice");
        assert!(client.nothing_comes_for(20).await);
        assert!(client.asks_after(20).await);
        assert!(client.nothing_comes_for(99).await);
        assert!(!client.nothing_comes_for(1).await, "it has been looked for long enough");
        assert!(!client.nothing_comes_for(1).await);
        for _ in 0..3 {
            assert!(!client.asks_after(20).await, "twice as many have to be quick now");
        }
        assert!(!client.asks_after(100).await, "that was too late, and looked for by nobody");
        for _ in 0..3 {
            assert!(!client.asks_after(20).await);
        }
        assert!(client.asks_after(20).await);
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_that_a_guest_takes_is_none_that_the_client_takes() {
        let mut client = Client::new();
        for _ in 0..4 {
            tokio::time::advance(Duration::from_micros(20)).await;
            let mut asked = None;
            assert!(!client.poll(|activity| asked = Some(activity.begin())).await, "the guest is at work");
            tokio::time::advance(Duration::from_secs(1)).await;
            assert!(!client.poll(|_| ()).await);
            client.poll(|_| drop(asked)).await;
        }
        assert!(client.busy_poll.looked.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn one_connection_keeps_a_thread_awake() {
        let (mut one, mut other) = (Client::new(), Client::new());
        for _ in 0..3 {
            one.asks_after(10).await;
        }
        for _ in 0..2 {
            other.asks_after(10).await;
        }
        assert!(!other.asks_after(10).await, "the thread is awake");
        assert!(one.asks_after(5).await, "it goes on");
        tokio::time::advance(TIME).await;
        assert!(!one.nothing_comes_for(0).await);
        assert!(!other.asks_after(0).await, "it did not come soon");
        for _ in 0..2 {
            other.asks_after(10).await;
        }
        assert!(other.busy_poll.looked.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_looked_for_where_the_thread_may_not_be_kept_awake() {
        let mut client = Client::new();
        client.may.set(false);
        for _ in 0..10 {
            assert!(!client.asks_after(1).await);
        }
        client.may.set(true);
        for _ in 0..3 {
            client.asks_after(1).await;
        }
        assert!(client.nothing_comes_for(1).await);
        client.may.set(false);
        assert!(!client.nothing_comes_for(1).await, "the thread is needed from now on");
        assert!(AWAKE_UNTIL.get().is_none());
        client.may.set(true);
        assert!(!client.nothing_comes_for(1).await, "not before the next request");
        assert!(client.asks_after(1).await);
    }

    #[test]
    fn a_client_that_keeps_waiting_is_looked_for_more_and_more_seldom() {
        let mut habit = Habit::default();
        let mut tries = 0;
        for _ in 0..100_000 {
            habit.came(true, false);
            if habit.is_worth_it() {
                tries += 1;
                habit.kept_waiting();
            }
        }
        assert!(tries < 120, "{tries}");
        for _ in 0..20 {
            habit.came(true, true);
        }
        assert_eq!(habit.needed, AT_FIRST, "it has changed its ways");
    }
}
