use proptest::prelude::*;

use super::*;

#[test]
fn an_app_alone_has_all() {
    let mut shares = Shares::new(16);
    let app = shares.open("a", 1);
    assert!(shares.take(app, 16));
    assert!(!shares.take(app, 1));
    shares.give_back(app, 16);
    assert_eq!((shares.free(), shares.held()), (16, 0));
}

#[test]
fn the_reserve_is_for_those_under_their_share() {
    let mut shares = Shares::new(16);
    let (rich, poor) = (shares.open("rich", 1), shares.open("poor", 1));
    assert!(shares.take(rich, 14));
    assert!(!shares.may_take(rich, 1), "two of sixteen are kept");
    assert!(shares.take(poor, 1) && shares.take(poor, 1));
    assert_eq!(shares.free(), 0);
}

#[test]
fn an_app_under_its_share_may_have_all_of_it() {
    let mut shares = Shares::new(16);
    let (one, other) = (shares.open("one", 3), shares.open("other", 1));
    assert!(shares.take(other, 4));
    for _ in 0..12 {
        assert!(shares.take(one, 1));
    }
    assert_eq!(shares.free(), 0);
}

#[test]
fn every_app_gets_its_first_instance() {
    let mut shares = Shares::new(16);
    let rich = shares.open("rich", 1000);
    let small = shares.open("small", 1);
    assert!(shares.take(rich, 14));
    assert!(shares.take(small, 1), "although its share is less than one unit");
    assert!(!shares.take(small, 1));
}

#[test]
fn what_counts_is_held_by_weight() {
    let mut shares = Shares::new(100);
    let (light, heavy) = (shares.open("light", 1), shares.open("heavy", 3));
    assert!(shares.take(light, 2) && shares.take(heavy, 4));
    assert!(shares.standing(heavy) < shares.standing(light));
    assert!(shares.take(heavy, 2));
    assert_eq!(shares.standing(heavy), shares.standing(light));
}

#[test]
fn nobody_gives_what_it_would_ask_back_at_once() {
    let mut shares = Shares::new(4);
    let (one, other) = (shares.open("one", 1), shares.open("other", 1));
    shares.take(one, 2);
    assert!(shares.yields(one, other, 1), "it has nothing");
    shares.take(other, 1);
    assert!(!shares.yields(one, other, 1), "two and one are as good as one and two");
    shares.take(one, 1);
    assert!(shares.yields(one, other, 1));
}

#[test]
fn a_release_and_the_one_before_it_are_one_app() {
    let mut shares = Shares::new(8);
    let before = shares.open("app", 1);
    shares.take(before, 3);
    let after = shares.open("app", 5);
    assert_eq!((before, shares.standing(after).held), (after, 3));
    shares.give_back(before, 3);
    shares.close(before);
    assert_eq!(shares.standing(after).weight, 5);
    shares.close(after);
    assert_eq!((shares.accounts.len(), shares.names.len(), shares.weight), (0, 0, 0));
}

#[test]
fn a_lowered_limit_takes_nothing_away_and_gives_nothing_out() {
    let mut shares = Shares::new(8);
    let app = shares.open("app", 1);
    shares.take(app, 6);
    shares.set_limit(4);
    assert_eq!((shares.free(), shares.held()), (0, 6));
    assert!(!shares.take(app, 1));
    shares.give_back(app, 3);
    assert!(shares.take(app, 1));
}

/// Apps that always want more, served as the budget serves them: each time one unit comes back, from any app.
fn compete(limit: u32, weights: &[u32], seed: u64, rounds: u32) -> Vec<u32> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut shares = Shares::new(limit);
    let apps: Vec<_> =
        weights.iter().enumerate().map(|(at, weight)| shares.open(&at.to_string(), *weight)).collect();
    // The first one was there before the others.
    while shares.take(apps[0], 1) {}
    for _ in 0..rounds {
        let holding: Vec<_> = apps.iter().filter(|app| shares.standing(**app).held > 0).collect();
        let ends = *holding[random.usize(..holding.len())];
        shares.give_back(ends, 1);
        while let lowest = *apps.iter().min_by_key(|app| shares.standing(**app)).unwrap()
            && shares.take(lowest, 1)
        {}
    }
    apps.iter().map(|app| shares.standing(*app).held).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn apps_that_always_want_more_come_to_their_shares(
        weights in prop::collection::vec(1_u32..10, 1..8),
        seed in any::<u64>(),
    ) {
        let limit = 200;
        let held = compete(limit, &weights, seed, 4_000);
        let all: u32 = weights.iter().sum();
        for (held, weight) in held.iter().zip(&weights) {
            let share = f64::from(limit * weight) / f64::from(all);
            prop_assert!((f64::from(*held) - share).abs() < 4.0, "{held} of {share}");
        }
    }

    #[test]
    fn who_has_nothing_finds_room_at_once(
        weights in prop::collection::vec(1_u32..10, 2..8),
        limit in 8_u32..1_000,
    ) {
        let mut shares = Shares::new(limit);
        let apps: Vec<_> =
            weights.iter().enumerate().map(|(at, weight)| shares.open(&at.to_string(), *weight)).collect();
        // One takes all it can have, the others little.
        while shares.take(apps[1], 1) {}
        let others = u32::try_from(apps.len()).unwrap() - 1;
        if others <= limit / RESERVE && u64::from(limit) >= shares.weight {
            prop_assert!(apps[2..].iter().all(|app| shares.take(*app, 1)));
            prop_assert!(shares.take(apps[0], 1));
        }
    }
}
