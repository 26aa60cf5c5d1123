use std::collections::VecDeque;

use super::*;

/// A pool that only counts.
struct Fake {
    app: String,
    id: Id,
    budget: Budget,
    spare: Mutex<Vec<Permit>>,
    /// Its places in line, the first one first.
    places: Mutex<VecDeque<Id>>,
    /// How many permits it still wants.
    needs: AtomicUsize,
    got: Mutex<Vec<Permit>>,
}

impl Fake {
    fn new(budget: &Budget, needs: usize) -> Arc<Self> {
        let app = format!("fake {}", fastrand::u64(..));
        let fake = Arc::new(Self {
            id: budget.open(&app, 1),
            app,
            budget: budget.clone(),
            spare: Mutex::default(),
            places: Mutex::default(),
            needs: AtomicUsize::new(needs),
            got: Mutex::default(),
        });
        budget.register(fake.id, fake.weak());
        fake
    }

    fn weak(self: &Arc<Self>) -> Weak<dyn Member> {
        let me: Weak<Self> = Arc::downgrade(self);
        me
    }

    fn idles(&self, count: u32) {
        let permits = (0..count).map(|_| self.budget.take(self.id, 1).expect("units are left"));
        self.spare.lock().extend(permits);
    }

    fn got(&self) -> usize {
        self.got.lock().len()
    }

    fn join(self: &Arc<Self>, units: u32) -> Id {
        let id = self.budget.open(&self.app, 1);
        assert!(self.budget.take_or_join(id, units, self.weak()).is_none());
        self.places.lock().push_back(id);
        id
    }
}

impl Member for Fake {
    fn spare(&self) -> u32 {
        self.spare.lock().len() as u32
    }

    fn each(&self) -> u32 {
        1
    }

    fn give_up(self: Arc<Self>) {
        let permit = self.spare.lock().pop();
        drop(permit);
    }

    fn press(&self, _: Pressure) {}

    fn take_turn(self: Arc<Self>) {
        let id = self.places.lock().pop_front().expect("it stands in line");
        let wants = self.needs.load(Relaxed) > 0;
        if let Some(permit) = self.budget.take_turn(id, wants) {
            self.needs.fetch_sub(1, Relaxed);
            self.got.lock().push(permit);
        }
    }
}

/// Units that some app holds.
fn take(budget: &Budget, units: u32) -> Option<Permit> {
    budget.take(budget.open("holder", 1), units)
}

fn join(budget: &Budget, units: u32, fake: &Arc<Fake>) -> Id {
    let id = fake.join(units);
    budget.serve();
    id
}

#[test]
fn a_permit_holds_its_units_until_it_is_dropped() {
    let budget = Budget::new(5, 0);
    let permit = take(&budget, 3);
    assert!(permit.is_some());
    assert_eq!(budget.free(), 2);
    assert!(take(&budget, 3).is_none());
    drop(permit);
    assert_eq!(budget.free(), 5);
}

#[test]
fn units_go_to_the_pool_that_waits_longest() {
    let budget = Budget::new(2, 0);
    let (one, two) = (take(&budget, 1), take(&budget, 1));
    let (first, second) = (Fake::new(&budget, 1), Fake::new(&budget, 1));
    join(&budget, 1, &first);
    join(&budget, 1, &second);
    drop(one);
    assert_eq!((first.got(), second.got()), (1, 0));
    drop(two);
    assert_eq!((first.got(), second.got()), (1, 1));
}

#[test]
fn nobody_passes_a_pool_that_needs_many_units() {
    let budget = Budget::new(4, 0);
    let (three, one) = (take(&budget, 3), take(&budget, 1));
    let (heavy, light) = (Fake::new(&budget, 1), Fake::new(&budget, 1));
    join(&budget, 4, &heavy);
    join(&budget, 1, &light);
    drop(one);
    assert!(take(&budget, 1).is_none());
    assert_eq!((heavy.got(), light.got()), (0, 0));
    drop(three);
    assert_eq!((heavy.got(), light.got()), (1, 0));
}

#[test]
fn a_pool_that_leaves_the_line_makes_way() {
    let budget = Budget::new(4, 0);
    let (_three, one) = (take(&budget, 3), take(&budget, 1));
    let (heavy, light) = (Fake::new(&budget, 1), Fake::new(&budget, 1));
    let id = join(&budget, 4, &heavy);
    join(&budget, 1, &light);
    drop(one);
    budget.quit_line(id);
    budget.serve();
    assert_eq!((heavy.got(), light.got()), (0, 1));
    assert_eq!((budget.in_line(), budget.free()), (0, 0));
}

