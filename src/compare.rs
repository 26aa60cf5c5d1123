//! `hostler compare`: what each mode costs and brings for one app, beside native code, in one run.
//!
//! Each mode is a server process of its own, and so is the reference, on bare hyper and with the app's own answer.
//! They are all up at once and take turns, round by round. Reading order: [`app`] finds the app and lays out the
//! files of a server, [`contestant`] starts one, [`plan`] shares out the time, [`measure`] goes through the rounds,
//! with slices of [`load`]; [`findings`] makes the figures and [`report`] shows them.

mod app;
mod contestant;
mod findings;
mod machine;
mod measure;
mod plan;
mod report;
mod stats;
mod table;
mod usage;

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

use crate::config::Mode;

use contestant::{Contestant, Stage};
use measure::{Measured, Plan};
use plan::Schedule;

pub use app::{App, AppError};
pub use cores::{Cores, Split};
pub use http::Asked;
pub use native::{NativeError, serve as serve_native};
pub use report::{Report, Skipped};

/// What is compared, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The name of an app in `folder`, or a file.
    pub app: String,
    pub folder: PathBuf,
    /// The operator's configuration, which holds for the app here as there.
    pub config: Option<PathBuf>,
    pub asked: Asked,
    pub connections: usize,
    /// How long all of it may take.
    pub duration: Duration,
    pub modes: Vec<Mode>,
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

    let (mut modes, mut skipped) = stage.start_modes(say).await;
    let expected = contestant::expect(&mut modes, &mut skipped);
    let Some((expected, answer)) = expected else { return Err(CompareError::NoMode(skipped)) };
    say("starting the native reference");
    let native = stage.start_native(&answer).await.map_err(CompareError::Native)?;
    let contestants = std::iter::once(native).chain(modes).collect::<Vec<_>>();

    let left = options.duration.saturating_sub(begun.elapsed());
    let plan = Plan {
        method: options.asked.method.clone(),
        expected,
        connections: options.connections,
        schedule: Schedule::of(left, contestants.len()),
        split: split.clone(),
    };
    say(&format!("measuring {} servers for {} s", contestants.len(), left.as_secs()));
    let targets = contestants.iter().map(|one| one.target(&stage)).collect::<Vec<_>>();
    let measured = measure::measure(&targets, &plan).await?;
    Ok(stage.report(&plan, &answer, &contestants, &measured, skipped, begun.elapsed()))
}

fn list(skipped: &[Skipped]) -> String {
    skipped.iter().map(|Skipped { mode, reason }| format!("\n  {mode}: {reason}")).collect()
}

impl Stage<'_> {
    fn report(
        &self,
        plan: &Plan,
        answer: &sample::Sample,
        contestants: &[Contestant],
        measured: &[Measured],
        skipped: Vec<Skipped>,
        took: Duration,
    ) -> Report {
        let Some(native) = measured.first() else { unreachable!("the reference is among them") };
        let servers = contestants.iter().zip(measured);
        let servers = servers.map(|(one, found)| findings::row(&one.name, found, native, one.first));
        let servers = servers.collect::<Vec<_>>();
        let mut notes = self.notes(answer);
        notes.extend(findings::notes(&servers, measured, plan.connections));
        Report {
            app: report::AppFacts {
                name: self.app.name.clone(),
                file: self.app.file.display().to_string(),
                bytes: self.app.bytes.len(),
                request: format!("{} {}", plan.method, self.target()),
                status: plan.expected.status,
                response_bytes: answer.body.len(),
                varies: plan.expected.body.is_none(),
            },
            conditions: self.conditions(plan, took),
            servers,
            skipped,
            notes,
        }
    }
}
