use proptest::prelude::*;

use super::*;

const TIMEOUT: Duration = Duration::from_secs(5);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn queue() -> Queue<u32> {
    Queue::new(100, TIMEOUT)
}

/// A queue that serves one every `interval` and never empties, up to `time`; the last waiter's number is returned.
fn keep_full(
    queue: &mut Queue<u32>,
    start: Instant,
    interval: Duration,
    length: usize,
    time: Duration,
) -> u32 {
    let mut number = 0;
    let mut now = start;
    while now < start + time {
        while queue.len() < length {
            queue.push(number, now).unwrap();
            number += 1;
        }
        now += interval;
        queue.pop(now).unwrap();
    }
    number
}

#[test]
fn it_is_first_come_first_served() {
    let now = Instant::now();
    let mut queue = queue();
    for number in 0..3 {
        queue.push(number, now).unwrap();
    }
    assert_eq!(
        (queue.pop(now), queue.pop(now), queue.pop(now), queue.pop(now)),
        (Some(0), Some(1), Some(2), None)
    );
}

#[test]
fn a_full_queue_gives_the_waiter_back() {
    let now = Instant::now();
    let mut queue = Queue::new(1, TIMEOUT);
    assert!(queue.push(1, now).is_ok());
    assert_eq!(queue.push(2, now), Err(2));
}

#[test]
fn who_leaves_is_not_served() {
    let now = Instant::now();
    let mut queue = queue();
    let first = queue.push(1, now).unwrap();
    queue.push(2, now).unwrap();
    assert_eq!((queue.remove(first), queue.remove(first)), (Some(1), None));
    assert_eq!(queue.pop(now), Some(2));
}

#[test]
fn a_long_queue_that_moves_fast_is_no_overload() {
    let start = Instant::now();
    let mut queue = queue();
    keep_full(&mut queue, start, ms(1), 50, Duration::from_secs(10));
    assert!(!queue.is_overloaded(), "everyone waits for 50 ms only");
}

#[test]
fn a_burst_is_worked_off_in_order() {
    let start = Instant::now();
    let mut queue = queue();
    // A slow app: two servings a second. Its patience grows with what a serving takes.
    keep_full(&mut queue, start, ms(500), 1, Duration::from_secs(60));
    let start = start + Duration::from_secs(60);
    for number in 100..107 {
        queue.push(number, start).unwrap();
    }
    let mut served = Vec::new();
    for turn in 1..=8 {
        let now = start + turn * ms(500);
        assert_eq!(queue.pop_expired(now), None);
        served.extend(queue.pop(now));
    }
    assert!(served.ends_with(&[100, 101, 102, 103, 104, 105, 106]), "{served:?}");
}

#[test]
fn under_overload_the_newest_is_first_and_the_oldest_are_told_soon() {
    let start = Instant::now();
    let mut queue = queue();
    // Ten a second more come than are served.
    let mut now = start;
    for number in 0..60 {
        queue.push(number, now).unwrap();
        queue.push(1_000 + number, now).unwrap();
        now += ms(5);
        assert!(queue.pop(now).is_some());
    }
    assert!(queue.is_overloaded());
    queue.push(7, now).unwrap();
    assert_eq!(queue.pop(now + ms(5)), Some(7));
    let waited = |queue: &Queue<u32>, now: Instant| now - queue.waiting.first_key_value().unwrap().1.since;
    let later = now + Duration::from_secs(1);
    assert!(waited(&queue, later) > ms(100));
    while queue.pop_expired(later).is_some() {}
    assert!(queue.is_empty());
}

#[test]
fn the_wait_allowed_halves_with_each_patience() {
    let start = Instant::now();
    let queue = Queue::<u32> { overload: Some(start), ..queue() };
    let allowed: Vec<_> = [0, 100, 200, 300, 400, 500, 600, 10_000]
        .map(|after| queue.allowed(start + ms(after)).unwrap().as_millis() as u64)
        .into();
    assert_eq!(allowed, [2_500, 1_250, 625, 312, 156, 100, 100, 100]);
}

