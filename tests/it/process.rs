//! The real program as a child process: for its log, its memory, its signals and its exit code.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{PATIENCE, guest, until};

pub struct Program {
    process: std::process::Child,
    log: Arc<Mutex<String>>,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Program {
    /// Serves these guests under their own names, and waits until they are live.
    pub async fn serve(guests: &[&str], config: &str) -> Program {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let apps = folder.path().join("apps");
        std::fs::create_dir(&apps).expect("an apps folder");
        for name in guests {
            std::fs::copy(guest(name), apps.join(format!("{name}.wasm"))).expect("a copy of the guest");
        }
        let (config_file, address_file) = (folder.path().join("hostler.toml"), folder.path().join("address"));
        std::fs::write(&config_file, config).expect("hostler.toml");
        let mut process = Command::new(env!("CARGO_BIN_EXE_hostler"))
            .arg("serve")
            .arg(&apps)
            .args(["--listen", "127.0.0.1:0", "--config"])
            .arg(&config_file)
            .arg("--address-file")
            .arg(&address_file)
            .arg("--cache-dir")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-cache"))
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let log = follow(process.stderr.take().expect("its stderr"));
        until("the program is ready", || address_file.exists()).await;
        let address = std::fs::read_to_string(&address_file).expect("its address");
        let address = address.trim().parse().expect("an address");
        Program { process, log, address, _folder: folder }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// All that it has logged so far.
    pub fn log(&self) -> String {
        self.log.lock().clone()
    }

    pub async fn logged(&self, text: &str) {
        until(&format!("the log says {text:?}"), || self.log.lock().contains(text)).await;
    }

    /// Bytes of its own memory that are in RAM.
    pub fn memory(&self) -> u64 {
        let status = format!("/proc/{}/status", self.process.id());
        let status = std::fs::read_to_string(status).expect("the process's status");
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("RssAnon");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    /// The names of its threads.
    pub fn threads(&self) -> Vec<String> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.process.id())).expect("its threads");
        let name = |task: std::io::Result<std::fs::DirEntry>| {
            std::fs::read_to_string(task.ok()?.path().join("comm")).ok().map(|name| name.trim().to_owned())
        };
        tasks.filter_map(name).collect()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).expect("a process of ours");
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().expect("a child") {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "waited in vain for the program's end");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}

/// A thread that keeps all lines, so that the program never waits for a reader.
fn follow(stderr: std::process::ChildStderr) -> Arc<Mutex<String>> {
    let log = Arc::new(Mutex::new(String::new()));
    let kept = log.clone();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let mut log = kept.lock();
            log.push_str(&line);
            log.push('\n');
        }
    });
    log
}

impl Drop for Program {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the program's log:\n{}", self.log.lock());
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
