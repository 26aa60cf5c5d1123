use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::cage::{self, Cage, Ending, Look, Setup};
use super::canary::{Canary, Shape};
use super::{Effort, check};
use crate::config::Mode;
use crate::engine::{EngineKind, EngineSettings, Engines};
use crate::pool::Budget;
use crate::prepare;

const SMALL: u32 = 20;

fn settings() -> EngineSettings {
    EngineSettings { instances: 4, ..EngineSettings::default() }
}

fn caged(shape: Shape, mode: Mode, engines: &Arc<Engines>, budget: &Budget) -> Cage {
    caged_in(EngineKind::Plain, shape, mode, engines, budget)
}

fn caged_in(engine: EngineKind, shape: Shape, mode: Mode, engines: &Arc<Engines>, budget: &Budget) -> Cage {
    let canary = Canary::new(shape, SMALL);
    let payload = cage::compile(&canary, engines, engine).expect("code");
    let setup = Setup { mode, engine, instances: 2 };
    Cage::new(canary, &payload, setup, engines, budget).expect("a cage")
}

#[test]
fn all_canaries_are_apps() {
    for shape in Shape::ALL {
        for pages in [0, SMALL, 1_000, u32::MAX] {
            let canary = Canary::new(shape, pages);
            let checked = prepare::check(&canary.wasm().expect("good text")).expect("an app");
            assert_eq!(checked.kind, canary.kind());
        }
    }
}

/// The canaries have no such state, since no app can have it: if that changes they have to be given some.
#[test]
fn no_app_has_references_to_the_host_in_its_state() {
    for state in ["(global (mut externref) (ref.null extern))", "(table 1 externref)"] {
        let wasm = wat::parse_str(format!("(module {state} (func (export \"_start\")))")).expect("good text");
        let refusal = prepare::check(&wasm).expect_err(state).to_string();
        assert!(refusal.contains("externref") || refusal.contains("gc"), "{refusal}");
    }
}

/// Each time the same instance, put back, unless it ended badly.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_that_is_put_back_in_place_finds_all_as_new_after_each_ending() {
    let engines = Engines::new(settings()).expect("engines");
    let budget = Budget::new(4, 16);
    let cage = caged_in(EngineKind::Rewound, Shape::Service, Mode::Pooled, &engines, &budget);
    for round in 0..10 {
        for ending in Ending::ALL {
            cage.look(ending).await.unwrap_or_else(|error| panic!("{ending:?}: {error}"));
            for _ in 0..3 {
                let look = cage.look(Ending::Answer).await.expect("a look");
                assert!(matches!(look, Look::Clean(_)), "in round {round}, after {ending:?}: {look:?}");
            }
        }
    }
    let rewinds = cage.pool().manager().rewinds().expect("it is rewound");
    assert!(rewinds.rewound >= 300 && rewinds.dropped >= 5 * rewinds.rewound, "{rewinds:?}");
    assert!(rewinds.failed < 20 && rewinds.differing == 0, "{rewinds:?}");
}

/// Not put back in part: its memories are left as they are, and it says so.
#[cfg(debug_assertions)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_finds_memory_that_is_not_put_back_in_place() {
    // So seldom that no rewind is compared but the first.
    let compared = std::num::NonZero::new(u64::MAX).expect("a number");
    let engines = Engines::new(EngineSettings { compared, ..settings() }).expect("engines");
    let cage = caged_in(EngineKind::Rewound, Shape::Service, Mode::Pooled, &engines, &Budget::new(4, 16));
    while cage.pool().manager().rewinds().expect("it is rewound").rewound == 0 {
        let look = cage.look(Ending::Answer).await.expect("a look");
        assert!(matches!(look, Look::Clean(_)), "{look:?}");
    }
    engines.break_rewind();
    let mut looks = Vec::new();
    for _ in 0..5 {
        looks.push(cage.look(Ending::Answer).await.expect("a look"));
    }
    assert!(looks.iter().any(|look| matches!(look, Look::Found(_))), "{looks:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_each_clean_mode_a_canary_finds_all_as_new_after_each_ending() {
    let engines = Engines::new(settings()).expect("engines");
    let budget = Budget::new(4, 16);
    for mode in [Mode::Pooled, Mode::Cached, Mode::Cold] {
        for shape in Shape::ALL {
            let cage = caged(shape, mode, &engines, &budget);
            for ending in Ending::ALL {
                cage.look(ending).await.unwrap_or_else(|error| panic!("{mode} {shape} {ending:?}: {error}"));
                let look = cage.look(Ending::Answer).await.expect("a look");
                assert!(matches!(look, Look::Clean(_)), "{mode} {shape} after {ending:?}: {look:?}");
            }
            cage.close().await;
        }
    }
    assert_eq!(budget.free(), budget.units());
}

