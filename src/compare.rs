//! `hostler compare`: what each mode costs and brings for one app, beside native code, in one run.
//!
//! Each mode is a server process of its own, and so is the reference, on bare hyper and with the app's own answers; other
//! people's servers may be put beside them. They are all up at once and take turns, round by round. Reading order:
//! [`app`] finds the app and lays out the files of a server, [`contestant`] starts one, [`judge`] says what the answers
//! have to be, [`plan`] shares out the time, [`measure`] goes through the rounds, with slices of [`load`]; [`findings`]
//! makes the figures, [`advice`] says which mode they speak for, [`report`], [`page`] and [`csv`] show them.

mod advice;
mod app;
mod contestant;
mod csv;
mod findings;
mod format;
mod judge;
mod machine;
mod measure;
mod page;
mod plan;
mod report;
mod stats;
mod status;
mod table;
mod usage;
mod variant;

// What is asked, of whom, and how fast.
mod against;
mod rate;
pub mod requests;

// The load and the servers.
mod cores;
mod http;
mod load;
mod native;
mod process;
mod sample;

#[doc(hidden)]
pub mod bench;

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use thiserror::Error;

use contestant::{Contestant, Stage};
use measure::{Measured, Plan};
use plan::Schedule;
use report::Kind;

pub use against::Other;
pub use app::{App, AppError};
pub use cores::{Cores, Split};
pub use csv::csv;
pub use http::Asked;
pub use native::{NativeError, serve as serve_native};
pub use page::page;
pub use rate::Rate;
pub use report::{Report, Skipped};
pub use variant::Variant;

/// What is compared, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The name of an app in `folder`, or a file.
    pub app: String,
    pub folder: PathBuf,
    /// The operator's configuration, which holds for the app here as there.
    pub config: Option<PathBuf>,
    /// What is asked, in turn; one request at least.
    pub requests: Vec<Asked>,
    /// How fast an open loop asks, in rounds of its own, if there are to be such.
    pub rate: Option<Rate>,
    /// Other people's servers to put beside ours.
    pub against: Vec<Other>,
    pub connections: usize,
    /// About how long the measuring takes; starting the servers comes on top.
    pub duration: Duration,
    pub modes: Vec<Variant>,
    /// The cores of the servers; half of them if not given.
    pub server_cores: Option<Cores>,
    /// This program, which the servers are processes of.
    pub program: PathBuf,
    /// Names and versions of what is compared, to be shown.
    pub versions: Vec<String>,
}

