//! `hostler audit`: does an app answer alike on a clean instance and on one that others have used?
//!
//! The same requests go to clean instances, to one that is kept, in order and shuffled, and, where the app can take them,
//! to one at the same time. They go through the real engines, factory and pools, without a socket. What a request is
//! answered by two clean instances says how much of the answer is its own: dates and random numbers are not held against
//! the app. An audit finds state that these requests show, and never that there is none.
//!
//! Reading order: [`subject`] is the app, ready to be asked; [`answer`], pure, compares; [`replay`] asks; [`verdict`] says
//! in which modes the app is safe, and `report` shows it.

mod answer;
mod replay;
mod report;
mod subject;
mod verdict;

use crate::compare::Asked;
use crate::config::Mode;

pub use report::Report;
pub use subject::{Subject, SubjectError};

/// How hard it is tried.
#[derive(Debug, Clone)]
pub struct Effort {
    /// The requests, in their order.
    pub requests: Vec<Asked>,
    /// How often one instance is asked all of them, in order; and how often shuffled.
    pub rounds: u32,
    /// Where the shuffling begins: the same seed gives the same orders.
    pub seed: u64,
}

/// Asks and compares.
///
/// # Errors
/// There are no requests, or a clean instance can't be had.
pub async fn audit(subject: &Subject, effort: &Effort) -> Result<Report, AuditError> {
    if effort.requests.is_empty() {
        return Err(AuditError::NoRequests);
    }
    let clean = replay::clean(subject, &effort.requests).await?;
    let kept = match Mode::Kept.check(subject.kind()) {
        Ok(()) => Some(replay::kept(subject, &clean, effort).await?),
        Err(_) => None,
    };
    let resident = match Mode::Resident.check(subject.kind()) {
        Ok(()) => Some(replay::at_once(subject, &clean, effort).await?),
        Err(_) => None,
    };
    Ok(Report::new(subject, effort, &clean, kept, resident))
}

/// Why an audit came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    #[error("there are no requests to replay")]
    NoRequests,
    #[error("no clean instance can be had: {0}")]
    NoInstance(String),
}
