//! What deploys do to an app at full load: it is asked by as many connections as keep the host busy, in rounds with and
//! without a new release of it, by turns.
//!
//! Wanted: no request fails, and the 99th percentile of the rounds with a deploy is at most a fifth above that of the
//! others.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use hostler::compare::bench::{Table, histogram};
use serde::Serialize;

use crate::stage::{Host, Latency, Stage, figure};

/// An app that is deployed.
struct Case {
    name: &'static str,
    guest: &'static str,
    config: &'static str,
    path: &'static str,
    /// As many as keep the host busy.
    connections: usize,
}

const CASES: [Case; 3] = [
    Case { name: "hello", guest: "hello", config: "", path: "/app", connections: 32 },
    Case {
        name: "hello with warmup",
        guest: "hello",
        config: "warmup = [\"/\"]",
        path: "/app",
        connections: 32,
    },
    Case { name: "1 ms of CPU", guest: "spinner", config: "", path: "/app?rounds=1000", connections: 8 },
];

const ROUNDS: usize = 8;
const ROUND: Duration = Duration::from_secs(4);
/// Into a round, until the file is put in place.
const LEAD: Duration = Duration::from_millis(500);
/// How long a deploy may take beside a host that is never at rest.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Serialize)]
struct Found {
    case: &'static str,
    steady: Latency,
    deploying: Latency,
    ratio: Option<f64>,
    asked: u64,
    failed: u64,
    /// From the file's being there to the release's being live, seconds; the longest.
    live_after: f64,
    deploys: usize,
}

pub async fn run(stage: &Stage) -> anyhow::Result<()> {
    let mut all = Vec::new();
    for case in &CASES {
        println!("{}", case.name);
        all.push(measure(stage, case).await?);
    }
    println!("\n{}", table(&all));
    stage.write("deploy", &all)
}

async fn measure(stage: &Stage, case: &Case) -> anyhow::Result<Found> {
    let apps = [stage.app("app", case.guest, case.config)?];
    let (host, wasm) = (stage.host(&apps, "").await?, &apps[0].wasm);
    let load = |duration| host.closed_loop(stage, case.path, 200, case.connections, duration);
    load(ROUND / 2).await?;
    let (mut steady, mut deploying): (Histogram<u64>, Histogram<u64>) = (histogram(), histogram());
    let (mut asked, mut failed, mut live_after) = (0, 0, 0.0_f64);
    for round in 0..ROUNDS {
        for is_deploy in [round % 2 == 0, round % 2 != 0] {
            let deploy = async {
                if !is_deploy {
                    return Ok(0.0);
                }
                tokio::time::sleep(LEAD).await;
                deploy(&host, &stamped(wasm)).await
            };
            let (outcome, took) = tokio::join!(load(ROUND), deploy);
            let outcome = outcome?;
            live_after = live_after.max(took?);
            let counts = outcome.counts;
            asked += counts.right + counts.failed();
            failed += counts.failed();
            if is_deploy { &mut deploying } else { &mut steady }.add(&outcome.latencies)?;
        }
    }
    let (steady, deploying) = (Latency::of(&steady), Latency::of(&deploying));
    let ratio = deploying.p99_ratio(&steady);
    Ok(Found { case: case.name, steady, deploying, ratio, asked, failed, live_after, deploys: ROUNDS })
}

/// Puts the file in place and waits until it is live. Returns how long that took, in seconds.
async fn deploy(host: &Host, wasm: &[u8]) -> anyhow::Result<f64> {
    let before = release(host).await?;
    let began = Instant::now();
    host.put("app", wasm)?;
    while release(host).await? == before {
        ensure!(began.elapsed() < PATIENCE, "the new release is not live after {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(began.elapsed().as_secs_f64())
}

async fn release(host: &Host) -> anyhow::Result<u64> {
    let status = host.status().await?;
    status["apps"][0]["release"]["number"].as_u64().context("the status names no release")
}

/// The same app in bytes that no code cache knows: with a section of its own that says nothing.
fn stamped(wasm: &[u8]) -> Vec<u8> {
    const NAME: &[u8] = b"bench";
    let stamp = fastrand::u64(..).to_le_bytes();
    let len = u8::try_from(1 + NAME.len() + stamp.len()).unwrap_or_default();
    let name_len = u8::try_from(NAME.len()).unwrap_or_default();
    [wasm, &[0, len, name_len], NAME, &stamp].concat()
}

fn table(all: &[Found]) -> Table<9> {
    let mut table = Table::new(&[
        ["", "app"],
        ["steady, ms", "p50"],
        ["", "p99"],
        ["deploying, ms", "p50"],
        ["", "p99"],
        ["", "max"],
        ["p99", "ratio"],
        ["", "failures"],
        ["live", "after, s"],
    ]);
    for found in all {
        table.add([
            found.case.to_owned(),
            figure(found.steady.p50),
            figure(found.steady.p99),
            figure(found.deploying.p50),
            figure(found.deploying.p99),
            figure(found.deploying.max),
            figure(found.ratio),
            format!("{} of {}", found.failed, found.asked),
            format!("{:.1}", found.live_after),
        ]);
    }
    table
}