#[derive(Debug, Error)]
pub enum CompareError {
    #[error(transparent)]
    App(#[from] app::AppError),
    #[error("{0}")]
    Cores(String),
    #[error("cannot tell which cores there are: {0}")]
    Allowed(io::Error),
    #[error("cannot make the servers' folders: {0}")]
    Folder(io::Error),
    #[error("the app could be measured in no mode{}", list(.0))]
    NoMode(Vec<Skipped>),
    #[error("the native reference failed: {0}")]
    Native(String),
    #[error(transparent)]
    Measure(#[from] measure::MeasureError),
}

/// Compares. `say` is told what is being done, a line at a time.
///
/// Cancellation safety: dropped early, all servers are ended and all files removed.
pub async fn compare(options: &Options, say: &dyn Fn(&str)) -> Result<Report, CompareError> {
    let begun = Instant::now();
    let app = App::find(&options.app, &options.folder)?;
    let operator = match &options.config {
        Some(file) => app::read_table(file)?,
        None => toml::Table::new(),
    };
    let allowed = Cores::allowed().map_err(CompareError::Allowed)?;
    let split = Split::of(&allowed, options.server_cores.as_ref()).map_err(CompareError::Cores)?;
    let root = tempfile::Builder::new().prefix("hostler-compare-").tempdir().map_err(CompareError::Folder)?;
    let stage = Stage {
        threads: app::worker_threads(&operator).unwrap_or(split.server_count()),
        options,
        app: &app,
        operator: &operator,
        split: &split,
        root: root.path(),
    };

    let (modes, mut skipped) = stage.start_modes(say).await;
    let (mut modes, answers) = held_to_their_answers(modes, &mut skipped)?;
    say("starting the native reference");
    let mut native = stage.start_native(&answers).await.map_err(CompareError::Native)?;
    native.expected = modes.first().map(|first| first.expected.clone()).unwrap_or_default();
    modes.insert(0, native);
    let (others, unfound) = stage.find_others(say).await;
    skipped.extend(unfound);
    for mut other in others {
        match judge::expect_of_other(&other.samples, &answers) {
            Ok(expected) => {
                other.expected = expected;
                modes.push(other);
            }
            Err(reason) => skipped.push(Skipped { mode: other.name, reason }),
        }
    }
    let contestants = modes;

    let left = options.duration.saturating_sub(begun.elapsed());
    let plan = Plan {
        connections: options.connections,
        schedule: Schedule::of(left, contestants.len(), options.rate.is_some()),
        split: split.clone(),
        rate: options.rate,
    };
    say(&format!("measuring {} servers for {} s", contestants.len(), left.as_secs()));
    let targets = contestants.iter().map(|one| one.target(&stage)).collect::<Vec<_>>();
    let measured = measure::measure(&targets, &plan).await?;
    Ok(stage.report(&plan, &answers, &contestants, &measured, skipped, begun.elapsed()))
}

/// The modes that answer as they should, each told what that is, and the answers.
fn held_to_their_answers(
    modes: Vec<Contestant>,
    skipped: &mut Vec<Skipped>,
) -> Result<(Vec<Contestant>, Vec<sample::Sample>), CompareError> {
    let given = modes.iter().map(|one| (one.name.clone(), one.samples.clone())).collect::<Vec<_>>();
    let verdict = match judge::judge(&given) {
        Ok(verdict) if !verdict.answers.is_empty() => verdict,
        Ok(_) => return Err(CompareError::NoMode(std::mem::take(skipped))),
        Err(wrong) => {
            skipped.extend(wrong);
            return Err(CompareError::NoMode(std::mem::take(skipped)));
        }
    };
    let mut right = Vec::new();
    for mut mode in modes {
        if verdict.wrong.iter().all(|wrong| wrong.mode != mode.name) {
            mode.expected = verdict.expected.clone();
            right.push(mode);
        }
    }
    skipped.extend(verdict.wrong);
    Ok((right, verdict.answers))
}

fn list(skipped: &[Skipped]) -> String {
    skipped.iter().map(|Skipped { mode, reason }| format!("\n  {mode}: {reason}")).collect()
}

impl Stage<'_> {
    fn report(
        &self,
        plan: &Plan,
        answers: &[sample::Sample],
        contestants: &[Contestant],
        measured: &[Measured],
        skipped: Vec<Skipped>,
        took: Duration,
    ) -> Report {
        let Some(native) = measured.first() else { unreachable!("the reference is among them") };
        let servers = contestants.iter().zip(measured);
        let servers =
            servers.map(|(one, found)| findings::row(&one.name, one.kind, found, native, one.first));
        let servers = servers.collect::<Vec<_>>();
        let ratios = |one: usize, other: usize| match (measured.get(one), measured.get(other)) {
            (Some(one), Some(other)) => findings::ratios(one, other),
            _ => Vec::new(),
        };
        let advice = advice::advise(&servers, &ratios);
        let others = contestants.iter().filter(|one| one.kind == Kind::Other);
        let mut notes = self.notes(answers, others);
        notes.extend(findings::notes(&servers, measured, plan.connections));
        let expected = contestants.first().map(|one| one.expected.as_slice()).unwrap_or_default();
        let requests = self.options.requests.iter().zip(answers).zip(expected);
        let requests = requests.map(|((asked, answer), expected)| report::RequestFacts {
            request: format!("{} {}", asked.method, self.app.target(&asked.path)),
            status: expected.status,
            response_bytes: answer.body.len(),
            varies: expected.body.is_none(),
        });
        Report {
            app: report::AppFacts {
                name: self.app.name.clone(),
                file: self.app.file.display().to_string(),
                bytes: self.app.bytes.len(),
                requests: requests.collect(),
            },
            conditions: self.conditions(plan, took),
            servers,
            skipped,
            notes,
            advice,
        }
    }
}
