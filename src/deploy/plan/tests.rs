mod histories;
mod kept;
mod model;
mod passing;

use std::path::Path;
use std::sync::Arc;

use super::super::scan::{Holds, Problem, PublicStamp, Stamp, Trouble};
use super::*;
use crate::prepare::Digest;

const SETTLE: Duration = Duration::from_millis(200);

fn app(name: &str) -> AppName {
    AppName::parse(name).expect("a good name")
}

/// Files whose stamps differ for each version.
fn found(name: &str, version: u64, config: Option<u64>) -> Found {
    let stamp = |path: String, version: u64| Stamp {
        path: path.into(),
        size: 1,
        mtime: (0, 0),
        ctime: (0, 0),
        inode: version,
        dev: 1,
    };
    Found {
        folder: Arc::from(Path::new("/apps")),
        wasm: stamp(format!("/apps/{name}.wasm"), version),
        config: config.map(|version| stamp(format!("/apps/{name}.toml"), version)),
        public: None,
    }
}

fn folder(apps: &[(&str, u64)]) -> FolderState {
    let mut state = FolderState::new((1, 1));
    state.apps = apps.iter().map(|(name, version)| (app(name), found(name, *version, None))).collect();
    state
}

fn digests(text: &str) -> Digests {
    Digests { wasm: Digest::of(text.as_bytes()), config: None, public: None }
}

/// The names of the apps to be read, nothing else being planned.
fn reads(plan: &Plan) -> Vec<&str> {
    let mut names = Vec::new();
    for step in &plan.steps {
        match step {
            Step::Read { app, .. } => names.push(app.as_str()),
            Step::Retire { app } => panic!("{app} is retired"),
            Step::Restore { app } => panic!("{app} is restored"),
        }
    }
    names
}

/// A planner and its clock.
struct Fixture {
    planner: Planner,
    now: Instant,
}

impl Fixture {
    fn new() -> Fixture {
        Fixture { planner: Planner::new(SETTLE), now: Instant::now() }
    }

    /// One look, `SETTLE` after the last one.
    fn look(&mut self, state: &FolderState) -> Plan {
        self.now += SETTLE;
        self.planner.look(state, self.now)
    }

    /// Looks twice and deploys what is to be read, the bytes of each app being `text`.
    fn settle(&mut self, state: &FolderState, text: &str) -> Vec<AfterRead> {
        self.look(state);
        self.take(state, text)
    }

    /// Looks once and does the same with what is due.
    fn take(&mut self, state: &FolderState, text: &str) -> Vec<AfterRead> {
        let steps = self.look(state).steps;
        let read = |step: Step| match step {
            Step::Read { app, found } => Some((app, found)),
            Step::Retire { .. } | Step::Restore { .. } => None,
        };
        let mut results = Vec::new();
        for (app, found) in steps.into_iter().filter_map(read) {
            let result = self.planner.read(&app, &found, &found, digests(text));
            if result == AfterRead::Deploy {
                self.planner.deployed(&app, digests(text));
            }
            results.push(result);
        }
        results
    }
}

#[test]
fn a_file_is_read_after_it_looked_the_same_for_the_settle_time() {
    let mut planner = Planner::new(SETTLE);
    let start = Instant::now();
    let plan = planner.look(&folder(&[("a", 1)]), start);
    assert_eq!(plan, Plan { steps: vec![], next_look: Some(start + SETTLE) });
    assert_eq!(planner.look(&folder(&[("a", 1)]), start + SETTLE / 2).steps, []);
    // It changes, and the time begins anew.
    let changed = start + SETTLE;
    assert_eq!(planner.look(&folder(&[("a", 2)]), changed).next_look, Some(changed + SETTLE));
    let plan = planner.look(&folder(&[("a", 2)]), changed + SETTLE);
    assert_eq!(plan.steps, [Step::Read { app: app("a"), found: found("a", 2, None) }]);
    assert_eq!(plan.next_look, None);
}

