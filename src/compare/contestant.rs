//! The servers of a comparison: one process for each mode, and one for the reference.

mod starts;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use http::HeaderValue;

use super::against::Other;
use super::app::{self, App, Place};
use super::cores::{Cores, Split};
use super::findings::FirstAnswer;
use super::http::Asked;
use super::judge;
use super::load::{Ask, Expected};
use super::measure::{Plan, Target};
use super::native::{self, Answer};
use super::process::Server;
use super::report::{Conditions, Kind, Skipped};
use super::sample::{Sample, sample};
use super::stats::Spread;
use super::{Options, Variant, machine};

use starts::Starts;

/// What all servers have in common.
pub struct Stage<'a> {
    pub options: &'a Options,
    pub app: &'a App,
    pub operator: &'a toml::Table,
    pub split: &'a Split,
    pub root: &'a Path,
    /// Threads that serve requests.
    pub threads: usize,
}

/// A server that is up.
pub struct Contestant {
    pub name: String,
    pub kind: Kind,
    pub first: FirstAnswer,
    pub place: At,
    /// Of each request every answer to it so far, from each of its starts.
    pub samples: Vec<Vec<Sample>>,
    /// What its answers have to be, once that is known.
    pub expected: Vec<Expected>,
}

/// Where a server is.
pub enum At {
    /// A process of ours, and its admin listener if it has one.
    Here {
        server: Server,
        admin: Option<SocketAddr>,
    },
    Elsewhere {
        other: Other,
        address: SocketAddr,
    },
}

/// How often a start from the code cache is repeated: the median counts.
const STARTS: usize = 3;
/// How long a server may take to be ready, and to answer once when nothing else is asked of it.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often each request is asked of a server that is up, before the load.
const SAMPLES: usize = 3;

impl<'a> Stage<'a> {
    /// Starts a server for each mode that the host can run the app in, one after the other.
    pub async fn start_modes(&self, say: &dyn Fn(&str)) -> (Vec<Contestant>, Vec<Skipped>) {
        let (mut up, mut skipped) = (Vec::new(), Vec::new());
        for mode in &self.options.modes {
            say(&format!("starting {mode}"));
            match self.start_mode(*mode).await {
                Ok(contestant) => up.push(contestant),
                Err(reason) => skipped.push(Skipped { mode: mode.to_string(), reason }),
            }
        }
        (up, skipped)
    }

    /// Starts the reference, which gives these answers.
    pub async fn start_native(&self, answers: &[Sample]) -> Result<Contestant, String> {
        let root = self.root.join("native");
        std::fs::create_dir_all(&root).map_err(|error| error.to_string())?;
        let file = root.join("answers.json");
        let given = answers.iter().map(Answer::of).collect::<Vec<_>>();
        native::write(&given, &file).map_err(|error| error.to_string())?;
        let arguments = |address: &Path| {
            let threads = self.threads.to_string();
            words(&[
                "compare".as_ref(),
                "--native-server".as_ref(),
                file.as_os_str(),
                "--worker-threads".as_ref(),
                threads.as_ref(),
                "--address-file".as_ref(),
                address.as_os_str(),
            ])
        };
        let mut starts = Starts::new(self, Kind::Native, &root, &arguments);
        let from_nothing = Some(starts.median(STARTS).await?);
        let server = starts.last(self.split.servers()).await?;
        let first = FirstAnswer { from_nothing, from_cache: None, when_up: starts.greet(&server).await? };
        Ok(starts.contestant("native", first, At::Here { server, admin: None }))
    }

    async fn start_mode(&self, mode: Variant) -> Result<Contestant, String> {
        let has_pooled = self.options.modes.contains(&Variant::Pooled);
        if mode == Variant::Replace && has_pooled && !self.app.can_be_rewound() {
            return Err(
                "pooled is the same, since this app's instances can't be put back in place".to_owned()
            );
        }
        let root = self.root.join(mode.as_str());
        let place = self.app.lay_out(&root, mode, self.operator).map_err(|error| error.to_string())?;
        let admin_file = root.join("admin");
        let arguments = |address: &Path| self.serve(&place, address, &admin_file);
        let mut starts = Starts::new(self, Kind::Mode(mode), &root, &arguments);
        let from_nothing = Some(starts.median(1).await?);
        let from_cache = match app::keeps_code(mode) {
            true => Some(starts.median(STARTS).await?),
            false => None,
        };
        let server = starts.last(self.split.servers()).await?;
        // Written before the address that has been waited for.
        let admin = std::fs::read_to_string(&admin_file).ok().and_then(|text| text.trim().parse().ok());
        let first = FirstAnswer { from_nothing, from_cache, when_up: starts.greet(&server).await? };
        Ok(starts.contestant(mode.as_str(), first, At::Here { server, admin }))
    }

    /// Finds the servers that others run, and asks them.
    pub async fn find_others(&self, say: &dyn Fn(&str)) -> (Vec<Contestant>, Vec<Skipped>) {
        let (mut up, mut skipped) = (Vec::new(), Vec::new());
        for other in &self.options.against {
            say(&format!("asking {}", other.name));
            match self.find_other(other).await {
                Ok(contestant) => up.push(contestant),
                Err(reason) => skipped.push(Skipped { mode: other.name.clone(), reason }),
            }
        }
        (up, skipped)
    }

