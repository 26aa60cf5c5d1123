//! What an app that can't start costs while it is asked for again and again: the brake answers for it.

use std::time::Duration;

use anyhow::Context;
use hostler::compare::bench::{CpuReading, Table};
use serde::Serialize;

use crate::stage::{App, Latency, Stage, figure};

/// An app, and how its instances fail to start.
struct Case {
    name: &'static str,
    /// The module's start function.
    start: &'static str,
    config: &'static str,
}

const CASES: [Case; 4] = [
    Case { name: "starts and answers nothing", start: "", config: "" },
    Case { name: "traps at its start", start: "unreachable", config: "" },
    Case { name: "loops at its start", start: "(loop (br 0))", config: "" },
    Case { name: "loops, cpu_time 100 ms", start: "(loop (br 0))", config: "cpu_time = \"100ms\"" },
];

#[derive(Debug, Serialize)]
struct Found {
    case: &'static str,
    sent: f64,
    refused: u64,
    other: u64,
    latency: Latency,
    /// Processor time of the host, in cores.
    cores: f64,
}

/// Requests a second.
const RATE: f64 = 1_000.0;
const DURATION: Duration = Duration::from_secs(10);

pub async fn run(stage: &Stage) -> anyhow::Result<()> {
    let mut all = Vec::new();
    for case in &CASES {
        println!("{}", case.name);
        all.push(measure(stage, case).await?);
    }
    println!("\n{}", table(&all));
    stage.write("brake", &all)
}

async fn measure(stage: &Stage, case: &Case) -> anyhow::Result<Found> {
    // It is not tried at the deploy, so it is live.
    let config = format!("min_instances = 0\n{}", case.config);
    let host = stage.host(&[App { name: "app", wasm: module(case.start)?, config }], "").await?;
    let before = CpuReading::of(host.server.pid())?;
    let seen = host.open_loop(stage, "/app", RATE, 1_000, DURATION).await?;
    let cpu = CpuReading::of(host.server.pid())?.since(&before);
    Ok(Found {
        case: case.name,
        sent: seen.sent as f64 / DURATION.as_secs_f64(),
        refused: seen.refused.len(),
        other: seen.answers() - seen.refused.len(),
        latency: Latency::of(&seen.refused),
        cores: cpu.as_secs_f64() / DURATION.as_secs_f64(),
    })
}

/// A command with this start function.
fn module(start: &str) -> anyhow::Result<Vec<u8>> {
    let text = format!(
        "(module (memory (export \"memory\") 1) (func $start {start}) (start $start) (func (export \"_start\")))"
    );
    wat::parse_str(text).context("bad WAT")
}

fn table(all: &[Found]) -> Table<7> {
    let mut table = Table::new(&[
        ["", "the app"],
        ["", "sent/s"],
        ["", "503"],
        ["", "others"],
        ["503, ms", "p50"],
        ["", "p99"],
        ["CPU,", "cores"],
    ]);
    for found in all {
        table.add([
            found.case.to_owned(),
            format!("{:.0}", found.sent),
            found.refused.to_string(),
            found.other.to_string(),
            figure(found.latency.p50),
            figure(found.latency.p99),
            format!("{:.3}", found.cores),
        ]);
    }
    table
}
