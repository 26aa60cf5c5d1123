//! What the operator sees of the check in a running host.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use serde::Serialize;

use super::{Finding, Verdict};

/// How things stand with isolation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// `verify_isolation` is off.
    #[default]
    Unverified,
    /// Nothing was found up to now.
    Verified,
    /// Something was found, and the engines were replaced by those with the safest settings.
    Safest,
    /// Something was found with those, too: no app is served any more.
    Withdrawn,
}

/// Counters and state, shared between who looks and who shows them.
#[derive(Debug, Default)]
pub struct Record {
    checked: AtomicU64,
    skipped: AtomicU64,
    findings: AtomicU64,
    now: Mutex<(State, Option<String>)>,
}

/// A snapshot of a [`Record`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IsolationStatus {
    pub state: State,
    /// Canary instances that were looked at.
    pub checked: u64,
    /// Looks that came to nothing, for want of room or time.
    pub skipped: u64,
    /// Those that were not as new.
    pub findings: u64,
    pub last_finding: Option<String>,
}

impl Record {
    pub fn checked(&self, verdict: &Verdict) {
        self.checked.fetch_add(verdict.checked, Relaxed);
        self.findings.fetch_add(verdict.dirty, Relaxed);
        if let Some(finding) = &verdict.finding {
            self.now.lock().1 = Some(finding.to_string());
        }
    }

    pub fn looked(&self) {
        self.checked.fetch_add(1, Relaxed);
    }

    pub fn skipped(&self) {
        self.skipped.fetch_add(1, Relaxed);
    }

    pub fn found(&self, finding: &Finding) {
        self.findings.fetch_add(1, Relaxed);
        self.now.lock().1 = Some(finding.to_string());
    }

    pub fn is_now(&self, state: State) {
        self.now.lock().0 = state;
    }

    pub fn snapshot(&self) -> IsolationStatus {
        let (state, last_finding) = self.now.lock().clone();
        IsolationStatus {
            state,
            checked: self.checked.load(Relaxed),
            skipped: self.skipped.load(Relaxed),
            findings: self.findings.load(Relaxed),
            last_finding,
        }
    }
}
