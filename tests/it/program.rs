//! The program itself, run as its users run it: in a folder of its own, with its output read.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::support::{PATIENCE, cache_dir, guest, put, until};

/// A folder with `apps/` in it, where the program is run.
pub struct Place(tempfile::TempDir);

/// What a run has come to.
#[derive(Debug)]
pub struct Run {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// A running `hostler serve`; killed when dropped.
pub struct Server {
    child: Child,
    log: PathBuf,
    address: SocketAddr,
}

impl Place {
    /// With a `hostler.toml` that asks for little of the machine.
    pub fn new() -> Place {
        let place = Place(tempfile::tempdir().expect("a folder"));
        std::fs::create_dir(place.at("apps")).expect("an apps folder");
        place.write("hostler.toml", SMALL);
        place
    }

    pub fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    pub fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        put(&self.at(path), bytes.as_ref());
    }

    /// Adds to `hostler.toml`.
    pub fn config(&self, text: &str) {
        self.write("hostler.toml", format!("{SMALL}{text}\n"));
    }

    /// Puts a guest into the apps folder under a name.
    pub fn app(&self, name: &str, guest_name: &str) {
        self.write(&format!("apps/{name}.wasm"), std::fs::read(guest(guest_name)).expect("the guest"));
    }

    /// Runs the program to its end.
    pub async fn run(&self, args: &[&str], env: &[(&str, &str)]) -> Run {
        let mut command = self.command(args, env);
        let output = tokio::time::timeout(PATIENCE * 2, command.output());
        let output =
            output.await.unwrap_or_else(|_| panic!("{args:?} doesn't end")).expect("a program to run");
        Run {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("text"),
            stderr: String::from_utf8(output.stderr).expect("text"),
        }
    }

    /// Starts `hostler serve` on a free port and waits until it is ready.
    pub async fn serve(&self, args: &[&str], env: &[(&str, &str)]) -> Server {
        let listen = match args.contains(&"--listen") || env.iter().any(|(name, _)| *name == "HOSTLER_LISTEN")
        {
            true => &[][..],
            false => &["--listen", "127.0.0.1:0"],
        };
        self.serve_as_told(&[args, listen].concat(), env).await
    }

    /// The same without choosing a port.
    pub async fn serve_as_told(&self, args: &[&str], env: &[(&str, &str)]) -> Server {
        self.serve_by(Path::new(PROGRAM), args, env).await
    }

    /// The same by another file of the program.
    pub async fn serve_by(&self, program: &Path, args: &[&str], env: &[(&str, &str)]) -> Server {
        let (log, address_file) = (self.at("log"), self.at("address"));
        let address_arg = address_file.to_str().expect("a text path").to_owned();
        let args = [&["serve", "--address-file", &address_arg], args].concat();
        let mut command = self.command_of(program, &args, env);
        command.stderr(std::fs::File::create(&log).expect("a log file"));
        let mut child = command.spawn().expect("a program to run");
        until("the program is ready", || {
            if let Some(status) = child.try_wait().expect("a status") {
                panic!("{args:?} ended with {status}: {}", read(&log));
            }
            address_file.exists()
        })
        .await;
        let address = read(&address_file).trim_end().parse().expect("an address");
        std::fs::remove_file(address_file).expect("to remove the address file");
        Server { child, log, address }
    }

    /// The program with these arguments, in this folder, with no other settings than these. Killed when dropped.
    pub fn command(&self, args: &[&str], env: &[(&str, &str)]) -> Command {
        self.command_of(Path::new(PROGRAM), args, env)
    }

    fn command_of(&self, program: &Path, args: &[&str], env: &[(&str, &str)]) -> Command {
        let mut command = Command::new(program);
        command.args(args).current_dir(self.0.path()).env_clear();
        command.env("HOSTLER_CACHE_DIR", cache_dir()).envs(env.iter().copied());
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_hostler");

/// One row of instances is enough for a test.
const SMALL: &str = "[pool]\nmax_instances = 64\n";

impl Run {
    /// Fails unless the program ended so.
    #[track_caller]
    pub fn ended_with(self, code: i32) -> Run {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    #[track_caller]
    pub fn says(self, text: &str) -> Run {
        assert!(self.stderr.contains(text) || self.stdout.contains(text), "no {text:?} in {self:?}");
        self
    }
}

impl Server {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn id(&self) -> u32 {
        self.child.id().expect("it has not been waited for")
    }

    /// Where its status is, of one that was told to have it.
    pub fn admin(&self) -> SocketAddr {
        let log = self.log();
        let (_, url) = log.split_once("status on http://").expect("a line in the log");
        url.split('/').next().and_then(|address| address.parse().ok()).expect("an address")
    }

    /// Ends it as nothing does that asks first.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("a process of ours");
    }

    /// What was logged so far.
    pub fn log(&self) -> String {
        read(&self.log)
    }

    /// Waits until the log has this.
    pub async fn logs(&self, text: &str) {
        let what = format!("the log has {text:?}");
        until(&what, || self.log().contains(text)).await;
    }

    /// Asks for a path: the status and the body.
    pub async fn get(&self, path: &str) -> (u16, String) {
        let (status, body) = get(self.address, path).await;
        (status, String::from_utf8(body).expect("text"))
    }

    /// Waits until it answers this.
    pub async fn serves(&self, path: &str, text: &str) {
        let began = std::time::Instant::now();
        while self.get(path).await != (200, text.to_owned()) {
            assert!(began.elapsed() < PATIENCE, "waited in vain for {text:?} at {path}: {}", self.log());
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    /// Ends it as a supervisor does; the exit code and the whole log.
    pub async fn stop(mut self) -> (Option<i32>, String) {
        let id = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)).expect("an id");
        kill_process(id, Signal::TERM).expect("to send a signal");
        let status =
            tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("it ends").expect("a status");
        (status.code(), self.log())
    }
}

/// One request by a client of its own.
pub async fn get(address: SocketAddr, path: &str) -> (u16, Vec<u8>) {
    use http_body_util::{BodyExt, Empty};
    let connection = tokio::net::TcpStream::connect(address).await.expect("a connection");
    let connection = hyper_util::rt::TokioIo::new(connection);
    let (mut sender, driver) = hyper::client::conn::http1::handshake(connection).await.expect("HTTP/1.1");
    let driver = tokio::spawn(driver);
    let request = http::Request::get(path).header("host", address.to_string());
    let request = request.body(Empty::<bytes::Bytes>::new()).expect("a request");
    let response = sender.send_request(request).await.expect("an answer");
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("a whole body").to_bytes().to_vec();
    drop(sender);
    driver.await.expect("no panic").expect("an orderly end");
    (status, body)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).expect("a text file")
}
