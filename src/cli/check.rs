//! `hostler check [FOLDER]`: everything that a start would find wrong, at once, without serving.

use std::path::Path;

use clap::Args;

use super::Exit;
use super::settings::{self, CommonArgs};
use crate::config::Policy;
use crate::deploy::builder;
use crate::deploy::read::read;
use crate::deploy::scan::{Found, Limits, scan};
use crate::prepare;
use crate::registry::RouteTaken;
use crate::router::{Conflict, Route, Router};

#[derive(Debug, Args)]
pub struct Check {
    #[command(flatten)]
    common: CommonArgs,
}

impl Check {
    pub fn run(self) -> anyhow::Result<Exit> {
        let (config, policy) = match settings::load(self.common.overrides()) {
            Ok(loaded) => loaded,
            Err(problems) => return Ok(settings::report(&problems)),
        };
        let state = match scan(&config.apps.folder, &Limits::default()) {
            Ok(state) => state,
            Err(error) => {
                eprintln!("{error}");
                return Ok(Exit::Failed);
            }
        };
        let mut problems = Vec::new();
        for problem in &state.problems {
            problems.push(format!("{}: {}", problem.path.display(), problem.trouble));
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

/// An app by its name and file.
type Named = (String, String);

/// One app: a line of what it is and where it is served, or all that is wrong with it.
fn check_app(policy: &Policy, name: &str, found: &Found) -> Result<(String, Route<Named>), Vec<String>> {
    let relative = |path: &Path| path.strip_prefix(&found.folder).unwrap_or(path).display().to_string();
    let file = relative(&found.wasm.path);
    let files = read(found, crate::deploy::MAX_APP_SIZE).map_err(|error| vec![format!("{file}: {error}")])?;
    let mut problems = Vec::new();
    let config = found.config.as_ref().zip(files.config.as_ref());
    let config_file = config.map(|(stamp, text)| (relative(&stamp.path), text));
    let text = config_file.as_ref().map(|(path, text)| (Path::new(path), text.as_str()));
    let config =
        policy.app_config(name, text).map_err(|found| problems.extend(found.iter().map(ToString::to_string)));
    let checked = prepare::check(&files.wasm).map_err(|refusal| problems.push(format!("{file}: {refusal}")));
    let (Ok(config), Ok(checked)) = (config, checked) else { return Err(problems) };
    let mount = builder::mount(name, &config).map_err(|error| vec![format!("{file}: {error}")])?;
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
