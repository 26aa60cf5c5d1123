//! Where the benches happen: hosts on their cores, and what all of them ask and write.

use std::ffi::OsString;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use hdrhistogram::Histogram;
use hostler::compare::bench::{
    Answer, Ask, Asked, Cores, Expected, Launch, Load, Outcome, Pace, Server, Split, machine, write_answers,
};
use http::Method;
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde::Serialize;

use crate::open_loop::{OpenLoop, Seen};

pub struct Stage {
    split: Split,
    target: PathBuf,
    program: PathBuf,
}

/// A host that serves some apps, or native hyper in its place. It ends when it is dropped.
pub struct Host {
    pub server: Server,
    /// Native hyper has none.
    admin: Option<SocketAddr>,
    folder: tempfile::TempDir,
}

/// An app of a host: its name, its code, and its own configuration.
pub struct App {
    pub name: &'static str,
    pub wasm: Vec<u8>,
    pub config: String,
}

/// Latencies in milliseconds; none of what there was too little of.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Latency {
    pub p50: Option<f64>,
    pub p99: Option<f64>,
    pub max: Option<f64>,
}

/// Another program to measure than the one that was built along: the same load on an older one.
const PROGRAM: &str = "HOSTLER_BENCH_PROGRAM";

/// How long a host may take to be ready: some apps have to be compiled first.
const PATIENCE: Duration = Duration::from_secs(120);

impl Stage {
    pub fn set_up() -> anyhow::Result<Stage> {
        let allowed = Cores::allowed().context("cannot tell which cores there are")?;
        let split = Split::of(&allowed, None).map_err(anyhow::Error::msg)?;
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
        let program = std::env::var_os(PROGRAM).unwrap_or_else(|| env!("CARGO_BIN_EXE_hostler").into());
        Ok(Stage { split, target, program: program.into() })
    }

    fn load_cores(&self) -> Option<Cores> {
        self.split.load().cloned()
    }

    /// One of the guest apps under a name.
    pub fn app(&self, name: &'static str, guest: &str, config: &str) -> anyhow::Result<App> {
        let file = self.target.join(format!("guests/{guest}.wasm"));
        let wasm = std::fs::read(&file).with_context(|| format!("{}: run `make guests`", file.display()))?;
        Ok(App { name, wasm, config: config.to_owned() })
    }

    /// Starts a host with these apps and waits until they are live.
    pub async fn host(&self, apps: &[App], config: &str) -> anyhow::Result<Host> {
        let folder = tempfile::tempdir()?;
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("apps"))?;
        for app in apps {
            std::fs::write(at(&format!("apps/{}.wasm", app.name)), &app.wasm)?;
            std::fs::write(at(&format!("apps/{}.toml", app.name)), &app.config)?;
        }
        // Free a moment ago, and nobody else looks for one here.
        let admin = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let fixed = format!("[apps]\nsettle_time = \"1ms\"\n[admin]\nlisten = \"{admin}\"\n");
        std::fs::write(at("hostler.toml"), format!("{fixed}{config}"))?;
        let mut arguments: Vec<OsString> = vec!["serve".into(), at("apps").into()];
        arguments.extend(["--config".into(), at("hostler.toml").into()]);
        arguments.extend(["--cache-dir".into(), self.target.join("bench-cache").into()]);
        arguments.extend(["--listen", "127.0.0.1:0", "--log-level", "error"].map(OsString::from));
        let server = self.start(arguments, at("address")).await?;
        if let Some(line) = server.log().first() {
            anyhow::bail!("the host complains: {line}");
        }
        Ok(Host { server, admin: Some(admin), folder })
    }

    /// Starts native hyper, which gives this text to whoever asks for whatever.
    pub async fn native(&self, text: &str) -> anyhow::Result<Host> {
        let folder = tempfile::tempdir()?;
        let at = |name: &str| folder.path().join(name);
        write_answers(&[Answer::plain(text)], &at("answers"))?;
        let mut arguments: Vec<OsString> = vec!["compare".into()];
        arguments.extend(["--native-server".into(), at("answers").into()]);
        let server = self.start(arguments, at("address")).await?;
        Ok(Host { server, admin: None, folder })
    }

    /// On the servers' cores, with a thread for each.
    async fn start(&self, mut arguments: Vec<OsString>, address_file: PathBuf) -> anyhow::Result<Server> {
        arguments.extend(["--address-file".into(), address_file.clone().into()]);
        arguments.extend(["--worker-threads".into(), self.split.server_count().to_string().into()]);
        let launch = Launch {
            program: self.program.clone(),
            arguments,
            address_file,
            cores: self.split.servers().cloned(),
            patience: PATIENCE,
        };
        Ok(Server::start(&launch).await?)
    }

    /// Writes what a bench found to `target/load/NAME.json`, with where it was found.
    pub fn write(&self, name: &str, found: &impl Serialize) -> anyhow::Result<()> {
        let where_and_what = serde_json::json!({
            "machine": machine(),
            "server_cores": self.split.servers().map(Cores::to_string),
            "load_cores": self.split.load().map(Cores::to_string),
            "found": found,
        });
        self.write_text(&format!("{name}.json"), &(serde_json::to_string_pretty(&where_and_what)? + "\n"))
    }

    pub fn write_text(&self, file: &str, text: &str) -> anyhow::Result<()> {
        let folder = self.target.join("load");
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(file), text)?;
        println!("written: target/load/{file}");
        Ok(())
    }
}

