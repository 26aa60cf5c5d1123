//! `hostler serve [FOLDER]`: serves until it is told to stop.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::Exit;
use super::settings::{self, CommonArgs};
use crate::compile::Way;
use crate::compile::process::Program;
use crate::config::{self, Overrides};
use crate::host::Host;
use crate::logging;

#[derive(Debug, Args)]
pub struct Serve {
    #[command(flatten)]
    common: CommonArgs,
    /// Address and port to serve on; port 0 takes any free one [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Address and port for status, metrics and health [default: none].
    #[arg(long, value_name = "ADDR")]
    admin: Option<SocketAddr>,
    /// Threads that serve requests, or auto [default: auto, one for each processor it may use].
    #[arg(long, value_name = "N", value_parser = config::parse_threads)]
    worker_threads: Option<usize>,
    /// Log JSON instead of text.
    #[arg(long)]
    log_json: bool,
    /// Log a line for each request.
    #[arg(long)]
    log_access: bool,
    /// When the folder's apps are live, write the real address into this file.
    #[arg(long, value_name = "FILE")]
    address_file: Option<PathBuf>,
    /// When the folder's apps are live, write the real address of --admin into this file.
    #[arg(long, value_name = "FILE", requires = "admin")]
    admin_address_file: Option<PathBuf>,
    /// When the folder's apps are live, write a line with the real address to this open file descriptor.
    #[arg(long, value_name = "FD")]
    ready_fd: Option<i32>,
}

impl Serve {
    pub fn run(self) -> anyhow::Result<Exit> {
        let flags = Overrides {
            listen: self.listen,
            admin: self.admin,
            worker_threads: self.worker_threads,
            log_json: self.log_json.then_some(true),
            log_access: self.log_access.then_some(true),
            ..self.common.overrides()
        };
        let (config, policy) = match settings::load(flags) {
            Ok(loaded) => loaded,
            Err(problems) => return Ok(settings::report(&problems)),
        };
        logging::init(config.log.json, &config.log.level)?;
        settings::raise_file_limit();
        // Opened now, so that an upgrade of the file while the host runs changes nothing for it.
        let program = Program::this().context("cannot open this program's own file to compile with")?;
        let host = Host::start(&config, policy, Way::Child(program))?;
        tracing::info!(folder = %config.apps.folder.display(), "serving on http://{}", host.address());
        if let Some(admin) = host.admin_address() {
            tracing::info!("status on http://{admin}/status");
        }
        // The host's own runtimes do the work; this one waits for its end.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(self.until_stopped(host))
    }

    async fn until_stopped(self, host: Host) -> anyhow::Result<Exit> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut progress = host.progress();
        // What `wait_for` gives is a lock that would stop the deployer: it must not live on in a match below.
        let ready = async { progress.wait_for(|progress| progress.settled()).await.is_ok() };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            true = ready => {
                let live = host.registry().apps().iter().filter(|app| app.live.is_some()).count();
                tracing::info!(apps = live, "ready");
                self.hand_over(host.address(), host.admin_address())?;
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            }
        }
        tracing::info!("stopping: requests in flight are finished");
        let shutdown = host.shutdown();
        tokio::select! {
            _ = shutdown => Ok(Exit::Success),
            // Who asks twice means it.
            _ = terminate.recv() => Ok(Exit::Failed),
            _ = interrupt.recv() => Ok(Exit::Failed),
        }
    }

    /// Tells whoever started the host where it listens.
    fn hand_over(&self, address: SocketAddr, admin: Option<SocketAddr>) -> anyhow::Result<()> {
        let line = format!("{address}\n");
        let write = |file: &Path, line: &str| {
            write_whole(file, line).with_context(|| format!("cannot write {}", file.display()))
        };
        // First the one that nobody waits for.
        if let (Some(file), Some(admin)) = (&self.admin_address_file, admin) {
            write(file, &format!("{admin}\n"))?;
        }
        if let Some(file) = &self.address_file {
            write(file, &line)?;
        }
        if let Some(fd) = self.ready_fd {
            // By its name under /proc, so that a wrong number is an error and not somebody else's descriptor closed.
            let path = format!("/proc/self/fd/{fd}");
            std::fs::write(&path, &line).with_context(|| format!("cannot write to descriptor {fd}"))?;
        }
        Ok(())
    }
}

/// Readers see the whole line or no file.
fn write_whole(file: &Path, line: &str) -> std::io::Result<()> {
    let mut temporary = file.as_os_str().to_owned();
    temporary.push(".tmp");
    std::fs::write(&temporary, line)?;
    std::fs::rename(&temporary, file)
}
