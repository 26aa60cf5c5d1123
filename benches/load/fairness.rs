//! What one app's flood does to another: app `b` is asked little, alone and while app `a` is flooded.
//!
//! Both orders count: `b` had an instance before the flood, or the flood had taken all there is before `b` was first
//! asked. Wanted: the 99th percentile of `b` is at most twice what it is alone. At last the same is done to native hyper,
//! for comparison: there is one queue for all.

use std::time::Duration;

use hostler::compare::bench::{Counts, Load, Table};
use serde::Serialize;

use crate::open_loop::Seen;
use crate::stage::{App, GRACE, Host, Latency, Stage, figure, run as run_load};

/// A kind of flood.
struct Flood {
    name: &'static str,
    guest: &'static str,
    path: &'static str,
    /// The status of most of its answers.
    status: u16,
    /// Configuration of the flooded app.
    config: &'static str,
}

const FLOODS: [Flood; 5] = [
    Flood { name: "hello", guest: "hello", path: "/a", status: 200, config: "" },
    Flood { name: "1 ms of CPU", guest: "spinner", path: "/a?rounds=1000", status: 200, config: "" },
    Flood {
        name: "spins into cpu_time",
        guest: "spinner",
        path: "/a",
        status: 504,
        config: "cpu_time = \"100ms\"",
    },
    Flood { name: "sleeps 500 ms", guest: "sleeper", path: "/a?ms=500", status: 200, config: "" },
    Flood { name: "cold", guest: "hello", path: "/a", status: 200, config: "mode = \"cold\"" },
];

/// The flood of hello, of a server that shares out nothing: what the machine and the load itself do to `b`.
const NATIVE: Flood = Flood { name: "native hyper", ..FLOODS[0] };

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum Order {
    /// `b` was answered before the flood began.
    BeforeTheFlood,
    /// The flood was there before `b`'s first request.
    AfterTheFlood,
}

/// What `b` saw in one way of asking.
#[derive(Debug, Serialize)]
struct Asked {
    latency: Latency,
    right: u64,
    /// Other statuses, broken answers, answers that never came.
    failed: u64,
}

/// What `b` saw in one phase.
#[derive(Debug, Serialize)]
struct Phase {
    open_loop: Asked,
    closed_loop: Asked,
}

#[derive(Debug, Serialize)]
struct Found {
    flood: &'static str,
    order: Order,
    alone: Phase,
    flooded: Phase,
    /// Until `b`'s first answer under the flood, milliseconds; none if it was no right one, or none came in time.
    first_ms: Option<f64>,
    flood_answers: Counts,
}

/// Instances of all apps together: no more than the flooded app may have, so that it can take them all.
const CONFIG: &str = "[pool]\nmax_instances = 64\n[defaults]\nmin_instances = 0\nmax_instances = 64\n";

const FLOOD_CONNECTIONS: usize = 200;
/// Requests a second of `b`, and for how long.
const RATE: f64 = 200.0;
const OPEN: Duration = Duration::from_secs(4);
/// Before that, unmeasured: in a host that has just started the first requests of so many connections take longer, flood or
/// not, and which phase comes first is the order's.
const WARM_UP: Duration = Duration::from_secs(1);
/// With one connection.
const CLOSED: Duration = Duration::from_secs(2);
/// Over before the second request is due.
const ONE_REQUEST: Duration = Duration::from_millis(1);
/// Until the flood has taken what it can get.
const RISE: Duration = Duration::from_millis(700);
/// After the flood, until its last guests have ended.
const FALL: Duration = Duration::from_millis(700);

pub async fn run(stage: &Stage) -> anyhow::Result<()> {
    let mut all = Vec::new();
    for flood in &FLOODS {
        for order in [Order::BeforeTheFlood, Order::AfterTheFlood] {
            println!("flood: {}, b comes {order:?}", flood.name);
            let apps: [App; 2] = [stage.app("a", flood.guest, flood.config)?, stage.app("b", "hello", "")?];
            let host = stage.host(&apps, CONFIG).await?;
            all.push(measure(stage, &host, flood, order).await?);
        }
    }
    println!("flood: {}", NATIVE.name);
    let native = stage.native("Hello from Hostler!\n").await?;
    all.push(measure(stage, &native, &NATIVE, Order::BeforeTheFlood).await?);
    println!("\n{}", table(&all));
    stage.write("fairness", &all)
}

