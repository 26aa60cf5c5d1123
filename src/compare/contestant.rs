//! The servers of a comparison: one process for each mode, and one for the reference.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use super::app::{self, App, Place};
use super::cores::{Cores, Split};
use super::findings::FirstAnswer;
use super::load::Expected;
use super::measure::{Plan, Target};
use super::native::Answer;
use super::process::{Launch, Server};
use super::report::{Conditions, Skipped};
use super::sample::{Sample, sample};
use super::stats::Spread;
use super::{Options, machine};
use crate::config::Mode;

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
    pub first: FirstAnswer,
    server: Server,
    /// Every answer it has given so far, from each of its starts.
    samples: Vec<Sample>,
}

/// How often a start from the code cache is repeated: the median counts.
const STARTS: usize = 3;
/// Starts that take longer are not repeated.
const LONG_START: Duration = Duration::from_secs(2);
/// How long a server may take to be ready, and to answer once when nothing else is asked of it.
const PATIENCE: Duration = Duration::from_secs(120);
/// Requests to a server that is up, before the load.
const SAMPLES: usize = 3;

impl<'a> Stage<'a> {
    /// The request's path on the servers.
    pub fn target(&self) -> String {
        self.app.target(&self.options.asked.path)
    }

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

    /// Starts the reference, which gives this answer.
    pub async fn start_native(&self, answer: &Sample) -> Result<Contestant, String> {
        let root = self.root.join("native");
        std::fs::create_dir_all(&root).map_err(|error| error.to_string())?;
        let file = root.join("answer.json");
        Answer::of(answer).write(&file).map_err(|error| error.to_string())?;
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
        let mut starts = Starts { stage: self, root: &root, arguments: &arguments, samples: Vec::new() };
        let from_nothing = starts.median(STARTS).await?;
        let server = starts.last(self.split.servers()).await?;
        let first = FirstAnswer { from_nothing, from_cache: None };
        Ok(Contestant { name: "native".to_owned(), first, server, samples: starts.samples })
    }

    async fn start_mode(&self, mode: Mode) -> Result<Contestant, String> {
        let root = self.root.join(mode.as_str());
        let place = self.app.lay_out(&root, mode, self.operator).map_err(|error| error.to_string())?;
        let arguments = |address: &Path| self.serve(&place, address);
        let mut starts = Starts { stage: self, root: &root, arguments: &arguments, samples: Vec::new() };
        let from_nothing = starts.median(1).await?;
        let from_cache = match app::keeps_code(mode) {
            true => Some(starts.median(STARTS).await?),
            false => None,
        };
        let server = starts.last(self.split.servers()).await?;
        let first = FirstAnswer { from_nothing, from_cache };
        Ok(Contestant { name: mode.to_string(), first, server, samples: starts.samples })
    }

    fn serve(&self, place: &Place, address: &Path) -> Vec<OsString> {
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
            "--worker-threads".as_ref(),
            threads.as_ref(),
            "--log-level".as_ref(),
            "warn".as_ref(),
            "--address-file".as_ref(),
            address.as_os_str(),
        ])
    }

    /// What is to be known beforehand.
    pub fn notes(&self, answer: &Sample) -> Vec<String> {
        let mut notes = Vec::new();
        if answer.status.is_client_error() {
            notes.push(format!(
                "the app answers {} to this request, which is what was measured",
                answer.status
            ));
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
        let address = self.server.address();
        // The first answer is slower than those that follow.
        let one_request = self.samples.iter().map(|sample| sample.took).min().unwrap_or_default();
        Target {
            pid: self.server.pid(),
            address,
            request: stage.options.asked.encode(&stage.target(), &address.to_string()),
            one_request,
        }
    }
}

/// What the app answers: as it does in the first mode in which it is no failure. Modes that answer otherwise are
/// taken out. `None` if none is left.
pub fn expect(modes: &mut Vec<Contestant>, skipped: &mut Vec<Skipped>) -> Option<(Expected, Sample)> {
    let answers = modes.iter().map(|one| (one.name.clone(), one.samples.clone())).collect::<Vec<_>>();
    let (expected, answer, wrong) = judge(&answers);
    modes.retain(|one| !wrong.iter().any(|wrong| wrong.mode == one.name));
    skipped.extend(wrong);
    expected.zip(answer)
}

