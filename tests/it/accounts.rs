//! The account of processor time, compared with what the kernel says the whole process had.

use hostler::compare::bench::CpuReading;
use serde_json::Value;

use crate::process::Program;
use crate::program::get;
use crate::wire::Wire;

const CONFIG: &str = "[admin]\nlisten = \"127.0.0.1:0\"\n[server]\nworker_threads = 2\n";

/// Of one request, and how many of them: a second or two of processor time in all.
const ROUNDS: u32 = 40_000;
const REQUESTS: usize = 10;
const CLIENTS: usize = 4;
const TRIES: usize = 5;

/// Nanoseconds inside the guests and for their upkeep, of all apps together.
async fn accounted(program: &Program) -> u64 {
    let log = program.log();
    let (_, rest) = log.split_once("status on http://").expect("the admin listener's line");
    let admin = rest.split('/').next().expect("an address").parse().expect("an address");
    let (_, status) = get(admin, "/status").await;
    let status: Value = serde_json::from_slice(&status).expect("JSON");
    let apps = status["apps"].as_array().expect("apps");
    let of = |app: &Value, name: &str| app["requests"][name].as_u64().expect("a number");
    apps.iter().map(|app| of(app, "cpu_nanos") + of(app, "upkeep_nanos")).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guests_account_for_the_processor_time_of_a_host_that_computes() {
    let program = Program::serve(&["spinner", "hello"], CONFIG).await;
    program.logged("status on http://").await;
    let path = format!("/spinner?rounds={ROUNDS}");
    let client = async || {
        let mut wire = Wire::connect(program.address()).await;
        for _ in 0..REQUESTS {
            wire.ask(&path).await;
            assert_eq!(wire.answer().await.expect("an answer").1, format!("spun {ROUNDS} rounds\n"));
        }
    };
    let computes = async || {
        let (cpu, account) = (CpuReading::of(program.id()).expect("its time"), accounted(&program).await);
        futures_util::future::join_all((0..CLIENTS).map(|_| client())).await;
        let process = CpuReading::of(program.id()).expect("its time").since(&cpu).as_secs_f64();
        let apps = (accounted(&program).await - account) as f64 / 1e9;
        println!("the process had {process:.3} s, the apps account for {apps:.3} s");
        assert!(process > 0.2, "too little was computed to tell: {process:.3} s");
        (apps / process - 1.0).abs()
    };
    // Beside other programs the host's own part is larger at times: what it finds in the caches is less.
    let mut off = [0.0; TRIES];
    for off in &mut off {
        *off = computes().await;
    }
    off.sort_by(f64::total_cmp);
    let median = off[TRIES / 2];
    assert!(median < 0.1, "the account is mostly {:.0} % off", median * 100.0);
}
