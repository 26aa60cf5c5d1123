//! Histories made up at random, with rollbacks, failed probations and restarts of the host: after any of them and some
//! quiet time, what is live is what the folder and the orders say.

use proptest::prelude::*;

use super::Passes;
use super::model::{Content, Event, Mount, NAMES, World};

fn content() -> impl Strategy<Value = Content> {
    // Few different ones, so that bytes come back that were there before.
    (0u8..3, 0u8..4).prop_map(|(kind, n)| match kind {
        0 => Content::Bad(n % 2),
        1 => Content::Partial(n % 2),
        _ => Content::Good(n),
    })
}

fn passes() -> impl Strategy<Value = Passes> {
    prop_oneof![Just(Passes::Surely), Just(Passes::Perhaps), Just(Passes::Never)]
}

fn event() -> impl Strategy<Value = Event> {
    let app = || 0..NAMES.len();
    prop_oneof![
        4 => (app(), content()).prop_map(|(app, content)| Event::Write(app, content)),
        1 => app().prop_map(Event::Touch),
        2 => app().prop_map(Event::Delete),
        1 => (app(), app()).prop_map(|(from, to)| Event::Rename(from, to)),
        1 => (app(), 0u8..3).prop_map(|(app, config)| Event::WriteConfig(app, config)),
        1 => app().prop_map(Event::DeleteConfig),
        1 => app().prop_map(Event::Hold),
        1 => app().prop_map(Event::Release),
        2 => prop_oneof![3 => Just(Mount::Here), 1 => Just(Mount::Lost), 1 => Just(Mount::Empty)]
            .prop_map(Event::Mount),
        12 => (1u16..500).prop_map(Event::Look),
        6 => app().prop_map(Event::FinishRead),
        6 => app().prop_map(Event::FinishDeploy),
        4 => app().prop_map(Event::FinishRestore),
        2 => (app(), passes()).prop_map(|(app, passes)| Event::FailDeploy(app, passes)),
        2 => (app(), passes()).prop_map(|(app, passes)| Event::FailRestore(app, passes)),
        2 => app().prop_map(Event::RollBack),
        1 => app().prop_map(Event::FailProbation),
        2 => app().prop_map(Event::StandProbation),
        1 => prop::bool::ANY.prop_map(|in_order| Event::Restart { in_order }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn after_any_history_and_some_quiet_what_is_live_is_what_folder_and_orders_say(
        history in proptest::collection::vec(event(), 0..120),
        stuck in proptest::option::weighted(0.3, 0..NAMES.len()),
    ) {
        let mut world = World::new();
        for event in history {
            world.apply(event);
        }
        let followed = world.come_to_rest(stuck);
        for app in (0..NAMES.len()).filter(|app| Some(*app) != stuck) {
            let served = world.served.get(&app).copied();
            let (is_kept, is_lost) = (world.records.contains_key(&app), world.lost.contains(&app));
            let wanted = world.wanted(app);
            match (wanted, world.undone.get(&app)) {
                // It was rolled back from just that.
                (Some(Some(wanted)), Some((undone, back_to))) if undone.contains(&wanted) => {
                    let back_to = (!is_lost).then_some(*back_to);
                    prop_assert_eq!(served, back_to, "app {}", NAMES[app]);
                }
                (Some(wanted), _) => prop_assert_eq!(served, wanted, "app {}", NAMES[app]),
                // Bad files never take a good release down, across restarts neither.
                (None, _) => prop_assert_eq!(served.is_some(), is_kept && !is_lost, "app {}", NAMES[app]),
            }
            if wanted == Some(None) && followed {
                prop_assert!(!is_kept, "app {}: its file is gone, and something of it is kept", NAMES[app]);
            }
        }
    }
}