/// What to expect, the answer itself, and who answers otherwise.
fn judge(answers: &[(String, Vec<Sample>)]) -> (Option<Expected>, Option<Sample>, Vec<Skipped>) {
    let first = answers.iter().find_map(|(name, samples)| {
        let sample = samples.iter().find(|sample| !sample.status.is_server_error())?;
        Some((name, sample))
    });
    let Some((reference, answer)) = first else {
        let skip = |(name, samples): &(String, Vec<Sample>)| {
            let status = samples.first().map(|sample| sample.status.to_string()).unwrap_or_default();
            Skipped { mode: name.clone(), reason: format!("the app answers {status}") }
        };
        return (None, None, answers.iter().map(skip).collect());
    };
    let alike = |samples: &[Sample]| samples.iter().all(|sample| sample.body == samples[0].body);
    let varies = answers.iter().any(|(_, samples)| !samples.is_empty() && !alike(samples));
    let expected = Expected { status: answer.status.as_u16(), body: (!varies).then(|| answer.body.clone()) };
    let reason = |sample: &Sample| match sample.status == answer.status {
        false => Some(format!("it answers {}, but {reference} {}", sample.status, answer.status)),
        true if varies || sample.body == answer.body => None,
        true => Some(format!("its answer has another body than that of {reference}")),
    };
    let skip = |(name, samples): &(String, Vec<Sample>)| {
        Some(Skipped { mode: name.clone(), reason: samples.iter().find_map(reason)? })
    };
    (Some(expected), Some(answer.clone()), answers.iter().filter_map(skip).collect())
}

/// The starts of one server, one after the other.
struct Starts<'a> {
    stage: &'a Stage<'a>,
    root: &'a Path,
    /// The arguments, given the file for the address.
    arguments: &'a dyn Fn(&Path) -> Vec<OsString>,
    samples: Vec<Sample>,
}

impl Starts<'_> {
    /// The median time, in milliseconds, from the start of the process to the end of the first answer. All cores are
    /// the server's.
    async fn median(&mut self, times: usize) -> Result<f64, String> {
        let mut took = Vec::new();
        while took.len() < times {
            let server = self.start(None).await?;
            took.push(server.age().as_secs_f64() * 1e3);
            if server.age() > LONG_START {
                break;
            }
        }
        Spread::of(took).map(|took| took.median).ok_or_else(|| "it was never started".to_owned())
    }

    /// The start that stays, on the cores of the servers.
    async fn last(&mut self, cores: Option<&Cores>) -> Result<Server, String> {
        let server = self.start(cores).await?;
        while self.samples.len() < SAMPLES {
            self.ask(&server).await?;
        }
        Ok(server)
    }

    /// Starts the server and asks it once.
    async fn start(&mut self, cores: Option<&Cores>) -> Result<Server, String> {
        let address_file = self.root.join("address");
        match std::fs::remove_file(&address_file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.to_string()),
            _ => (),
        }
        let launch = Launch {
            program: self.stage.options.program.clone(),
            arguments: (self.arguments)(&address_file),
            address_file,
            cores: cores.cloned(),
            patience: PATIENCE,
        };
        let server = Server::start(&launch).await.map_err(|error| error.to_string())?;
        if let Some(refusal) = refusal(&server.log()) {
            return Err(refusal);
        }
        self.ask(&server).await?;
        Ok(server)
    }

    async fn ask(&mut self, server: &Server) -> Result<(), String> {
        let target = self.stage.target();
        let answer = sample(server.address(), &self.stage.options.asked, &target, PATIENCE).await;
        self.samples.push(answer.map_err(|error| error.to_string())?);
        Ok(())
    }
}

/// What the host said about an app that it does not serve.
fn refusal(log: &[String]) -> Option<String> {
    let marks = ["not deployed: ", "not taken as an app: "];
    log.iter().find_map(|line| marks.iter().find_map(|mark| Some(line.split_once(mark)?.1.to_owned())))
}

fn words(words: &[&std::ffi::OsStr]) -> Vec<OsString> {
    words.iter().map(|word| OsString::from(*word)).collect()
}

#[cfg(test)]
mod tests;
