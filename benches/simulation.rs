//! The pool's policies at a size that no machine here has: 64 cores, 10,000 instances, simulated time.
//!
//! The policies are the host's own (`pool::queue`, `pool::shares`), the world around them is not: requests arrive by
//! chance and take an exponential time. Prints each curve as CSV, for a spreadsheet or a plot.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use fastrand::Rng;
use hostler::pool::queue::Queue;
use hostler::pool::shares::{Account, Shares};

const SECOND: u64 = 1_000_000_000;

/// One app's requests.
struct App {
    account: Account,
    /// Arrivals a second.
    rate: f64,
    /// Mean nanoseconds that a request holds its instance.
    service: f64,
    queue: Queue<u64>,
    /// Nanoseconds that each served one had waited.
    waits: Vec<u64>,
    refused: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival(usize),
    End(usize),
}

struct World {
    start: Instant,
    random: Rng,
    shares: Shares,
    apps: Vec<App>,
    events: BinaryHeap<Reverse<(u64, Event)>>,
}

impl World {
    fn new(instances: u32, seed: u64) -> World {
        World {
            start: Instant::now(),
            random: Rng::with_seed(seed),
            shares: Shares::new(instances),
            apps: Vec::new(),
            events: BinaryHeap::new(),
        }
    }

    /// An app of this weight that gets `rate` requests a second, each of which holds an instance for `service` on average.
    fn app(mut self, weight: u32, rate: f64, service: Duration) -> World {
        let account = self.shares.open(&self.apps.len().to_string(), weight);
        self.apps.push(App {
            account,
            rate,
            service: service.as_nanos() as f64,
            queue: Queue::new(10_000, Duration::from_secs(5)),
            waits: Vec::new(),
            refused: 0,
        });
        self
    }

    /// Runs for so many seconds; what happened in the first of them is not counted.
    fn run(mut self, seconds: u64) -> Vec<App> {
        for app in 0..self.apps.len() {
            self.arrive_later(0, app);
        }
        let mut warm = false;
        while let Some(Reverse((now, event))) = self.events.pop() {
            if now >= seconds * SECOND {
                break;
            }
            if !warm && now >= SECOND {
                warm = true;
                self.apps.iter_mut().for_each(|app| {
                    app.waits.clear();
                    app.refused = 0;
                });
            }
            match event {
                Event::Arrival(app) => self.arrive(now, app),
                Event::End(app) => {
                    self.shares.give_back(self.apps[app].account, 1);
                    self.serve(now);
                }
            }
        }
        self.apps.iter_mut().for_each(|app| app.waits.sort_unstable());
        self.apps
    }

    fn arrive_later(&mut self, now: u64, app: usize) {
        let pause = exponential(&mut self.random, SECOND as f64 / self.apps[app].rate);
        self.events.push(Reverse((now + pause, Event::Arrival(app))));
    }

    fn arrive(&mut self, now: u64, at: usize) {
        self.arrive_later(now, at);
        let time = self.start + Duration::from_nanos(now);
        let app = &mut self.apps[at];
        if app.queue.push(now, time).is_err() {
            app.refused += 1;
        }
        self.serve(now);
    }

    /// Gives what is free to the apps that stand lowest.
    fn serve(&mut self, now: u64) {
        let time = self.start + Duration::from_nanos(now);
        loop {
            let waiting = (0..self.apps.len()).filter(|app| !self.apps[*app].queue.is_empty());
            let lowest = waiting.min_by_key(|app| self.shares.standing(self.apps[*app].account));
            let Some(at) = lowest else { return };
            let app = &mut self.apps[at];
            if app.queue.pop_expired(time).is_some() {
                app.refused += 1;
                continue;
            }
            if !self.shares.take(app.account, 1) {
                return;
            }
            if let Some(came) = app.queue.pop(time) {
                app.waits.push(now - came);
                let end = now + exponential(&mut self.random, app.service);
                self.events.push(Reverse((end, Event::End(at))));
            }
        }
    }
}

fn exponential(random: &mut Rng, mean: f64) -> u64 {
    (-(1.0 - random.f64()).ln() * mean) as u64 + 1
}

fn ms(waits: &[u64], part: f64) -> f64 {
    if waits.is_empty() {
        return 0.0;
    }
    waits[((waits.len() - 1) as f64 * part) as usize] as f64 / 1e6
}

/// 64 processors, each request takes one of them for a millisecond: what is offered against what is served.
fn overload() {
    println!("# overload: 64 cores, 1 ms each; waits in milliseconds");
    println!("offered,goodput,refused,wait_p50,wait_p99");
    for percent in [50, 80, 95, 100, 110, 150, 200, 300, 500, 1_000] {
        let load = f64::from(percent) / 100.0;
        let world = World::new(64, 1).app(1, load * 64_000.0, Duration::from_millis(1));
        let app = &world.run(6)[0];
        let goodput = app.waits.len() as f64 / (5.0 * 64_000.0);
        let refused = app.refused as f64 / (app.refused as usize + app.waits.len()) as f64;
        let (p50, p99) = (ms(&app.waits, 0.5), ms(&app.waits, 0.99));
        println!("{load},{goodput:.3},{refused:.3},{p50:.2},{p99:.2}");
    }
}

/// 10,000 instances; one app floods them, 20 others use a twentieth of them together: what the flood does to these.
fn flood() {
    println!("\n# flood: 10,000 instances, 20 ms each, 20 apps at 5 % together; their waits in milliseconds");
    println!("flood,flood_served,others_wait_p50,others_wait_p99,others_refused");
    let capacity = 10_000.0 / 0.02;
    for percent in [0, 50, 90, 100, 150, 300] {
        let flood = f64::from(percent) / 100.0;
        let mut world =
            World::new(10_000, 2).app(100, (flood * capacity).max(1.0), Duration::from_millis(20));
        for _ in 0..20 {
            world = world.app(100, 0.05 * capacity / 20.0, Duration::from_millis(20));
        }
        let apps = world.run(3);
        let mut waits: Vec<_> = apps[1..].iter().flat_map(|app| app.waits.iter().copied()).collect();
        waits.sort_unstable();
        let served = apps[0].waits.len() as f64 / (2.0 * capacity);
        let refused: u64 = apps[1..].iter().map(|app| app.refused).sum();
        println!("{flood},{served:.3},{:.3},{:.3},{refused}", ms(&waits, 0.5), ms(&waits, 0.99));
    }
}

/// 10,000 instances, and four apps that all want more than all of them: what their weights give to each.
fn weights() {
    println!("\n# weights: 10,000 instances, four apps that each ask for 1.5 times all of them");
    println!("weight,share_wanted,share_served,wait_p50,wait_p99");
    let capacity = 10_000.0 / 0.02;
    let weights = [50, 100, 200, 400];
    let world = weights.iter().fold(World::new(10_000, 3), |world, weight| {
        world.app(*weight, 1.5 * capacity, Duration::from_millis(20))
    });
    let apps = world.run(3);
    let all: usize = apps.iter().map(|app| app.waits.len()).sum();
    for (app, weight) in apps.iter().zip(weights) {
        let wanted = f64::from(weight) / f64::from(weights.iter().sum::<u32>());
        let served = app.waits.len() as f64 / all as f64;
        let (p50, p99) = (ms(&app.waits, 0.5), ms(&app.waits, 0.99));
        println!("{weight},{wanted:.3},{served:.3},{p50:.2},{p99:.2}");
    }
}

fn main() {
    overload();
    flood();
    weights();
}
