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
    modes: [Mode; Mode::AVAILABLE.len()],
}

impl Inspect {
    pub fn run(self) -> anyhow::Result<Exit> {
        let bytes =
            std::fs::read(&self.file).with_context(|| format!("cannot read {}", self.file.display()))?;
        match prepare::check(&bytes) {
            Ok(checked) => {
                let report = Report { checked, modes: Mode::AVAILABLE };
                match self.json {
                    true => println!("{}", serde_json::to_string_pretty(&report)?),
                    false => println!(
                        "{}modes          {}",
                        report.checked,
                        report.modes.map(Mode::as_str).join(", ")
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
