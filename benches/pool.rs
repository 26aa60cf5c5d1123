//! What the pool costs: a lease and its clean end, with a manager that does nothing.
//!
//! `workers` tasks on as many threads share a pool of `size` instances. `reset` spawns a task at each end, as the
//! pooled mode does; `keep` does not, so it is the price of the books alone; `spawn` is the price of a task alone.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hostler::pool::{Budget, End, Manager, OnEnd, Policy, Pool};
use tokio::runtime::{Builder, Runtime};

struct Nothing;

impl Manager for Nothing {
    type Instance = u64;
    type Error = Infallible;

    async fn make(&self) -> Result<u64, Infallible> {
        Ok(0)
    }

    async fn reset(&self, used: u64) -> Result<u64, Infallible> {
        Ok(used)
    }
}

fn pool(size: u32, on_end: OnEnd) -> Pool<Nothing> {
    let policy = Policy {
        min_idle: size,
        max: size,
        max_idle: size,
        queue_size: 1_000,
        queue_timeout: Duration::from_secs(60),
        idle_time: Duration::from_secs(60),
        sleep_after: None,
        on_end,
        weight: 1,
        max_lifetime: None,
        max_uses: None,
    };
    Pool::new("nothing", Nothing, policy, 1, &Budget::new(size, 1_000)).expect("the policy is good")
}

fn runtime(workers: usize) -> Runtime {
    Builder::new_multi_thread().worker_threads(workers).enable_time().build().expect("threads can be had")
}

/// The time that `workers` tasks need for `iterations` requests together.
async fn requests(pool: &Pool<Nothing>, workers: u64, iterations: u64) -> Duration {
    pool.prewarm().await.expect("it never fails");
    let start = Instant::now();
    let tasks: Vec<_> = (0..workers)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move {
                for _ in 0..iterations.div_ceil(workers) {
                    pool.lease().await.expect("one comes back soon").end(End::Clean);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("it does not panic");
    }
    start.elapsed()
}

fn lease_and_end(criterion: &mut Criterion) {
    for (name, on_end) in [("keep", OnEnd::Keep), ("reset", OnEnd::Reset)] {
        let mut group = criterion.benchmark_group(format!("lease and end, {name}"));
        group.throughput(Throughput::Elements(1));
        for workers in [1, 2, 4] {
            let runtime = runtime(workers);
            for size in [1, 8, 64] {
                let pool = pool(size, on_end);
                let id = BenchmarkId::new(format!("{workers} workers"), format!("{size} instances"));
                group.bench_function(id, |bencher| {
                    bencher.iter_custom(|iterations| {
                        runtime.block_on(requests(&pool, workers as u64, iterations))
                    });
                });
            }
        }
        group.finish();
    }
}

fn spawn(criterion: &mut Criterion) {
    let runtime = runtime(1);
    criterion.bench_function("spawn, 1 worker", |bencher| {
        bencher.iter_custom(|iterations| {
            runtime.block_on(async {
                let spawner = tokio::spawn(async move {
                    let start = Instant::now();
                    for _ in 0..iterations {
                        tokio::spawn(async {});
                        tokio::task::consume_budget().await;
                    }
                    start.elapsed()
                });
                spawner.await.expect("it does not panic")
            })
        });
    });
}

criterion_group!(benches, lease_and_end, spawn);
criterion_main!(benches);
