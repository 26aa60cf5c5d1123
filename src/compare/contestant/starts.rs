//! The starts of one server: some to see how long they take, and the one that stays.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use super::{At, Contestant, PATIENCE, SAMPLES, Stage, median_ms};
use crate::compare::cores::Cores;
use crate::compare::findings::FirstAnswer;
use crate::compare::process::{Launch, Server};
use crate::compare::report::Kind;
use crate::compare::sample::{Sample, sample};
use crate::compare::stats::Spread;

/// Starts that take longer are not repeated.
const LONG_START: Duration = Duration::from_secs(2);
/// New connections by which the time to a first answer from a server that is up is found.
const GREETINGS: usize = 9;

/// The starts of one server, one after the other.
pub struct Starts<'a> {
    stage: &'a Stage<'a>,
    kind: Kind,
    root: &'a Path,
    /// The arguments, given the file for the address.
    arguments: &'a dyn Fn(&Path) -> Vec<OsString>,
    samples: Vec<Vec<Sample>>,
}

impl<'a> Starts<'a> {
    pub fn new(
        stage: &'a Stage<'a>,
        kind: Kind,
        root: &'a Path,
        arguments: &'a dyn Fn(&Path) -> Vec<OsString>,
    ) -> Self {
        let samples = stage.options.requests.iter().map(|_| Vec::new()).collect();
        Self { stage, kind, root, arguments, samples }
    }

    pub fn contestant(self, name: &str, first: FirstAnswer, place: At) -> Contestant {
        let Self { kind, samples, .. } = self;
        Contestant { name: name.to_owned(), kind, first, place, samples, expected: Vec::new() }
    }

    /// The median time, in milliseconds, from the start of the process to the end of the first answer. All cores are
    /// the server's.
    pub async fn median(&mut self, times: usize) -> Result<f64, String> {
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
    pub async fn last(&mut self, cores: Option<&Cores>) -> Result<Server, String> {
        let server = self.start(cores).await?;
        for request in 0..self.samples.len() {
            while self.samples.get(request).is_some_and(|answers| answers.len() < SAMPLES) {
                self.ask(&server, request).await?;
            }
        }
        Ok(server)
    }

    /// The median time, in milliseconds, from a new connection's begin to the end of its first answer.
    pub async fn greet(&mut self, server: &Server) -> Result<Option<f64>, String> {
        let mut answers = Vec::new();
        while answers.len() < GREETINGS {
            let answer = self.ask(server, 0).await?;
            let is_long = answer.took > LONG_START / 10;
            answers.push(answer);
            if is_long {
                break;
            }
        }
        Ok(median_ms(&answers))
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
        self.ask(&server, 0).await?;
        Ok(server)
    }

    async fn ask(&mut self, server: &Server, request: usize) -> Result<Sample, String> {
        let asked = self.stage.options.requests.get(request).ok_or("there is no such request")?;
        let target = self.stage.app.target(&asked.path);
        let asked = self.stage.to_ours(self.kind, request, asked);
        let answer = sample(server.address(), &asked, &target, PATIENCE).await;
        let answer = answer.map_err(|error| error.to_string())?;
        if let Some(answers) = self.samples.get_mut(request) {
            answers.push(answer.clone());
        }
        Ok(answer)
    }
}

/// What the host said about an app that it does not serve.
fn refusal(log: &[String]) -> Option<String> {
    let marks = ["not deployed: ", "not taken as an app: "];
    let reason = |line: &String| marks.iter().find_map(|mark| Some(line.split_once(mark)?.1.to_owned()));
    let reason = log.iter().find_map(reason)?;
    // The log says also which app it is about.
    Some(reason.rsplit_once(" app=").map_or(reason.clone(), |(reason, _)| reason.to_owned()))
}

#[cfg(test)]
mod tests;
