//! Server processes: started on their cores, ended whatever happens.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use thiserror::Error;

use super::cores::Cores;

/// How a server is started. It writes the address it listens on to the file when it is ready.
#[derive(Debug, Clone)]
pub struct Launch {
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
    pub address_file: PathBuf,
    /// The cores it runs on; all that this process has if there are none.
    pub cores: Option<Cores>,
    /// How long it may take to be ready.
    pub patience: Duration,
}

/// A server that runs. Dropping it ends it.
#[derive(Debug)]
pub struct Server {
    child: Child,
    address: SocketAddr,
    log: Log,
    started: Instant,
}

#[derive(Debug, Error)]
pub enum ProcessError {
    #[error("cannot start {program}: {error}")]
    Start { program: PathBuf, error: io::Error },
    #[error("it ended before it was ready ({status}){log}")]
    Ended { status: ExitStatus, log: Said },
    #[error("it was not ready within {} s{log}", .patience.as_secs())]
    NotReady { patience: Duration, log: Said },
    #[error("cannot read where it listens: {0}")]
    Address(String),
}

/// The last lines that a process wrote, for a message.
#[derive(Debug)]
pub struct Said(Vec<String>);

/// How often it is looked whether a server is ready: the precision of the time to its first answer.
const LOOK: Duration = Duration::from_micros(500);
/// How long a server has to end by itself.
const FAREWELL: Duration = Duration::from_secs(3);
/// Lines and bytes of a line of a server's log that are kept.
const LOG_LINES: usize = 40;
const LOG_LINE: u64 = 2_000;

impl Server {
    /// Starts the server and waits until it is ready.
    ///
    /// Cancellation safety: dropped early, the process is ended.
    pub async fn start(launch: &Launch) -> Result<Self, ProcessError> {
        let started = Instant::now();
        let cannot = |error| ProcessError::Start { program: launch.program.clone(), error };
        let spawn = || command(launch).spawn();
        let child = match &launch.cores {
            Some(cores) => cores.start_on(spawn).and_then(|child| child),
            None => spawn(),
        };
        let mut child = child.map_err(cannot)?;
        let log = Log::read(child.stderr.take()).map_err(cannot)?;
        // From here on the process has an owner.
        let mut server = Self { child, address: ([127, 0, 0, 1], 0).into(), log, started };
        server.address = server.ready(launch).await?;
        Ok(server)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Since the process was asked for.
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// The last lines that it wrote to its log, oldest first.
    pub fn log(&self) -> Vec<String> {
        self.log.lines()
    }

    async fn ready(&mut self, launch: &Launch) -> Result<SocketAddr, ProcessError> {
        loop {
            if let Some(address) = read_address(&launch.address_file)? {
                return Ok(address);
            }
            let ended = self.child.try_wait();
            if let Ok(Some(status)) = ended {
                self.log.finish();
                return Err(ProcessError::Ended { status, log: Said(self.log()) });
            }
            if self.age() > launch.patience {
                return Err(ProcessError::NotReady { patience: launch.patience, log: Said(self.log()) });
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Asks it to end, waits a while, and then makes it end.
    fn end(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        // Until it has been waited for, the number is this child's and no other's.
        if matches!(self.child.try_wait(), Ok(None))
            && let Some(pid) = pid
            && kill_process(pid, Signal::TERM).is_ok()
        {
            let asked = Instant::now();
            while asked.elapsed() < FAREWELL && matches!(self.child.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        // Both are nothing to a process that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|line| write!(f, "\n    {line}"))
    }
}

/// The tail of what a process writes to its standard error, read on a thread so that it never has to wait.
#[derive(Debug)]
struct Log {
    lines: Arc<Mutex<VecDeque<String>>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Log {
    fn read(from: Option<impl Read + Send + 'static>) -> io::Result<Self> {
        let lines = Arc::new(Mutex::new(VecDeque::new()));
        let Some(from) = from else { return Ok(Self { lines, reader: None }) };
        let kept = lines.clone();
        let reader = std::thread::Builder::new()
            .name("compare-log".to_owned())
            .spawn(move || keep_tail(BufReader::new(from), &kept))?;
        Ok(Self { lines, reader: Some(reader) })
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().iter().cloned().collect()
    }

    /// Waits for the last lines of a process that has ended.
    fn finish(&mut self) {
        if let Some(reader) = self.reader.take() {
            // It has no state that a panic could have left half done.
            let _ = reader.join();
        }
    }
}

fn keep_tail(mut from: impl BufRead, lines: &Mutex<VecDeque<String>>) {
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut from).take(LOG_LINE).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let text = String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
                let mut lines = lines.lock();
                if lines.len() == LOG_LINES {
                    lines.pop_front();
                }
                lines.push_back(text);
            }
        }
    }
}

fn command(launch: &Launch) -> Command {
    let mut command = Command::new(&launch.program);
    command.args(&launch.arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    // What is compared is said by arguments and files: the caller's environment must not change it on the way.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("HOSTLER_")) {
            command.env_remove(name);
        }
    }
    command
}

fn read_address(file: &Path) -> Result<Option<SocketAddr>, ProcessError> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(ProcessError::Address(error.to_string())),
    };
    match text.trim().parse() {
        Ok(address) => Ok(Some(address)),
        Err(_) => Err(ProcessError::Address(format!("{:?} is no address", text.trim()))),
    }
}

#[cfg(test)]
mod tests;
