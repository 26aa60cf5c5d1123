//! Which failures of a deploy may pass without anything about the app having changed.

use std::time::Duration;

use super::builder::DeployError;
use super::plan::Passes;
use super::probe::ProbeError;
use crate::engine::CompileError;
use crate::instance::MakeError;
use crate::pool::PrewarmError;

/// How long until what has failed so often before is tried again: each pause is twice as long as the one before.
pub(super) fn pause(first: Duration, failures: u32, longest: Duration) -> Duration {
    first.saturating_mul(1 << failures.min(16)).min(longest)
}

impl DeployError {
    /// Whether the same files may be deployed later.
    pub fn passes(&self) -> Passes {
        match self {
            DeployError::Start(PrewarmError::NoRoom) => Passes::Surely,
            // A backend that is not up yet, a machine that is too busy, a compiler that was killed for the memory of
            // others; or an app that always does this.
            DeployError::Warmup(_)
            | DeployError::Start(PrewarmError::Make(MakeError::TooSlow(_)))
            | DeployError::Probe(ProbeError::OnlyOnce { .. } | ProbeError::Lease(_))
            | DeployError::Compile(CompileError::Process(_) | CompileError::Time(_)) => Passes::Perhaps,
            DeployError::Config(_)
            | DeployError::Refused(_)
            | DeployError::Name(_)
            | DeployError::Path(_)
            | DeployError::Compile(_)
            | DeployError::Link(_)
            | DeployError::Mode(_)
            | DeployError::Pool(_)
            | DeployError::Reset(_)
            | DeployError::Preload(_)
            | DeployError::Start(PrewarmError::Make(_) | PrewarmError::Closed)
            | DeployError::Probe(ProbeError::Pool(_))
            | DeployError::Withdrawn
            | DeployError::Ended(_)
            // That it is free is told, see `Deployer::route_freed`.
            | DeployError::Route(_) => Passes::Never,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_the_machine_may_be_the_reason_for_may_pass_and_what_the_app_is_does_not() {
        let process = CompileError::Process("was killed".to_owned());
        for perhaps in [
            DeployError::Compile(process),
            DeployError::Compile(CompileError::Time(Duration::from_secs(1))),
            DeployError::Start(PrewarmError::Make(MakeError::TooSlow(Duration::from_secs(1)))),
        ] {
            assert_eq!(perhaps.passes(), Passes::Perhaps, "{perhaps}");
        }
        assert_eq!(DeployError::Start(PrewarmError::NoRoom).passes(), Passes::Surely);
        for never in [
            DeployError::Compile(CompileError::Memory(1)),
            DeployError::Compile(CompileError::Refused("it is no app".to_owned())),
            DeployError::Start(PrewarmError::Make(MakeError::Instantiate("it traps".into()))),
        ] {
            assert_eq!(never.passes(), Passes::Never, "{never}");
        }
    }
}
