//! `hostler check [FOLDER]`: everything that a start would find wrong, at once, without serving. `--isolation` looks at
//! the machine instead: whether instances are kept apart on it, with this configuration.

use std::path::Path;
use std::time::Duration;

use clap::Args;

use super::Exit;
use super::settings::{self, CommonArgs};
use crate::config::{HostConfig, Policy};
use crate::deploy::read::{Reading, read};
use crate::deploy::scan::{Found, Limits, scan};
use crate::deploy::store::Store;
use crate::deploy::{DeployError, builder};
use crate::engine::{CodeCache, EngineSettings};
use crate::host::Host;
use crate::isolation::{Effort, check};
use crate::logging::path_text;
use crate::prepare;
use crate::registry::RouteTaken;
use crate::router::{Conflict, Route, Router};

#[derive(Debug, Args)]
pub struct Check {
    #[command(flatten)]
    common: CommonArgs,
    /// Check instead, on this machine and with this configuration's settings, that no instance shows anything of the
    /// requests before.
    #[arg(long)]
    isolation: bool,
    /// How long to check that.
    #[arg(long, value_name = "DURATION", requires = "isolation", default_value = "2s",
          value_parser = settings::a_second_at_least)]
    time: Duration,
    /// Check a setting that is unsafe on this Wasmtime, and that no host is run with: to see that the check finds it.
    #[arg(long, hide = true, requires = "isolation")]
    force_pagemap_scan: bool,
}

impl Check {
    pub fn run(self) -> anyhow::Result<Exit> {
        let (config, policy) = match settings::load(self.common.overrides()) {
            Ok(loaded) => loaded,
            Err(problems) => return Ok(settings::report(&problems)),
        };
        if self.isolation {
            return self.check_isolation(Host::settings(&config, &policy));
        }
        let limits = Limits { public: policy.largest_public(), ..Limits::default() };
        let state = match scan(&config.apps.folder, &limits) {
            Ok(state) => state,
            Err(error) => {
                eprintln!("{error}");
                return Ok(Exit::Failed);
            }
        };
        let mut problems = folders(&config);
        for problem in &state.problems {
            problems.push(format!("{}: {}", path_text(&problem.path), problem.trouble));
        }
        let mut routes = Vec::new();
        for (name, found) in &state.apps {
            match check_app(&policy, name.as_str(), found) {
                Ok((line, route)) => {
                    println!("{line}");
                    routes.push(route);
                }
                Err(found) => problems.extend(found),
            }
        }
        problems.extend(taken(routes));
        problems.iter().for_each(|problem| eprintln!("{problem}"));
        println!("{} apps, {} problems", state.apps.len(), problems.len());
        Ok(if problems.is_empty() { Exit::Success } else { Exit::Config })
    }
}

impl Check {
    fn check_isolation(&self, mut settings: EngineSettings) -> anyhow::Result<Exit> {
        if self.force_pagemap_scan {
            settings.pagemap_scan = true;
            // The scan is for what is kept: the more there is of it, the sooner one page is missed.
            settings.memory_keep_resident = MUCH_RESIDENT;
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let verdict = runtime.block_on(check(&settings, Effort::of(self.time)))?;
        if verdict.finding.is_some() {
            eprintln!("isolation {verdict}");
            return Ok(Exit::Failed);
        }
        println!("isolation {verdict}");
        Ok(Exit::Success)
    }
}

/// Bytes of each memory that are kept resident to show what a scan for touched pages misses.
const MUCH_RESIDENT: usize = 4 << 20;

/// What is wrong with the folders that a start opens, as far as it can be told without changing them.
fn folders(config: &HostConfig) -> Vec<String> {
    let cache = CodeCache::check(&config.cache.dir).map_err(|error| error.to_string());
    let state = config.apps.state_dir.as_deref().map_or(Ok(()), Store::check);
    let state = state.map_err(|error| error.to_string());
    [cache, state].into_iter().filter_map(Result::err).collect()
}

/// An app by its name and file.
type Named = (String, String);

/// One app: a line of what it is and where it is served, or all that is wrong with it.
fn check_app(policy: &Policy, name: &str, found: &Found) -> Result<(String, Route<Named>), Vec<String>> {
    let relative = |path: &Path| path_text(path.strip_prefix(&found.folder).unwrap_or(path));
    let file = relative(&found.wasm.path);
    let reading = Reading {
        max_size: crate::deploy::MAX_APP_SIZE,
        copies: None,
        limits: &|text| policy.public_limits(name, text),
    };
    let files = read(found, &reading).map_err(|error| vec![format!("{file}: {error}")])?;
    let mut problems = Vec::new();
    let config = found.config.as_ref().zip(files.config.as_ref());
    let config_file = config.map(|(stamp, text)| (relative(&stamp.path), text));
    let text = config_file.as_ref().map(|(path, text)| (Path::new(path), text.as_str()));
    let config =
        policy.app_config(name, text).map_err(|found| problems.extend(found.iter().map(ToString::to_string)));
    let checked = prepare::check(&files.wasm).map_err(|refusal| problems.push(format!("{file}: {refusal}")));
    let (Ok(config), Ok(checked)) = (config, checked) else { return Err(problems) };
    let refused = |error: DeployError| vec![format!("{file}: {error}")];
    builder::check_kind(&config, checked.kind).map_err(refused)?;
    let mount = builder::mount(name, &config).map_err(refused)?;
    let line = format!("{name}: {file}, {}, {}", checked.kind, config.mode);
    Ok((line, Route { hosts: config.hosts, mount, target: (name.to_owned(), file) }))
}

/// Of apps that claim one route the later by name is named; when serving, it is the one that comes later.
fn taken(routes: Vec<Route<Named>>) -> Vec<String> {
    let apps: Vec<Named> = routes.iter().map(|route| route.target.clone()).collect();
    let (_, mut conflicts) = Router::build(routes);
    conflicts.dedup_by_key(|conflict| conflict.refused);
    let refusal = |conflict: Conflict| {
        let ((owner, _), (_, file)) = (apps.get(conflict.holder)?, apps.get(conflict.refused)?);
        Some(format!("{file}: {}", RouteTaken::of(&conflict, owner)))
    };
    conflicts.into_iter().filter_map(refusal).collect()
}
