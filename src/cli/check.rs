//! `hostler check [FOLDER]`: everything that a start would find wrong, at once, without serving.

use std::path::Path;

use clap::Args;

use super::Exit;
use super::settings::{self, CommonArgs};
use crate::config::Policy;
use crate::deploy::read::read;
use crate::deploy::scan::{Found, Limits, scan};
use crate::prepare;

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
        let mut problems = 0;
        for problem in &state.problems {
            problems += 1;
            eprintln!("{}: {}", problem.path.display(), problem.trouble);
        }
        for (name, found) in &state.apps {
            match check_app(&policy, name.as_str(), found) {
                Ok(line) => println!("{line}"),
                Err(lines) => {
                    problems += lines.len();
                    lines.iter().for_each(|line| eprintln!("{line}"));
                }
            }
        }
        println!("{} apps, {problems} problems", state.apps.len());
        Ok(if problems == 0 { Exit::Success } else { Exit::Config })
    }
}

/// One app: a line of what it is, or all that is wrong with it.
fn check_app(policy: &Policy, name: &str, found: &Found) -> Result<String, Vec<String>> {
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
    match (config, checked) {
        (Ok(config), Ok(checked)) => Ok(format!("{name}: {file}, {}, {}", checked.kind, config.mode)),
        _ => Err(problems),
    }
}