async fn measure(stage: &Stage, host: &Host, flood: &Flood, order: Order) -> anyhow::Result<Found> {
    let (alone, flooded) = match order {
        Order::BeforeTheFlood => {
            let alone = phase(stage, host).await?;
            (alone, under(stage, host, flood).await?)
        }
        Order::AfterTheFlood => {
            let flooded = under(stage, host, flood).await?;
            tokio::time::sleep(FALL).await;
            (phase(stage, host).await?, flooded)
        }
    };
    let (flooded, first, flood_answers) = flooded;
    Ok(Found { flood: flood.name, order, alone, flooded, first_ms: first, flood_answers })
}

/// A phase under the flood, and how long its first answer took.
async fn under(stage: &Stage, host: &Host, flood: &Flood) -> anyhow::Result<(Phase, Option<f64>, Counts)> {
    // The flood goes on a little longer than what is measured in it.
    let lasts = RISE + WARM_UP + OPEN + CLOSED + GRACE * 2 + Duration::from_secs(1);
    // Beside threads of its own priority `b`'s would wait for the processor, and that be taken for the server's time.
    let load = host.load(stage, flood.path, flood.status, FLOOD_CONNECTIONS, lasts);
    let load = Load { gives_way: true, ..load };
    let flooding = run_load(&load);
    let asking = async {
        tokio::time::sleep(RISE).await;
        let first = ask(stage, host, 1, ONE_REQUEST).await?;
        anyhow::Ok((phase(stage, host).await?, Latency::of(&first.served).max))
    };
    let (flooded, asked) = tokio::join!(flooding, asking);
    let (phase, first) = asked?;
    Ok((phase, first, flooded?.counts))
}

async fn phase(stage: &Stage, host: &Host) -> anyhow::Result<Phase> {
    // As many connections as requests: none of them waits for another one's answer.
    let connections = (RATE * OPEN.as_secs_f64()) as usize;
    ask(stage, host, connections, WARM_UP).await?;
    let seen = ask(stage, host, connections, OPEN).await?;
    let right = seen.count(200);
    let open_loop = Asked { latency: Latency::of(&seen.served), right, failed: seen.asked() - right };
    let closed = host.closed_loop(stage, "/b", 200, 1, CLOSED).await?;
    let counts = closed.counts;
    let closed_loop =
        Asked { latency: Latency::of(&closed.latencies), right: counts.right, failed: counts.failed() };
    Ok(Phase { open_loop, closed_loop })
}

async fn ask(stage: &Stage, host: &Host, connections: usize, duration: Duration) -> anyhow::Result<Seen> {
    host.open_loop(stage, "/b", RATE, connections, duration).await
}

fn table(all: &[Found]) -> Table<11> {
    let mut table = Table::new(&[
        ["", "flood of a"],
        ["", "b comes"],
        ["", "b asks"],
        ["alone, ms", "p50"],
        ["", "p99"],
        ["flooded, ms", "p50"],
        ["", "p99"],
        ["", "max"],
        ["p99", "ratio"],
        ["b's", "failures"],
        ["b's first", "answer, ms"],
    ]);
    for found in all {
        let order = match found.order {
            Order::BeforeTheFlood => "before",
            Order::AfterTheFlood => "after",
        };
        let ways = [
            (format!("{RATE}/s"), &found.alone.open_loop, &found.flooded.open_loop),
            ("closed loop".to_owned(), &found.alone.closed_loop, &found.flooded.closed_loop),
        ];
        for (way, alone, flooded) in ways {
            let ratio = flooded.latency.p99_ratio(&alone.latency);
            table.add([
                found.flood.to_owned(),
                order.to_owned(),
                way,
                figure(alone.latency.p50),
                figure(alone.latency.p99),
                figure(flooded.latency.p50),
                figure(flooded.latency.p99),
                figure(flooded.latency.max),
                figure(ratio),
                format!("{} of {}", flooded.failed, flooded.failed + flooded.right),
                figure(found.first_ms),
            ]);
        }
    }
    table
}
