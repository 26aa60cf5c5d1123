//! The command line, one file per verb.

mod admin;
mod audit;
mod check;
mod compare;
mod compile;
mod deploy;
mod exit;
mod inspect;
mod releases;
mod restart;
mod rollback;
mod serve;
mod settings;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use exit::Exit;

/// An application host for WebAssembly: drop .wasm apps into a folder and they are served over HTTP.
#[derive(Debug, Parser)]
#[command(name = "hostler", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Serve a folder of apps over HTTP.
    Serve(serve::Serve),
    /// Check the configuration and all apps of a folder without serving them.
    ///
    /// Ends with 0 if nothing is wrong, with 78 if the configuration or an app is, and with 1 if there is no such folder.
    Check(check::Check),
    /// Run an app in each mode beside a native server, and show what each mode costs and brings.
    Compare(compare::Compare),
    /// Replay requests on clean and on used instances of an app, and say in which modes it is safe.
    ///
    /// Ends with 0 if nothing speaks against the mode that its configuration chooses, and with 1 otherwise, or if that is
    /// one in which state is kept and no request was answered.
    Audit(audit::Audit),
    // In no list of verbs, for nobody types it.
    #[command(hide = true)]
    Compile(compile::Compile),
    /// Say what a .wasm file is: its kind, imports, exports and sizes, and the modes it may run in.
    Inspect(inspect::Inspect),
    /// Put an app into the folder as a whole, and wait until a running host says that it is live, or why not.
    ///
    /// Ends with 0 if it is live, 1 if it is not, 3 if it was put in place but no host runs, and 78 if the operator's
    /// configuration is wrong.
    Deploy(deploy::Deploy),
    /// Show the releases of an app that a running host keeps.
    Releases(releases::Releases),
    /// Have a running host return to a release before; the app stays so until its file changes.
    Rollback(rollback::Rollback),
    /// Have a running host build an app's present files anew, or what it was rolled back to.
    ///
    /// A pause after failures is over at once.
    Restart(restart::Restart),
}

/// Runs the program with these arguments and returns its exit code.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let usage = error.use_stderr();
            let _ = error.print();
            return if usage { Exit::Usage.into() } else { Exit::Success.into() };
        }
    };
    let exit = match cli.verb {
        Verb::Serve(serve) => serve.run(),
        Verb::Check(check) => check.run(),
        Verb::Compare(compare) => compare.run(),
        Verb::Audit(audit) => audit.run(),
        Verb::Compile(compile) => compile.run(),
        Verb::Inspect(inspect) => inspect.run(),
        Verb::Deploy(deploy) => deploy.run(),
        Verb::Releases(releases) => releases.run(),
        Verb::Rollback(rollback) => rollback.run(),
        Verb::Restart(restart) => restart.run(),
    };
    match exit {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("hostler: {error:#}");
            Exit::Failed.into()
        }
    }
}
