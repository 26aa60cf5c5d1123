//! Exit codes.

use std::process::ExitCode;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Success,
    /// It was tried and failed.
    Failed,
    /// Wrong usage of the command line.
    Usage,
    /// What could be done was done, but no host runs that would serve it.
    NoHost,
    /// Bad configuration (EX_CONFIG of sysexits).
    Config,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(match exit {
            Exit::Success => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::NoHost => 3,
            Exit::Config => 78,
        })
    }
}
