//! Work that is put off until the poll that asked for it has ended: for what an answer should not wait for, and what is
//! too short to be worth a task of its own.
//!
//! The task of a connection has the guest run, and writes the answer to the socket, in one poll. What it does right
//! after that finds the processor's caches as the guest left them, costs no task, and delays nobody but the connection's
//! next request.

use std::cell::RefCell;

type Work = Box<dyn FnOnce()>;

thread_local! {
    /// `None` outside of such a poll.
    static PUT_OFF: RefCell<Option<Vec<Work>>> = const { RefCell::new(None) };
}

/// Polls, and then does what was put off meanwhile, in order. If the poll panics that is dropped undone.
pub fn polled<T>(poll: impl FnOnce() -> T) -> T {
    let polling = Polling { outer: PUT_OFF.replace(Some(Vec::new())) };
    let polled = poll();
    let work = PUT_OFF.take();
    // What is put off from here on is for the poll around this one, if there is one.
    drop(polling);
    for work in work.into_iter().flatten() {
        work();
    }
    polled
}

/// Is the thread in a poll after whose end work can be done?
pub fn can_put_off() -> bool {
    PUT_OFF.with_borrow(Option::is_some)
}

/// Has it done after the poll that this is called in; where it is called in none, at once.
pub fn put_off(work: impl FnOnce() + 'static) {
    let mut work: Option<Work> = Some(Box::new(work));
    PUT_OFF.with_borrow_mut(|put_off| {
        if let Some(put_off) = put_off {
            put_off.extend(work.take());
        }
    });
    if let Some(work) = work {
        work();
    }
}

/// Puts what the poll around this one has put off back in its place, also in a panic.
struct Polling {
    outer: Option<Vec<Work>>,
}

impl Drop for Polling {
    fn drop(&mut self) {
        drop(PUT_OFF.replace(self.outer.take()));
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::rc::Rc;

    use super::*;

    fn notes() -> (Rc<RefCell<Vec<&'static str>>>, impl Fn(&'static str) + Clone) {
        let notes = Rc::new(RefCell::new(Vec::new()));
        let noted = Rc::clone(&notes);
        (notes, move |note| noted.borrow_mut().push(note))
    }

    #[test]
    fn what_is_put_off_is_done_in_order_when_the_poll_has_ended() {
        let (notes, note) = notes();
        let later = note.clone();
        let answer = polled(|| {
            assert!(can_put_off());
            let (first, second) = (later.clone(), later.clone());
            put_off(move || first("first"));
            put_off(move || second("second"));
            later("polled");
            5
        });
        assert_eq!((answer, notes.borrow().as_slice()), (5, ["polled", "first", "second"].as_slice()));
    }

    #[test]
    fn outside_of_a_poll_it_is_done_at_once() {
        let (notes, note) = notes();
        assert!(!can_put_off());
        put_off(move || note("at once"));
        assert_eq!(notes.borrow().as_slice(), ["at once"]);
    }

    #[test]
    fn a_poll_within_a_poll_does_its_own_work_first() {
        let (notes, note) = notes();
        polled(|| {
            let outer = note.clone();
            put_off(move || outer("outer"));
            polled(|| {
                let inner = note.clone();
                put_off(move || inner("inner"));
            });
            assert!(can_put_off());
        });
        assert_eq!(notes.borrow().as_slice(), ["inner", "outer"]);
    }

    #[test]
    fn work_of_a_poll_that_panics_is_dropped_and_the_thread_is_as_before() {
        let kept = Rc::new(());
        let held = Rc::clone(&kept);
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            polled(|| {
                put_off(move || drop(held));
                panic!("on purpose");
            });
        }));
        assert!(panicked.is_err() && !can_put_off());
        assert_eq!(Rc::strong_count(&kept), 1);
    }
}
