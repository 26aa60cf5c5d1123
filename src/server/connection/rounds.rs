//! The connections of a flood are let in a few at a time.
//!
//! The runtime polls what is ready in order, and only then looks at its sockets again. Of a flood much is ready, each takes
//! the time of a request, and whoever else comes stands behind all of it. So while a thread has no rest, a connection
//! whose last request went to a busy pool, or to one that refused it, has to wait with its next one, before it is read, in a
//! line of its pool's. In each *round* a few of all lines in turn are let in; then the runtime looks at its sockets, and those
//! who stand in no line go before the next round. So does the first one of a pool that nobody waits for and that has had
//! nothing in the round: it would be let in next in any case.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::pool;

/// How long a round should take.
const ROUND: Duration = Duration::from_micros(100);

/// Connections that are let in at first in a round, and at most.
const AT_FIRST: usize = 4;
const AT_MOST: usize = 64;

/// The pool that keeps its connections waiting.
pub type Crowd = NonZeroU64;

thread_local! {
    static ROUNDS: Arc<Mutex<Rounds>> = Arc::default();
}

/// Whether a connection of this crowd may read its next request now; else the waker is woken when it may. To be asked
/// within the runtime.
pub(super) fn enter(crowd: Crowd, waker: &Waker) -> bool {
    if !pool::thread_has_no_rest(Instant::now()) {
        return true;
    }
    let rounds = ROUNDS.with(Arc::clone);
    let mut state = rounds.lock();
    if state.lines.is_empty() && state.let_in < state.most() {
        state.let_in += 1;
        return true;
    }
    if state.lets_pass(crowd) {
        return true;
    }
    state.line_up(crowd, waker.clone());
    if !std::mem::replace(&mut state.is_running, true) {
        drop(state);
        tokio::spawn(run(rounds));
    }
    false
}

/// One round after the other, as long as somebody waits.
async fn run(rounds: Arc<Mutex<Rounds>>) {
    loop {
        // To the end of the runtime's line, behind a look at the sockets.
        tokio::task::yield_now().await;
        let now = Instant::now();
        // Those who are let in need not look again: while one did, the others would have to queue for its turn.
        pool::thread_looked(now);
        let Some(next) = rounds.lock().next_round(now) else { return };
        next.into_iter().for_each(Waker::wake);
    }
}

/// Those of one thread.
struct Rounds {
    /// In the order in which the next one of each is let in. None is empty.
    lines: VecDeque<Line>,
    /// When the round under way began, if there is one.
    began: Option<Instant>,
    /// In this round.
    let_in: usize,
    /// The pools that they are of. No more than there are busy ones.
    had: Vec<Crowd>,
    /// What one that is let in takes on the average, with all that is done besides.
    each: Duration,
    is_running: bool,
}

struct Line {
    crowd: Crowd,
    /// No more than there are connections.
    waiting: VecDeque<Waker>,
}

impl Default for Rounds {
    fn default() -> Self {
        let each = ROUND / AT_FIRST as u32;
        Self { lines: VecDeque::new(), began: None, let_in: 0, had: Vec::new(), each, is_running: false }
    }
}

impl Rounds {
    fn line_up(&mut self, crowd: Crowd, waker: Waker) {
        // There are few of them: pools that keep the processors busy.
        match self.lines.iter_mut().find(|line| line.crowd == crowd) {
            Some(line) => line.waiting.push_back(waker),
            None => self.lines.push_back(Line { crowd, waiting: VecDeque::from([waker]) }),
        }
    }

    /// Is it one who need not wait beside those of other pools?
    fn lets_pass(&mut self, crowd: Crowd) -> bool {
        let passes = !self.lines.is_empty()
            && !self.had.contains(&crowd)
            && self.lines.iter().all(|line| line.crowd != crowd);
        if passes {
            self.had.push(crowd);
            self.let_in += 1;
        }
        passes
    }

    /// Those who are let in next; none if there is no need for rounds any more.
    fn next_round(&mut self, now: Instant) -> Option<Vec<Waker>> {
        if let Some(began) = self.began.replace(now)
            && let Ok(let_in) = u32::try_from(self.let_in)
            && let_in > 0
        {
            self.each = (self.each * 7 + now.saturating_duration_since(began) / let_in) / 8;
        }
        self.let_in = 0;
        self.had.clear();
        if self.lines.is_empty() {
            (self.began, self.is_running) = (None, false);
            return None;
        }
        let most = self.most();
        let next: Vec<Waker> = std::iter::from_fn(|| self.next()).take(most).collect();
        self.let_in = next.len();
        Some(next)
    }

