//! `hostler inspect FILE`: what a file is.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use serde::Serialize;

use super::Exit;
use crate::config::Mode;
use crate::prepare::{self, Checked};

#[derive(Debug, Args)]
pub struct Inspect {
    /// The .wasm file.
    file: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    checked: Checked,
    /// The modes that the file may run in.
    modes: Vec<Mode>,
}

impl Inspect {
    pub fn run(self) -> anyhow::Result<Exit> {
        let bytes =
            std::fs::read(&self.file).with_context(|| format!("cannot read {}", self.file.display()))?;
        match prepare::check(&bytes) {
            Ok(checked) => {
                let modes = Mode::ALL.into_iter().filter(|mode| mode.check(checked.kind).is_ok()).collect();
                let report = Report { checked, modes };
                match self.json {
                    true => println!("{}", serde_json::to_string_pretty(&report)?),
                    false => println!(
                        "{}modes          {}",
                        report.checked,
                        report.modes.iter().map(|mode| mode.as_str()).collect::<Vec<_>>().join(", ")
                    ),
                }
                Ok(Exit::Success)
            }
            Err(refusal) => {
                println!("{}: {refusal}", self.file.display());
                Ok(Exit::Failed)
            }
        }
    }
}