#[test]
fn units_that_nobody_wants_any_more_go_to_the_next_and_at_last_back() {
    let budget = Budget::new(1, 0);
    let permit = take(&budget, 1);
    let pools: Vec<_> = [0, 0, 1, 0].into_iter().map(|needs| Fake::new(&budget, needs)).collect();
    for pool in &pools {
        join(&budget, 1, pool);
    }
    drop(permit);
    assert_eq!(pools.iter().map(|pool| pool.got()).collect::<Vec<_>>(), [0, 0, 1, 0]);
    pools[2].got.lock().clear();
    assert_eq!((budget.in_line(), budget.free()), (0, 1));
}

#[test]
fn a_long_line_is_served_on_a_shallow_stack() {
    /// Its permit is of no use, and goes back at once.
    struct Wasteful(Budget, Mutex<VecDeque<Id>>);
    impl Member for Wasteful {
        fn spare(&self) -> u32 {
            0
        }
        fn each(&self) -> u32 {
            1
        }
        fn give_up(self: Arc<Self>) {}
        fn press(&self, _: Pressure) {}
        fn take_turn(self: Arc<Self>) {
            let id = self.1.lock().pop_front().expect("it stands in line");
            drop(self.0.take_turn(id, true));
        }
    }
    let budget = Budget::new(1, 0);
    let permit = take(&budget, 1);
    let pool = Arc::new(Wasteful(budget.clone(), Mutex::default()));
    for _ in 0..4_000 {
        let me: Weak<Wasteful> = Arc::downgrade(&pool);
        let id = budget.open("waits", 1);
        assert!(budget.take_or_join(id, 1, me).is_none());
        pool.1.lock().push_back(id);
    }
    drop(permit);
    assert_eq!((budget.in_line(), budget.free()), (0, 1));
}

#[test]
fn who_is_not_first_gets_nothing() {
    let budget = Budget::new(2, 0);
    let permit = take(&budget, 1);
    let (heavy, light) = (Fake::new(&budget, 1), Fake::new(&budget, 1));
    heavy.join(2);
    let id = light.join(1);
    assert!(budget.take_turn(id, true).is_none());
    assert_eq!((budget.in_line(), budget.free()), (1, 1));
    drop(permit);
    assert_eq!((heavy.got(), budget.free()), (1, 0));
}

#[test]
fn a_pool_that_was_dropped_in_line_is_passed() {
    let budget = Budget::new(2, 0);
    let (one, _other) = (take(&budget, 1), take(&budget, 1));
    let (gone, here) = (Fake::new(&budget, 1), Fake::new(&budget, 1));
    join(&budget, 2, &gone);
    join(&budget, 1, &here);
    drop(gone);
    drop(one);
    assert_eq!(here.got(), 1);
}

#[test]
fn the_pool_with_most_to_spare_gives() {
    let budget = Budget::new(5, 0);
    let (poor, rich) = (Fake::new(&budget, 0), Fake::new(&budget, 0));
    poor.idles(2);
    rich.idles(3);
    let needy = Fake::new(&budget, 1);
    join(&budget, 1, &needy);
    assert_eq!((poor.spare(), rich.spare(), needy.got()), (2, 2, 1));
}

#[test]
fn as_many_are_given_up_as_a_heavy_pool_needs() {
    let budget = Budget::new(5, 0);
    let rich = Fake::new(&budget, 0);
    rich.idles(5);
    let needy = Fake::new(&budget, 1);
    join(&budget, 3, &needy);
    assert_eq!((rich.spare(), needy.got(), budget.free()), (2, 1, 0));
}

#[test]
fn after_a_search_in_vain_nobody_searches_until_the_line_forms_anew() {
    let budget = Budget::new(1, 0);
    let permit = take(&budget, 1);
    let (first, second) = (Fake::new(&budget, 1), Fake::new(&budget, 1));
    let searched = || {
        let state = budget.0.state.lock();
        state.searched == state.shortage
    };
    assert!(searched());
    let id = join(&budget, 1, &first);
    assert!(searched());
    budget.quit_line(id);
    second.join(1);
    assert!(!searched());
    budget.serve();
    assert!(searched());
    drop(permit);
    assert_eq!((first.got(), second.got()), (0, 1));
}

