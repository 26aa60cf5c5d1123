use proptest::prelude::*;

use super::*;

const MIB: u64 = 1 << 20;

/// Looks at the same for some seconds.
fn watch(measure: &mut Measure, seconds: u32, resident: u64, instances: u32, busy: u32) {
    for _ in 0..seconds {
        measure.observe(Seen { resident, instances, busy });
    }
}

/// Nearly, to a tenth.
#[track_caller]
fn assert_near(found: u64, wanted: u64) {
    assert!(found.abs_diff(wanted) <= wanted / 10, "{found} is not near {wanted}");
}

#[test]
fn an_instance_is_assumed_to_take_2_mib_until_enough_are_at_work() {
    let mut measure = Measure::new(20 * MIB);
    watch(&mut measure, 100, 500 * MIB, 15, 15);
    watch(&mut measure, 100, 500 * MIB, 1_000, 15);
    assert_eq!((measure.each(), measure.is_measured()), (2 * MIB, false));
}

#[test]
fn what_is_resident_while_few_are_at_work_is_the_hosts_own() {
    let mut measure = Measure::new(20 * MIB);
    assert_eq!(measure.host(), 20 * MIB);
    // Compiling took some, and not all of it comes back.
    watch(&mut measure, 60, 308 * MIB, 4, 0);
    assert_near(measure.host(), 300 * MIB);
    watch(&mut measure, 60, 108 * MIB, 4, 0);
    assert_near(measure.host(), 100 * MIB);
    watch(&mut measure, 200, MIB, 0, 0);
    assert_eq!(measure.host(), 20 * MIB, "less than at the start is not believed");
}

#[test]
fn more_is_learned_within_seconds_and_less_within_a_minute() {
    let mut measure = Measure::new(20 * MIB);
    watch(&mut measure, 10, (20 + 100 * 7) * MIB, 100, 100);
    assert_near(measure.each(), 7 * MIB);
    assert!(measure.is_measured());
    watch(&mut measure, 10, (20 + 100) * MIB, 100, 100);
    assert!(measure.each() > 3 * MIB, "{}", measure.each());
    watch(&mut measure, 60, (20 + 100) * MIB, 100, 100);
    assert_near(measure.each(), MIB);
}

#[test]
fn idle_instances_do_not_teach_that_little_is_needed() {
    let mut measure = Measure::new(0);
    watch(&mut measure, 60, 100 * 7 * MIB, 100, 100);
    let learned = measure.each();
    watch(&mut measure, 600, 100 * MIB / 8, 100, 0);
    assert_eq!(measure.each(), learned);
}

#[test]
fn an_instance_takes_at_least_64_kib() {
    let mut measure = Measure::new(20 * MIB);
    watch(&mut measure, 1_000, 20 * MIB, 100, 100);
    assert_eq!(measure.each(), 64 << 10);
}

/// The limit that follows for this much memory.
fn limit(measure: &Measure, memory: u64) -> u64 {
    memory.saturating_sub(measure.host()) / measure.each()
}

#[test]
fn used_up_memory_allows_just_the_present_instances_at_once_however_it_was_split() {
    for (resident, history) in [(20, 60), (900, 60), (20, 0)] {
        let mut measure = Measure::new(20 * MIB);
        watch(&mut measure, history, resident * MIB, 4, 0);
        // A flood of instances of 10 MiB each, where 0.2 was known, within a single second.
        watch(&mut measure, 200, (20 + 20) * MIB, 100, 100);
        measure.observe(Seen { resident: 6_000 * MIB, instances: 600, busy: 600 });
        let limit = limit(&measure, 6_000 * MIB);
        assert!((599..=600).contains(&limit), "{limit}");
    }
}

proptest! {
    #[test]
    fn the_limit_never_allows_more_than_what_is_left_and_settles(
        start in 1_u64..200, each in 1_u64..20_000, count in 16_u32..5_000, memory in 1_000_u64..100_000,
    ) {
        let mut measure = Measure::new(start * MIB);
        let resident = start * MIB + u64::from(count) * each * 1024;
        for _ in 0..300 {
            measure.observe(Seen { resident, instances: count, busy: count });
            let more = limit(&measure, memory * MIB).saturating_sub(u64::from(count));
            let left = (memory * MIB).saturating_sub(resident);
            prop_assert!(more * measure.each() <= left + measure.each());
        }
        let each = (each * 1024).max(64 << 10);
        prop_assert!(measure.each().abs_diff(each) <= each / 50 + 1, "{} {each}", measure.each());
    }

    #[test]
    fn any_history_leaves_numbers(history in prop::collection::vec((0_u64..1 << 45, 0_u32..100_000, 0_u32..100_000), 0..50)) {
        let mut measure = Measure::new(1 << 20);
        for (resident, instances, busy) in history {
            measure.observe(Seen { resident, instances, busy });
            prop_assert!(measure.each() >= 64 << 10 && measure.host() >= 1 << 20);
        }
    }
}
