//! The promise that no instance shows anything of the requests before, held against the facts of this machine.
//!
//! A *canary* is a guest of our own that looks at each kind of state it can see, says what it finds, and leaves a mark
//! there; the next instance has to find what the first one found. Canaries are driven through the real engines, factory
//! and pool, as requests drive apps, but without a socket.
//!
//! Reading order: [`canary`] is the guests and what they say, [`cage`] one of them with the pool of its instances,
//! [`mod@check`] runs many for a while in engines of its own, [`watch`] looks once a second in the engines of a running
//! host. [`record`] is what the operator sees of it, [`compaction`] what makes faults of the kernel's side show. What a
//! host does about a finding is in `host::isolation`.

pub mod cage;
pub mod canary;
pub mod check;
pub mod compaction;
pub mod record;
pub mod watch;

#[cfg(test)]
mod tests;

use std::fmt;

pub use check::{Effort, Verdict, check};
pub use record::Record;
pub use watch::Watch;

use cage::Ending;
use canary::Shape;

/// An instance was not as a new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub shape: Shape,
    /// What the canary saw, and what it should have seen.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an instance of the canary that is a {} was not as new: {}", self.shape, self.what)
    }
}

/// Why it could not be looked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CheckError {
    #[error("the canary can't be made: {0}")]
    Unmade(String),
    #[error("there was no instance for the canary: {0}")]
    NoRoom(String),
    /// By itself no canary fails, but one whose instance is not as new may.
    #[error("the canary failed: {0}")]
    Failed(String),
    /// It says nothing about the instance: the machine was busy.
    #[error("the canary was too slow: {0}")]
    Slow(String),
    #[error("no canary was looked at in this time")]
    Nothing,
    #[error("the canary ended otherwise than it was told, which was that it {}", .0.as_str())]
    Disobeyed(Ending),
}

impl CheckError {
    fn of(error: impl fmt::Display) -> CheckError {
        CheckError::Unmade(format!("{error:#}"))
    }
}
