//! The `hostler` program: see `hostler --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    hostler::cli::run(std::env::args_os())
}
