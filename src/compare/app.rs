//! The app that is compared, and the folder that a server gets of it.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;
use toml::{Table, Value};

use super::Variant;
use crate::prepare::{self, Kind};
use crate::router::Mount;

/// An app as it was found.
#[derive(Debug, Clone)]
pub struct App {
    /// Its name in an apps folder, which grants go by.
    pub name: String,
    pub file: PathBuf,
    pub bytes: Vec<u8>,
    mount: Mount,
    /// Its own configuration.
    config: Table,
}

/// The files of one server.
#[derive(Debug, Clone)]
pub struct Place {
    pub folder: PathBuf,
    pub config: PathBuf,
    pub cache: PathBuf,
}

#[derive(Debug, Error)]
pub enum AppError {
    #[error("there is no app {name:?}: neither {} nor {} is a file, give an app's name or a .wasm file", .tried[0].display(), .tried[1].display())]
    Unknown { name: String, tried: [PathBuf; 2] },
    #[error("{0:?} is no name of an app: {1}")]
    Name(String, crate::router::BadName),
    #[error("cannot read {}: {error}", .file.display())]
    Read { file: PathBuf, error: io::Error },
    #[error("{}: {error}", .file.display())]
    Toml { file: PathBuf, error: toml::de::Error },
}

/// Keys of an app that say where it is served: here that is always by its name.
const ROUTE: [&str; 2] = ["hosts", "path"];

impl App {
    /// Finds an app by its name in the folder, or by its file.
    pub fn find(app: &str, folder: &Path) -> Result<Self, AppError> {
        let (name, file) = locate(app, folder)?;
        let mount = Mount::of_app(&name).map_err(|error| AppError::Name(name.clone(), error))?;
        let bytes = std::fs::read(&file).map_err(|error| AppError::Read { file: file.clone(), error })?;
        let config = read_table(&file.with_extension("toml"))?;
        Ok(Self { name, file, bytes, mount, config })
    }

    /// Whether its instances can be put back in place, by what its code is: no command is.
    pub fn can_be_rewound(&self) -> bool {
        let is_http02 = prepare::check(&self.bytes).is_ok_and(|checked| checked.kind == Kind::Http02);
        is_http02 && prepare::for_rewind(&self.bytes).is_ok()
    }

    /// Where a path below the app is on the server.
    pub fn target(&self, path: &str) -> String {
        below(self.mount.prefix(), path)
    }

    /// Keys of the app's own configuration that don't count in this comparison, if it has any.
    pub fn ignored_keys(&self, mode: Variant) -> Vec<&'static str> {
        ROUTE
            .iter()
            .chain(mode.mode().refuses())
            .copied()
            .filter(|key| self.config.contains_key(*key))
            .collect()
    }

    /// Writes the files for a server that runs the app in this mode below `root`, with the operator's settings.
    pub fn lay_out(&self, root: &Path, mode: Variant, operator: &Table) -> io::Result<Place> {
        let place =
            Place { folder: root.join("apps"), config: root.join("hostler.toml"), cache: root.join("cache") };
        let file = place.folder.join(format!("{}.wasm", self.name));
        if let Some(parent) = file.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(file.with_extension("toml"), self.config_for(mode).to_string().as_bytes())?;
        std::fs::write(&file, &self.bytes)?;
        std::fs::write(&place.config, operator_for_comparison(operator).to_string())?;
        Ok(place)
    }

    fn config_for(&self, mode: Variant) -> Table {
        let mut config = self.config.clone();
        for key in self.ignored_keys(mode) {
            config.remove(key);
        }
        mode.configure(&mut config);
        config
    }
}

/// A path and query below an app, on a server that has the app at this path; empty at the root.
pub fn below(base: &str, path: &str) -> String {
    match (base, path) {
        ("", path) => path.to_owned(),
        (base, "/") => base.to_owned(),
        (base, path) if path.starts_with("/?") => format!("{base}{}", path.trim_start_matches('/')),
        (base, path) => format!("{base}{path}"),
    }
}

/// Reads a TOML file; one that is not there is empty.
pub fn read_table(file: &Path) -> Result<Table, AppError> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Table::new()),
        Err(error) => return Err(AppError::Read { file: file.to_owned(), error }),
    };
    text.parse().map_err(|error| AppError::Toml { file: file.to_owned(), error })
}

/// The threads that the operator gives to serving; `None` if that is left to the host.
pub fn worker_threads(operator: &Table) -> Option<usize> {
    let threads = operator.get("server")?.get("worker_threads")?.as_integer()?;
    usize::try_from(threads).ok().filter(|threads| *threads > 0)
}

pub fn keeps_code(mode: Variant) -> bool {
    mode != Variant::Cold
}

/// Name and file.
fn locate(app: &str, folder: &Path) -> Result<(String, PathBuf), AppError> {
    let file = PathBuf::from(app);
    if app.ends_with(".wasm") && file.is_file() {
        return Ok((name_of(&file, folder), file));
    }
    let name = app.trim_end_matches(".wasm").trim_matches('/').to_owned();
    let tried = [folder.join(format!("{name}.wasm")), folder.join(&name).join("app.wasm")];
    match tried.iter().find(|file| file.is_file()) {
        Some(file) => Ok((name, file.clone())),
        None => Err(AppError::Unknown { name: app.to_owned(), tried }),
    }
}

/// The name that a file would have as an app: as in the folder if it is in there, else by its own name.
fn name_of(file: &Path, folder: &Path) -> String {
    let inside = match (file.canonicalize(), folder.canonicalize()) {
        (Ok(file), Ok(folder)) => file.strip_prefix(&folder).ok().map(Path::to_owned),
        _ => None,
    };
    let named = inside.or_else(|| file.file_name().map(PathBuf::from)).unwrap_or_default();
    let named = named.with_extension("");
    let named = match (named.file_name(), named.parent()) {
        (Some(last), Some(parent)) if last == "app" && parent != Path::new("") => parent.to_owned(),
        _ => named,
    };
    named.to_string_lossy().into_owned()
}

/// The operator's file without what each server here is told by flags.
fn operator_for_comparison(operator: &Table) -> Table {
    let mut config = operator.clone();
    for key in ["admin", "cache", "log"] {
        config.remove(key);
    }
    // Nobody is copying into this folder: waiting for that would only be added to every mode's first answer.
    let apps = Table::from_iter([("settle_time".to_owned(), Value::String("1ms".to_owned()))]);
    config.insert("apps".to_owned(), Value::Table(apps));
    if let Some(server) = config.get_mut("server").and_then(Value::as_table_mut) {
        server.remove("listen");
        server.remove("worker_threads");
    }
    if let Some(defaults) = config.get_mut("defaults").and_then(Value::as_table_mut) {
        defaults.remove("mode");
        defaults.remove("reset");
    }
    config
}

#[cfg(test)]
mod tests;
