//! What the compilation of a large app does to another app's latencies.
//!
//! Wanted: the 99th percentile is less than twice what it is while nothing is compiled.

use std::time::{Duration, Instant};

use anyhow::ensure;
use hdrhistogram::Histogram;
use hostler::compare::bench::{Table, histogram};
use serde::Serialize;

use crate::large_app::large_app;
use crate::open_loop::Seen;
use crate::stage::{App, Host, Latency, Stage, figure};

/// The other app: name, guest and path.
const CASES: [(&str, &str, &str); 2] =
    [("hello", "hello", "/b"), ("1 ms of CPU", "spinner", "/b?rounds=1000")];

/// Bytes of the large app.
const SIZE: usize = 30 << 20;
/// Requests a second.
const RATE: f64 = 50.0;
/// How many large apps are compiled, one after the other: a percentile of few requests says little.
const APPS: usize = 4;
/// Before each of them: about as long as its compilation takes, so that both percentiles are of as many requests, and a
/// machine that is slower for some minutes tells on both.
const ALONE: Duration = Duration::from_secs(25);
/// It is looked so often whether the large app is live.
const PHASE: Duration = Duration::from_secs(2);
/// How long the large app may take.
const PATIENCE: Duration = Duration::from_secs(600);

#[derive(Debug, Serialize)]
struct Found {
    case: &'static str,
    alone: Latency,
    compiling: Latency,
    ratio: Option<f64>,
    /// Requests while it was compiled, and those of them that failed.
    asked: u64,
    failed: u64,
    /// From a file's being there to its first answer, in steps of a phase; the longest.
    live_after_seconds: f64,
}

pub async fn run(stage: &Stage) -> anyhow::Result<()> {
    let mut all = Vec::new();
    for (case, guest, path) in CASES {
        println!("{case}");
        all.push(measure(stage, case, guest, path).await?);
    }
    println!("\n{}", table(&all));
    stage.write("compile", &all)
}

async fn measure(stage: &Stage, case: &'static str, guest: &str, path: &str) -> anyhow::Result<Found> {
    let app: App = stage.app("b", guest, "")?;
    let host = stage.host(&[app], "").await?;
    let (mut alone, mut served) = (histogram(), histogram());
    let (mut asked, mut failed, mut live_after) = (0, 0, Duration::ZERO);
    for app in 0..APPS {
        alone.add(ask(stage, &host, path, ALONE).await?.served)?;
        // Bytes that no run before has left in the code cache.
        let seed = fastrand::usize(..1 << 32);
        let wasm = tokio::task::spawn_blocking(move || large_app(SIZE, seed)).await?;
        let name = format!("large-{app}");
        host.put(&name, &wasm)?;
        let began = Instant::now();
        while !is_live(stage, &host, &name).await? {
            ensure!(began.elapsed() < PATIENCE, "{name} is not live after {PATIENCE:?}");
            let seen = ask(stage, &host, path, PHASE).await?;
            served.add(&seen.served)?;
            asked += seen.asked();
            failed += seen.asked() - seen.count(200);
        }
        live_after = live_after.max(began.elapsed());
    }
    let (alone, compiling) = (Latency::of(&alone), Latency::of(&served));
    let (ratio, live_after_seconds) = (compiling.p99_ratio(&alone), live_after.as_secs_f64());
    Ok(Found { case, alone, compiling, ratio, asked, failed, live_after_seconds })
}

async fn ask(stage: &Stage, host: &Host, path: &str, duration: Duration) -> anyhow::Result<Seen> {
    // As many connections as requests: none waits for another one's answer.
    host.open_loop(stage, path, RATE, (RATE * duration.as_secs_f64()) as usize, duration).await
}

async fn is_live(stage: &Stage, host: &Host, name: &str) -> anyhow::Result<bool> {
    Ok(host.open_loop(stage, &format!("/{name}"), 1.0, 1, Duration::from_millis(1)).await?.count(204) == 1)
}

fn table(all: &[Found]) -> Table<9> {
    let mut table = Table::new(&[
        ["", "asked 50/s"],
        ["alone, ms", "p50"],
        ["", "p99"],
        ["compiling, ms", "p50"],
        ["", "p99"],
        ["", "max"],
        ["p99", "ratio"],
        ["", "failures"],
        ["live", "after, s"],
    ]);
    for found in all {
        table.add([
            found.case.to_owned(),
            figure(found.alone.p50),
            figure(found.alone.p99),
            figure(found.compiling.p50),
            figure(found.compiling.p99),
            figure(found.compiling.max),
            figure(found.ratio),
            format!("{} of {}", found.failed, found.asked),
            format!("{:.0}", found.live_after_seconds),
        ]);
    }
    table
}