#[test]
fn even_without_a_settle_time_one_look_is_not_enough() {
    let mut planner = Planner::new(Duration::ZERO);
    let now = Instant::now();
    assert_eq!(planner.look(&folder(&[("a", 1)]), now).steps, []);
    assert_eq!(planner.look(&folder(&[("a", 1)]), now + Duration::from_millis(1)).steps.len(), 1);
}

#[test]
fn same_bytes_under_another_stamp_are_no_new_release() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.settle(&folder(&[("a", 2)]), "x"), [AfterRead::Deploy]);
    assert_eq!(fixture.settle(&folder(&[("a", 3)]), "x"), [AfterRead::Nothing]);
    // An older stamp with other bytes is one.
    assert_eq!(fixture.settle(&folder(&[("a", 1)]), "y"), [AfterRead::Deploy]);
    assert_eq!(fixture.planner.live(&app("a")), Some(digests("y")));
}

#[test]
fn a_changed_config_alone_is_a_new_release() {
    let mut fixture = Fixture::new();
    let mut state = folder(&[("a", 1)]);
    fixture.settle(&state, "x");
    state.apps.insert(app("a"), found("a", 1, Some(7)));
    fixture.look(&state);
    assert_eq!(reads(&fixture.look(&state)), ["a"]);
    let with_config = Digests { config: Some(Digest::of(b"mode")), ..digests("x") };
    let found = found("a", 1, Some(7));
    assert_eq!(fixture.planner.read(&app("a"), &found, &found, with_config), AfterRead::Deploy);
}

#[test]
fn a_changed_static_file_alone_is_a_new_release() {
    let mut fixture = Fixture::new();
    let with_public = |look: &[u8]| {
        let public = PublicStamp { beside: "a".into(), fingerprint: Digest::of(look) };
        Found { public: Some(Arc::new(public)), ..found("a", 1, None) }
    };
    let digests = |content: &[u8]| Digests { public: Some(Digest::of(content)), ..digests("x") };
    let mut state = folder(&[("a", 1)]);
    let steps = [
        ("one", "1", AfterRead::Deploy),
        ("touched", "1", AfterRead::Nothing),
        ("two", "2", AfterRead::Deploy),
    ];
    for (look, content, expected) in steps {
        let found = with_public(look.as_bytes());
        state.apps.insert(app("a"), found.clone());
        fixture.look(&state);
        assert_eq!(reads(&fixture.look(&state)), ["a"], "{look}");
        let digests = digests(content.as_bytes());
        assert_eq!(fixture.planner.read(&app("a"), &found, &found, digests), expected, "{look}");
        fixture.planner.deployed(&app("a"), digests);
        assert_eq!(fixture.look(&state), Plan::default(), "{look}");
    }
}

#[test]
fn failed_bytes_are_not_tried_again_and_the_last_good_ones_stay() {
    let mut fixture = Fixture::new();
    fixture.settle(&folder(&[("a", 1)]), "good");
    for version in [2, 3] {
        let state = folder(&[("a", version)]);
        fixture.look(&state);
        assert_eq!(reads(&fixture.look(&state)), ["a"]);
        let found = found("a", version, None);
        let expected = if version == 2 { AfterRead::Deploy } else { AfterRead::Nothing };
        assert_eq!(fixture.planner.read(&app("a"), &found, &found, digests("bad")), expected);
        if version == 2 {
            fixture.planner.failed(&app("a"), digests("bad"), "not valid".to_owned());
        }
        assert_eq!(fixture.look(&state), Plan::default());
    }
    assert_eq!(fixture.planner.live(&app("a")), Some(digests("good")));
    let outcome = Outcome::Failed(digests("bad"), "not valid".to_owned());
    assert_eq!(fixture.planner.outcome(&app("a")), Some(&outcome));
    // Back to what is live: nothing to deploy, and the failure is history.
    assert_eq!(fixture.settle(&folder(&[("a", 4)]), "good"), [AfterRead::Nothing]);
    assert_eq!(fixture.planner.outcome(&app("a")), Some(&Outcome::Deployed(digests("good"))));
}