impl Host {
    /// The folder of its apps.
    pub fn apps(&self) -> PathBuf {
        self.folder.path().join("apps")
    }

    /// Puts another app into the folder, as a whole.
    pub fn put(&self, name: &str, wasm: &[u8]) -> anyhow::Result<()> {
        let at = |name: String| self.apps().join(name);
        std::fs::write(at(format!("{name}.part")), wasm)?;
        Ok(std::fs::rename(at(format!("{name}.part")), at(format!("{name}.wasm")))?)
    }

    /// What the host says of itself.
    pub async fn status(&self) -> anyhow::Result<serde_json::Value> {
        let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
        let admin = self.admin.context("native hyper has no status")?;
        let answer = client.get(format!("http://{admin}/status").parse()?).await?;
        Ok(serde_json::from_slice(&answer.into_body().collect().await?.to_bytes())?)
    }

    /// The bytes of a GET request.
    fn request(&self, path: &str) -> Bytes {
        let asked =
            Asked { method: Method::GET, path: path.to_owned(), headers: Vec::new(), body: Bytes::new() };
        asked.encode(path, &self.server.address().to_string())
    }

    /// So many requests a second, whatever becomes of them, over so many connections.
    pub async fn open_loop(
        &self,
        stage: &Stage,
        path: &str,
        rate: f64,
        connections: usize,
        duration: Duration,
    ) -> anyhow::Result<Seen> {
        let load = OpenLoop {
            address: self.server.address(),
            request: self.request(path),
            rate,
            duration,
            connections,
            cores: stage.load_cores(),
        };
        load.run().await
    }

    /// So many connections, each with one request after the other. What is right is told by its status.
    pub async fn closed_loop(
        &self,
        stage: &Stage,
        path: &str,
        status: u16,
        connections: usize,
        duration: Duration,
    ) -> anyhow::Result<Outcome> {
        run(&self.load(stage, path, status, connections, duration)).await
    }

    /// What [`Host::closed_loop`] runs.
    pub fn load(
        &self,
        stage: &Stage,
        path: &str,
        status: u16,
        connections: usize,
        duration: Duration,
    ) -> Load {
        let expected = Expected { status, body: None };
        Load {
            address: self.server.address(),
            asks: [Ask { method: Method::GET, request: self.request(path), expected }].into(),
            pace: Pace::Closed,
            connections,
            duration,
            grace: GRACE,
            cores: stage.load_cores(),
            gives_way: false,
        }
    }
}

/// Runs a load to its end.
pub async fn run(load: &Load) -> anyhow::Result<Outcome> {
    load.run().await.context("cannot start the load's threads")
}

impl Latency {
    /// Of nanoseconds. A percentile needs one that is beyond it.
    pub fn of(histogram: &Histogram<u64>) -> Latency {
        let ms = |nanoseconds: u64| nanoseconds as f64 / 1e6;
        let at =
            |part: f64, least: u64| (histogram.len() >= least).then(|| ms(histogram.value_at_quantile(part)));
        Latency { p50: at(0.5, 2), p99: at(0.99, 100), max: at(1.0, 1) }
    }

    /// How many times as long the 99th percentile is as another.
    pub fn p99_ratio(&self, other: &Latency) -> Option<f64> {
        self.p99.zip(other.p99).map(|(this, other)| this / other)
    }
}

/// A figure for a table.
pub fn figure(value: Option<f64>) -> String {
    match value {
        Some(value) if value >= 100.0 => format!("{value:.0}"),
        Some(value) if value >= 10.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.2}"),
        None => "-".to_owned(),
    }
}

/// How long after the last request its answer may still come.
pub const GRACE: Duration = Duration::from_secs(2);
