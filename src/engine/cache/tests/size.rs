//! The bound on the cache's size.

use super::*;

#[test]
fn the_least_recently_used_artifacts_go_first() {
    let fixture = Fixture::new(ROOMY);
    for n in 1..=4 {
        fixture.ask(n);
        set_used(&fixture.path(n), 1000 + n as u64);
    }
    // Loading makes the oldest the youngest.
    assert_eq!(fixture.ask(1), Source::Cache);
    let one = fixture.cache.size() / 4;
    let small = CodeCache::open(&fixture.dir, 3 * one + one / 2).unwrap();
    assert_eq!(small.size(), 3 * one);
    let there = [1, 2, 3, 4].map(|n| fixture.path(n).exists());
    assert_eq!(there, [true, false, true, true]);
}

#[test]
fn storing_keeps_the_cache_within_its_size_and_never_evicts_what_was_just_stored() {
    let fixture = Fixture::new(ROOMY);
    fixture.ask(1);
    let one = fixture.cache.size();
    let max = 5 * one + one / 2;
    let fixture = Fixture::new(max);
    for n in 1..=40 {
        fixture.ask(n);
        assert!(fixture.path(n).exists());
        let used: u64 =
            fs::read_dir(&fixture.dir).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
        assert!(used <= max, "{used} of {max} bytes after {n} artifacts");
        assert_eq!(used, fixture.cache.size());
    }
}

#[test]
fn evicted_code_runs_on() {
    let fixture = Fixture::new(ROOMY);
    let (bytes, digest) = module(1);
    fixture.ask(1);
    let loaded = fixture.cache.code(&engine(), &bytes, CodeKind::Module, &digest).unwrap();
    fs::remove_file(fixture.path(1)).unwrap();
    assert_eq!(answer(&loaded.code), 1);
}

#[test]
fn an_artifact_larger_than_the_cache_is_not_stored_and_evicts_nothing() {
    let fixture = Fixture::new(ROOMY);
    fixture.ask(1);
    let size = fixture.cache.size();
    let small = CodeCache::open(&fixture.dir, size).unwrap();
    let error = small.store(&key(2), &vec![0; size as usize]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FileTooLarge);
    assert!(fixture.path(1).exists());
    let none = CodeCache::open(&fixture.dir, 0).unwrap();
    assert_eq!(none.size(), 0);
    let (bytes, digest) = module(3);
    assert_eq!(none.code(&engine(), &bytes, CodeKind::Module, &digest).unwrap().source, Source::Compiled);
}

#[test]
fn what_was_just_stored_stays_even_if_the_clock_was_set_back() {
    let fixture = Fixture::new(ROOMY);
    fixture.ask(1);
    set_used(&fixture.path(1), 1 << 33);
    let one = fixture.cache.size();
    let small = CodeCache::open(&fixture.dir, one + one / 2).unwrap();
    let payload = artifact::compile(&engine(), &module(2).0, CodeKind::Module).unwrap();
    small.store(&key(2), &payload).unwrap();
    assert_eq!((fixture.path(1).exists(), fixture.path(2).exists()), (false, true));
}
