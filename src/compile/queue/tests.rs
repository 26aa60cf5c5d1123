use proptest::prelude::*;

use super::*;

/// A queue of one place that somebody has.
fn busy() -> (Queue, Ticket) {
    let mut queue = Queue::new(1);
    let first = queue.join(Standing::Other, Asked::default());
    assert_eq!(queue.admit(), Some(first));
    (queue, first)
}

fn next(queue: &mut Queue, done: Ticket) -> Option<Ticket> {
    queue.leave(done);
    queue.admit()
}

#[test]
fn asked_for_comes_before_ready_before_the_rest_and_else_who_came_first() {
    let (mut queue, first) = busy();
    let asked = Asked::default();
    let rest = [(); 2].map(|()| queue.join(Standing::Other, Asked::default()));
    let ready = [(); 2].map(|()| queue.join(Standing::Ready, Asked::default()));
    let requested = queue.join(Standing::Other, asked.clone());
    let ready_and_requested = queue.join(Standing::Ready, asked.clone());
    asked.note();
    let mut done = first;
    for expected in [ready_and_requested, requested, ready[0], ready[1], rest[0], rest[1]] {
        assert_eq!(queue.admit(), None, "the place is taken");
        assert_eq!(next(&mut queue, done), Some(expected));
        done = expected;
    }
    assert_eq!(next(&mut queue, done), None);
}

#[test]
fn what_was_live_before_has_a_place_of_its_own_whatever_else_takes_its_time() {
    let (mut queue, first) = busy();
    let asked = Asked::default();
    asked.note();
    let requested = queue.join(Standing::Ready, asked);
    let back = [(); 2].map(|()| queue.join(Standing::Back, Asked::default()));
    assert_eq!(queue.admit(), Some(back[0]));
    assert_eq!(queue.admit(), None, "there is one");
    assert_eq!(next(&mut queue, back[0]), Some(back[1]));
    assert_eq!(next(&mut queue, back[1]), None, "it is kept free of others");
    assert_eq!(next(&mut queue, first), Some(requested));
}

#[test]
fn a_request_moves_its_app_to_the_front_while_it_waits() {
    let (mut queue, first) = busy();
    let asked = Asked::default();
    let ready = queue.join(Standing::Ready, Asked::default());
    let late = queue.join(Standing::Other, asked.clone());
    asked.note();
    assert_eq!(next(&mut queue, first), Some(late));
    assert_eq!(next(&mut queue, late), Some(ready));
}

#[test]
fn who_leaves_the_line_is_passed_over_and_takes_nobodys_place() {
    let (mut queue, first) = busy();
    let gone = queue.join(Standing::Ready, Asked::default());
    let other = queue.join(Standing::Other, Asked::default());
    queue.leave(gone);
    assert_eq!(queue.admit(), None);
    assert_eq!(next(&mut queue, first), Some(other));
    queue.leave(first);
    assert_eq!(queue.admit(), None, "a place is left only once");
}

proptest! {
    /// Whatever happens: no more are placed than there are places, none is free while somebody waits, each comes to its
    /// place once, and in the end all have had one.
    #[test]
    fn places_are_never_exceeded_nor_left_free(
        places in 1usize..4,
        steps in prop::collection::vec((0u8..5, any::<prop::sample::Index>()), 1..80),
    ) {
        let mut queue = Queue::new(places);
        let (mut joined, mut placed, mut waiting) = (0, Vec::<(Ticket, bool)>::new(), Vec::new());
        let mut had = 0;
        for (step, which) in steps {
            match step {
                0 | 1 | 4 => {
                    let standing = [Standing::Ready, Standing::Other, Standing::Back][usize::from(step.min(2))];
                    let asked = Asked::default();
                    waiting.push((queue.join(standing, asked.clone()), standing, asked));
                    joined += 1;
                }
                2 if !waiting.is_empty() => which.get(&waiting).2.note(),
                3 if !placed.is_empty() => queue.leave(placed.swap_remove(which.index(placed.len())).0),
                _ => {}
            }
            while let Some(ticket) = queue.admit() {
                let at = waiting.iter().position(|(waiting, ..)| *waiting == ticket);
                let (_, standing, asked) = waiting.remove(at.expect("it waited"));
                let is_back = standing == Standing::Back;
                prop_assert!(is_back || waiting.iter().all(|(_, standing, _)| *standing != Standing::Back));
                let is_asked = is_back || asked.is_noted();
                prop_assert!(is_asked || waiting.iter().all(|(_, _, other)| !other.is_noted()));
                placed.push((ticket, is_back));
                had += 1;
            }
            let new = placed.iter().filter(|(_, is_back)| !is_back).count();
            prop_assert!(new <= places && placed.len() <= places + 1);
            prop_assert!(placed.len() >= places || waiting.is_empty());
            let back_waits = waiting.iter().any(|(_, standing, _)| *standing == Standing::Back);
            prop_assert!(!back_waits || placed.len() == places + 1);
            prop_assert_eq!(queue.waiting(), waiting.len());
            prop_assert_eq!(had + waiting.len(), joined);
        }
    }
}
