//! `hostler inspect FILE`: what a file is.

use std::fmt;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use serde::Serialize;

use super::Exit;
use crate::config::Mode;
use crate::prepare::instrument::Manifest;
use crate::prepare::{self, Checked, Kind, preload};

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
    rewind: Rewind,
    preload: Keeping,
}

/// Whether an instance of it can be put back in place.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Rewind {
    Possible(Manifest),
    Impossible(String),
}

const ONCE: &str = "it is a command: each instance is run once";

impl Inspect {
    pub fn run(self) -> anyhow::Result<Exit> {
        let bytes =
            std::fs::read(&self.file).with_context(|| format!("cannot read {}", self.file.display()))?;
        match prepare::check(&bytes) {
            Ok(checked) => {
                let kind = checked.kind;
                let modes = Mode::ALL.into_iter().filter(|mode| mode.check(checked.kind).is_ok()).collect();
                let report = Report {
                    checked,
                    modes,
                    rewind: Rewind::of(kind, &bytes),
                    preload: Keeping::of(kind, &bytes),
                };
                match self.json {
                    true => println!("{}", serde_json::to_string_pretty(&report)?),
                    false => println!("{report}"),
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

/// Whether its state can be kept, as far as its code tells: a deploy tries it out.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Keeping {
    Possible,
    Impossible(String),
}

impl Keeping {
    fn of(kind: Kind, bytes: &[u8]) -> Keeping {
        match preload::opened(bytes) {
            _ if kind != Kind::Http02 => Keeping::Impossible("it is for wasi:http 0.2 apps".to_owned()),
            Ok(_) => Keeping::Possible,
            Err(reason) => Keeping::Impossible(reason),
        }
    }
}

impl Rewind {
    fn of(kind: Kind, bytes: &[u8]) -> Rewind {
        match prepare::for_rewind(bytes) {
            _ if kind.is_command() => Rewind::Impossible(ONCE.to_owned()),
            Ok(instrumented) => Rewind::Possible(instrumented.manifest),
            Err(reason) => Rewind::Impossible(reason.to_string()),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}modes          {}",
            self.checked,
            self.modes.iter().map(|mode| mode.as_str()).collect::<Vec<_>>().join(", ")
        )?;
        match &self.rewind {
            Rewind::Possible(Manifest { memories, globals, tables, handles, droppable }) => {
                write!(
                    f,
                    "rewind         possible: memories {memories}, globals {globals}, tables {tables}"
                )?;
                if let Some(handles) = handles {
                    write!(f, ", at most {handles} handles at once")?;
                }
                writeln!(f, "; drops what is left of {droppable} types of resources")
            }
            Rewind::Impossible(reason) => writeln!(f, "rewind         not possible: {reason}"),
        }?;
        match &self.preload {
            Keeping::Possible => write!(f, "preload        possible by its code; a deploy tries it out"),
            Keeping::Impossible(reason) => write!(f, "preload        not possible: {reason}"),
        }
    }
}