/// A check that can't fail is no check.
#[cfg(debug_assertions)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_canary_finds_engines_that_do_not_reset() {
    for shape in Shape::ALL {
        let engines = Engines::new(settings()).expect("engines");
        let cage = caged(shape, Mode::Pooled, &engines, &Budget::new(4, 16));
        engines.break_reset();
        assert!(matches!(cage.look(Ending::Answer).await, Ok(Look::Clean(_))));
        let mut found = 0;
        for _ in 0..8 {
            found += u32::from(matches!(cage.look(Ending::Answer).await, Ok(Look::Found(_))));
        }
        assert!(found > 0, "{shape}");
    }
}

#[cfg(debug_assertions)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_finds_engines_that_do_not_reset() {
    let broken = EngineSettings { reset_is_broken: true, ..settings() };
    let verdict = check(&broken, Effort::AT_START).await.expect("a verdict");
    let text = verdict.to_string();
    assert!(verdict.dirty > 0, "{text}");
    let begin = format!("NOT isolated: of {} instances, looked at in ", verdict.checked);
    assert!(text.starts_with(&begin) && text.contains("was not as new: "), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_tells_what_it_checked() {
    let part = EngineSettings { memory_keep_resident: 640 << 10, ..settings() };
    for settings in [settings(), part, settings().safest()] {
        let effort = Effort { time: Duration::from_millis(300), compact: false, endings: &Ending::QUICK };
        let verdict = check(&settings, effort).await.expect("a verdict");
        let text = verdict.to_string();
        assert_eq!((verdict.dirty, verdict.finding), (0, None), "{text}");
        assert!(verdict.checked > 0, "{text}");
        assert!(text.starts_with(&format!("verified: {} instances", verdict.checked)), "{text}");
        assert!(text.contains(&settings.to_string()), "{text}");
    }
}

/// Marks of a canary and how its request ended.
type Step = (Shape, Ending);

fn step() -> impl Strategy<Value = Step> {
    let slow = [
        Ending::CpuTime,
        Ending::CpuTimeInAnswer,
        Ending::Deadline,
        Ending::DeadlineInAnswer,
        Ending::CancelledInAnswer,
    ];
    let ending = prop_oneof![
        30 => proptest::sample::select(&Ending::QUICK[..]),
        1 => proptest::sample::select(slow.to_vec()),
    ];
    (proptest::sample::select(&Shape::ALL[..]), ending)
}

/// Two clients at once, in a budget that is too small for all, so that instances move between slots.
#[test]
fn whatever_was_before_each_instance_is_as_new() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let _runtime = runtime.enter();
    let engines = Engines::new(settings()).expect("engines");
    let budget = Budget::new(4, 16);
    let cages = Shape::ALL.map(|shape| caged(shape, Mode::Pooled, &engines, &budget));
    let steps = || proptest::collection::vec(step(), 1..16);
    let mut runner = TestRunner::new(Config { cases: 24, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&(steps(), steps()), |(one, other)| {
        let client = async |steps: Vec<Step>| {
            for (shape, ending) in steps {
                let cage = &cages[Shape::ALL.iter().position(|other| *other == shape).expect("one of all")];
                for ending in [ending, Ending::Answer] {
                    let look = cage.look(ending).await.expect("a look");
                    prop_assert!(!matches!(look, Look::Found(_)), "{shape}, {ending:?}: {look:?}");
                }
            }
            Ok(())
        };
        let (one, other) = runtime.block_on(async { tokio::join!(client(one), client(other)) });
        one.and(other)
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}
