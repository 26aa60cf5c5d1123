//! What a folder full of harm does to a neighbour's latencies.
//!
//! Wanted: the 99th percentile is at most twice what it is alone.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use anyhow::anyhow;
use hostler::compare::bench::Table;
use hostler::engine::give_way_to_all;
use serde::Serialize;

use crate::stage::{Host, Latency, Stage, figure};

/// Requests a second, and for how long.
const RATE: f64 = 50.0;
const DURATION: Duration = Duration::from_secs(20);

/// What is done to the folder.
type Harm = fn(&Path, u64) -> std::io::Result<()>;

/// A harm, and how often it is done.
const HARMS: [(&str, Duration, Harm); 5] = [
    ("no files at all", Duration::from_millis(200), no_files),
    ("a file that never stays", Duration::from_millis(1), changes),
    ("new code all the time", Duration::from_millis(100), new_code),
    ("a thousand names", Duration::from_secs(1), names),
    ("50,000 static files", Duration::from_secs(4), static_files),
];

#[derive(Debug, Serialize)]
struct Found {
    harm: &'static str,
    alone: Latency,
    beside: Latency,
    ratio: Option<f64>,
    asked: u64,
    failed: u64,
}

pub async fn run(stage: &Stage) -> anyhow::Result<()> {
    let mut all = Vec::new();
    for (harm, pause, act) in HARMS {
        println!("{harm}");
        all.push(measure(stage, harm, pause, act).await?);
    }
    println!("\n{}", table(&all));
    stage.write("hostile", &all)
}

async fn measure(stage: &Stage, harm: &'static str, pause: Duration, act: Harm) -> anyhow::Result<Found> {
    let host = stage.host(&[stage.app("good", "hello", "")?], "").await?;
    let (alone, ..) = ask(stage, &host).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let (until, folder): (_, PathBuf) = (stop.clone(), host.apps());
    let harming = std::thread::spawn(move || {
        // What counts is the host's work, and not that of who writes the files.
        give_way_to_all();
        let mut times = 0;
        while !until.load(Relaxed) {
            act(&folder, times)?;
            times += 1;
            std::thread::sleep(pause);
        }
        std::io::Result::Ok(())
    });
    let asked = ask(stage, &host).await;
    stop.store(true, Relaxed);
    tokio::task::spawn_blocking(move || harming.join())
        .await?
        .map_err(|_| anyhow!("the harm panicked"))??;
    let (beside, asked, failed) = asked?;
    let ratio = beside.p99_ratio(&alone);
    Ok(Found { harm, alone, beside, ratio, asked, failed })
}

async fn ask(stage: &Stage, host: &Host) -> anyhow::Result<(Latency, u64, u64)> {
    // Each connection has a second, and is used again before the host closes it.
    let seen = host.open_loop(stage, "/good", RATE, RATE as usize, DURATION).await?;
    Ok((Latency::of(&seen.served), seen.asked(), seen.asked() - seen.count(200)))
}

fn no_files(folder: &Path, times: u64) -> std::io::Result<()> {
    if times == 0 {
        symlink("/etc/passwd", folder.join("passwd.wasm"))?;
        symlink("/dev/zero", folder.join("zero.wasm"))?;
        std::fs::create_dir(folder.join("folder.wasm"))?;
        std::fs::File::create(folder.join("sparse.wasm"))?.set_len(10 << 30)?;
        std::fs::write(folder.join("thief.toml"), "hosts = [\"good.example.com\"]\npath = \"/good\"\n")?;
        std::fs::write(folder.join("thief.wasm"), b"\0asm\x0d\0\x01\0")?;
    }
    // Looked at again each time.
    std::fs::write(folder.join("thief.wasm"), [b"\0asm\x0d\0\x01\0", &times.to_le_bytes()[..]].concat())
}

fn changes(folder: &Path, times: u64) -> std::io::Result<()> {
    std::fs::write(folder.join("restless.wasm"), vec![times.to_le_bytes()[0]; 1 << 16])
}

/// Apps whose bytes are never the same: each is compiled.
fn new_code(folder: &Path, times: u64) -> std::io::Result<()> {
    let name = format!("new{}", times % 20);
    let wasm = crate::large_app::large_app(200 << 10, (times as usize + 1) * 7_919);
    std::fs::write(folder.join(format!("{name}.part")), wasm)?;
    std::fs::rename(folder.join(format!("{name}.part")), folder.join(format!("{name}.wasm")))
}

fn names(folder: &Path, times: u64) -> std::io::Result<()> {
    for number in 0..1_000 {
        let name = format!("a\n{number}%2e%2e{}.wasm", times % 2);
        std::fs::write(folder.join(name), b"")?;
    }
    Ok(())
}

fn static_files(folder: &Path, times: u64) -> std::io::Result<()> {
    let public = folder.join("many/public");
    std::fs::create_dir_all(&public)?;
    if times == 0 {
        std::fs::write(folder.join("many/app.toml"), "")?;
        for number in 0..50_000 {
            std::fs::write(public.join(format!("{number}.txt")), b"x")?;
        }
    }
    std::fs::write(public.join("0.txt"), times.to_le_bytes())
}

fn table(all: &[Found]) -> Table<8> {
    let mut table = Table::new(&[
        ["", "harm"],
        ["alone, ms", "p50"],
        ["", "p99"],
        ["beside it, ms", "p50"],
        ["", "p99"],
        ["", "max"],
        ["p99", "ratio"],
        ["", "failures"],
    ]);
    for found in all {
        table.add([
            found.harm.to_owned(),
            figure(found.alone.p50),
            figure(found.alone.p99),
            figure(found.beside.p50),
            figure(found.beside.p99),
            figure(found.beside.max),
            figure(found.ratio),
            format!("{} of {}", found.failed, found.asked),
        ]);
    }
    table
}
