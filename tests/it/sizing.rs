//! The number of instances follows the machine, here one that is made of files; and each key that has to do with it.

use std::path::Path;

use serde_json::Value;

use crate::program::{Place, get};
use crate::support::{Builder, TestHost, alone, put};
use crate::wire::Wire;

/// A machine with 8 GiB and one processor, and a control group of 1 GiB in it.
struct Machine(tempfile::TempDir);

impl Machine {
    fn new() -> Machine {
        let machine = Machine(tempfile::tempdir().expect("a folder"));
        machine.write("proc/meminfo", "MemTotal:        8388608 kB\n");
        machine.write("proc/self/cgroup", "0::/box\n");
        let mount = "30 22 0:26 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw\n";
        machine.write("proc/self/mountinfo", mount);
        machine.write("proc/self/status", "RssAnon:\t    8192 kB\nCpus_allowed_list:\t0\n");
        machine.memory(1024);
        machine.pressure("0.00");
        machine
    }

    fn write(&self, file: &str, text: &str) {
        put(&self.0.path().join(file), text.as_bytes());
    }

    /// The control group's limit in MiB.
    fn memory(&self, mib: u64) {
        self.write("sys/fs/cgroup/box/memory.max", &format!("{}\n", mib << 20));
    }

    fn pressure(&self, percent: &str) {
        let text = format!("some avg10={percent} avg60=0.00 avg300=0.00 total=0\n");
        self.write("sys/fs/cgroup/box/memory.pressure", &text);
    }

    fn root(&self) -> &Path {
        self.0.path()
    }
}

fn on(machine: &Machine) -> Builder {
    TestHost::builder().machine(machine.root())
}

fn limit(host: &TestHost) -> u32 {
    host.host().status().budget.limit
}

/// Instances leased and idle, and requests that wait.
fn load(host: &TestHost, app: &str) -> (u32, u32, usize) {
    let stats = host.app(app).release.expect("a live release").instances;
    (stats.leased, stats.idle, stats.waiting)
}

