use proptest::prelude::*;

use super::*;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn terms() -> Terms {
    Terms {
        asked: None,
        memory: Some(Memory { limit: 8 * GIB, is_grouped: false }),
        budget: MemoryBudget::Share(75),
        host: 40 * MIB,
        each: 5 * MIB,
        is_measured: true,
        slots: 8_191,
        bound: Bound::Mappings,
        cpus: 2,
    }
}

fn calm() -> Stall {
    Stall { group: None, machine: Some(0.0) }
}

/// The number and its sentence.
fn derived(terms: &Terms) -> (u32, String) {
    let sized = terms.derive();
    (sized.instances, terms.sentence(sized, &[], calm()))
}

#[test]
fn the_sentence_says_what_the_number_comes_from() {
    let (instances, sentence) = derived(&terms());
    assert_eq!(instances, 1_220);
    let expected = "auto: 1220 instances = memory 1220 (75% of 8.0 GiB less 40.0 MiB for the host, 5.0 MiB each \
                    measured), allocator 8191 (vm.max_map_count), backends none";
    assert_eq!(sentence, expected);
}

#[test]
fn the_least_term_counts() {
    let small =
        Terms { each: 200 << 10, is_measured: false, slots: 64, bound: Bound::AddressSpace, ..terms() };
    let (instances, sentence) = derived(&small);
    assert_eq!(instances, 64);
    assert!(sentence.contains("= memory 31252 ("), "{sentence}");
    assert!(sentence.contains("200.0 KiB each assumed), allocator 64 (address space)"), "{sentence}");
    let asked = Terms { asked: Some(100), bound: Bound::Asked, slots: 100, ..terms() };
    let (instances, sentence) = derived(&asked);
    assert_eq!(instances, 100);
    assert!(sentence.starts_with("max_instances 100: 100 instances = memory 1220 ("), "{sentence}");
    assert!(sentence.contains("allocator 100 (max_instances)"), "{sentence}");
    let (instances, _) = derived(&Terms { asked: Some(5_000), ..terms() });
    assert_eq!(instances, 1_220, "memory_budget holds for a number, too");
}

#[test]
fn the_budget_is_a_share_or_a_size_and_no_more_than_there_is() {
    let instances = |budget, limit| {
        let memory = Some(Memory { limit, is_grouped: true });
        derived(&Terms { budget, memory, host: 0, each: MIB, ..terms() })
    };
    assert_eq!(instances(MemoryBudget::Share(50), GIB).0, 512);
    let (number, sentence) = instances(MemoryBudget::Size(GIB), 4 * GIB);
    assert_eq!(number, 1_024);
    assert!(sentence.contains("(1.0 GiB less 0 B for the host"), "{sentence}");
    let (number, sentence) = instances(MemoryBudget::Size(4 * GIB), GIB);
    assert_eq!(number, 1_024);
    assert!(sentence.contains("(all 1.0 GiB of the control group less"), "{sentence}");
}

#[test]
fn each_processor_has_some_instances_however_little_memory_there_is() {
    let tight = Terms { host: 7 * GIB, cpus: 6, ..terms() };
    let (instances, sentence) = derived(&tight);
    assert_eq!(instances, 24);
    assert!(sentence.contains("memory 0 (") && sentence.contains(", at least 24 for 6 cpus,"), "{sentence}");
    assert_eq!(derived(&Terms { slots: 10, ..tight }).0, 10, "but no more than the allocator has");
    assert_eq!(derived(&Terms { asked: Some(3), ..tight }).0, 3, "nor than was asked for");
}

#[test]
fn unknown_memory_bounds_nothing_and_is_said() {
    let (instances, sentence) = derived(&Terms { memory: None, ..terms() });
    assert_eq!(instances, 8_191);
    assert!(sentence.starts_with("auto: 8191 instances = memory unknown, allocator"), "{sentence}");
}

#[test]
fn backends_and_missing_pressure_are_in_the_sentence() {
    let backend = |app: &str| Backend { app: app.into(), instances: 10, connections: 40 };
    let sized = terms().derive();
    let none = Stall { group: None, machine: None };
    let text = terms().sentence(sized, &[backend("shop"), backend("blog")], none);
    assert!(
        text.ends_with(
            "backends shop 10 (40 connections), blog 10 (40 connections); the kernel doesn't tell memory pressure (PSI)"
        ),
        "{text}"
    );
    let many: Vec<_> = (0..20).map(|n| backend(&format!("app{n}"))).collect();
    let text = terms().sentence(sized, &many, calm());
    assert!(text.ends_with("app7 10 (40 connections) and 12 more"), "{text}");
}

#[test]
fn pressure_rises_with_the_groups_standstill() {
    let levels = [
        (0.0, Pressure::None),
        (5.0, Pressure::None),
        (5.1, Pressure::Growth),
        (10.1, Pressure::Spares),
        (20.1, Pressure::Shed),
        (100.0, Pressure::Shed),
    ];
    for (percent, level) in levels {
        assert_eq!(pressure(Stall { group: Some(percent), machine: Some(0.0) }), level, "{percent}");
        assert_eq!(pressure(Stall { group: None, machine: Some(percent) }), level, "{percent}");
    }
    assert_eq!(pressure(Stall { group: None, machine: None }), Pressure::None);
}

#[test]
fn what_others_suffer_takes_spares_and_refuses_nobody() {
    assert_eq!(pressure(Stall { group: Some(0.0), machine: Some(90.0) }), Pressure::Spares);
    assert_eq!(pressure(Stall { group: Some(0.0), machine: Some(7.0) }), Pressure::Growth);
    assert_eq!(pressure(Stall { group: Some(25.0), machine: Some(90.0) }), Pressure::Shed);
}

proptest! {
    #[test]
    fn there_are_never_more_than_the_allocator_has_and_always_some(
        asked in prop::option::of(1_u32..100_000), limit in 1_u64..1 << 45, percent in 1_u8..=100, host in 0_u64..1 << 40,
        each in (64_u64 << 10)..1 << 32, slots in 1_u32..100_000, cpus in 1_u32..1_000,
    ) {
        let memory = Some(Memory { limit, is_grouped: false });
        let terms = Terms { asked, memory, budget: MemoryBudget::Share(percent), host, each, slots, cpus, ..terms() };
        let sized = terms.derive();
        prop_assert!(sized.instances >= 1 && sized.instances <= slots);
        prop_assert!(sized.instances <= asked.unwrap_or(u32::MAX));
        let sentence = terms.sentence(sized, &[], calm());
        let count = format!(": {} instances = ", sized.instances);
        prop_assert!(sentence.contains(&count), "{}", sentence);
    }
}
