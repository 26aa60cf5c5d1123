//! What fails for a reason that may pass.

use super::*;

#[test]
fn what_found_no_room_is_tried_again_after_a_while() {
    let mut fixture = Fixture::new();
    let state = folder(&[("a", 1)]);
    let found = found("a", 1, None);
    fixture.look(&state);
    for _ in 0..3 {
        assert_eq!(reads(&fixture.look(&state)), ["a"]);
        assert_eq!(fixture.planner.read(&app("a"), &found, &found, digests("one")), AfterRead::Deploy);
        let reason = "no room".to_owned();
        fixture.planner.postponed(&app("a"), digests("one"), reason, Passes::Surely, fixture.now);
        assert_eq!(
            fixture.planner.outcome(&app("a")),
            Some(&Outcome::Postponed(digests("one"), "no room".to_owned()))
        );
        let due = fixture.planner.next_look().expect("it is tried again");
        assert_eq!(due, fixture.now + READ_AGAIN);
        assert_eq!(reads(&fixture.look(&state)), [] as [&str; 0]);
        fixture.now = due - SETTLE;
    }
    assert_eq!(fixture.take(&state, "one"), [AfterRead::Deploy]);
    assert_eq!(fixture.planner.next_look(), None);
}

/// Reads the app `a` when it is due, has it fail for a reason that may pass, and says after how long it is due again.
fn fails_for_now(fixture: &mut Fixture, state: &FolderState, text: &str) -> Option<Duration> {
    if let Some(due) = fixture.planner.next_look() {
        fixture.now = fixture.now.max(due - SETTLE);
    }
    let steps = fixture.look(state).steps;
    let [Step::Read { app, found }] = &steps[..] else { panic!("{steps:?}") };
    assert_eq!(fixture.planner.read(app, found, found, digests(text)), AfterRead::Deploy);
    let reason = "the compiler was killed".to_owned();
    let again = fixture.planner.postponed(app, digests(text), reason, Passes::Perhaps, fixture.now);
    assert_eq!(fixture.planner.next_look(), again.map(|pause| fixture.now + pause));
    again
}

#[test]
fn what_may_pass_is_tried_again_at_growing_intervals_while_nothing_is_live() {
    let mut fixture = Fixture::new();
    let state = folder(&[("a", 1)]);
    fixture.look(&state);
    for seconds in [5, 10, 20, 40, 80, 160, 300, 300] {
        let again = fails_for_now(&mut fixture, &state, "one");
        assert_eq!(again, Some(Duration::from_secs(seconds)));
    }
    let state = folder(&[("a", 2)]);
    fixture.look(&state);
    assert_eq!(fails_for_now(&mut fixture, &state, "two"), Some(READ_AGAIN), "other bytes, another count");
    fixture.now += READ_AGAIN;
    assert_eq!(fixture.take(&state, "two"), [AfterRead::Deploy]);
    // What is live serves on, so nothing is tried again before it changes.
    let state = folder(&[("a", 3)]);
    fixture.look(&state);
    assert_eq!(fails_for_now(&mut fixture, &state, "three"), None);
    assert!(matches!(fixture.planner.outcome(&app("a")), Some(Outcome::Failed(..))));
    assert_eq!(fixture.settle(&folder(&[("a", 4)]), "three"), [AfterRead::Nothing]);
}
