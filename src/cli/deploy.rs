//! `hostler deploy FILE`: puts an app into the apps folder as a whole, and waits until the running host says that it is
//! live, or why it is not.
//!
//! An app's own config goes along: the `.toml` beside the file, or the one that is named. One that is in the folder
//! already and for which there is no other stays as it is. Each of the two files is put in place by a rename; the
//! host reads them when both have been quiet for `settle_time`, so it takes them as one.

use std::fs::{self, File};
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail, ensure};
use clap::Args;
use http::Method;
use serde::Deserialize;

use super::Exit;
use super::admin::{self, AdminArgs, NoHost};
use super::settings;
use crate::config::{LARGEST_APP_FILE, Policy, Problem};
use crate::deploy::orders::Obeyed;
use crate::deploy::{AppName, DeployError, MAX_APP_SIZE, builder};
use crate::prepare::{self, Digest};

#[derive(Debug, Args)]
pub struct Deploy {
    /// The app's .wasm file.
    file: PathBuf,
    /// The app's name in the apps folder, such as shop or api/v1 [default: that of the file].
    #[arg(long)]
    name: Option<String>,
    /// The app's own config [default: the .toml beside the file, if there is one].
    #[arg(long, value_name = "FILE")]
    app_config: Option<PathBuf>,
    /// The folder of apps [default: that of the configuration].
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    #[command(flatten)]
    admin: AdminArgs,
}

/// What of the host's status is of interest.
#[derive(Debug, Deserialize)]
struct Status {
    apps_folder: PathBuf,
}

/// What is to be put in place.
struct App {
    name: AppName,
    wasm: Vec<u8>,
    config: Option<Config>,
}

/// The app's own config, and the file that it was read from.
struct Config {
    file: PathBuf,
    bytes: Vec<u8>,
}

/// Where it belongs.
struct Place {
    wasm: PathBuf,
    config: PathBuf,
}

impl Deploy {
    pub fn run(self) -> anyhow::Result<Exit> {
        let (mut config, policy) = match settings::load_for(&self.admin) {
            Ok(loaded) => loaded,
            Err(problems) => return Ok(settings::report(&problems)),
        };
        if let Some(folder) = &self.folder {
            config.apps.folder = folder.clone();
        }
        let listener = admin::listener(&config)?;
        let folder = &config.apps.folder;
        let real = fs::canonicalize(folder);
        let real = real.with_context(|| format!("the apps folder {} is not there", folder.display()))?;
        let app = self.app()?;
        let place = Place::of(&app.name, &real);
        // What apps may ask for is known if this is the host's own configuration.
        let policy = (self.folder.is_none() && self.admin.admin.is_none()).then_some(&policy);
        app.check(policy, &place)?;
        let is_running = is_running(listener, &real)?;
        // In this order: code that has just come is never seen with the config before.
        if let Some(config) = &app.config {
            put(&place.config, &config.bytes)?;
        }
        put(&place.wasm, &app.wasm)?;
        if !is_running {
            eprintln!(
                "{} is in its place at {}, but no host answers at {listener}: it is served when one is started",
                app.name,
                place.wasm.display()
            );
            return Ok(Exit::NoHost);
        }
        await_live(listener, &app, &place)
    }

    fn app(&self) -> anyhow::Result<App> {
        let wasm = read(&self.file, MAX_APP_SIZE)?;
        let name = match &self.name {
            Some(name) => name.clone(),
            None => {
                let stem = self.file.file_stem().and_then(|stem| stem.to_str());
                stem.context("the file's name is no text: name the app with --name")?.to_owned()
            }
        };
        let beside = Some(self.file.with_extension("toml")).filter(|beside| beside.is_file());
        let config = self.app_config.clone().or(beside);
        let config = config.map(Config::read).transpose()?;
        Ok(App { name: admin::app_name(&name)?, wasm, config })
    }
}

impl App {
    /// What the host would refuse is not put in place at all, as far as it can be told here.
    fn check(&self, policy: Option<&Policy>, place: &Place) -> anyhow::Result<()> {
        self.judge(policy, place).map_err(|error| anyhow!("{} is not deployed: {error}", self.name))
    }

    /// Without the host's policy, what it may have set and granted speaks for the app.
    fn judge(&self, policy: Option<&Policy>, place: &Place) -> Result<(), DeployError> {
        let checked = prepare::check(&self.wasm)?;
        let there = Config::there(place);
        let config = self.config.as_ref().or(there.as_ref());
        let file =
            config.map(Config::text).transpose().map_err(|problem| DeployError::Config(vec![problem]))?;
        let name = self.name.as_str();
        let judged = match policy {
            Some(policy) => policy.app_config(name, file),
            None => Policy::of_any_operator(name, file),
        };
        let config = judged.map_err(DeployError::Config)?;
        builder::check_kind(&config, checked.kind)?;
        builder::mount(name, &config).map(drop)
    }
}

