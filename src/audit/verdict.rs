//! In which modes an app is safe, from what its instances have shown: pure.

use serde::Serialize;

use super::replay::{Finding, Growth, Used};
use crate::config::{GuestState, Mode, ModeError};
use crate::prepare::Kind;

/// What is said of one mode.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "verdict")]
pub enum Verdict {
    /// Each request has a clean instance.
    Clean,
    /// These requests showed nothing of each other.
    NothingFound { growth: Growth },
    /// One saw what another had left, or was not answered for it.
    Unsafe { finding: Finding },
    /// No request was answered by clean instances: that used ones don't, either, says nothing.
    Untested,
    /// This kind of app can't run in it.
    Impossible { why: String },
}

/// A mode, and what is said of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judged {
    pub mode: Mode,
    #[serde(flatten)]
    pub verdict: Verdict,
}

impl Verdict {
    /// Whether nothing speaks against the mode.
    pub fn is_good(&self) -> bool {
        matches!(self, Verdict::Clean | Verdict::NothingFound { .. })
    }
}

/// Judges all modes. `is_answered`: by clean instances, at least one of the requests. `None`: the app can't run like that.
pub(super) fn judge(
    kind: Kind,
    is_answered: bool,
    kept: Option<&Used>,
    at_once: Option<&Used>,
) -> Vec<Judged> {
    let of = |used: Option<&Used>| match used {
        Some(Used { finding: Some(finding), .. }) => Verdict::Unsafe { finding: finding.clone() },
        Some(_) if !is_answered => Verdict::Untested,
        Some(Used { growth, .. }) => Verdict::NothingFound { growth: *growth },
        None => Verdict::Clean,
    };
    let verdict = |mode: Mode| match (mode.check(kind), mode.guest_state()) {
        (Err(error), _) => impossible(error),
        (Ok(()), GuestState::Clean) => Verdict::Clean,
        (Ok(()), GuestState::Kept) => of(kept),
        (Ok(()), GuestState::Shared) => match of(kept) {
            // What one after the other can see, those at the same time can.
            found @ Verdict::Unsafe { .. } => found,
            nothing => match of(at_once) {
                found @ Verdict::Unsafe { .. } => found,
                _ => nothing,
            },
        },
    };
    Mode::ALL.map(|mode| Judged { mode, verdict: verdict(mode) }).to_vec()
}

fn impossible(error: ModeError) -> Verdict {
    Verdict::Impossible { why: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::super::answer::Difference;
    use super::super::replay::Order;
    use super::*;

    fn used(is_found: bool, order: Order) -> Used {
        let difference = Difference::Hung { after_ms: 1 };
        let finding = is_found.then_some(Finding { request: 0, order, after: 1, difference });
        Used { asked: 24, finding, growth: Growth { memory: 1.0, handles: 0.0 } }
    }

    fn good(kind: Kind, kept: Option<&Used>, at_once: Option<&Used>) -> Vec<Mode> {
        let judged = judge(kind, true, kept, at_once);
        judged.iter().filter(|judged| judged.verdict.is_good()).map(|judged| judged.mode).collect()
    }

    #[test]
    fn a_finding_speaks_against_the_modes_in_which_it_would_be_seen() {
        let clean = [Mode::Cold, Mode::Cached, Mode::Pooled];
        let (nothing, found) = (used(false, Order::Given), used(true, Order::Given));
        let at_once = used(true, Order::AtOnce);
        assert_eq!(good(Kind::CommandModule, None, None), clean);
        assert_eq!(good(Kind::Http02, Some(&found), None), clean);
        assert_eq!(good(Kind::Http02, Some(&nothing), None), [&clean[..], &[Mode::Kept]].concat());
        assert_eq!(good(Kind::Http03, Some(&nothing), Some(&nothing)), Mode::ALL);
        assert_eq!(good(Kind::Http03, Some(&nothing), Some(&at_once)), [&clean[..], &[Mode::Kept]].concat());
        assert_eq!(good(Kind::Http03, Some(&found), Some(&nothing)), clean);
    }

    #[test]
    fn what_clean_instances_never_answer_tests_no_mode_in_which_state_is_kept() {
        let (nothing, found) = (used(false, Order::Given), used(true, Order::Given));
        let verdicts = |kept: &Used| {
            let judged = judge(Kind::Http03, false, Some(kept), Some(&nothing));
            judged.into_iter().map(|judged| judged.verdict).collect::<Vec<_>>()
        };
        let [kept, resident] = [Verdict::Untested, Verdict::Untested];
        assert_eq!(verdicts(&nothing), [Verdict::Clean, Verdict::Clean, Verdict::Clean, kept, resident]);
        assert!(
            matches!(verdicts(&found)[3], Verdict::Unsafe { .. }),
            "a used one answers what no clean one does"
        );
    }
}
