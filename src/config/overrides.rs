//! What flags and the environment set before the operator's file is asked.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::reader::nearest;
use super::{Mode, Problem, values};

/// Settings from outside the file. Precedence: flag, environment, file, default; so the caller lays the flags
/// over the environment with [`Overrides::over`], and gives the result to [`load_host`](super::load_host).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overrides {
    /// `HOSTLER_CONFIG`: the operator's file.
    pub config: Option<PathBuf>,
    /// `HOSTLER_LISTEN`: `[server] listen`.
    pub listen: Option<SocketAddr>,
    /// `HOSTLER_FOLDER`: `[apps] folder`.
    pub folder: Option<PathBuf>,
    /// `HOSTLER_STATE_DIR`: `[apps] state_dir`.
    pub state_dir: Option<PathBuf>,
    /// `HOSTLER_ADMIN`: `[admin] listen`.
    pub admin: Option<SocketAddr>,
    /// `HOSTLER_CACHE_DIR`: `[cache] dir`.
    pub cache_dir: Option<PathBuf>,
    /// `HOSTLER_LOG_FORMAT`, `human` or `json`: `[log] format`; true for JSON.
    pub log_json: Option<bool>,
    /// `HOSTLER_LOG_LEVEL`: `[log] level`.
    pub log_level: Option<String>,
    /// `HOSTLER_LOG_ACCESS`, `true` or `false`: `[log] access`.
    pub log_access: Option<bool>,
    /// `HOSTLER_WORKER_THREADS`, a number or `auto`, which is 0: `[server] worker_threads`.
    pub worker_threads: Option<usize>,
    /// `HOSTLER_MODE`: `[defaults] mode`.
    pub mode: Option<Mode>,
    /// `HOSTLER_VERIFY_ISOLATION`, `true` or `false`: `verify_isolation`.
    pub verify_isolation: Option<bool>,
    /// Where programs of this user keep caches, by `XDG_CACHE_HOME` or else `HOME`: the default of `[cache] dir`
    /// is the folder `hostler` in it.
    pub cache_home: Option<PathBuf>,
}

impl Overrides {
    /// Reads the environment. A variable that begins with `HOSTLER_` and is not known is a problem.
    pub fn from_env(variables: impl IntoIterator<Item = (String, String)>) -> Result<Self, Vec<Problem>> {
        let mut overrides = Self::default();
        let mut problems = Vec::new();
        let (mut cache_home, mut home) = (None, None);
        for (name, value) in variables {
            match name.as_str() {
                "XDG_CACHE_HOME" => cache_home = absolute(&value),
                "HOME" => home = absolute(&value).map(|home| home.join(".cache")),
                _ if name.starts_with("HOSTLER_") => {
                    if let Err(message) = overrides.set(&name, &value) {
                        problems.push(Problem::of_variable(&name, message));
                    }
                }
                _ => {}
            }
        }
        overrides.cache_home = cache_home.or(home);
        problems.sort_by(|a, b| a.key.cmp(&b.key));
        if problems.is_empty() { Ok(overrides) } else { Err(problems) }
    }

    /// These settings, and those of `lower` where there is none.
    pub fn over(self, lower: Self) -> Self {
        Self {
            config: self.config.or(lower.config),
            listen: self.listen.or(lower.listen),
            folder: self.folder.or(lower.folder),
            state_dir: self.state_dir.or(lower.state_dir),
            admin: self.admin.or(lower.admin),
            cache_dir: self.cache_dir.or(lower.cache_dir),
            log_json: self.log_json.or(lower.log_json),
            log_level: self.log_level.or(lower.log_level),
            log_access: self.log_access.or(lower.log_access),
            worker_threads: self.worker_threads.or(lower.worker_threads),
            mode: self.mode.or(lower.mode),
            verify_isolation: self.verify_isolation.or(lower.verify_isolation),
            cache_home: self.cache_home.or(lower.cache_home),
        }
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "HOSTLER_CONFIG" => self.config = Some(values::parse_path(value)?),
            "HOSTLER_LISTEN" => self.listen = Some(values::parse_address(value)?),
            "HOSTLER_FOLDER" => self.folder = Some(values::parse_path(value)?),
            "HOSTLER_STATE_DIR" => self.state_dir = Some(values::parse_path(value)?),
            "HOSTLER_ADMIN" => self.admin = Some(values::parse_address(value)?),
            "HOSTLER_CACHE_DIR" => self.cache_dir = Some(values::parse_path(value)?),
            "HOSTLER_LOG_FORMAT" => self.log_json = Some(values::parse_log_format(value)?),
            "HOSTLER_LOG_LEVEL" => self.log_level = Some(values::parse_log_level(value)?),
            "HOSTLER_LOG_ACCESS" => self.log_access = Some(parse_boolean(value)?),
            "HOSTLER_WORKER_THREADS" => self.worker_threads = Some(values::parse_threads(value)?),
            "HOSTLER_MODE" => self.mode = Some(value.parse()?),
            "HOSTLER_VERIFY_ISOLATION" => self.verify_isolation = Some(parse_boolean(value)?),
            _ => return Err(unknown(name)),
        }
        Ok(())
    }
}

/// All variables, in the order of their names.
pub(super) const NAMES: [&str; 12] = [
    "HOSTLER_ADMIN",
    "HOSTLER_CACHE_DIR",
    "HOSTLER_CONFIG",
    "HOSTLER_FOLDER",
    "HOSTLER_LISTEN",
    "HOSTLER_LOG_ACCESS",
    "HOSTLER_LOG_FORMAT",
    "HOSTLER_LOG_LEVEL",
    "HOSTLER_MODE",
    "HOSTLER_STATE_DIR",
    "HOSTLER_VERIFY_ISOLATION",
    "HOSTLER_WORKER_THREADS",
];

fn parse_boolean(value: &str) -> Result<bool, String> {
    value.parse().map_err(|_| "expected true or false".to_owned())
}

fn unknown(name: &str) -> String {
    let suffix = |name: &'static str| name.trim_start_matches("HOSTLER_");
    match nearest(suffix_of(name), NAMES.into_iter().map(suffix)) {
        Some(near) => format!("unknown variable, did you mean HOSTLER_{near}?"),
        None => format!("unknown variable, the known ones are {}", NAMES.join(", ")),
    }
}

fn suffix_of(name: &str) -> &str {
    name.trim_start_matches("HOSTLER_")
}

/// A relative one is to be ignored, by the XDG specification.
fn absolute(path: &str) -> Option<PathBuf> {
    Some(PathBuf::from(path)).filter(|path| path.is_absolute())
}
