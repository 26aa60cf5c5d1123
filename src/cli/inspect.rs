//! `hostler inspect FILE`: what a file is.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::Exit;
use crate::prepare;

#[derive(Debug, Args)]
pub struct Inspect {
    /// The .wasm file.
    file: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Inspect {
    pub fn run(self) -> anyhow::Result<Exit> {
        let bytes =
            std::fs::read(&self.file).with_context(|| format!("cannot read {}", self.file.display()))?;
        match prepare::check(&bytes) {
            Ok(checked) if self.json => println!("{}", serde_json::to_string_pretty(&checked)?),
            Ok(checked) => print!("{checked}"),
            Err(refusal) => {
                println!("{}: {refusal}", self.file.display());
                return Ok(Exit::Failed);
            }
        }
        Ok(Exit::Success)
    }
}
