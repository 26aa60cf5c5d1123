//! What it costs to make, call and drop an instance, by setting of the allocator: the price of a clean one.
//!
//! Needs the guests: `make guests`.

use std::path::Path;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use hostler::bench::{App, Request};
use hostler::engine::{Allocation, EngineSettings};

/// The settings that are compared: the host's own first.
fn settings() -> Vec<(&'static str, EngineSettings)> {
    let base = EngineSettings { instances: 64, ..EngineSettings::default() };
    vec![
        ("default", base.clone()),
        ("memory kept 0", EngineSettings { memory_keep_resident: 0, ..base.clone() }),
        ("memory kept 64 KiB", EngineSettings { memory_keep_resident: 64 << 10, ..base.clone() }),
        ("memory kept 256 KiB", EngineSettings { memory_keep_resident: 256 << 10, ..base.clone() }),
        ("memory kept 1 MiB", EngineSettings { memory_keep_resident: 1 << 20, ..base.clone() }),
        ("table kept 0", EngineSettings { table_keep_resident: 0, ..base.clone() }),
        ("table kept 64 KiB", EngineSettings { table_keep_resident: 64 << 10, ..base.clone() }),
        ("on-demand", EngineSettings { allocation: Allocation::OnDemand, ..base }),
    ]
}

fn instances(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for guest in ["hello", "cgi-c", "hello-py", "hello-js"] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("target/guests/{guest}.wasm"));
        let Ok(wasm) = std::fs::read(&file) else {
            eprintln!("{} is missing: run `make guests`", file.display());
            continue;
        };
        let mut group = criterion.benchmark_group(guest);
        for (name, settings) in settings() {
            let app = App::load(&wasm, settings).expect("an app");
            group.bench_function(format!("clean request, {name}"), |bencher| {
                bencher.to_async(&runtime).iter(|| async {
                    let mut instance = app.make().await.expect("an instance");
                    app.call(&mut instance, Request::get("/")).await.expect("an answer");
                });
            });
        }
        let app =
            App::load(&wasm, EngineSettings { instances: 64, ..EngineSettings::default() }).expect("an app");
        group.bench_function("make and drop", |bencher| {
            bencher.to_async(&runtime).iter(|| async { drop(app.make().await.expect("an instance")) });
        });
        group.bench_function("call alone", |bencher| {
            bencher.to_async(&runtime).iter_batched(
                || futures_util::FutureExt::now_or_never(app.make()).expect("at once").expect("an instance"),
                |mut instance| {
                    let app = &app;
                    async move {
                        app.call(&mut instance, Request::get("/")).await.expect("an answer");
                        instance
                    }
                },
                BatchSize::PerIteration,
            );
        });
        group.finish();
    }
}

criterion_group!(benches, instances);
criterion_main!(benches);