#[test]
fn overload_ends_when_the_queue_is_empty() {
    let start = Instant::now();
    let mut queue = queue();
    queue.push(1, start).unwrap();
    queue.push(2, start).unwrap();
    assert_eq!(queue.pop(start + ms(150)), Some(2));
    assert!(queue.is_overloaded());
    assert_eq!(queue.pop(start + ms(151)), Some(1));
    assert_eq!(queue.pop(start + ms(151)), None);
    assert!(!queue.is_overloaded());
}

#[test]
fn overload_ends_when_the_queue_has_been_short_for_a_while() {
    let start = Instant::now();
    let mut queue = queue();
    queue.push(0, start).unwrap();
    queue.push(1, start).unwrap();
    assert_eq!(queue.pop(start + ms(100)), Some(1), "the newest");
    for number in 2..13 {
        let now = start + ms(100 + 10 * u64::from(number));
        queue.push(number, now).unwrap();
        let served = queue.pop(now).unwrap();
        if served == 0 {
            assert!(now >= start + ms(200));
            return;
        }
        assert_eq!(served, number);
    }
    panic!("the first one was never served");
}

/// A server with so many places, and requests that come by chance: what becomes of them.
struct Outcome {
    served: u32,
    /// Milliseconds that each served one had waited, sorted.
    waits: Vec<u64>,
    refused: u32,
}

/// Simulates `seconds` of arrivals at `load` times what the server can do, in steps of a millisecond.
fn simulate(seed: u64, servers: u64, service: u64, load: f64, seconds: u64) -> Outcome {
    let mut random = fastrand::Rng::with_seed(seed);
    let start = Instant::now();
    let mut queue = Queue::new(1_000, TIMEOUT);
    let mut busy: Vec<u64> = Vec::new();
    let mut outcome = Outcome { served: 0, waits: Vec::new(), refused: 0 };
    let rate = load * servers as f64 / service as f64;
    for at in 0..seconds * 1_000 {
        let now = start + ms(at);
        busy.retain(|until| *until > at);
        let mut chance = rate;
        while chance > 0.0 {
            if random.f64() < chance.min(1.0) && queue.push(at, now).is_err() {
                outcome.refused += 1;
            }
            chance -= 1.0;
        }
        while queue.pop_expired(now).is_some() {
            outcome.refused += 1;
        }
        while (busy.len() as u64) < servers {
            let Some(came) = queue.pop(now) else { break };
            // Half to one and a half of the mean.
            busy.push(at + random.u64(service / 2..=service + service / 2).max(1));
            outcome.served += 1;
            outcome.waits.push(at - came);
        }
    }
    outcome.waits.sort_unstable();
    outcome
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn whatever_comes_the_server_is_busy_and_who_is_served_has_not_waited_long(
        seed in any::<u64>(),
        servers in 1_u64..20,
        service in 2_u64..60,
        load in 1.5_f64..5.0,
    ) {
        let seconds = 20;
        let outcome = simulate(seed, servers, service, load, seconds);
        let capacity = (seconds * 1_000 * servers) as f64 / service as f64;
        prop_assert!(f64::from(outcome.served) > 0.9 * capacity, "{} of {capacity}", outcome.served);
        let p99 = outcome.waits[outcome.waits.len() * 99 / 100];
        // A patience, and what the first moments of the overload took.
        let patience = (8 * service / servers).clamp(100, 5_000);
        prop_assert!(p99 <= 4 * patience, "{p99} ms, patience {patience}");
        let median = outcome.waits[outcome.waits.len() / 2];
        prop_assert!(median <= patience, "{median} ms, patience {patience}");
    }

    #[test]
    fn below_its_capacity_hardly_anybody_is_refused(
        seed in any::<u64>(),
        servers in 2_u64..20,
        service in 2_u64..60,
        load in 0.1_f64..0.7,
    ) {
        // Chance alone fills the queue of two slow servers at times.
        let outcome = simulate(seed, servers, service, load, 20);
        prop_assert!(outcome.refused * 50 <= outcome.served, "{} and {}", outcome.refused, outcome.served);
    }
}
