//! What is kept: restored at the start, rolled back to, and held back until the file changes.

use super::*;

/// A planner that remembers the app `a`, and its clock; `held`: what it was rolled back from.
fn after_a_restart(held: &[&str]) -> Fixture {
    let mut fixture = Fixture::new();
    let held = held.iter().map(|text| digests(text)).collect();
    fixture.planner.remember(app("a"), held, fixture.now);
    fixture
}

fn restores() -> Vec<Step> {
    vec![Step::Restore { app: app("a") }]
}

#[test]
fn what_was_live_is_restored_before_the_file_is_read() {
    let mut fixture = after_a_restart(&[]);
    let state = folder(&[("a", 1), ("b", 1)]);
    assert_eq!(fixture.look(&state).steps, restores());
    assert_eq!(reads(&fixture.look(&state)), ["b"], "one thing at a time");
    fixture.planner.restored(&app("a"), digests("old"));
    assert_eq!(fixture.planner.live(&app("a")), Some(digests("old")));
    assert_eq!(fixture.planner.outcome(&app("a")), None, "the file was not read yet");
    assert_eq!(fixture.take(&state, "old"), [AfterRead::Nothing]);
    assert_eq!(fixture.settle(&folder(&[("a", 2), ("b", 1)]), "new"), [AfterRead::Deploy]);
}

#[test]
fn a_file_that_is_not_whole_at_the_start_takes_nothing_down() {
    let mut fixture = after_a_restart(&[]);
    let state = folder(&[("a", 1)]);
    fixture.look(&state);
    fixture.planner.restored(&app("a"), digests("old"));
    let steps = fixture.look(&state).steps;
    let [Step::Read { app: name, found }] = &steps[..] else { panic!("{steps:?}") };
    assert_eq!(fixture.planner.read(name, found, found, digests("half")), AfterRead::Deploy);
    fixture.planner.incomplete(name, digests("half"));
    assert_eq!(fixture.planner.live(name), Some(digests("old")));
}

#[test]
fn an_app_whose_file_has_gone_while_no_host_ran_is_forgotten_but_not_in_an_empty_folder() {
    let mut fixture = after_a_restart(&[]);
    for _ in 0..3 {
        assert_eq!(
            fixture.look(&FolderState::new((1, 1))).steps,
            [],
            "it may be a mount that is yet to come"
        );
    }
    let others = folder(&[("b", 1)]);
    assert_eq!(fixture.look(&others).steps, []);
    let steps = fixture.look(&others).steps;
    assert!(steps.contains(&Step::Retire { app: app("a") }), "{steps:?}");
}

#[test]
fn what_an_app_was_rolled_back_from_is_not_deployed_until_other_bytes_are_live() {
    let mut fixture = Fixture::new();
    let state = folder(&[("a", 1)]);
    assert_eq!(fixture.settle(&state, "bad"), [AfterRead::Deploy]);
    assert!(fixture.planner.begin_rollback(&app("a")));
    assert!(!fixture.planner.begin_rollback(&app("a")), "one thing at a time");
    fixture.planner.rolled_back(&app("a"), digests("old"), vec![digests("bad")]);
    assert_eq!(fixture.planner.outcome(&app("a")), Some(&Outcome::Held(digests("bad"))));
    for version in 2..4 {
        assert_eq!(fixture.settle(&folder(&[("a", version)]), "bad"), [AfterRead::Held]);
    }
    // Something that can't be deployed is no other release.
    let broken = folder(&[("a", 4)]);
    fixture.look(&broken);
    let steps = fixture.look(&broken).steps;
    let [Step::Read { app: name, found }] = &steps[..] else { panic!("{steps:?}") };
    fixture.planner.read(name, found, found, digests("broken"));
    fixture.planner.failed(name, digests("broken"), "it is broken".to_owned());
    assert_eq!(fixture.settle(&folder(&[("a", 5)]), "bad"), [AfterRead::Held]);
    assert_eq!(fixture.settle(&folder(&[("a", 6)]), "new"), [AfterRead::Deploy]);
    assert_eq!(fixture.settle(&folder(&[("a", 7)]), "bad"), [AfterRead::Deploy], "it has changed since");
}

#[test]
fn it_stays_so_across_a_restart_of_the_host() {
    let mut fixture = after_a_restart(&["bad"]);
    let state = folder(&[("a", 1)]);
    assert_eq!(fixture.look(&state).steps, restores());
    fixture.planner.restored(&app("a"), digests("old"));
    assert_eq!(fixture.take(&state, "bad"), [AfterRead::Held]);
    assert_eq!(fixture.planner.live(&app("a")), Some(digests("old")));
}

