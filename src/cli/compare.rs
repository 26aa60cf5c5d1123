//! `hostler compare APP|FILE`: the modes side by side.

mod output;

use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::Args;
use http::{HeaderName, HeaderValue, Method};
use tokio::signal::unix::{SignalKind, signal};

use super::{Exit, settings};
use crate::compare::{self, Asked, Cores, Options, Other, Rate, Report, Variant, requests};
use crate::config::Overrides;
use output::Output;

#[derive(Debug, Args)]
pub struct Compare {
    /// The app: its name in the folder of apps, or a .wasm file.
    #[arg(required_unless_present = "native_server")]
    app: Option<String>,
    /// The folder of apps [default: that of the configuration].
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// The operator's configuration file [default: hostler.toml, if there is one].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Path and query below the app.
    #[arg(long, default_value = "/", value_parser = requests::path)]
    path: String,
    /// The request's method [default: GET, or POST with a body].
    #[arg(long, value_parser = requests::method)]
    method: Option<Method>,
    /// The request's body: a file, or - for standard input.
    #[arg(long, value_name = "FILE|-", conflicts_with = "data")]
    body: Option<PathBuf>,
    /// The request's body, as it is written here.
    #[arg(long, value_name = "TEXT")]
    data: Option<String>,
    /// A header field of the request, "name: value"; may be given several times.
    #[arg(long = "header", value_name = "FIELD", value_parser = requests::header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Several requests, taken in turn: a TOML file with [[request]] tables of method, path, headers, body or body_file.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["path", "method", "body", "data", "headers"])]
    requests: Option<PathBuf>,
    /// Measure an open loop, too: requests a second, or a part of each server's capacity, such as 50%.
    ///
    /// The times of these requests are fixed beforehand, and a latency counts from the time at which its request was due.
    #[arg(long, value_name = "N|N%")]
    rate: Option<Rate>,
    /// Another server to measure in the same rounds, as [NAME=]http://HOST:PORT/PATH; may be given several times.
    #[arg(long, value_name = "URL")]
    against: Vec<Other>,
    /// Requests under way at once.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,
    /// About how long the measuring takes; starting the servers comes on top.
    #[arg(long, value_name = "TIME", default_value = "45s", value_parser = settings::a_second_at_least)]
    duration: Duration,
    /// The modes to compare, or all; those that the app can't run in are named with the reason.
    ///
    /// `replace` is mode pooled with reset = "replace", beside an app whose instances are put back in place.
    #[arg(long, value_delimiter = ',', default_value = "all", value_parser = modes)]
    modes: Vec<Modes>,
    /// The cores of the servers, such as 0-3; the load has the others [default: the first half].
    #[arg(long, value_name = "CORES")]
    server_cores: Option<Cores>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Write a page with tables and figures, whole in one file.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the figures as comma-separated values.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Be the reference: give the answer in this file to every request.
    #[arg(long, value_name = "FILE", hide = true, requires = "address_file", conflicts_with = "app")]
    native_server: Option<PathBuf>,
    #[arg(long, value_name = "FILE", hide = true, requires = "native_server")]
    address_file: Option<PathBuf>,
    #[arg(long, value_name = "N", hide = true, requires = "native_server", default_value_t = 1)]
    worker_threads: usize,
}

impl Compare {
    pub fn run(self) -> anyhow::Result<Exit> {
        if let (Some(answer), Some(address)) = (&self.native_server, &self.address_file) {
            match compare::serve_native(answer, address, self.worker_threads)? {}
        }
        let json = self.json;
        // Before all the measuring, so that what can't be written is known in time.
        let html = self.html.as_deref().map(Output::open).transpose()?;
        let csv = self.csv.as_deref().map(Output::open).transpose()?;
        let overrides =
            Overrides { folder: self.folder.clone(), config: self.config.clone(), ..Overrides::default() };
        let (config, file) = match settings::load_with_file(overrides) {
            Ok(((config, _), file)) => (config, file),
            Err(problems) => return Ok(settings::report(&problems)),
        };
        let options = self.options(config.apps.folder, file)?;
        // One thread: the load has its own, and processes must be started by a thread that stays.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let report = runtime.block_on(until_interrupted(&options))?;
        if let Some(html) = html {
            html.write(&compare::page(&report))?;
        }
        if let Some(csv) = csv {
            csv.write(&compare::csv(&report))?;
        }
        print(&report, json)?;
        Ok(Exit::Success)
    }