#[test]
fn what_failed_is_tried_again_on_demand() {
    let mut fixture = Fixture::new();
    let state = folder(&[("a", 1)]);
    fixture.settle(&folder(&[("b", 1)]), "good");
    for round in 0..2 {
        let mut state = state.clone();
        state.apps.insert(app("b"), found("b", 1, None));
        fixture.look(&state);
        let plan = fixture.look(&state);
        assert_eq!(reads(&plan), if round == 0 { vec!["a"] } else { vec![] });
        if round == 1 {
            fixture.planner.retry_failed();
            assert_eq!(reads(&fixture.look(&state)), ["a"]);
        }
        let found = found("a", 1, None);
        assert_eq!(fixture.planner.read(&app("a"), &found, &found, digests("x")), AfterRead::Deploy);
        fixture.planner.failed(&app("a"), digests("x"), "its route is taken".to_owned());
    }
}

#[test]
fn a_change_during_a_deploy_waits_for_its_end() {
    let mut fixture = Fixture::new();
    let state = folder(&[("a", 1)]);
    fixture.look(&state);
    fixture.look(&state);
    let first = found("a", 1, None);
    assert_eq!(fixture.planner.read(&app("a"), &first, &first, digests("x")), AfterRead::Deploy);
    let state = folder(&[("a", 2)]);
    fixture.look(&state);
    assert_eq!(fixture.look(&state), Plan::default());
    assert_eq!(fixture.planner.next_look(), None);
    fixture.planner.deployed(&app("a"), digests("x"));
    assert!(fixture.planner.next_look().is_some_and(|at| at <= fixture.now));
    assert_eq!(reads(&fixture.look(&state)), ["a"]);
}

#[test]
fn a_change_during_a_reading_is_looked_at_at_once_and_must_be_quiet_again() {
    let mut fixture = Fixture::new();
    let state = folder(&[("a", 1)]);
    for _ in 0..2 {
        fixture.look(&state);
        assert_eq!(reads(&fixture.look(&state)), ["a"]);
        let (before, after) = (found("a", 1, None), found("a", 2, None));
        assert_eq!(fixture.planner.read(&app("a"), &before, &after, digests("x")), AfterRead::Again);
        assert!(fixture.planner.next_look().is_some_and(|at| at <= fixture.now));
    }
    assert_eq!(reads(&fixture.look(&state)), [""; 0]);
    assert_eq!(reads(&fixture.look(&state)), ["a"]);
    fixture.planner.unreadable(&app("a"), &found("a", 1, None), &ReadError::Gone, fixture.now);
    assert!(fixture.planner.next_look().is_some_and(|at| at <= fixture.now));
    assert_eq!(reads(&fixture.look(&state)), [""; 0]);
}

#[test]
fn one_app_that_never_finishes_delays_no_other() {
    let mut fixture = Fixture::new();
    let state = folder(&[("stuck", 1)]);
    fixture.look(&state);
    assert_eq!(reads(&fixture.look(&state)), ["stuck"]);
    let state = folder(&[("other", 1), ("stuck", 2)]);
    assert_eq!(fixture.settle(&state, "x"), [AfterRead::Deploy]);
    assert_eq!(fixture.planner.live(&app("other")), Some(digests("x")));
}

#[test]
fn an_app_that_is_gone_for_the_settle_time_is_retired() {
    let mut fixture = Fixture::new();
    fixture.settle(&folder(&[("a", 1), ("b", 1)]), "x");
    let state = folder(&[("b", 1)]);
    let plan = fixture.look(&state);
    assert_eq!(plan, Plan { steps: vec![], next_look: Some(fixture.now + SETTLE) });
    assert_eq!(fixture.look(&state).steps, [Step::Retire { app: app("a") }]);
    assert_eq!(fixture.planner.live(&app("a")), None);
    // It is new again when it comes back, whatever its bytes.
    assert_eq!(fixture.settle(&folder(&[("a", 2), ("b", 1)]), "x"), [AfterRead::Deploy]);
}