#[test]
fn what_was_rolled_back_is_built_anew_from_what_is_kept() {
    let mut fixture = after_a_restart(&["bad"]);
    let state = folder(&[("a", 1)]);
    fixture.look(&state);
    fixture.planner.restored(&app("a"), digests("old"));
    fixture.take(&state, "bad");
    assert_eq!(fixture.planner.deploy_anew(&app("a")), Anew::Due);
    assert_eq!(fixture.take(&state, "bad"), [AfterRead::Restore]);
    fixture.planner.restored(&app("a"), digests("old"));
    assert_eq!(fixture.planner.next_look(), None);
}

#[test]
fn what_can_not_be_restored_now_is_tried_again_and_what_can_not_at_all_is_not() {
    for (passes, again) in
        [(Passes::Surely, restores()), (Passes::Perhaps, restores()), (Passes::Never, vec![])]
    {
        let mut fixture = after_a_restart(&["bad"]);
        let state = folder(&[("a", 1)]);
        fixture.look(&state);
        fixture.planner.not_restored(&app("a"), passes, fixture.now);
        assert_eq!(fixture.take(&state, "bad"), [AfterRead::Held], "it stays held");
        fixture.now += READ_AGAIN;
        assert_eq!(fixture.look(&state).steps, again);
    }
    // With nothing to be live instead nothing is held back.
    let mut fixture = after_a_restart(&["bad"]);
    let state = folder(&[("a", 1)]);
    fixture.look(&state);
    fixture.planner.nothing_kept(&app("a"));
    assert_eq!(fixture.take(&state, "bad"), [AfterRead::Deploy]);
}

#[test]
fn a_file_that_has_the_bytes_of_what_it_was_rolled_back_to_is_in_step_again() {
    let mut fixture = after_a_restart(&["bad"]);
    let state = folder(&[("a", 1)]);
    fixture.look(&state);
    fixture.planner.restored(&app("a"), digests("old"));
    assert_eq!(fixture.take(&state, "old"), [AfterRead::Nothing]);
    assert!(!fixture.planner.is_held(&app("a")));
    assert_eq!(fixture.settle(&folder(&[("a", 2)]), "bad"), [AfterRead::Deploy]);
}

#[test]
fn who_waits_for_a_file_has_it_read_once_more_and_tried_again_if_it_has_failed() {
    let mut fixture = Fixture::new();
    let state = folder(&[("a", 1)]);
    fixture.settle(&state, "live");
    fixture.planner.look_again(&app("a"));
    assert_eq!(fixture.take(&state, "live"), [AfterRead::Nothing], "read, and not deployed again");
    assert_eq!(fixture.take(&state, "live"), [], "once");
    let broken = folder(&[("a", 2)]);
    fixture.look(&broken);
    let steps = fixture.look(&broken).steps;
    let [Step::Read { app: name, found }] = &steps[..] else { panic!("{steps:?}") };
    fixture.planner.read(name, found, found, digests("broken"));
    fixture.planner.failed(name, digests("broken"), "no room on the disk".to_owned());
    fixture.planner.look_again(&app("a"));
    assert_eq!(fixture.take(&broken, "broken"), [AfterRead::Deploy]);
    fixture.planner.look_again(&app("none"));
    assert_eq!(fixture.planner.presence(&app("none")), Anew::Unknown);
}

#[test]
fn what_may_pass_is_restored_at_growing_intervals() {
    let mut fixture = after_a_restart(&["bad"]);
    let state = folder(&[("a", 1)]);
    fixture.look(&state);
    for (round, seconds) in [5, 10, 20, 40].into_iter().enumerate() {
        let again = fixture.planner.not_restored(&app("a"), Passes::Perhaps, fixture.now);
        assert_eq!(again, Some(Duration::from_secs(seconds)));
        if round == 0 {
            assert_eq!(fixture.take(&state, "bad"), [AfterRead::Held]);
        }
        fixture.now = fixture.planner.next_look().expect("it is tried again") - SETTLE;
        assert_eq!(fixture.look(&state).steps, restores());
    }
    fixture.planner.restored(&app("a"), digests("old"));
    assert_eq!(fixture.planner.next_look(), None);
}

#[test]
fn an_app_that_could_not_be_restored_is_forgotten_with_its_file() {
    let mut fixture = after_a_restart(&[]);
    fixture.look(&folder(&[("a", 1), ("b", 1)]));
    fixture.planner.not_restored(&app("a"), Passes::Never, fixture.now);
    let others = folder(&[("b", 1)]);
    fixture.look(&others);
    let steps = fixture.look(&others).steps;
    assert!(steps.contains(&Step::Retire { app: app("a") }), "{steps:?}");
}