    async fn find_other(&self, other: &Other) -> Result<Contestant, String> {
        let address = other.resolve().await?;
        let mut samples = Vec::new();
        for asked in &self.options.requests {
            let (asked, target) = (to_other(asked, other), other.target(&asked.path));
            let mut answers = Vec::new();
            while answers.len() < SAMPLES {
                let answer = sample(address, &asked, &target, PATIENCE).await;
                answers.push(answer.map_err(|error| error.to_string())?);
            }
            samples.push(answers);
        }
        let first = samples.first().and_then(|answers| median_ms(answers));
        let first = FirstAnswer { from_nothing: None, from_cache: None, when_up: first };
        let place = At::Elsewhere { other: other.clone(), address };
        Ok(Contestant {
            name: other.name.clone(),
            kind: Kind::Other,
            first,
            place,
            samples,
            expected: Vec::new(),
        })
    }

    fn serve(&self, place: &Place, address: &Path, admin: &Path) -> Vec<OsString> {
        let threads = self.threads.to_string();
        words(&[
            "serve".as_ref(),
            place.folder.as_os_str(),
            "--config".as_ref(),
            place.config.as_os_str(),
            "--cache-dir".as_ref(),
            place.cache.as_os_str(),
            "--listen".as_ref(),
            "127.0.0.1:0".as_ref(),
            "--admin".as_ref(),
            "127.0.0.1:0".as_ref(),
            "--worker-threads".as_ref(),
            threads.as_ref(),
            "--log-level".as_ref(),
            "warn".as_ref(),
            "--admin-address-file".as_ref(),
            admin.as_os_str(),
            "--address-file".as_ref(),
            address.as_os_str(),
        ])
    }

    /// What is to be known beforehand.
    pub fn notes<'c>(&self, answers: &[Sample], others: impl Iterator<Item = &'c Contestant>) -> Vec<String> {
        let mut notes = Vec::new();
        for (asked, answer) in self.options.requests.iter().zip(answers) {
            if answer.status.is_client_error() {
                let Asked { method, path, .. } = asked;
                let status = answer.status;
                notes
                    .push(format!("the app answers {status} to {method} {path}, which is what was measured"));
            }
        }
        for other in others {
            notes.extend(judge::differs(&other.name, &other.samples, answers));
            if let At::Elsewhere { address, .. } = &other.place
                && address.ip().is_loopback()
            {
                let name = &other.name;
                notes.push(format!("{name}: runs on whatever cores it was started on, perhaps the load's"));
            }
        }
        for mode in &self.options.modes {
            let keys = self.app.ignored_keys(*mode);
            if !keys.is_empty() {
                notes.push(format!(
                    "{mode}: {} of the app's own configuration has no part in this",
                    keys.join(", ")
                ));
            }
        }
        notes
    }

    pub fn conditions(&self, plan: &Plan, took: Duration) -> Conditions {
        Conditions {
            connections: plan.connections,
            rate: plan.rate.map(|rate| rate.to_string()),
            rounds: plan.schedule.rounds,
            slice_seconds: plan.schedule.slice.as_secs_f64(),
            server_cores: self.split.servers().map(Cores::to_string),
            load_cores: self.split.load().map(Cores::to_string),
            server_threads: self.threads,
            versions: self.options.versions.clone(),
            machine: machine::describe(),
            seconds: took.as_secs_f64(),
        }
    }
}

impl Contestant {
    pub fn target(&self, stage: &Stage<'_>) -> Target {
        // The first answer is slower than those that follow.
        let quickest = |answers: &Vec<Sample>| answers.iter().map(|sample| sample.took).min();
        let all = self.samples.iter().filter_map(quickest).collect::<Vec<_>>();
        let requests = u32::try_from(all.len().max(1)).unwrap_or(u32::MAX);
        let one_request = all.iter().sum::<Duration>() / requests;
        let (address, pid, admin) = match &self.place {
            At::Here { server, admin } => (server.address(), Some(server.pid()), *admin),
            At::Elsewhere { address, .. } => (*address, None, None),
        };
        let asked = stage.options.requests.iter().zip(&self.expected).enumerate();
        let asks = asked.map(|(number, (asked, expected))| {
            let (asked, target) = match &self.place {
                At::Here { .. } => (stage.to_ours(self.kind, number, asked), stage.app.target(&asked.path)),
                At::Elsewhere { other, .. } => (to_other(asked, other), other.target(&asked.path)),
            };
            let request = asked.encode(&target, &address.to_string());
            Ask { method: asked.method, request, expected: expected.clone() }
        });
        Target { pid, admin, address, asks: asks.collect(), one_request }
    }
}

impl Stage<'_> {
    /// The request as a server of ours gets it: the reference is told which answer to give.
    fn to_ours(&self, kind: Kind, number: usize, asked: &Asked) -> Asked {
        let mut asked = asked.clone();
        if kind == Kind::Native && self.options.requests.len() > 1 {
            asked.headers.push((native::WHICH, HeaderValue::from(number)));
        }
        asked
    }
}

/// The request as another server gets it: by its name, unless the user has one for it.
fn to_other(asked: &Asked, other: &Other) -> Asked {
    let mut asked = asked.clone();
    let has_host = asked.headers.iter().any(|(name, _)| name == http::header::HOST);
    if let (false, Ok(host)) = (has_host, HeaderValue::from_str(&other.authority)) {
        asked.headers.push((http::header::HOST, host));
    }
    asked
}

fn median_ms(answers: &[Sample]) -> Option<f64> {
    Spread::of(answers.iter().map(|answer| answer.took.as_secs_f64() * 1e3)).map(|took| took.median)
}

fn words(words: &[&std::ffi::OsStr]) -> Vec<OsString> {
    words.iter().map(|word| OsString::from(*word)).collect()
}
