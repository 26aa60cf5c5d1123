//! `hostler compare APP|FILE`: the modes side by side.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use http::{HeaderName, HeaderValue, Method};
use tokio::signal::unix::{SignalKind, signal};

use super::Exit;
use crate::compare::{self, Asked, Cores, Options, Report};
use crate::config::units::parse_duration;
use crate::config::{HOST_FILE, Mode};

#[derive(Debug, Args)]
pub struct Compare {
    /// The app: its name in the folder of apps, or a .wasm file.
    #[arg(required_unless_present = "native_server")]
    app: Option<String>,
    /// The folder of apps.
    #[arg(long, value_name = "DIR", env = "HOSTLER_FOLDER", default_value = "apps")]
    folder: PathBuf,
    /// The operator's configuration file [default: hostler.toml, if there is one].
    #[arg(long, value_name = "FILE", env = "HOSTLER_CONFIG")]
    config: Option<PathBuf>,
    /// Path and query below the app.
    #[arg(long, default_value = "/", value_parser = path)]
    path: String,
    /// The request's method [default: GET, or POST with a body].
    #[arg(long, value_parser = method)]
    method: Option<Method>,
    /// The request's body: text, or @FILE.
    #[arg(long)]
    body: Option<String>,
    /// A header field of the request, "name: value"; may be given several times.
    #[arg(long = "header", value_name = "FIELD", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Requests under way at once.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,
    /// How long all of it may take.
    #[arg(long, value_name = "TIME", default_value = "45s", value_parser = duration)]
    duration: Duration,
    /// The modes to compare.
    #[arg(long, value_delimiter = ',', default_value = "pooled,cached,cold", value_parser = mode)]
    modes: Vec<Mode>,
    /// The cores of the servers, such as 0-3; the load has the others [default: the first half].
    #[arg(long, value_name = "CORES")]
    server_cores: Option<Cores>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
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
        let options = self.options()?;
        // One thread: the load has its own, and processes must be started by a thread that stays.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let report = runtime.block_on(until_interrupted(&options))?;
        print(&report, json)?;
        Ok(Exit::Success)
    }

    fn options(self) -> anyhow::Result<Options> {
        let app = self.app.context("name an app")?;
        let body = match self.body.as_deref().map(|body| body.strip_prefix('@').ok_or(body)) {
            None => Vec::new(),
            Some(Err(text)) => text.as_bytes().to_vec(),
            Some(Ok(file)) => std::fs::read(file).with_context(|| format!("cannot read {file}"))?,
        };
        let default = if body.is_empty() { Method::GET } else { Method::POST };
        let in_use = PathBuf::from(HOST_FILE);
        let mut modes = Vec::new();
        for mode in self.modes {
            if !modes.contains(&mode) {
                modes.push(mode);
            }
        }
        Ok(Options {
            app,
            folder: self.folder,
            config: self.config.or_else(|| in_use.exists().then_some(in_use)),
            asked: Asked {
                method: self.method.unwrap_or(default),
                path: self.path,
                headers: self.headers,
                body: body.into(),
            },
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

pub(super) fn path(text: &str) -> Result<String, String> {
    match text.parse::<http::uri::PathAndQuery>() {
        Ok(path) if path.as_str() == text && text.starts_with('/') => Ok(text.to_owned()),
        _ => Err(
            "write a path, and perhaps a query, as in a request line: it begins with / and has no fragment"
                .to_owned(),
        ),
    }
}

fn method(text: &str) -> Result<Method, String> {
    match text.parse::<Method>().map_err(|error| error.to_string())? {
        Method::CONNECT => Err("CONNECT asks for no answer that could be compared".to_owned()),
        method => Ok(method),
    }
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("write it as \"name: value\"")?;
    let name = name.trim().parse::<HeaderName>().map_err(|error| error.to_string())?;
    let value = value.trim().parse::<HeaderValue>().map_err(|error| error.to_string())?;
    let framing = ["connection", "content-length", "expect", "te", "trailer", "transfer-encoding", "upgrade"];
    match framing.contains(&name.as_str()) {
        true => Err(format!("{name} is the load's own")),
        false => Ok((name, value)),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text)?;
    if duration < Duration::from_secs(1) { Err("a second at least".to_owned()) } else { Ok(duration) }
}

fn mode(text: &str) -> Result<Mode, String> {
    Mode::ALL.into_iter().find(|mode| mode.as_str() == text).ok_or_else(|| {
        let names = Mode::ALL.map(|mode| mode.as_str()).join(", ");
        format!("no mode has that name, they are {names}")
    })
}

#[cfg(test)]
mod tests;
