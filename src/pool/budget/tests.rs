use super::*;

/// A pool that only counts.
#[derive(Default)]
struct Fake {
    spare: Mutex<Vec<Permit>>,
    /// How many permits it will accept.
    needs: AtomicUsize,
    got: Mutex<Vec<Permit>>,
}

impl Fake {
    fn new(budget: &Budget, needs: usize) -> Arc<Self> {
        let fake = Arc::new(Self { needs: AtomicUsize::new(needs), ..Self::default() });
        budget.register(fake.weak());
        fake
    }

    fn weak(self: &Arc<Self>) -> Weak<dyn Member> {
        let me: Weak<Self> = Arc::downgrade(self);
        me
    }

    fn idles(&self, permits: impl IntoIterator<Item = Option<Permit>>) {
        self.spare.lock().extend(permits.into_iter().map(|permit| permit.expect("units are left")));
    }

    fn got(&self) -> usize {
        self.got.lock().len()
    }
}

impl Member for Fake {
    fn spare(&self) -> u32 {
        self.spare.lock().len() as u32
    }

    fn give_up(self: Arc<Self>) {
        let permit = self.spare.lock().pop();
        drop(permit);
    }

    fn offer(self: Arc<Self>, permit: Permit) -> Option<Permit> {
        if self.needs.load(Relaxed) == 0 {
            return Some(permit);
        }
        self.needs.fetch_sub(1, Relaxed);
        self.got.lock().push(permit);
        None
    }
}

fn join(budget: &Budget, units: u32, fake: &Arc<Fake>) -> Id {
    let id = budget.new_id();
    assert!(budget.take_or_join(id, units, fake.weak()).is_none());
    budget.serve();
    id
}

#[test]
fn a_permit_holds_its_units_until_it_is_dropped() {
    let budget = Budget::new(5, 0);
    let permit = budget.take(3);
    assert!(permit.is_some());
    assert_eq!(budget.free(), 2);
    assert!(budget.take(3).is_none());
    drop(permit);
    assert_eq!(budget.free(), 5);
}

#[test]
fn units_go_to_the_pool_that_waits_longest() {
    let budget = Budget::new(2, 0);
    let (one, two) = (budget.take(1), budget.take(1));
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
    let (three, one) = (budget.take(3), budget.take(1));
    let (heavy, light) = (Fake::new(&budget, 1), Fake::new(&budget, 1));
    join(&budget, 4, &heavy);
    join(&budget, 1, &light);
    drop(one);
    assert!(budget.take(1).is_none());
    assert_eq!((heavy.got(), light.got()), (0, 0));
    drop(three);
    assert_eq!((heavy.got(), light.got()), (1, 0));
}

#[test]
fn a_pool_that_leaves_the_line_makes_way() {
    let budget = Budget::new(4, 0);
    let (_three, one) = (budget.take(3), budget.take(1));
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
fn a_refused_permit_goes_to_the_next_and_at_last_back() {
    let budget = Budget::new(1, 0);
    let permit = budget.take(1);
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
fn a_long_line_of_refusals_takes_no_deep_stack() {
    let budget = Budget::new(1, 0);
    let permit = budget.take(1);
    let pool = Arc::new(Fake::default());
    for _ in 0..100_000 {
        budget.take_or_join(budget.new_id(), 1, pool.weak());
    }
    drop(permit);
    assert_eq!((budget.in_line(), budget.free()), (0, 1));
}

#[test]
fn a_pool_that_was_dropped_in_line_is_passed() {
    let budget = Budget::new(2, 0);
    let (one, _other) = (budget.take(1), budget.take(1));
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
    poor.idles((0..2).map(|_| budget.take(1)));
    rich.idles((0..3).map(|_| budget.take(1)));
    let needy = Fake::new(&budget, 1);
    join(&budget, 1, &needy);
    assert_eq!((poor.spare(), rich.spare(), needy.got()), (2, 2, 1));
}

#[test]
fn as_many_are_given_up_as_a_heavy_pool_needs() {
    let budget = Budget::new(5, 0);
    let rich = Fake::new(&budget, 0);
    rich.idles((0..5).map(|_| budget.take(1)));
    let needy = Fake::new(&budget, 1);
    join(&budget, 3, &needy);
    assert_eq!((rich.spare(), needy.got(), budget.free()), (2, 1, 0));
}

#[test]
fn after_a_search_in_vain_nobody_searches_until_the_line_forms_anew() {
    let budget = Budget::new(1, 0);
    let permit = budget.take(1);
    let (first, second) = (Fake::new(&budget, 1), Fake::new(&budget, 1));
    let searched = || {
        let state = budget.0.state.lock();
        state.searched == state.shortage
    };
    assert!(searched());
    let id = join(&budget, 1, &first);
    assert!(searched());
    budget.quit_line(id);
    budget.take_or_join(budget.new_id(), 1, second.weak());
    assert!(!searched());
    budget.serve();
    assert!(searched());
    drop(permit);
    assert_eq!((first.got(), second.got()), (0, 1));
}

#[test]
fn as_many_may_wait_as_the_queue_is_long() {
    let budget = Budget::new(1, 2);
    let places = (budget.queue_place(), budget.queue_place());
    assert!(places.0.is_some() && places.1.is_some());
    assert!(budget.queue_place().is_none());
    drop(places.0);
    assert!(budget.queue_place().is_some());
    assert_eq!(budget.waiting(), 1);
}

#[test]
fn a_pool_that_panics_does_not_stop_the_line() {
    struct Panics;
    impl Member for Panics {
        fn spare(&self) -> u32 {
            0
        }
        fn give_up(self: Arc<Self>) {}
        fn offer(self: Arc<Self>, _: Permit) -> Option<Permit> {
            panic!("an instance's destructor")
        }
    }
    let budget = Budget::new(1, 0);
    let permit = budget.take(1);
    let panics = Arc::new(Panics);
    let me: Weak<Panics> = Arc::downgrade(&panics);
    budget.take_or_join(budget.new_id(), 1, me);
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(permit)));
    assert!(caught.is_err());
    assert_eq!(budget.free(), 1);
    let taken = budget.take(1);
    let needy = Fake::new(&budget, 1);
    join(&budget, 1, &needy);
    drop(taken);
    assert_eq!(needy.got(), 1);
}
