use super::*;

#[test]
fn the_allocator_is_as_large_as_the_mappings_allow_and_no_larger_than_asked() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("proc/sys/vm")).unwrap();
    let size = |mappings: &str, asked| {
        std::fs::write(root.path().join("proc/sys/vm/max_map_count"), mappings).unwrap();
        allocator_size(asked, &Machine::at(root.path()))
    };
    assert_eq!(size("65530\n", None), 7_167);
    assert_eq!(size("65530\n", Some(100)), 100);
    assert_eq!(size("65530\n", Some(50_000)), 7_167);
    assert_eq!(size("1048576\n", None), 100_000);
    assert_eq!(size("1\n", None), 1);
    assert_eq!(size("unknown\n", None), 100_000);
}
