//! What is still answered when more is asked than can be: from half to three times of what the host can do.
//!
//! Wanted: at three times the capacity nine tenths of it are still answered, and what is answered comes in a bounded
//! time. The series over time, from which a graph can be drawn, is in `target/load/overload.csv`.

use std::fmt::Write;
use std::time::Duration;

use hostler::compare::bench::Table;
use serde::Serialize;

use crate::open_loop::{BUCKET, Seen};
use crate::stage::{Host, Latency, Stage, figure};

/// A guest that is overloaded.
struct Case {
    name: &'static str,
    guest: &'static str,
    path: &'static str,
    config: &'static str,
}

const CASES: [Case; 3] = [
    Case { name: "hello", guest: "hello", path: "/app", config: "" },
    Case { name: "1 ms of CPU", guest: "spinner", path: "/app?rounds=1000", config: "" },
    // Its capacity is that of its instances, not the processor's.
    Case { name: "waits 20 ms", guest: "sleeper", path: "/app?ms=20", config: "max_instances = 8" },
];

/// The rate that is asked for, as a multiple of the capacity.
const FACTORS: [f64; 6] = [0.5, 0.8, 1.0, 1.5, 2.0, 3.0];

#[derive(Debug, Serialize)]
struct Found {
    case: &'static str,
    steps: Vec<Step>,
}

#[derive(Debug, Serialize)]
struct Step {
    factor: f64,
    /// Right answers a second in a closed loop, just before and just after: the machine is not equally fast all the time.
    capacity: f64,
    /// Requests a second that were due, and that were sent.
    due: f64,
    sent: f64,
    goodput: f64,
    goodput_to_capacity: f64,
    served: Latency,
    refused: Latency,
    /// Parts of all answers.
    refused_share: f64,
    other_share: f64,
    errors: u64,
    /// Requests that found no idle connection, and those whose answer never came.
    unsent: u64,
    unanswered: u64,
}

const CLOSED_CONNECTIONS: usize = 32;
/// More than are served and queued: what is beyond has to be refused.
const OPEN_CONNECTIONS: usize = 1_000;
const WARM_UP: Duration = Duration::from_secs(1);
const CAPACITY: Duration = Duration::from_secs(2);
const STEP: Duration = Duration::from_secs(5);
/// Between two steps: the queue of the last one empties.
const BREATH: Duration = Duration::from_millis(700);

pub async fn run(stage: &Stage) -> anyhow::Result<()> {
    let mut all = Vec::new();
    let mut series = String::from(
        "case,factor,begin_seconds,served_per_second,refused_per_second,other_per_second,served_p50_ms,\
         served_p99_ms\n",
    );
    for case in &CASES {
        let host = stage.host(&[stage.app("app", case.guest, case.config)?], "").await?;
        host.closed_loop(stage, case.path, 200, CLOSED_CONNECTIONS, WARM_UP).await?;
        let mut steps = Vec::new();
        let mut before = capacity(stage, &host, case).await?;
        for factor in FACTORS {
            let seen = ask(stage, &host, case, before * factor).await?;
            let after = capacity(stage, &host, case).await?;
            note(&mut series, case, factor, &seen);
            println!("{} at {factor}: {before:.0} and {after:.0} requests/s in a closed loop", case.name);
            steps.push(Step::of(factor, before, f64::midpoint(before, after), &seen));
            before = after;
        }
        all.push(Found { case: case.name, steps });
    }
    println!("\n{}", table(&all));
    stage.write("overload", &all)?;
    stage.write_text("overload.csv", &series)
}

async fn capacity(stage: &Stage, host: &Host, case: &Case) -> anyhow::Result<f64> {
    tokio::time::sleep(BREATH).await;
    Ok(host.closed_loop(stage, case.path, 200, CLOSED_CONNECTIONS, CAPACITY).await?.rate())
}

async fn ask(stage: &Stage, host: &Host, case: &Case, rate: f64) -> anyhow::Result<Seen> {
    host.open_loop(stage, case.path, rate, OPEN_CONNECTIONS, STEP).await
}

impl Step {
    /// `before`: the capacity of which a multiple was asked; `capacity`: that during the step.
    fn of(factor: f64, before: f64, capacity: f64, seen: &Seen) -> Step {
        let seconds = seen.duration.as_secs_f64();
        let goodput = seen.goodput();
        let answers = seen.answers();
        let share = |count: u64| if answers > 0 { count as f64 / answers as f64 } else { 0.0 };
        let refused = seen.refused.len();
        Step {
            factor,
            capacity,
            due: before * factor,
            sent: seen.sent as f64 / seconds,
            goodput,
            goodput_to_capacity: goodput / capacity,
            served: Latency::of(&seen.served),
            refused: Latency::of(&seen.refused),
            refused_share: share(refused),
            other_share: share(answers - seen.served.len() - refused),
            errors: seen.errors,
            unsent: seen.unsent,
            unanswered: seen.sent - answers - seen.errors,
        }
    }
}

fn note(series: &mut String, case: &Case, factor: f64, seen: &Seen) {
    let per_second = |count: u64| count as f64 / BUCKET.as_secs_f64();
    let ms = |value: Option<f64>| value.map(|value| format!("{value:.3}")).unwrap_or_default();
    for (at, bucket) in seen.series.iter().enumerate() {
        let latency = Latency::of(&bucket.served);
        let _ = writeln!(
            series,
            "{},{factor},{:.2},{},{},{},{},{}",
            case.name,
            BUCKET.as_secs_f64() * at as f64,
            per_second(bucket.served.len()),
            per_second(bucket.refused),
            per_second(bucket.other),
            ms(latency.p50),
            ms(latency.p99),
        );
    }
}

fn table(all: &[Found]) -> Table<12> {
    let mut table = Table::new(&[
        ["", "app"],
        ["of its", "capacity"],
        ["", "due/s"],
        ["", "sent/s"],
        ["", "2xx/s"],
        ["of", "capacity"],
        ["2xx, ms", "p50"],
        ["", "p99"],
        ["503, ms", "p50"],
        ["", "p99"],
        ["503", "share"],
        ["neither,", "failed"],
    ]);
    for found in all {
        for step in &found.steps {
            let other = step.other_share * 100.0;
            table.add([
                found.case.to_owned(),
                format!("{:.1}", step.factor),
                format!("{:.0}", step.due),
                format!("{:.0}", step.sent),
                format!("{:.0}", step.goodput),
                format!("{:.2}", step.goodput_to_capacity),
                figure(step.served.p50),
                figure(step.served.p99),
                figure(step.refused.p50),
                figure(step.refused.p99),
                format!("{:.0} %", step.refused_share * 100.0),
                format!("{other:.1} %, {}", step.errors + step.unsent + step.unanswered),
            ]);
        }
    }
    table
}