impl Config {
    fn read(file: PathBuf) -> anyhow::Result<Config> {
        let largest = u64::try_from(LARGEST_APP_FILE).unwrap_or(u64::MAX);
        let bytes = read(&file, largest)?;
        Ok(Config { file, bytes })
    }

    /// The one that is in its place already, which stays if there is no other.
    fn there(place: &Place) -> Option<Config> {
        Config::read(place.config.clone()).ok()
    }

    /// Its name as the user knows it, and its text.
    fn text(&self) -> Result<(&Path, &str), Problem> {
        let text = std::str::from_utf8(&self.bytes);
        Ok((&self.file, text.map_err(|_| Problem::of_file(&self.file, "not UTF-8 text"))?))
    }
}

impl Place {
    /// In the app's folder if it has one, else beside the others.
    fn of(app: &AppName, folder: &Path) -> Place {
        let own = folder.join(app.as_str());
        if own.join("app.wasm").exists() || own.join("app.toml").exists() {
            return Place { wasm: own.join("app.wasm"), config: own.join("app.toml") };
        }
        let file = |ending| folder.join(format!("{app}.{ending}"));
        Place { wasm: file("wasm"), config: file("toml") }
    }
}

/// Whether a host runs there, and serves this folder.
fn is_running(listener: SocketAddr, folder: &Path) -> anyhow::Result<bool> {
    match admin::ask::<Status>(listener, Method::GET, "/status") {
        Ok(Ok(status)) => {
            ensure!(
                status.apps_folder == folder,
                "the host at {listener} serves {}, not {}: name its folder with --folder, or it with --admin",
                status.apps_folder.display(),
                folder.display()
            );
            Ok(true)
        }
        Ok(Err(reason)) => bail!("{listener} answers: {reason}"),
        Err(error) if error.is::<NoHost>() => Ok(false),
        Err(error) => Err(error),
    }
}

fn await_live(listener: SocketAddr, app: &App, place: &Place) -> anyhow::Result<Exit> {
    let App { name, wasm, config } = app;
    let mut path = format!("{}?wasm={}", admin::path_of(name, "deployed"), Digest::of(wasm));
    // One that was there before belongs to the app as well.
    let there = Config::there(place);
    if let Some(config) = config.as_ref().or(there.as_ref()) {
        path += &format!("&config={}", Digest::of(&config.bytes));
    }
    match admin::ask::<Obeyed>(listener, Method::POST, &path)? {
        // Somebody else's may be in its place by now.
        Err(reason) if fs::read(&place.wasm).is_ok_and(|there| there == *wasm) => {
            bail!("{name} is in its place at {}, but not live: {reason}", place.wasm.display())
        }
        Err(reason) => bail!("{name} is not live: {reason}"),
        Ok(Obeyed { already: true, release, url, .. }) => {
            println!("{name} is already live at {url}: release {release} has the same bytes");
        }
        Ok(Obeyed { release, url, replaced, probation, .. }) => {
            let drains = replaced.map_or_else(String::new, |before| format!(", release {before} drains"));
            let time = probation.map(std::time::Duration::from_millis);
            let probation = time.map_or_else(String::new, |time| format!(", on probation for {time:?}"));
            println!("{name} is live at {url}: release {release}{probation}{drains}");
        }
    }
    Ok(Exit::Success)
}

fn read(file: &Path, largest: u64) -> anyhow::Result<Vec<u8>> {
    let failed = || format!("cannot read {}", file.display());
    let mut bytes = Vec::new();
    let opened = File::open(file).with_context(failed)?;
    opened.take(largest.saturating_add(1)).read_to_end(&mut bytes).with_context(failed)?;
    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    ensure!(size <= largest, "{} has more than the {largest} bytes that are allowed", file.display());
    Ok(bytes)
}

/// Puts a file in its place as a whole, unless it is there already: under a name that hosts don't look at, synced, then
/// renamed.
fn put(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let put = || -> io::Result<()> {
        if fs::read(path).is_ok_and(|there| there == bytes) {
            return Ok(());
        }
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let mode = fs::metadata(path).map(|there| there.permissions());
        let mut temporary = tempfile::Builder::new().prefix(".deploy-").suffix(".tmp").tempfile_in(folder)?;
        io::Write::write_all(&mut temporary, bytes)?;
        // Another user's host may have to read it, as it could read one that was copied here.
        temporary.as_file().set_permissions(mode.unwrap_or_else(|_| readable()))?;
        temporary.as_file().sync_all()?;
        temporary.persist(path)?;
        File::open(folder)?.sync_all()
    };
    put().with_context(|| format!("cannot put {} in its place", path.display()))
}

fn readable() -> fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o644)
}
