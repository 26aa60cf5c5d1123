//! Several threads, engines or processes at once.

use std::sync::Barrier;
use std::sync::atomic::AtomicUsize;
use std::thread;

use super::*;

#[test]
fn concurrent_stores_of_one_key_leave_one_whole_artifact() {
    let fixture = Fixture::new(ROOMY);
    let payload = artifact::compile(&engine(), &module(1).0, CodeKind::Module).unwrap();
    let caches: Vec<_> = (0..4).map(|_| CodeCache::open(&fixture.dir, ROOMY).unwrap()).collect();
    let start = Barrier::new(caches.len());
    thread::scope(|scope| {
        for cache in &caches {
            scope.spawn(|| {
                start.wait();
                for _ in 0..10 {
                    cache.store(&key(1), &payload).unwrap();
                    assert_eq!(answer(&cache.load(&engine(), &key(1)).unwrap()), 1);
                }
            });
        }
    });
    assert_eq!(fixture.names(), [key(1).to_string()]);
}

#[test]
fn callers_with_the_same_bytes_share_one_compilation() {
    let fixture = Fixture::new(ROOMY);
    let (bytes, digest) = module(1);
    let compilations = AtomicUsize::new(0);
    let (entered, gate) = (Barrier::new(2), Barrier::new(2));
    let ask = |wait: bool| {
        let compile = || {
            compilations.fetch_add(1, Ordering::Relaxed);
            if wait {
                entered.wait();
                gate.wait();
            }
            artifact::compile(&engine(), &bytes, CodeKind::Module)
        };
        let loaded = fixture.cache.code_with(&engine(), CodeKind::Module, &digest, compile).unwrap();
        assert_eq!(answer(&loaded.code), 1);
    };
    thread::scope(|scope| {
        scope.spawn(|| ask(true));
        entered.wait();
        for _ in 0..3 {
            scope.spawn(|| ask(false));
        }
        while fixture.cache.flights.aboard(&key(1)) < 4 {
            thread::yield_now();
        }
        // Another key is not held up.
        assert_eq!(fixture.ask(2), Source::Compiled);
        gate.wait();
    });
    assert_eq!(compilations.into_inner(), 1);
    assert_eq!(fixture.cache.flights.aboard(&key(1)), 0);
}

#[test]
fn a_failed_or_panicking_compilation_leaves_nothing_behind() {
    let fixture = Fixture::new(ROOMY);
    let digest = module(1).1;
    let refused = || Err(CompileError::Compile("refused".into()));
    assert!(fixture.cache.code_with(&engine(), CodeKind::Module, &digest, refused).is_err());
    let panicking =
        || fixture.cache.code_with(&engine(), CodeKind::Module, &digest, || panic!("a bug in the compiler"));
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(panicking)).is_err());
    assert_eq!(fixture.cache.flights.aboard(&key(1)), 0);
    assert!(fixture.names().is_empty());
    assert_eq!(fixture.ask(1), Source::Compiled);
}

#[test]
fn two_engines_with_the_same_settings_share_artifacts_but_not_code() {
    let fixture = Fixture::new(ROOMY);
    let twin = Engine::new(&Config::new()).unwrap();
    let (bytes, digest) = module(1);
    let (entered, gate) = (Barrier::new(2), Barrier::new(2));
    let compile = || {
        entered.wait();
        gate.wait();
        artifact::compile(&engine(), &bytes, CodeKind::Module)
    };
    thread::scope(|scope| {
        scope.spawn(|| fixture.cache.code_with(&engine(), CodeKind::Module, &digest, compile).unwrap());
        entered.wait();
        let twins = scope.spawn(|| fixture.cache.code(&twin, &bytes, CodeKind::Module, &digest).unwrap());
        while fixture.cache.flights.aboard(&key(1)) < 2 {
            thread::yield_now();
        }
        gate.wait();
        let loaded = twins.join().unwrap();
        assert_eq!(loaded.source, Source::Cache);
        assert!(Engine::same(loaded.code.engine(), &twin));
        assert_eq!(answer(&loaded.code), 1);
    });
}
