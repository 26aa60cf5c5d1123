//! A real host for each test: built, started on free ports, asked over HTTP, and counted when it ends.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hostler::compile::Way;
use hostler::compile::process::Program;
use hostler::config::{self, Overrides};
use hostler::engine::EngineSettings;
use hostler::host::{Host, Leftovers};
use hostler::machine::Machine;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// How long a condition that is waited for may take: generous, since machines are slow at times.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A guest app built from `guest-apps/`.
pub fn guest(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/guests").join(format!("{name}.wasm"));
    assert!(path.exists(), "the guest {name} is not built: run `make guests` first");
    path
}

/// What a host is started with.
pub struct Builder {
    folder: tempfile::TempDir,
    config: String,
    settings: EngineSettings,
    admin: bool,
    cache: PathBuf,
    machine: PathBuf,
    threads: Option<usize>,
}

pub struct TestHost {
    host: Option<Host>,
    folder: tempfile::TempDir,
    client: Client<HttpConnector, Full<Bytes>>,
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a text answer")
    }

    /// The `count=` that the guests `counter` and `canary-p3` begin with: how many requests their instance has had.
    #[track_caller]
    pub fn count(&self) -> u64 {
        assert_eq!(self.status, StatusCode::OK, "{self:?}");
        let count = self.text().strip_prefix("count=").and_then(|text| text.split_once(' '));
        count.and_then(|(count, _)| count.parse().ok()).expect("a count")
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("a text header"))
    }
}

impl TestHost {
    pub fn builder() -> Builder {
        Builder {
            folder: tempfile::tempdir().expect("a temporary folder"),
            config: String::new(),
            // Room for a test, not for a machine.
            settings: EngineSettings { instances: 64, ..EngineSettings::default() },
            admin: false,
            cache: cache_dir(),
            machine: PathBuf::from("/"),
            threads: Some(2),
        }
    }

    /// A host that serves these guests under their own names.
    pub async fn with(guests: &[&str]) -> TestHost {
        guests.iter().fold(TestHost::builder(), |builder, name| builder.app(name, name)).start().await
    }

    pub fn address(&self) -> SocketAddr {
        self.host().address()
    }

