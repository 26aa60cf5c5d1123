//! `hostler compile`: the process in which a host has an app compiled. Not for people: it takes a job from standard input
//! and answers on standard output.

use std::io::IsTerminal;

use anyhow::{Context, bail};
use clap::Args;

use super::Exit;
use crate::compile::child;

/// Compile one app for the host that has started this process, at the lowest priority and within its limits.
///
/// A host starts it for itself at each deploy whose code is not in the code cache. The job comes on standard input, the
/// machine code goes to standard output. The limits are the keys under [compile] in hostler.toml.
#[derive(Debug, Args)]
pub struct Compile {}

impl Compile {
    pub fn run(&self) -> anyhow::Result<Exit> {
        if std::io::stdin().is_terminal() {
            bail!(
                "a host runs this for itself; to see whether an app is one, use hostler check or hostler inspect"
            );
        }
        child::run().context("compile")?;
        Ok(Exit::Success)
    }
}
