//! What it costs to make, call and drop an instance, by setting of the allocator: the price of a clean one.
//!
//! Needs the guests: `make guests`.

use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use hostler::engine::{Allocation, CodeCache, EngineSettings};
use hostler::instance::bench::App;
use tokio::runtime::{Builder, Runtime};

/// That of the program.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const GUESTS: [&str; 5] = ["hello", "cgi-c", "hello-p3", "hello-js", "hello-py"];

/// The settings that are compared, each with its name.
fn settings() -> Vec<(String, EngineSettings)> {
    let base = EngineSettings { instances: 64, ..EngineSettings::default() };
    let mut all = Vec::new();
    for memory in [0, 64, 128, 256, 1024] {
        for table in [0, 16, 64] {
            let settings = EngineSettings {
                memory_keep_resident: memory << 10,
                table_keep_resident: table << 10,
                ..base.clone()
            };
            all.push((format!("{memory} KiB per memory, {table} KiB per table"), settings));
        }
    }
    all.push(("on demand".to_owned(), EngineSettings { allocation: Allocation::OnDemand, ..base }));
    all
}

/// Clean requests, one after the other on each of so many threads; the time for `iterations` of them in all.
fn clean_requests(app: &App, threads: u64, iterations: u64) -> Duration {
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                runtime().block_on(async {
                    for _ in 0..iterations.div_ceil(threads) {
                        let mut instance = app.make().await.expect("an instance");
                        app.call(&mut instance).await.expect("an answer");
                    }
                });
            });
        }
    });
    start.elapsed()
}

/// Makes and drops `iterations` instances and calls each once; the time that `measured` says is counted.
async fn parts(app: &App, iterations: u64, measured: Part) -> Duration {
    let mut sum = Duration::ZERO;
    for _ in 0..iterations {
        let start = Instant::now();
        let mut instance = app.make().await.expect("an instance");
        let made = Instant::now();
        app.call(&mut instance).await.expect("an answer");
        let called = Instant::now();
        drop(instance);
        sum += match measured {
            Part::Make => made - start,
            Part::Call => called - made,
            Part::Drop => called.elapsed(),
        };
    }
    sum
}

#[derive(Debug, Clone, Copy)]
enum Part {
    Make,
    Call,
    Drop,
}

fn instances(criterion: &mut Criterion) {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    let cache = CodeCache::open(&target.join("bench-cache"), 1 << 30).expect("a code cache");
    for guest in GUESTS {
        let file = target.join(format!("guests/{guest}.wasm"));
        let Ok(wasm) = std::fs::read(&file) else {
            eprintln!("{} is missing: run `make guests`", file.display());
            continue;
        };
        let mut group = criterion.benchmark_group(guest);
        group
            .warm_up_time(Duration::from_millis(300))
            .measurement_time(Duration::from_secs(1))
            .sample_size(20);
        for (name, settings) in settings() {
            let app = App::load(&wasm, settings, &cache).expect("an app");
            for threads in [1, 2] {
                group.bench_function(format!("clean request, {name}, threads: {threads}"), |bencher| {
                    bencher.iter_custom(|iterations| clean_requests(&app, threads, iterations));
                });
            }
        }
        let host = EngineSettings { instances: 64, ..EngineSettings::default() };
        let app = App::load(&wasm, host, &cache).expect("an app");
        for part in [Part::Make, Part::Call, Part::Drop] {
            group.bench_function(format!("{part:?}, the host's settings"), |bencher| {
                bencher.iter_custom(|iterations| runtime().block_on(parts(&app, iterations, part)));
            });
        }
        group.finish();
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

criterion_group!(benches, instances);
criterion_main!(benches);
