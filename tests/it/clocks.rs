//! The two clocks: whatever a guest is stuck in, one of them ends it, and nothing stays of it.

mod troubles;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::net::TcpListener;

use crate::support::{PATIENCE, TestHost};
use crate::wire::Wire;
use troubles::{ALL, EndedBy, Sees, Trouble};

/// Pages of memory of `memory_limit`'s default, 128 MiB.
const WHOLE: u32 = 2048;

/// A listener that takes connections, as the kernel does, and never says anything.
async fn silent() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    (listener, address)
}

/// A host with all troubles and `hello`, with so many instances of each, and so many pages of memory.
async fn troubled(outbound: SocketAddr, instances: u32, pages: u32, deadline: &str) -> TestHost {
    let config = format!(
        "[server]\nbody_timeout = \"10m\"\n[defaults]\nmax_instances = {instances}\n\
         queue_timeout = \"10m\"\ncpu_time = \"10m\"\nrequest_timeout = \"10m\"\n\
         [defaults.outbound]\nallow = [\"http://{outbound}\"]\ntimeout = \"10m\"\n\
         connect_timeout = \"10m\"\nmax_concurrent = {instances}"
    );
    let builder = TestHost::builder().config(&config).app("hello", "hello");
    let builder = builder.settings(|settings| settings.instances = (ALL.len() as u32 + 1) * instances + 16);
    ALL.iter()
        .fold(builder, |builder, trouble| trouble.deploy(builder, pages, &limits(trouble, deadline)))
        .start()
        .await
}

/// Both clocks are set so that only the right one can end a guest within the patience of a test.
fn limits(trouble: &Trouble, deadline: &str) -> String {
    match trouble.ended_by {
        EndedBy::CpuTime => "cpu_time = \"50ms\"\nrequest_timeout = \"10m\"".to_owned(),
        EndedBy::Deadline => format!("cpu_time = \"10m\"\nrequest_timeout = \"{deadline}\""),
    }
}

/// Gets an instance into trouble and waits for what its client sees.
async fn meet(host: &TestHost, trouble: &Trouble, outbound: SocketAddr) {
    let mut wire = Wire::connect(host.address()).await.patient(CROWD_PATIENCE);
    wire.send(&trouble.request(outbound)).await.expect("the request is taken");
    let (head, body) = wire.answer().await.unwrap_or_else(|_| panic!("{} breaks off", trouble.app));
    match trouble.sees {
        Sees::Timeout => {
            assert_eq!(head.status, 504, "{}: {body}", trouble.app);
            assert_ne!(head.header("x-error-id"), "", "{}", trouble.app);
        }
        Sees::ClientTooSlow => assert_eq!(head.status, 408, "{}: {body}", trouble.app),
        Sees::Answer => {
            assert_eq!(head.status, 200, "{}: {body}", trouble.app);
            assert!(body.ends_with("on\n"), "{body}");
        }
    }
}

/// So many guests have been ended, by the right clock, and every one of their instances is gone for good.
async fn ended(host: &TestHost, trouble: &Trouble, count: u32) {
    host.until(&format!("all of {} have been ended", trouble.app), || {
        let app = host.app(trouble.app);
        let discarded = app.release.map_or(0, |release| release.instances.discarded);
        let (cpu, deadline) = (app.requests.cpu_time_exceeded, app.requests.deadline_passed);
        let (right, wrong) = match (trouble.ended_by, trouble.sees) {
            (EndedBy::CpuTime, _) => (cpu, deadline),
            // At its deadline, and not for the app's doing.
            (EndedBy::Deadline, Sees::ClientTooSlow) => (app.requests.responses_4xx, cpu + deadline),
            (EndedBy::Deadline, _) => (deadline, cpu),
        };
        assert_eq!(wrong, 0, "{} was ended by the other clock", trouble.app);
        right == u64::from(count) && discarded >= u64::from(count)
    })
    .await;
    host.settled(trouble.app).await;
}

/// Nothing but idle instances holds any of the budget.
async fn whole(host: &TestHost) {
    host.until("the books are at zero", || {
        let status = host.host().status();
        let pools = status.apps.iter().filter_map(|app| app.release.as_ref()).map(|live| live.instances);
        let (idle, waiting) =
            pools.fold((0, 0), |(idle, waiting), pool| (idle + pool.idle, waiting + pool.waiting));
        status.budget.used == idle && waiting == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_ends_at_its_limit_wherever_it_is_stuck() {
    let (_listener, outbound) = silent().await;
    let host = troubled(outbound, 2, WHOLE, "1s").await;
    for trouble in &ALL {
        let began = Instant::now();
        meet(&host, trouble, outbound).await;
        ended(&host, trouble, 1).await;
        println!("{}: ended by {:?} after {:?}", trouble.app, trouble.ended_by, began.elapsed());
    }
    whole(&host).await;
}

/// So many of each kind at once, while `hello` is asked; the number of its answers meanwhile.
///
/// The deadline leaves time for each of them to answer who does so before it is stuck.
async fn crowd(of_each: u32, pages: u32, deadline: &str) -> u32 {
    let (_listener, outbound) = silent().await;
    let host = troubled(outbound, of_each, pages, deadline).await;
    let (over, answers) = (AtomicBool::new(false), AtomicU32::new(0));
    let neighbour = async || {
        while !over.load(Relaxed) {
            let answer =
                tokio::time::timeout(CROWD_PATIENCE, host.get("/hello")).await.expect("an answer in time");
            assert_eq!((answer.status.as_u16(), answer.text()), (200, "Hello from Hostler!\n"));
            answers.fetch_add(1, Relaxed);
        }
    };
    let troubles = async {
        let crowd = ALL.iter().flat_map(|trouble| (0..of_each).map(move |_| trouble));
        join_all(crowd.map(|trouble| meet(&host, trouble, outbound))).await;
        join_all(ALL.iter().map(|trouble| ended(&host, trouble, of_each))).await;
        over.store(true, Relaxed);
    };
    tokio::join!(troubles, join_all((0..NEIGHBOURS).map(|_| neighbour())));
    host.settled("hello").await;
    whole(&host).await;
    println!(
        "{} guests in trouble; {} answers of their neighbour",
        of_each * ALL.len() as u32,
        answers.load(Relaxed)
    );
    answers.load(Relaxed)
}

const NEIGHBOURS: u32 = 4;

/// Hundreds of guests share two cores, and some can't be interrupted for tens of milliseconds.
const CROWD_PATIENCE: Duration = Duration::from_secs(10 * PATIENCE.as_secs());

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_stuck_in_all_places_at_once_ends_while_others_answer() {
    // Small memories: what counts is how many there are.
    assert!(crowd(10, 16, "5s").await >= NEIGHBOURS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "`make troubles`: takes gigabytes of memory and a minute of two cores"]
async fn fifty_of_each_trouble_at_once_end_while_others_answer() {
    assert!(crowd(50, WHOLE, "40s").await >= NEIGHBOURS);
}
