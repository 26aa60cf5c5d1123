//! How much of the host's processor time the apps account for, by the size of a request: the time inside their guests
//! and that for their upkeep. What is left is the host's own: sockets, HTTP, scheduling.

use std::time::Duration;

use anyhow::Context;
use hostler::compare::bench::{CpuReading, Table};
use serde::Serialize;

use crate::stage::{Host, Stage};

/// A guest, and what is asked of it.
const CASES: [(&str, &str, &str); 4] = [
    ("hello", "hello", "/app"),
    ("hello-js", "hello-js", "/app"),
    ("1 ms of CPU", "spinner", "/app?rounds=1000"),
    ("20 ms of CPU", "spinner", "/app?rounds=20000"),
];

/// Microseconds a request.
#[derive(Debug, Serialize)]
struct Found {
    case: &'static str,
    rate: f64,
    process: f64,
    guest: f64,
    upkeep: f64,
}

const CONNECTIONS: usize = 16;
const WARM_UP: Duration = Duration::from_secs(1);
const DURATION: Duration = Duration::from_secs(4);

pub async fn run(stage: &Stage) -> anyhow::Result<()> {
    let mut all = Vec::new();
    for (case, guest, path) in CASES {
        println!("{case}");
        let host = stage.host(&[stage.app("app", guest, "")?], "").await?;
        all.push(measure(stage, &host, case, path).await?);
    }
    println!("\n{}", table(&all));
    stage.write("account", &all)
}

async fn measure(stage: &Stage, host: &Host, case: &'static str, path: &str) -> anyhow::Result<Found> {
    host.closed_loop(stage, path, 200, CONNECTIONS, WARM_UP).await?;
    let (cpu, account) = (CpuReading::of(host.server.pid())?, account(host).await?);
    let outcome = host.closed_loop(stage, path, 200, CONNECTIONS, DURATION).await?;
    let process = CpuReading::of(host.server.pid())?.since(&cpu);
    let (guest, upkeep) = self::account(host).await?;
    let each = |nanoseconds: u64| nanoseconds as f64 / 1e3 / outcome.counts.right.max(1) as f64;
    Ok(Found {
        case,
        rate: outcome.rate(),
        process: process.as_secs_f64() * 1e6 / outcome.counts.right.max(1) as f64,
        guest: each(guest - account.0),
        upkeep: each(upkeep - account.1),
    })
}

/// Nanoseconds of the app: inside its guests, and for their upkeep.
async fn account(host: &Host) -> anyhow::Result<(u64, u64)> {
    let status = host.status().await?;
    let of = |name: &str| status["apps"][0]["requests"][name].as_u64().context("the status lacks a figure");
    Ok((of("cpu_nanos")?, of("upkeep_nanos")?))
}

fn table(all: &[Found]) -> Table<6> {
    let mut table = Table::new(&[
        ["", "app"],
        ["", "requests/s"],
        ["us a request:", "process"],
        ["", "guest"],
        ["", "upkeep"],
        ["accounted", "for"],
    ]);
    for found in all {
        table.add([
            found.case.to_owned(),
            format!("{:.0}", found.rate),
            format!("{:.1}", found.process),
            format!("{:.1}", found.guest),
            format!("{:.1}", found.upkeep),
            format!("{:.0} %", (found.guest + found.upkeep) / found.process * 100.0),
        ]);
    }
    table
}