    pub fn host(&self) -> &Host {
        self.host.as_ref().expect("a running host")
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address())
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], Bytes::new()).await.expect("an answer")
    }

    pub async fn post(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        self.send(Method::POST, path, &[], body.into()).await.expect("an answer")
    }

    /// Asks and takes the whole answer; an error if it breaks off.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
        let mut request = http::Request::builder().method(method).uri(self.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.client.request(request.body(Full::new(body))?).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Answer { status: head.status, headers: head.headers, body })
    }

    /// What the operator sees of an app.
    pub fn app(&self, name: &str) -> hostler::admin::AppStatus {
        let status = self.host().status();
        status.apps.into_iter().find(|app| app.app == name).unwrap_or_else(|| panic!("no app {name}"))
    }

    /// Waits until the pool of an app is whole again: nothing leased, nothing under way, no turn taken, which a request's
    /// thread gives back after the instance.
    pub async fn settled(&self, app: &str) {
        self.until(&format!("the pool of {app} is at rest"), || {
            let stats = self.app(app).release.expect("a live release").instances;
            let under_way = stats.leased + stats.preparing + stats.resetting + stats.leaving;
            under_way == 0 && stats.waiting == 0 && stats.running == 0
        })
        .await;
    }

    /// The same, if the host knows the app.
    pub fn find(&self, name: &str) -> Option<hostler::admin::AppStatus> {
        self.host().status().apps.into_iter().find(|app| app.app == name)
    }

    /// The number of an app's live release; 0 if there is none.
    pub fn release(&self, name: &str) -> u64 {
        self.find(name).and_then(|app| app.release).map_or(0, |release| release.number)
    }

    /// Why an app's present files are not live; empty if they are.
    pub fn problem(&self, name: &str) -> String {
        self.find(name).and_then(|app| app.problem).unwrap_or_default()
    }

    /// A place in the apps folder.
    pub fn at(&self, file: &str) -> PathBuf {
        self.folder().join("apps").join(file)
    }

    /// Puts a file into the apps folder as a whole: under another name first, then renamed.
    pub fn put(&self, file: &str, bytes: impl AsRef<[u8]>) {
        put(&self.at(file), bytes.as_ref());
    }

    /// Puts a guest into the folder under a name, as [`TestHost::put`] does.
    pub fn put_app(&self, name: &str, guest_name: &str) {
        self.put(&format!("{name}.wasm"), std::fs::read(guest(guest_name)).expect("the guest"));
    }

    /// Drops another app and waits until it is live: what changed before was dealt with by then, since nothing that is
    /// to be compiled is as quick as finding that bytes are the same.
    pub async fn seen_by_now(&self, name: &str) {
        self.put_app(name, "hello");
        self.until("a later app is live", || self.release(name) > 0).await;
    }

    /// Takes a file out of the apps folder.
    pub fn remove(&self, file: &str) {
        std::fs::remove_file(self.at(file)).expect("a file to remove");
    }

    /// Asks for a path until the answer is as wanted.
    pub async fn get_until(&self, path: &str, what: &str, wanted: impl Fn(&Answer) -> bool) -> Answer {
        let began = Instant::now();
        loop {
            let answer = self.get(path).await;
            if wanted(&answer) {
                return answer;
            }
            let seen = (answer.status, String::from_utf8_lossy(&answer.body).into_owned());
            assert!(
                began.elapsed() < PATIENCE,
                "waited in vain for {path} until {what}, last seen: {seen:?}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits for a condition.
    pub async fn until(&self, what: &str, condition: impl FnMut() -> bool) {
        until(what, condition).await;
    }

    /// Stops the host in order and starts another one over the same folder.
    pub async fn restarted(self) -> TestHost {
        self.restarted_after(|| {}).await
    }

    /// The same; meanwhile something happens.
    pub async fn restarted_after(self, meanwhile: impl FnOnce()) -> TestHost {
        let builder = self.stopped().await;
        meanwhile();
        builder.start().await
    }

    /// The same, with this at the end of `hostler.toml` in place of its table of that name.
    pub async fn restarted_with(self, table: &str) -> TestHost {
        let mut builder = self.stopped().await;
        let name = table.lines().next().expect("a table");
        let end = builder.config.find(name).unwrap_or(builder.config.len());
        builder.config.truncate(end);
        builder.config(table).start().await
    }

    async fn stopped(mut self) -> Builder {
        let host = self.host.take().expect("a running host");
        let admin = host.admin_address().is_some();
        assert_eq!(host.shutdown().await, Leftovers { connections: 0, units: 0 });
        let empty = tempfile::tempdir().expect("a temporary folder");
        let folder = std::mem::replace(&mut self.folder, empty);
        let config = std::fs::read_to_string(folder.path().join("hostler.toml")).expect("hostler.toml");
        Builder { folder, config, admin, ..TestHost::builder() }
    }

    /// Shuts down and says what was left.
    pub async fn stop(mut self) -> Leftovers {
        self.host.take().expect("a running host").shutdown().await
    }
}

/// Waits for a condition, and fails the test if it doesn't come.
pub async fn until(what: &str, condition: impl FnMut() -> bool) {
    until_within(PATIENCE, what, condition).await;
}

/// The same for what takes long.
pub async fn until_within(patience: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < patience, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

impl Builder {
    /// Puts a guest into the folder under a name.
    pub fn app(self, name: &str, guest_name: &str) -> Builder {
        let to = self.folder.path().join(format!("apps/{name}.wasm"));
        std::fs::create_dir_all(to.parent().expect("a parent")).expect("a folder");
        std::fs::copy(guest(guest_name), to).expect("a copy of the guest");
        self
    }

    /// Puts any bytes into the folder as an app.
    pub fn bytes(self, name: &str, bytes: &[u8]) -> Builder {
        let to = self.folder.path().join(format!("apps/{name}.wasm"));
        std::fs::create_dir_all(to.parent().expect("a parent")).expect("a folder");
        std::fs::write(to, bytes).expect("the app's bytes");
        self
    }

    /// Puts guests into the folder: app, guest, and the app's own config.
    pub fn apps(self, apps: &[(&str, &str, &str)]) -> Builder {
        let deploy = |builder: Builder, (app, guest, config): &(&str, &str, &str)| {
            builder.app(app, guest).app_config(app, config)
        };
        apps.iter().fold(self, deploy)
    }

    /// Writes the app's own config.
    pub fn app_config(self, name: &str, text: &str) -> Builder {
        std::fs::write(self.folder.path().join(format!("apps/{name}.toml")), text).expect("the app's config");
        self
    }

    /// Writes a file below the apps folder.
    pub fn write(&self, file: &str, bytes: impl AsRef<[u8]>) {
        put(&self.apps_folder().join(file), bytes.as_ref());
    }

    pub fn apps_folder(&self) -> PathBuf {
        self.folder.path().join("apps")
    }

    /// Adds to `hostler.toml`.
    pub fn config(mut self, text: &str) -> Builder {
        self.config.push_str(text);
        self.config.push('\n');
        self
    }

    pub fn settings(mut self, set: impl FnOnce(&mut EngineSettings)) -> Builder {
        set(&mut self.settings);
        self
    }

    /// A code cache of the test's own.
    pub fn cache(mut self, dir: &Path) -> Builder {
        self.cache = dir.to_owned();
        self
    }

    pub fn admin(mut self) -> Builder {
        self.admin = true;
        self
    }

    /// Another machine than this one: where its `/proc` and control groups are.
    pub fn machine(mut self, root: &Path) -> Builder {
        self.machine = root.to_owned();
        self
    }

    /// As many threads as the host takes by itself.
    pub fn threads_by_machine(mut self) -> Builder {
        self.threads = None;
        self
    }

    /// Starts the host and waits until it has looked at every app.
    pub async fn start(self) -> TestHost {
        let Builder { folder, config, settings, admin, cache, machine, threads } = self;
        let apps = folder.path().join("apps");
        std::fs::create_dir_all(&apps).expect("an apps folder");
        let file = folder.path().join("hostler.toml");
        std::fs::write(&file, config).expect("hostler.toml");
        let overrides = Overrides {
            listen: Some(([127, 0, 0, 1], 0).into()),
            admin: admin.then_some(([127, 0, 0, 1], 0).into()),
            folder: Some(apps),
            cache_dir: Some(cache),
            worker_threads: threads,
            ..Overrides::default()
        };
        let (mut config, policy) =
            config::load_host(Some(&file), &overrides).unwrap_or_else(|problems| panic!("{problems:?}"));
        // The tests' own load would keep a compiler of low priority from running.
        config.compile.nice = 0;
        let host =
            Host::start_on(Machine::at(machine), &config, policy, settings, Way::Child(compiling_program()))
                .expect("a host");
        let mut progress = host.progress();
        tokio::time::timeout(PATIENCE * 4, progress.wait_for(|progress| progress.settled()))
            .await
            .expect("the apps are looked at in time")
            .expect("the deployer runs");
        let client = Client::builder(TokioExecutor::new()).build_http();
        TestHost { host: Some(host), folder, client }
    }
}

/// Puts a file into its place as a whole.
pub fn put(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
    let mut partial = path.as_os_str().to_owned();
    partial.push(".part");
    std::fs::write(&partial, bytes).expect("a file");
    std::fs::rename(&partial, path).expect("its place");
}

/// What compiles for the tests' hosts, which are not the program themselves.
pub fn compiling_program() -> Program {
    Program::at(Path::new(env!("CARGO_BIN_EXE_hostler"))).expect("the program")
}

/// One code cache for all tests: a large guest is compiled once.
pub fn cache_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-cache")
}

impl Drop for TestHost {
    fn drop(&mut self) {
        let Some(host) = self.host.take() else { return };
        if std::thread::panicking() {
            return;
        }
        // The test's runtime can't be waited for here, so the end has a runtime of its own.
        let leftovers = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(host.shutdown())
        });
        let leftovers = leftovers.join().expect("an orderly end");
        assert_eq!(leftovers, Leftovers { connections: 0, units: 0 }, "something was left of the host");
    }
}

/// For a test that counts what the whole process has: runs it in a process of its own and returns false; there it
/// returns true. `test` is the test's name with its module.
pub fn alone(test: &str) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let program = std::env::current_exe().expect("this program");
    let output = std::process::Command::new(program)
        .args([test, "--exact", "--include-ignored", "--nocapture"])
        .env(ALONE, "1")
        // What is freed is seen to be, and not kept by an allocator for one thread or another.
        .env("MALLOC_ARENA_MAX", "1")
        .env("MALLOC_TRIM_THRESHOLD_", "4096")
        .output()
        .expect("a process of its own");
    let said = String::from_utf8_lossy(&output.stdout);
    print!("{said}");
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{test} failed, see above");
    assert!(said.contains("1 passed"), "there is no test of the name {test}");
    false
}

const ALONE: &str = "HOSTLER_TEST_ALONE";