#[test]
fn as_many_may_wait_as_the_queue_is_long() {
    let budget = Budget::new(1, 2);
    assert!(budget.enter_queue() && budget.enter_queue());
    assert!(!budget.enter_queue());
    budget.leave_queue(2);
    assert!(budget.enter_queue());
    assert_eq!(budget.waiting(), 1);
}

#[test]
fn a_pool_that_panics_does_not_stop_the_line() {
    struct Panics;
    impl Member for Panics {
        fn spare(&self) -> u32 {
            0
        }
        fn each(&self) -> u32 {
            1
        }
        fn give_up(self: Arc<Self>) {}
        fn press(&self, _: Pressure) {}
        fn take_turn(self: Arc<Self>) {
            panic!("an instance's destructor")
        }
    }
    let budget = Budget::new(1, 0);
    let permit = take(&budget, 1);
    let panics = Arc::new(Panics);
    let me: Weak<Panics> = Arc::downgrade(&panics);
    let id = budget.open("waits", 1);
    budget.take_or_join(id, 1, me);
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(permit)));
    assert!(caught.is_err());
    assert_eq!(budget.free(), 1);
    budget.quit_line(id);
    let taken = take(&budget, 1);
    let needy = Fake::new(&budget, 1);
    join(&budget, 1, &needy);
    drop(taken);
    assert_eq!(needy.got(), 1);
}

#[test]
fn units_go_to_the_app_that_stands_lowest() {
    let budget = Budget::new(4, 0);
    let holder = take(&budget, 1);
    let (rich, poor) = (Fake::new(&budget, 1), Fake::new(&budget, 1));
    let _held = [budget.take(rich.id, 1), budget.take(rich.id, 1), budget.take(poor.id, 1)];
    join(&budget, 1, &rich);
    join(&budget, 1, &poor);
    drop(holder);
    assert_eq!((rich.got(), poor.got()), (0, 1), "although it came later");
}

#[test]
fn the_app_that_stands_highest_gives_what_it_can_spare() {
    let budget = Budget::new(7, 0);
    let (poor, rich) = (Fake::new(&budget, 0), Fake::new(&budget, 0));
    poor.idles(2);
    rich.idles(1);
    let _busy: Vec<_> = (0..4).map(|_| budget.take(rich.id, 1)).collect();
    let needy = Fake::new(&budget, 1);
    join(&budget, 1, &needy);
    assert_eq!((poor.spare(), rich.spare(), needy.got()), (2, 0, 1));
}

#[test]
fn a_pool_is_told_who_wants_its_units() {
    let budget = Budget::new(3, 0);
    let (rich, needy) = (Fake::new(&budget, 0), Fake::new(&budget, 1));
    let _held = [budget.take(rich.id, 1), budget.take(rich.id, 1), budget.take(needy.id, 1)];
    assert_eq!(budget.wanted(rich.id, 1), Wanted::No);
    needy.join(1);
    assert_eq!(budget.wanted(rich.id, 1), Wanted::Spare, "it would stand as low as the other then");
    drop(needy.got.lock());
    let poor = Fake::new(&budget, 1);
    poor.join(1);
    assert_eq!(budget.wanted(rich.id, 1), Wanted::ByPoorer);
    assert_eq!(budget.wanted(poor.id, 1), Wanted::Spare, "not by itself");
}

#[test]
fn a_lower_limit_takes_idle_instances_and_no_busy_ones() {
    let budget = Budget::new(6, 0);
    let pool = Fake::new(&budget, 0);
    pool.idles(2);
    let busy: Vec<_> = (0..4).map(|_| budget.take(pool.id, 1)).collect();
    budget.set_limit(3);
    assert_eq!((pool.spare(), budget.free(), budget.limit()), (0, 2, 3));
    assert_eq!(budget.wanted(pool.id, 1), Wanted::Spare, "there are too many");
    assert!(take(&budget, 1).is_none());
    drop(busy);
    assert_eq!(budget.wanted(pool.id, 1), Wanted::No);
    assert!(take(&budget, 1).is_some());
    budget.set_limit(100);
    assert_eq!(budget.limit(), 6, "there are no more");
}

#[test]
fn when_memory_is_scarce_nobody_keeps_spare_instances() {
    let budget = Budget::new(6, 0);
    let pool = Fake::new(&budget, 0);
    let expected =
        [(Pressure::None, Wanted::No), (Pressure::Growth, Wanted::No), (Pressure::Spares, Wanted::Spare)];
    for (pressure, wanted) in expected {
        budget.set_pressure(pressure);
        assert_eq!((budget.pressure(), budget.wanted(pool.id, 1)), (pressure, wanted));
    }
}