#[test]
fn deleted_and_made_again_between_two_looks_is_an_ordinary_change() {
    let mut fixture = Fixture::new();
    fixture.settle(&folder(&[("a", 1)]), "x");
    fixture.look(&folder(&[]));
    assert_eq!(fixture.settle(&folder(&[("a", 2)]), "y"), [AfterRead::Deploy]);
}

#[test]
fn an_app_deleted_during_its_deploy_is_retired_after_it() {
    let mut fixture = Fixture::new();
    let state = folder(&[("a", 1)]);
    fixture.look(&state);
    fixture.look(&state);
    let found = found("a", 1, None);
    fixture.planner.read(&app("a"), &found, &found, digests("x"));
    fixture.look(&folder(&[]));
    assert_eq!(fixture.look(&folder(&[])), Plan::default());
    fixture.planner.deployed(&app("a"), digests("x"));
    assert_eq!(fixture.look(&folder(&[])).steps, [Step::Retire { app: app("a") }]);
}

#[test]
fn a_held_app_is_neither_read_nor_retired() {
    let mut fixture = Fixture::new();
    fixture.settle(&folder(&[("a", 1)]), "x");
    let mut state = folder(&[("a", 2)]);
    let trouble = Trouble::Conflict { name: app("a") };
    state.report(Problem { path: "a/app.wasm".into(), holds: Holds::App(app("a")), trouble });
    for _ in 0..5 {
        assert_eq!(fixture.look(&state), Plan::default());
    }
    assert_eq!(fixture.planner.live(&app("a")), Some(digests("x")));
    assert_eq!(fixture.settle(&folder(&[("a", 2)]), "y"), [AfterRead::Deploy]);
}

#[test]
fn an_empty_folder_in_place_of_the_old_one_retires_nothing() {
    let mut fixture = Fixture::new();
    fixture.settle(&folder(&[("a", 1), ("b", 1)]), "x");
    for _ in 0..5 {
        assert_eq!(fixture.look(&FolderState::new((2, 2))), Plan::default());
    }
    // With something in it, it is meant.
    let mut state = folder(&[("a", 9)]);
    state.identity = (2, 2);
    fixture.look(&state);
    let steps = fixture.look(&state).steps;
    assert_eq!(
        steps,
        [Step::Read { app: app("a"), found: found("a", 9, None) }, Step::Retire { app: app("b") }]
    );
}

#[test]
fn the_same_folder_may_be_emptied() {
    let mut fixture = Fixture::new();
    fixture.settle(&folder(&[("a", 1)]), "x");
    fixture.look(&folder(&[]));
    assert_eq!(fixture.look(&folder(&[])).steps, [Step::Retire { app: app("a") }]);
}

#[test]
fn what_the_file_system_refuses_is_tried_again_later_and_what_the_file_is_is_not() {
    let mut fixture = Fixture::new();
    let state = folder(&[("a", 1)]);
    fixture.look(&state);
    fixture.look(&state);
    let source = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
    let error = ReadError::Io { path: "/apps/a.wasm".into(), source };
    let at = fixture.now;
    fixture.planner.unreadable(&app("a"), &found("a", 1, None), &error, at);
    let plan = fixture.look(&state);
    assert_eq!(plan, Plan { steps: vec![], next_look: Some(at + READ_AGAIN) });
    fixture.now = at + READ_AGAIN;
    assert_eq!(reads(&fixture.look(&state)), ["a"]);

    let error = ReadError::TooLarge { path: "/apps/a.wasm".into(), size: 2, max: 1 };
    fixture.planner.unreadable(&app("a"), &found("a", 1, None), &error, fixture.now);
    fixture.now += READ_AGAIN * 100;
    assert_eq!(fixture.look(&state), Plan::default());
    assert!(matches!(fixture.planner.outcome(&app("a")), Some(Outcome::Unreadable(_))));
}

