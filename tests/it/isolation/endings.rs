//! However a request ends, the next one finds all as new: in each mode that promises it, with each setting of the
//! allocator.

use std::time::SystemTime;

use futures_util::future::join_all;
use hostler::config::{GuestState, Mode};
use hostler::isolation::cage::Ending;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::canaries::{ALL, Probe, Told, state, varying};
use super::{Set, WAYS};
use crate::support::TestHost;

const HOSTS_OWN: &str = "the host's own";
const ON_DEMAND: &str = "on demand";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_each_ending_a_pooled_instance_is_as_new() {
    after_each_ending(Mode::Pooled, |_| true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_each_ending_a_cached_instance_is_as_new() {
    after_each_ending(Mode::Cached, |setting| [HOSTS_OWN, ON_DEMAND].contains(&setting)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_each_ending_a_cold_instance_is_as_new() {
    after_each_ending(Mode::Cold, |setting| setting == HOSTS_OWN).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: make isolation"]
async fn after_each_ending_every_instance_is_as_new_in_each_mode_with_each_setting() {
    for mode in Mode::ALL.into_iter().filter(|mode| mode.guest_state() == GuestState::Clean) {
        after_each_ending(mode, |_| true).await;
    }
}

/// What differs between two instances is just what has to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_two_instances_draw_the_same_random_number_and_time_goes_on() {
    for reset in ["auto", "replace"] {
        no_two_are_alike(&start(Mode::Pooled, reset, |_| {}).await).await;
    }
}

async fn no_two_are_alike(host: &TestHost) {
    let mut seen = std::collections::HashSet::new();
    for probe in ALL.iter().filter(|probe| probe.told != Told::Nothing) {
        for _ in 0..100 {
            let before = nanos();
            let (random, clock) = varying(&probe.ask(host, None).await);
            assert!(!random.is_empty() && !clock.is_empty(), "{} tells neither", probe.app);
            for number in random {
                assert!(seen.insert(number.clone()), "{}: {number} was drawn before", probe.app);
            }
            for time in clock {
                // The guest's clock may be coarser than ours.
                assert!((before - 50_000_000..=nanos()).contains(&time), "{}: {time}, {before}", probe.app);
            }
        }
        host.settled(probe.app).await;
    }
}

async fn after_each_ending(mode: Mode, settings: impl Fn(&str) -> bool) {
    // A mode without a pool resets nothing.
    let ways = WAYS.iter().copied().filter(|(_, reset, _)| mode == Mode::Pooled || *reset != "auto");
    for (name, reset, set) in ways.filter(|(name, ..)| settings(name)) {
        let host = start(mode, reset, set).await;
        let told = probes(mode).filter(|probe| probe.told != Told::Nothing);
        let with = format!("{mode}, {name}");
        join_all(told.map(|probe| each_ending(&host, probe, &with))).await;
    }
}

async fn start(mode: Mode, reset: &str, set: Set) -> TestHost {
    // One instance: each request is in the place of the one before it.
    let config = format!(
        "[defaults]\nmode = \"{mode}\"\nreset = \"{reset}\"\nmax_instances = 1\nmemory_limit = \"4MiB\"\ncpu_time = \"500ms\"\n\
         request_timeout = \"3s\"\nqueue_timeout = \"60s\"\n"
    );
    let builder = TestHost::builder().settings(set).config(&config);
    probes(mode).fold(builder, |builder, probe| probe.put(builder)).start().await
}

/// Those that can run in a mode.
fn probes(mode: Mode) -> impl Iterator<Item = &'static Probe> {
    ALL.iter().filter(move |probe| mode != Mode::Cold || !probe.is_preloaded())
}

async fn each_ending(host: &TestHost, probe: &Probe, with: &str) {
    probe.has_its_state(host);
    let first = state(&probe.ask(host, None).await);
    assert_eq!(first.0, 200, "{}, {with}: {first:?}", probe.app);
    for ending in Ending::ALL {
        let what = format!("{}, {with}, after one that {}", probe.app, ending.as_str());
        end(host, probe, ending, &what).await;
        assert_eq!(state(&probe.ask(host, None).await), first, "{what}");
    }
    // One that exits with a failure, and one that leaves a task behind which waits for an hour.
    for (app, order, status) in [("module", 'x', 500), ("canary-p3", 'b', 200)] {
        if probe.app == app {
            assert_eq!(probe.ask(host, Some(order)).await.status, status);
            assert_eq!(state(&probe.ask(host, None).await), first, "{app}, {with}, after {order}");
        }
    }
    host.settled(probe.app).await;
}

/// Has a request end in this way, and sees that it does.
async fn end(host: &TestHost, probe: &Probe, ending: Ending, what: &str) {
    let order = char::from(ending.order());
    if matches!(ending, Ending::Cancelled | Ending::CancelledInAnswer) {
        return leave(host, probe, order, ending == Ending::CancelledInAnswer).await;
    }
    let more = if ending == Ending::BodyUnread { 1 << 20 } else { 0 };
    let (method, path, body) = probe.request(Some(order), more);
    // A connection whose request was not read to its end can't be used again.
    let headers = if more > 0 { &[("connection", "close")][..] } else { &[] };
    let ended = host.send(method, &path, headers, body).await.ok().map(|answer| answer.status.as_u16());
    let expected: &[Option<u16>] = match ending {
        Ending::Answer | Ending::BodyUnread => &[Some(200)],
        // A program of a language with a heap may fail then, and on a busy machine it may take too long.
        Ending::MemoryRefused => &[Some(200), Some(500), Some(504)],
        Ending::Trap => &[Some(500)],
        Ending::CpuTime | Ending::Deadline => &[Some(504)],
        // If nothing was sent yet the client is told, else it sees the answer break off.
        Ending::TrapInAnswer => &[Some(500), None],
        _ => &[Some(504), None],
    };
    assert!(expected.contains(&ended), "{what}: {ended:?} where {expected:?} was expected");
}

/// Sends a request and goes away while the guest waits: when its answer has begun, or before.
async fn leave(host: &TestHost, probe: &Probe, order: char, begins: bool) {
    let mut client = TcpStream::connect(host.address()).await.expect("a connection");
    let (method, path, body) = probe.request(Some(order), 0);
    let head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    client.write_all(&[head.as_bytes(), &body].concat()).await.expect("sent");
    if begins {
        let mut begin = [0; 12];
        client.read_exact(&mut begin).await.expect("the beginning of an answer");
        assert_eq!(&begin, b"HTTP/1.1 200");
    } else {
        let leased = || host.app(probe.app).release.expect("a live release").instances.leased == 1;
        host.until("the request is under way", leased).await;
    }
    drop(client);
    host.settled(probe.app).await;
}

fn nanos() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a time after 1970");
    u64::try_from(now.as_nanos()).expect("a time before 2554")
}
