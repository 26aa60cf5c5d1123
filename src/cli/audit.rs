//! `hostler audit APP|FILE`: in which modes an app is safe.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use clap::Args;
use http::Method;

use super::{Exit, admin, settings};
use crate::audit::{self, Effort, Subject};
use crate::compare::{App, Asked, requests};
use crate::config::Overrides;
use crate::config::units::{format_duration, parse_duration};
use crate::host::Host;
use crate::recording::Taken;

#[derive(Debug, Args)]
pub struct Audit {
    /// The app: its name in the folder of apps, or a .wasm file.
    app: String,
    /// The folder of apps [default: that of the configuration].
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// The operator's configuration file [default: hostler.toml, if there is one].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Path and query of a GET below the app; may be given several times [default: /].
    #[arg(long = "path", value_name = "PATH", value_parser = requests::path)]
    paths: Vec<String>,
    /// Several requests: a TOML file as for compare.
    #[arg(long, value_name = "FILE", conflicts_with = "paths")]
    requests: Option<PathBuf>,
    /// Instead, replay what clients ask of the app from now on, for so long, at a host that runs.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, conflicts_with_all = ["paths", "requests"])]
    record: Option<Duration>,
    /// Address and port of that host's admin listener [default: that of the configuration].
    #[arg(long, value_name = "ADDR", requires = "record")]
    admin: Option<SocketAddr>,
    /// How often one instance is asked all requests in order, and how many are asked them shuffled.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rounds: u32,
    /// Where the shuffling begins: the same number gives the same orders.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Audit {
    pub fn run(self) -> anyhow::Result<Exit> {
        let overrides = Overrides {
            folder: self.folder.clone(),
            config: self.config.clone(),
            admin: self.admin,
            ..Overrides::default()
        };
        let (config, policy) = match settings::load(overrides) {
            Ok(loaded) => loaded,
            Err(problems) => return Ok(settings::report(&problems)),
        };
        let app = App::find(&self.app, &config.apps.folder)?;
        let subject = Subject::new(&app, &config, &policy, Host::settings(&config, &policy))
            .with_context(|| format!("{} can't be audited", app.file.display()))?;
        let requests = match (self.record, &self.requests) {
            (Some(time), _) => recorded(admin::listener(&config)?, &app.name, time)?,
            (None, Some(file)) => requests::read(file)?,
            (None, None) => self.gets(),
        };
        let effort = Effort { requests, rounds: self.rounds, seed: self.seed };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let report = runtime.block_on(audit::audit(&subject, &effort))?;
        match self.json {
            true => println!("{}", serde_json::to_string_pretty(&report)?),
            false => print!("{report}"),
        }
        Ok(if report.is_good() { Exit::Success } else { Exit::Failed })
    }

    fn gets(&self) -> Vec<Asked> {
        let paths = if self.paths.is_empty() { &["/".to_owned()][..] } else { &self.paths };
        let get = |path: &String| Asked {
            method: Method::GET,
            path: path.clone(),
            headers: Vec::new(),
            body: Bytes::new(),
        };
        paths.iter().map(get).collect()
    }
}

/// Has a running host take down what clients ask of an app.
fn recorded(listener: SocketAddr, app: &str, time: Duration) -> anyhow::Result<Vec<Asked>> {
    let path = admin::path_of(&admin::app_name(app)?, "record");
    eprintln!("{listener} takes down what clients ask of {app}, for {} ...", format_duration(time));
    let path = format!("{path}?time={}", format_duration(time));
    let taken = match admin::ask::<Taken>(listener, Method::POST, &path)? {
        Ok(taken) => taken,
        Err(refused) => bail!("nothing was recorded: {refused}"),
    };
    ensure!(
        !taken.requests.is_empty(),
        "no request came that can be replayed ({} were left out): ask the app meanwhile, or name paths with --path",
        taken.left_out
    );
    eprintln!("{} requests, {} left out", taken.requests.len(), taken.left_out);
    let asked = taken.requests.into_iter().map(|recorded| {
        let (method, headers, body) = recorded.parts()?;
        Some(Asked { method, path: recorded.path, headers, body })
    });
    asked.collect::<Option<Vec<_>>>().context("the host gives requests that are not understood")
}
