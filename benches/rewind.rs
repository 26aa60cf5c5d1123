//! What a clean instance costs when it is put back in place, beside a new one and beside one that is left dirty; in turns, so
//! that the machine's moods are the same for all.
//!
//! Needs the guests: `make guests`.

use std::num::NonZero;
use std::path::Path;
use std::time::{Duration, Instant};

use hostler::engine::{CodeCache, EngineSettings, Reset};
use hostler::instance::bench::App;

/// That of the program.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const GUESTS: [&str; 4] = ["hello", "index", "hello-py", "hello-js"];

/// Turns of each way, and requests in each.
const TURNS: usize = 40;
const REQUESTS: usize = 50;

/// Medians of a clean request's parts.
#[derive(Default)]
struct Times {
    call: Vec<Duration>,
    reset: Vec<Duration>,
}

impl Times {
    /// Requests one after the other, with a reset after each.
    async fn clean(&mut self, app: &App) {
        let mut instance = app.make().await.expect("an instance");
        for request in 0..REQUESTS {
            let begun = Instant::now();
            app.call(&mut instance).await.expect("an answer");
            let called = Instant::now();
            instance = app.reset(instance).await.expect("an instance");
            // The first ones touch what the others find.
            if request >= REQUESTS / 5 {
                self.call.push(called - begun);
                self.reset.push(called.elapsed());
            }
        }
    }

    /// The same without a reset, until the guest fails, as some do the second time.
    async fn dirty(&mut self, app: &App) {
        let mut instance = app.make().await.expect("an instance");
        for request in 0..REQUESTS {
            let begun = Instant::now();
            if app.call(&mut instance).await.is_err() {
                return;
            }
            if request >= REQUESTS / 5 {
                self.call.push(begun.elapsed());
            }
        }
    }

    fn show(&mut self) -> String {
        match (median(&mut self.call), median(&mut self.reset)) {
            (None, _) => "-".to_owned(),
            (Some(call), None) => format!("{call:.1}"),
            (Some(call), Some(reset)) => format!("{:.1} = {call:.1} + {reset:.1}", call + reset),
        }
    }
}

/// Microseconds.
fn median(times: &mut [Duration]) -> Option<f64> {
    times.sort_unstable();
    times.get(times.len() / 2).map(|time| time.as_secs_f64() * 1e6)
}

fn main() {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    let cache = CodeCache::open(&target.join("bench-cache"), 1 << 30).expect("a code cache");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    println!(
        "microseconds: request = call + reset\n{:10} {:12} {:28} {:28}",
        "", "dirty", "rewind", "replace"
    );
    for guest in GUESTS {
        let file = target.join(format!("guests/{guest}.wasm"));
        let Ok(wasm) = std::fs::read(&file) else {
            eprintln!("{} is missing: run `make guests`", file.display());
            continue;
        };
        let settings = EngineSettings {
            instances: 64,
            compared: NonZero::new(1000).expect("a number"),
            ..EngineSettings::default()
        };
        let load = |reset| App::load_for(reset, &wasm, settings.clone(), &cache).expect("an app");
        let (rewound, replaced) = (load(Reset::Rewind), load(Reset::Replace));
        let [mut dirty, mut rewind, mut replace] = [Times::default(), Times::default(), Times::default()];
        for _ in 0..TURNS {
            runtime.block_on(dirty.dirty(&replaced));
            runtime.block_on(rewind.clean(&rewound));
            runtime.block_on(replace.clean(&replaced));
        }
        let (dirty, rewind, replace) = (dirty.show(), rewind.show(), replace.show());
        println!("{guest:10} {dirty:12} {rewind:28} {replace:28} {:?}", rewound.rewinds());
    }
}