#[test]
fn a_late_result_changes_nothing() {
    let mut fixture = Fixture::new();
    fixture.settle(&folder(&[("a", 1)]), "x");
    fixture.planner.failed(&app("a"), digests("y"), "late".to_owned());
    fixture.planner.deployed(&app("a"), digests("z"));
    fixture.planner.deployed(&app("unseen"), digests("z"));
    let old = found("a", 1, None);
    assert_eq!(fixture.planner.read(&app("a"), &old, &old, digests("w")), AfterRead::Again);
    assert_eq!(fixture.planner.live(&app("a")), Some(digests("x")));
    assert_eq!(fixture.planner.outcome(&app("a")), Some(&Outcome::Deployed(digests("x"))));
}

#[test]
fn what_is_live_or_has_failed_is_deployed_anew_on_demand_once() {
    let mut fixture = Fixture::new();
    let state = folder(&[("a", 1)]);
    assert_eq!(fixture.settle(&state, "one"), [AfterRead::Deploy]);
    assert_eq!(fixture.planner.deploy_anew(&app("a")), Anew::Due);
    assert!(fixture.planner.next_look().is_some_and(|at| at <= fixture.now), "it is due at once");
    assert_eq!(fixture.take(&state, "one"), [AfterRead::Deploy]);
    assert_eq!(fixture.settle(&state, "one"), []);
    // The same for what fails.
    for _ in 0..2 {
        assert_eq!(fixture.planner.deploy_anew(&app("a")), Anew::Due);
        assert_eq!(reads(&fixture.look(&state)), ["a"]);
        let found = found("a", 1, None);
        assert_eq!(fixture.planner.read(&app("a"), &found, &found, digests("one")), AfterRead::Deploy);
        fixture.planner.failed(&app("a"), digests("one"), "no room".to_owned());
    }
    assert_eq!(fixture.settle(&state, "one"), []);
    assert_eq!(fixture.planner.live(&app("a")), Some(digests("one")));
}

#[test]
fn an_order_during_a_reading_or_a_deploy_is_not_lost_and_not_doubled() {
    let mut fixture = Fixture::new();
    let state = folder(&[("a", 1)]);
    let (a, found) = (app("a"), found("a", 1, None));
    fixture.settle(&state, "one");
    fixture.planner.deploy_anew(&a);
    assert_eq!(reads(&fixture.look(&state)), ["a"]);
    // While it is read: this reading serves it.
    assert_eq!(fixture.planner.deploy_anew(&a), Anew::Due);
    assert_eq!(fixture.planner.read(&a, &found, &found, digests("one")), AfterRead::Deploy);
    // While it is deployed: what was read is older than the order.
    assert_eq!(fixture.planner.deploy_anew(&a), Anew::Due);
    assert_eq!(reads(&fixture.look(&state)), [] as [&str; 0]);
    fixture.planner.deployed(&a, digests("one"));
    assert_eq!(reads(&fixture.look(&state)), ["a"]);
    assert_eq!(fixture.planner.read(&a, &found, &found, digests("one")), AfterRead::Deploy);
    fixture.planner.deployed(&a, digests("one"));
    assert_eq!(fixture.planner.next_look(), None);
}

#[test]
fn what_is_gone_held_or_unreadable_is_not_deployed_anew() {
    let mut fixture = Fixture::new();
    let state = folder(&[("a", 1)]);
    fixture.settle(&state, "one");
    assert_eq!(fixture.planner.deploy_anew(&app("b")), Anew::Unknown);
    fixture.planner.deploy_anew(&app("a"));
    assert_eq!(reads(&fixture.look(&state)), ["a"]);
    let error = ReadError::TooLarge { path: "/apps/a.wasm".into(), size: 2, max: 1 };
    fixture.planner.unreadable(&app("a"), &found("a", 1, None), &error, fixture.now);
    assert_eq!(fixture.planner.next_look(), None, "it is not read again and again");
    fixture.look(&folder(&[]));
    assert_eq!(fixture.planner.deploy_anew(&app("a")), Anew::Unknown);
}
