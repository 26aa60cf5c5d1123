//! What the verbs have in common: where their settings come from.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::Exit;
use super::admin::AdminArgs;
use crate::config::units::parse_duration;
use crate::config::{self, HOST_FILE, HostConfig, Mode, Overrides, Policy, Problem};

#[derive(Debug, Args)]
pub struct CommonArgs {
    /// The folder of apps [default: that of the configuration].
    folder: Option<PathBuf>,
    /// The operator's configuration file [default: hostler.toml, if there is one].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The folder of the code cache [default: hostler in the user's cache folder].
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    /// What is logged: a level, or a filter such as hostler=debug [default: info].
    #[arg(long, value_name = "FILTER", value_parser = config::parse_log_filter)]
    log_level: Option<String>,
    /// The mode of apps that don't set one themselves: cold, cached, pooled, kept or resident [default: pooled].
    #[arg(long, value_name = "MODE")]
    mode: Option<Mode>,
}

impl CommonArgs {
    pub fn overrides(&self) -> Overrides {
        Overrides {
            config: self.config.clone(),
            folder: self.folder.clone(),
            cache_dir: self.cache_dir.clone(),
            log_level: self.log_level.clone(),
            mode: self.mode,
            ..Overrides::default()
        }
    }
}

/// The operator's settings, what apps may have, and the file they are from, if there is one.
type Loaded = ((HostConfig, Policy), Option<PathBuf>);

/// The operator's settings: flags before the environment before the file before the defaults.
pub fn load(flags: Overrides) -> Result<(HostConfig, Policy), Vec<Problem>> {
    load_with_file(flags).map(|(settings, _)| settings)
}

/// As [`load`], with the file.
pub fn load_with_file(flags: Overrides) -> Result<Loaded, Vec<Problem>> {
    let variables = std::env::vars_os().filter_map(|(name, value)| {
        // What is not text is none of ours.
        Some((name.into_string().ok()?, value.into_string().ok()?))
    });
    let overrides = flags.over(Overrides::from_env(variables)?);
    let default = Path::new(HOST_FILE);
    let file = overrides.config.clone().or_else(|| default.exists().then(|| default.to_owned()));
    Ok((config::load_host(file.as_deref(), &overrides)?, file))
}

/// The settings of a verb that gives orders to a running host.
pub fn load_for(args: &AdminArgs) -> Result<(HostConfig, Policy), Vec<Problem>> {
    let AdminArgs { admin, config } = args;
    load(Overrides { admin: *admin, config: config.clone(), ..Overrides::default() })
}

/// A duration that something can be done in.
pub fn a_second_at_least(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text)?;
    if duration < Duration::from_secs(1) { Err("a second at least".to_owned()) } else { Ok(duration) }
}

/// Prints all problems and says what kind of failure that is.
pub fn report(problems: &[Problem]) -> Exit {
    for problem in problems {
        eprintln!("{problem}");
    }
    Exit::Config
}

/// Takes as many open files as the system lets this process have: each app's code keeps one open.
pub fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!("cannot raise the limit of open files: {error}");
        }
    }
}