    fn next(&mut self) -> Option<Waker> {
        let mut line = self.lines.pop_front()?;
        let next = line.waiting.pop_front();
        if !self.had.contains(&line.crowd) {
            self.had.push(line.crowd);
        }
        if !line.waiting.is_empty() {
            self.lines.push_back(line);
        }
        next
    }

    /// How many may be let in in a round.
    fn most(&self) -> usize {
        let most = ROUND.as_nanos() / self.each.as_nanos().max(1);
        usize::try_from(most).unwrap_or(AT_MOST).clamp(1, AT_MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::testing::Wakes;

    fn crowd(number: u64) -> Crowd {
        Crowd::new(number).expect("not zero")
    }

    /// So many of a crowd, none of which may go on at once.
    fn come(number: u64, count: usize) -> Vec<Arc<Wakes>> {
        let mut all = Vec::new();
        while all.len() < count {
            let one = Arc::new(Wakes::default());
            if !enter(crowd(number), &Waker::from(one.clone())) {
                all.push(one);
            }
        }
        all
    }

    fn let_in(all: &[Arc<Wakes>]) -> usize {
        all.iter().filter(|one| one.count() > 0).count()
    }

    fn thread_has_no_rest() {
        pool::keep_thread_awake();
        ROUNDS.with(|rounds| *rounds.lock() = Rounds::default());
    }

    async fn a_look() {
        tokio::task::yield_now().await;
    }

    #[tokio::test]
    async fn on_a_thread_that_rests_nobody_waits() {
        pool::thread_awoke();
        for _ in 0..10 {
            pool::thread_awoke();
            assert!(enter(crowd(1), Waker::noop()));
        }
        thread_has_no_rest();
        let entered = (0..10).filter(|_| enter(crowd(1), Waker::noop())).count();
        assert_eq!(entered, AT_FIRST, "else as many as belong to a round");
    }

    #[tokio::test]
    async fn a_few_of_each_line_are_let_in_between_two_looks() {
        thread_has_no_rest();
        let (flood, other) = (come(1, 1000), come(2, 1));
        assert_eq!((let_in(&flood), let_in(&other)), (0, 0));
        while let_in(&flood) == 0 {
            a_look().await;
        }
        assert!(other[0].count() > 0, "its line is as good as the other");
        assert!(let_in(&flood) < 100);
        let in_order = flood.iter().take_while(|one| one.count() > 0).count();
        assert_eq!(in_order, let_in(&flood));
        while let_in(&flood) < flood.len() {
            a_look().await;
        }
        assert!(flood.iter().all(|one| one.count() == 1));
        while ROUNDS.with(|rounds| rounds.lock().is_running) {
            a_look().await;
        }
        thread_has_no_rest();
        assert!(enter(crowd(1), Waker::noop()), "nobody waits any more");
    }

    #[tokio::test]
    async fn the_only_one_of_a_pool_passes_those_who_wait_for_another_once_in_a_round() {
        thread_has_no_rest();
        let flood = come(1, 1000);
        let passes = || enter(crowd(2), Waker::noop());
        assert!(passes());
        assert!(!passes(), "it has had its part of the round, and waits in a line of its own");
        while let_in(&flood) == 0 {
            a_look().await;
        }
        assert!(!passes(), "the one that waited was let in in this round");
        for _ in 0..3 {
            a_look().await;
        }
        assert!(enter(crowd(3), Waker::noop()));
        assert!(!enter(crowd(1), Waker::noop()), "it has a line");
    }

    #[test]
    fn a_round_has_as_many_as_it_has_time_for() {
        let (mut rounds, mut now) = (Rounds::default(), Instant::now());
        let mut most = |each: Duration| {
            let mut most = 0;
            for _ in 0..100 {
                (0..AT_MOST).for_each(|_| rounds.line_up(crowd(1), Waker::noop().clone()));
                most = rounds.next_round(now).expect("somebody").len();
                now += each * u32::try_from(most).expect("few");
            }
            most
        };
        assert_eq!(most(Duration::from_micros(20)), 5);
        assert_eq!(most(Duration::from_millis(1)), 1);
        assert_eq!(most(Duration::from_nanos(100)), AT_MOST);
        assert_eq!(most(Duration::from_micros(20)), 5);
    }
}
