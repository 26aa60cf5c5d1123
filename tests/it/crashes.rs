//! The host is killed at random moments of deploys, and its state and cache are spoiled: what the next one serves is
//! always one whole release that was deployed, and nothing torn is believed.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::program::{Place, Server};
use crate::support::PATIENCE;
use crate::versions::version;

const APPS: [&str; 2] = ["shop", "other"];

const CONFIG: &str =
    "[apps]\nsettle_time = \"1ms\"\nscan_interval = \"10ms\"\n[defaults]\nprobation = \"50ms\"\n";

/// A host, what was deployed, and chance.
struct Rig {
    place: Place,
    /// The texts of all versions that were ever put in place, the newest last.
    deployed: [Vec<String>; 2],
    random: fastrand::Rng,
    next: u32,
}

impl Rig {
    fn new(seed: u64) -> Rig {
        let place = Place::new();
        place.config(CONFIG);
        fs::create_dir(place.at("cache")).expect("made");
        let mut rig =
            Rig { place, deployed: Default::default(), random: fastrand::Rng::with_seed(seed), next: 0 };
        for app in 0..APPS.len() {
            rig.put(app);
        }
        rig
    }

    /// Puts a new version in place, or one that was there before, by a rename or not as a whole.
    fn put(&mut self, app: usize) {
        let again = !self.deployed[app].is_empty() && self.random.u8(..4) == 0;
        let text = match again {
            true => self.deployed[app][self.random.usize(..self.deployed[app].len())].clone(),
            false => format!("version {}", {
                self.next += 1;
                self.next
            }),
        };
        let (path, bytes) = (self.place.at(&format!("apps/{}.wasm", APPS[app])), version(&text));
        if !self.deployed[app].contains(&text) {
            self.deployed[app].push(text);
        }
        match self.random.u8(..4) {
            0 => {
                fs::write(&path, &bytes[..self.random.usize(..bytes.len())]).expect("written");
                std::thread::sleep(Duration::from_millis(self.random.u64(..20)));
                fs::write(&path, &bytes).expect("written");
            }
            _ => self.place.write(&format!("apps/{}.wasm", APPS[app]), bytes),
        }
    }

    /// Cut somewhere, but not at the end of a section: what is left there may be an app, and nobody can tell that it is
    /// not whole.
    fn half<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        loop {
            let half = &bytes[..self.random.usize(..bytes.len())];
            if hostler::prepare::check(half).is_err() {
                return half;
            }
            println!("cut to {} of {} bytes it is an app, too", half.len(), bytes.len());
        }
    }

    async fn serve(&self) -> Server {
        let cache = self.place.at("own-cache");
        self.place.serve(&[], &[("HOSTLER_CACHE_DIR", cache.to_str().expect("text"))]).await
    }

    /// Every app answers, and with one of the versions that were deployed.
    async fn check(&self, server: &Server, what: &str) {
        for (app, deployed) in APPS.iter().zip(&self.deployed) {
            let (status, text) = server.get(&format!("/{app}")).await;
            assert!(status == 200 && deployed.contains(&text), "{what}: {app} answers {status} {text:?}");
        }
    }

    /// Deploys, and kills the host at some moment.
    async fn round(&mut self, round: u32) {
        let server = self.serve().await;
        self.check(&server, &format!("round {round}, {}", server.log())).await;
        for _ in 0..self.random.usize(1..4) {
            let app = self.random.usize(..APPS.len());
            self.put(app);
            tokio::time::sleep(Duration::from_micros(self.random.u64(..60_000))).await;
        }
        server.kill().await;
        if self.random.u8(..8) == 0 {
            // As if it had been killed in the middle of a copy.
            let app = self.random.usize(..APPS.len());
            let path = self.place.at(&format!("apps/{}.wasm", APPS[app]));
            let whole = fs::read(&path).expect("an app");
            fs::write(&path, self.half(&whole)).expect("written");
        }
    }

    /// Whatever happened: other bytes are live soon.
    async fn comes_to_rest(&mut self) {
        let server = self.serve().await;
        for (index, app) in APPS.iter().enumerate() {
            self.next += 1;
            let text = format!("the last of {app}, {}", self.next);
            self.place.write(&format!("apps/{app}.wasm"), version(&text));
            let began = Instant::now();
            while server.get(&format!("/{app}")).await != (200, text.clone()) {
                assert!(began.elapsed() < PATIENCE, "{app} is never live: {}", server.log());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            self.deployed[index].push(text);
        }
        let (code, log) = server.stop().await;
        assert_eq!(code, Some(0), "{log}");
    }

    /// Cuts a file somewhere, or changes a byte of it, or removes it.
    fn spoil(&mut self, path: &Path) {
        let mut bytes = fs::read(path).expect("a file");
        fs::remove_file(path).expect("it was there");
        match self.random.u8(..3) {
            0 => return,
            1 => bytes.truncate(self.random.usize(..=bytes.len().saturating_sub(1))),
            _ => {
                if let Some(at) = (!bytes.is_empty()).then(|| self.random.usize(..bytes.len())) {
                    bytes[at] ^= 1 << self.random.u8(..8);
                }
            }
        }
        fs::write(path, bytes).expect("written");
    }
}

fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_file()).collect()
}

async fn crash(rounds: u32, seed: u64) {
    println!("seed {seed}");
    let mut rig = Rig::new(seed);
    for round in 0..rounds {
        rig.round(round).await;
    }
    rig.comes_to_rest().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_killed_at_any_moment_serves_whole_releases_at_its_next_start() {
    crash(20, fastrand::u64(..)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes some twenty minutes: make crashes"]
async fn a_thousand_kills_at_random_moments() {
    crash(1_000, fastrand::u64(..)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_state_and_cache_that_are_spoiled_are_not_believed() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rig = Rig::new(seed);
    for round in 0..12 {
        let server = rig.serve().await;
        rig.check(&server, &format!("round {round}, {}", server.log())).await;
        let app = rig.random.usize(..APPS.len());
        rig.put(app);
        let text = rig.deployed[app].last().cloned().unwrap_or_default();
        let began = Instant::now();
        // Live, or perhaps put back to a version before: then nothing is waited for.
        while server.get(&format!("/{}", APPS[app])).await.1 != text
            && began.elapsed() < Duration::from_secs(1)
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        server.kill().await;
        for path in [files(&rig.place.at("apps/.hostler")), files(&rig.place.at("own-cache"))].concat() {
            if rig.random.bool() {
                rig.spoil(&path);
            }
        }
    }
    rig.comes_to_rest().await;
}

/// After a crash the one that has proven itself is taken, and after an orderly stop the one that was live.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_on_probation_is_held_back_after_a_crash_and_only_then() {
    let place = Place::new();
    let probation = |time: &str| {
        place.config(&format!(
            "[apps]\nsettle_time = \"20ms\"\nscan_interval = \"50ms\"\n[defaults]\nprobation = \"{time}\""
        ));
    };
    probation("0s");
    place.write("apps/shop.wasm", version("one"));
    let (code, _) = place.serve(&[], &[]).await.stop().await;
    assert_eq!(code, Some(0));

    probation("10m");
    let server = place.serve(&[], &[]).await;
    place.write("apps/shop.wasm", version("two"));
    server.serves("/shop", "two").await;
    server.stop().await;
    let server = place.serve(&[], &[]).await;
    assert_eq!(server.get("/shop").await, (200, "two".to_owned()), "a stop in order says nothing against it");
    server.kill().await;
    let server = place.serve(&[], &[]).await;
    assert_eq!(server.get("/shop").await, (200, "one".to_owned()));
    assert!(server.log().contains("the host ended without warning while release 2 was on probation"));
    server.kill().await;
    let server = place.serve(&[], &[]).await;
    assert_eq!(server.get("/shop").await, (200, "one".to_owned()), "it stays so");
    place.write("apps/shop.wasm", version("three"));
    server.serves("/shop", "three").await;
}
