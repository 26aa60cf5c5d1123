use std::process::Command;

use proptest::prelude::*;

use super::*;

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

fn footprint() -> Footprint {
    Footprint { memories: 1, memory_limit: 128 * MIB, guard: 32 * MIB, rest: 4 * MIB }
}

/// An address space in which `room` bytes are free in one piece.
fn with_room(room: u64) -> impl Fn(u64) -> u64 {
    move |wanted| wanted.min(room)
}

#[test]
fn a_roomy_machine_gets_all_that_is_wanted_and_no_note() {
    let plan = plan_within(1000, 1000, &footprint(), with_room(64 << 40));
    assert_eq!(plan, AllocatorSize { instances: 1000, reservation: 4 * GIB, note: None });
}

#[test]
fn a_tight_machine_gets_small_reservations_before_it_loses_an_instance() {
    let plan = plan_within(1000, 1000, &footprint(), with_room(512 * GIB));
    assert_eq!((plan.instances, plan.reservation), (1000, 128 * MIB));
    let note = plan.note.unwrap();
    assert!(note.contains("128 MiB instead of 4096 MiB"), "{note}");
    assert!(!note.contains("1000"), "{note}");
}

#[test]
fn as_many_as_fit_are_planned_in_full_if_that_is_enough() {
    let footprint = footprint();
    let plan = |room| plan_within(100_000, 1000, &footprint, with_room(room));
    let each = 4 * GIB + 36 * MIB;
    let roomy = AllocatorSize { instances: 7_000, reservation: 4 * GIB, note: None };
    assert_eq!(plan(2 * 7_000 * each), roomy);
    assert_eq!(plan(2 * 1_000 * each).instances, 1_000);
    // One less is not enough: then as many as that with small reservations.
    let tight = plan(2 * 999 * each);
    assert_eq!((tight.instances, tight.reservation), (1_000, 128 * MIB));
    assert!(tight.note.is_some());
}

#[test]
fn a_tiny_machine_gets_fewer_instances_and_the_note_says_so() {
    let plan = plan_within(1000, 1000, &footprint(), with_room(8 * GIB));
    assert_eq!((plan.instances, plan.reservation), ((4 * GIB / (164 * MIB)) as u32, 128 * MIB));
    let note = plan.note.unwrap();
    assert!(note.contains("24 instead of 1000 instances"), "{note}");
}

#[test]
fn no_room_at_all_still_plans_one_instance() {
    assert_eq!(plan_within(1000, 1000, &footprint(), with_room(0)).instances, 1);
    assert_eq!(plan_within(0, 0, &footprint(), with_room(64 << 40)).instances, 1);
}

#[test]
fn a_memory_limit_above_four_gib_is_reserved_in_full() {
    let footprint = Footprint { memory_limit: 16 * GIB, ..footprint() };
    assert_eq!(plan_within(10, 10, &footprint, with_room(64 << 40)).reservation, 16 * GIB);
    let plan = plan_within(10, 10, &footprint, with_room(128 * GIB));
    assert_eq!((plan.instances, plan.reservation), (3, 16 * GIB));
    assert!(!plan.note.unwrap().contains("instead of 16384 MiB"));
}

#[test]
fn a_memory_is_found_to_fit_on_this_machine() {
    assert_eq!(probe(4 * GIB), 4 * GIB);
    assert!(probe(u64::MAX) < u64::MAX);
}

#[test]
fn a_limited_process_finds_no_more_than_its_limit() {
    // `ulimit` takes KiB. The child is this test binary itself, running the one test below.
    let limit = 3 * GIB;
    let child = Command::new("sh")
        .arg("-c")
        .arg(format!("ulimit -v {} && exec \"$0\" \"$@\"", limit >> 10))
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .arg(format!("{}::child_prints_what_it_finds", module_path!().split_once("::").unwrap().1))
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&child.stdout).into_owned();
    let number = |name: &str| -> u64 {
        let (_, rest) = out.split_once(name).unwrap_or_else(|| panic!("no {name} in {out}"));
        rest.split_whitespace().next().unwrap().parse().unwrap()
    };
    let (found, instances) = (number("probed="), number("instances="));
    assert!((GIB..limit).contains(&found), "{found}");
    assert!((1..limit / (164 * MIB)).contains(&instances), "{instances}");
}

#[test]
#[ignore = "the child process of a_limited_process_finds_no_more_than_its_limit"]
fn child_prints_what_it_finds() {
    println!("probed={} instances={} ", probe(1 << 40), plan(1000, 1000, &footprint()).instances);
}

proptest! {
    #[test]
    fn the_largest_that_fits_is_found_to_within_four_per_cent(wanted in WASM_PAGE..1u64 << 46, room in 0u64..1 << 47) {
        let found = largest(wanted, |size| size <= room);
        let best = wanted.min(room);
        prop_assert!(found <= best);
        prop_assert!(best < 2 * WASM_PAGE || found as f64 >= best as f64 * 0.96, "{found} of {best}");
    }

    #[test]
    fn a_plan_stays_within_half_of_the_room_and_above_the_memory_limit(
        wanted in 1u32..5000, memories in 1u32..8, limit in 0u64..8 * GIB, room in 0u64..1 << 47,
    ) {
        let footprint = Footprint { memories, memory_limit: limit, ..footprint() };
        let plan = plan_within(wanted, wanted, &footprint, with_room(room));
        prop_assert!(plan.reservation >= limit);
        prop_assert!(plan.reservation.is_multiple_of(WASM_PAGE));
        prop_assert!((1..=wanted).contains(&plan.instances));
        let used = footprint.bytes(plan.reservation) * u64::from(plan.instances);
        prop_assert!(plan.instances == 1 || used <= room / 2);
        prop_assert_eq!(plan.note.is_none(), plan.instances == wanted && plan.reservation == GIB.max(limit.next_multiple_of(WASM_PAGE)).max(4 * GIB));
    }
}