    fn options(self, folder: PathBuf, config: Option<PathBuf>) -> anyhow::Result<Options> {
        let app = self.app.context("name an app")?;
        let mut modes = Vec::new();
        for mode in self.modes.iter().flat_map(|modes| modes.0.iter()) {
            if !modes.contains(mode) {
                modes.push(*mode);
            }
        }
        let requests = match &self.requests {
            Some(file) => requests::read(file)?,
            None => {
                let body = body(self.body.as_deref(), self.data)?;
                vec![Asked {
                    method: self.method.unwrap_or_else(|| requests::default_method(body.as_ref())),
                    path: self.path,
                    headers: self.headers,
                    body: body.unwrap_or_default(),
                }]
            }
        };
        Ok(Options {
            app,
            folder,
            config,
            requests,
            rate: self.rate,
            against: self.against,
            connections: self.connections as usize,
            duration: self.duration,
            modes,
            server_cores: self.server_cores,
            program: std::env::current_exe().context("cannot find this program's own file")?,
            versions: versions(),
        })
    }
}

/// Compares until it is done or somebody asks it to stop; either way nothing stays behind.
async fn until_interrupted(options: &Options) -> anyhow::Result<Report> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let shown = std::io::stderr().is_terminal();
    let say = move |line: &str| {
        if shown {
            eprintln!("{line} ...");
        }
    };
    tokio::select! {
        report = compare::compare(options, &say) => Ok(report?),
        _ = terminate.recv() => bail!("interrupted"),
        _ = interrupt.recv() => bail!("interrupted"),
    }
}

fn print(report: &Report, json: bool) -> anyhow::Result<()> {
    let text = if json { serde_json::to_string_pretty(report)? + "\n" } else { report.to_string() };
    std::io::stdout().write_all(text.as_bytes()).context("cannot print the report")
}

/// This program, and what it was built with that the figures depend on.
fn versions() -> Vec<String> {
    let lock = include_str!("../../Cargo.lock");
    let locked = |name| Some(format!("{name} {}", locked_version(lock, name)?));
    let built_with = ["wasmtime", "hyper"].into_iter().filter_map(locked);
    std::iter::once(concat!("hostler ", env!("CARGO_PKG_VERSION")).to_owned()).chain(built_with).collect()
}

fn locked_version<'l>(lock: &'l str, name: &str) -> Option<&'l str> {
    let entry = lock.split_once(&format!("\nname = \"{name}\"\nversion = \""))?.1;
    Some(entry.split_once('"')?.0)
}

/// Some modes, or one.
#[derive(Debug, Clone)]
struct Modes(Vec<Variant>);

fn modes(text: &str) -> Result<Modes, String> {
    if text == "all" {
        // What keeps most is nearest to the reference, in the table as on the continuum.
        return Ok(Modes(Variant::ALL.into_iter().rev().collect()));
    }
    let found = Variant::ALL.into_iter().find(|mode| mode.as_str() == text);
    found.map(|mode| Modes(vec![mode])).ok_or_else(|| {
        let names = Variant::ALL.map(|mode| mode.as_str()).join(", ");
        format!("no mode has that name, they are {names}, or all of them: all")
    })
}

/// A file's bytes or the text; `None` if neither is given.
fn body(file: Option<&Path>, text: Option<String>) -> anyhow::Result<Option<Bytes>> {
    let Some(file) = file else { return Ok(text.map(Bytes::from)) };
    let mut bytes = Vec::new();
    match file == Path::new("-") {
        true => std::io::stdin().read_to_end(&mut bytes).map(drop).context("cannot read standard input")?,
        false => bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?,
    }
    Ok(Some(bytes.into()))
}

#[cfg(test)]
mod tests;