/// Clients that are all served at the same time.
async fn clients(host: &TestHost, path: &str, count: usize) -> Vec<Wire> {
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut wire = Wire::connect(host.address()).await;
        wire.ask(path).await;
        clients.push(wire);
    }
    clients
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_and_metrics_say_how_many_instances_there_may_be_and_why() {
    let machine = Machine::new();
    machine.memory(80);
    let host = on(&machine).admin().app("shop", "hello").app_config("shop", "weight = 7").start().await;
    // (80 MiB x 75 % - 8 MiB) / 2 MiB; the allocator of a test's host has 64.
    let sentence = "auto: 26 instances = memory 26 (75% of 80.0 MiB of the control group less 8.0 MiB for the host, \
                    2.0 MiB each assumed), allocator 64 (address space), backends none";
    let admin = host.host().admin_address().expect("an admin listener");
    let (_, body) = get(admin, "/status").await;
    let status: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(status["sizing"]["sentence"], sentence);
    let sizing = &status["sizing"];
    assert_eq!((&sizing["limit"], &sizing["cpus"]), (&26.into(), &1.into()));
    assert_eq!(sizing["memory_limit"], 80 << 20);
    assert_eq!((&sizing["resident"], &sizing["host_resident"]), (&(8 << 20).into(), &(8 << 20).into()));
    assert_eq!((&sizing["instance_resident"], &sizing["is_measured"]), (&(2 << 20).into(), &false.into()));
    assert_eq!((&sizing["pressure"], &sizing["stall"]["group"]), (&"none".into(), &0.0.into()));
    assert_eq!((&status["budget"]["total"], &status["budget"]["limit"]), (&64.into(), &26.into()));
    let shop = &status["apps"][0]["release"];
    assert_eq!((&shop["weight"], &shop["max_instances"]), (&7.into(), &64.into()));
    let (_, metrics) = get(admin, "/metrics").await;
    let metrics = String::from_utf8(metrics).expect("text");
    for line in [
        "hostler_budget_limit 26",
        "hostler_cpus 1",
        "hostler_memory_limit_bytes 83886080",
        "hostler_instance_resident_bytes 2097152",
        "hostler_pressure 0",
        "hostler_memory_stall_percent 0",
        "hostler_weight{app=\"shop\"} 7",
        "hostler_max_instances{app=\"shop\"} 64",
    ] {
        assert!(metrics.lines().any(|found| found == line), "no {line} in {metrics}");
    }
    assert!(!metrics.contains("hostler_machine_memory_stall_percent"), "what is not known is left out");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn less_memory_means_fewer_instances_and_more_means_more() {
    let machine = Machine::new();
    let host =
        on(&machine).config("[defaults]\nqueue_timeout = \"60s\"").app("sleeper", "sleeper").start().await;
    assert_eq!(limit(&host), 64);
    machine.memory(16);
    host.until("the limit is down", || limit(&host) == 4).await;
    let mut clients = clients(&host, "/sleeper?ms=200", 6).await;
    host.until("two wait", || load(&host, "sleeper") == (4, 0, 2)).await;
    machine.memory(1024);
    host.until("the limit is up", || limit(&host) == 64).await;
    for client in &mut clients {
        assert_eq!(client.answer().await.expect("an answer").1, "slept 200 ms\n");
    }
    host.settled("sleeper").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_memory_gets_less_idle_instances_go_and_busy_ones_stay() {
    let machine = Machine::new();
    let host = on(&machine).app("sleeper", "sleeper").app("other", "sleeper").start().await;
    let mut done = clients(&host, "/other?ms=100", 8).await;
    for client in &mut done {
        client.answer().await.expect("an answer");
    }
    host.settled("other").await;
    assert!(load(&host, "other").1 > 1, "{:?}", load(&host, "other"));
    let mut busy = clients(&host, "/sleeper?ms=3000", 6).await;
    host.until("they are served", || load(&host, "sleeper").0 == 6).await;
    machine.memory(16);
    host.until("the limit is down", || limit(&host) == 4).await;
    host.until("the idle ones are gone", || load(&host, "other") == (0, 1, 0)).await;
    for client in &mut busy {
        assert_eq!(client.answer().await.expect("an answer").1, "slept 3000 ms\n");
    }
    host.settled("sleeper").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_instances_take_is_measured() {
    let machine = Machine::new();
    let host = on(&machine).app("sleeper", "sleeper").start().await;
    let sizing = || host.host().status().sizing;
    assert!(!sizing().is_measured);
    let mut clients = clients(&host, "/sleeper?ms=4000", 20).await;
    host.until("they are served", || load(&host, "sleeper").0 == 20).await;
    // 8 MiB of the host's and 20 times 20 MiB.
    machine.write("proc/self/status", "RssAnon:\t  417792 kB\nCpus_allowed_list:\t0\n");
    host.until("it is measured", || sizing().is_measured && sizing().instance_resident > 8 << 20).await;
    // (1 GiB x 75 % - 8 MiB) / 20 MiB are 38 in the end.
    host.until("the limit follows", || limit(&host) < 64).await;
    assert!(sizing().sentence.contains(" each measured)"), "{}", sizing().sentence);
    for client in &mut clients {
        client.answer().await.expect("an answer");
    }
    host.settled("sleeper").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_pressure_is_shown_and_takes_idle_instances() {
    let machine = Machine::new();
    let host = on(&machine).app("other", "sleeper").start().await;
    let mut done = clients(&host, "/other?ms=100", 8).await;
    for client in &mut done {
        client.answer().await.expect("an answer");
    }
    host.settled("other").await;
    assert!(load(&host, "other").1 > 1, "{:?}", load(&host, "other"));
    let pressure = || host.host().status().sizing.pressure.to_string();
    for (percent, name) in [("7.50", "growth"), ("12.00", "spares"), ("33.00", "shed")] {
        machine.pressure(percent);
        host.until(name, || pressure() == name).await;
    }
    host.until("only the minimum is idle", || load(&host, "other").1 <= 1).await;
    machine.pressure("0.00");
    host.until("none", || pressure() == "none").await;
    assert_eq!(host.get("/other?ms=1").await.status, 200);
    host.settled("other").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_budget_and_max_instances_bound_the_pool() {
    let machine = Machine::new();
    let limit_with = async |config: &str| {
        let host = on(&machine).config(config).app("shop", "hello").start().await;
        assert_eq!(host.get("/shop").await.status, 200);
        limit(&host)
    };
    assert_eq!(limit_with("[pool]\nmemory_budget = \"48MiB\"").await, 20);
    assert_eq!(limit_with("[pool]\nmemory_budget = \"10%\"").await, 47);
    assert_eq!(limit_with("[pool]\nmax_instances = 10").await, 10);
    assert_eq!(limit_with("[pool]\nmax_instances = 40\nmemory_budget = \"48MiB\"").await, 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_has_no_more_instances_than_its_database_has_connections_for() {
    let machine = Machine::new();
    let host = on(&machine)
        .app("shop", "sleeper")
        .app_config("shop", "backend_connections = 7\nconnections_per_instance = 3\nqueue_timeout = \"5s\"")
        .app("blog", "sleeper")
        .start()
        .await;
    assert_eq!(host.app("shop").release.expect("a release").max_instances, 2);
    host.until("the sentence has it", || {
        host.host().status().sizing.sentence.ends_with("backends shop 2 (7 connections)")
    })
    .await;
    let mut shop = clients(&host, "/shop?ms=200", 4).await;
    host.until("two wait", || load(&host, "shop") == (2, 0, 2)).await;
    let mut blog = clients(&host, "/blog?ms=200", 4).await;
    host.until("the other has none to count", || load(&host, "blog").0 == 4).await;
    for client in shop.iter_mut().chain(&mut blog) {
        assert_eq!(client.answer().await.expect("an answer").1, "slept 200 ms\n");
    }
    host.settled("shop").await;
    host.settled("blog").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_may_have_the_whole_pool_unless_it_or_the_operator_says_otherwise() {
    let host = TestHost::builder()
        .config("[grants.granted]\nmax_instances = 9")
        .app("auto", "hello")
        .app("few", "hello")
        .app_config("few", "max_instances = 3")
        .app("granted", "hello")
        .app_config("granted", "max_instances = \"auto\"")
        .start()
        .await;
    for (app, most) in [("auto", 64), ("few", 3), ("granted", 9)] {
        assert_eq!(host.app(app).release.expect("a release").max_instances, most, "{app}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_have_as_many_threads_as_the_quota_has_processors() {
    if !alone("sizing::requests_have_as_many_threads_as_the_quota_has_processors") {
        return;
    }
    let machine = Machine::new();
    machine.write("proc/self/status", "RssAnon:\t 8192 kB\nCpus_allowed_list:\t0-15\n");
    machine.write("sys/fs/cgroup/box/cpu.max", "250000 100000\n");
    let host = on(&machine).threads_by_machine().app("shop", "hello").start().await;
    assert_eq!(host.get("/shop").await.status, 200);
    let tasks = std::fs::read_dir("/proc/self/task").expect("the threads").filter_map(|task| {
        let name = std::fs::read_to_string(task.ok()?.path().join("comm")).ok()?;
        (name.trim() == "serve").then_some(())
    });
    assert_eq!(tasks.count(), 3, "two and a half, rounded up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_default_the_program_sizes_itself_and_says_how() {
    let place = Place::new();
    place.app("shop", "hello");
    place.write("hostler.toml", "");
    let server = place.serve(&[], &[]).await;
    assert_eq!(server.get("/shop").await.0, 200);
    let (code, log) = server.stop().await;
    assert_eq!(code, Some(0));
    let sentence =
        log.lines().find(|line| line.contains("auto: ")).unwrap_or_else(|| panic!("no sentence: {log}"));
    println!("{sentence}");
    for part in [" instances = memory ", "75% of ", "2.0 MiB each assumed", ", allocator ", ", backends none"]
    {
        assert!(sentence.contains(part), "no {part:?} in {sentence}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_finds_no_room_comes_when_there_is_some() {
    let machine = Machine::new();
    machine.memory(16);
    let config = "[defaults]\nmin_instances = 3\nmax_instances = 3";
    let host = on(&machine)
        .admin()
        .config(config)
        .app("a", "hello")
        .app("b", "hello")
        .app("c", "hello")
        .start()
        .await;
    // Four instances in all: whichever of them came first has three, the others find no room.
    let live = || ["a", "b", "c"].into_iter().filter(|app| host.release(app) > 0).count();
    assert_eq!(live(), 1);
    let waiting = ["a", "b", "c"].into_iter().find(|app| host.release(app) == 0).expect("one that waits");
    assert!(host.problem(waiting).contains("use up the budget"), "{}", host.problem(waiting));
    machine.memory(1024);
    host.until("the limit is up", || limit(&host) == 64).await;
    let admin = host.host().admin_address().expect("an admin listener").to_string();
    let run = Place::new().run(&["restart", waiting, "--admin", &admin], &[]).await.ended_with(0);
    assert!(run.stdout.starts_with(waiting), "{run:?}");
    assert!(host.release(waiting) > 0, "at once by a restart");
    host.until("all are live, the last by itself", || live() == 3).await;
}
