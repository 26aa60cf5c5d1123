//! What an audit has shown, as text and as data.

use std::fmt;

use serde::Serialize;

use super::Effort;
use super::answer::{Difference, Outcome};
use super::replay::{Clean, Finding, Growth, Order, Used};
use super::subject::Subject;
use super::verdict::{Judged, Verdict, judge};
use crate::config::Mode;
use crate::config::units::format_size;
use crate::prepare::Kind;

#[derive(Debug, Serialize)]
pub struct Report {
    pub app: String,
    pub kind: Kind,
    /// That of the app's own configuration.
    pub mode: Mode,
    /// What was asked: method and path.
    pub requests: Vec<String>,
    /// Those of them whose answers differ between clean instances, so that a difference says nothing.
    pub varying: Vec<usize>,
    /// Those that clean instances don't answer, and why.
    pub failing: Vec<(usize, String)>,
    /// Requests to used instances.
    pub asked: u64,
    pub modes: Vec<Judged>,
}

impl Report {
    pub(super) fn new(
        subject: &Subject,
        effort: &Effort,
        clean: &Clean,
        kept: Option<Used>,
        at_once: Option<Used>,
    ) -> Report {
        let outcomes = || clean.0.iter().enumerate();
        let failing = outcomes().filter_map(|(at, expected)| match &expected.outcome {
            Outcome::Answered(_) => None,
            Outcome::Failed(why) => Some((at, why.clone())),
            Outcome::Hung(after) => {
                Some((at, format!("it takes longer than the request_timeout of {after:?}")))
            }
        });
        let failing: Vec<_> = failing.collect();
        let is_answered = failing.len() < clean.0.len();
        Report {
            app: subject.name().to_owned(),
            kind: subject.kind(),
            mode: subject.mode(),
            requests: effort
                .requests
                .iter()
                .map(|asked| format!("{} {}", asked.method, asked.path))
                .collect(),
            varying: outcomes().filter(|(_, expected)| expected.varies).map(|(at, _)| at).collect(),
            failing,
            asked: [&kept, &at_once].into_iter().flatten().map(|used| used.asked).sum(),
            modes: judge(subject.kind(), is_answered, kept.as_ref(), at_once.as_ref()),
        }
    }

    /// Whether nothing speaks against the mode that the app's configuration chooses.
    pub fn is_good(&self) -> bool {
        self.modes.iter().any(|judged| judged.mode == self.mode && judged.verdict.is_good())
    }

    fn request(&self, at: usize) -> &str {
        self.requests.get(at).map_or("?", String::as_str)
    }

    fn write_finding(&self, f: &mut fmt::Formatter<'_>, finding: &Finding) -> fmt::Result {
        let request = self.request(finding.request);
        let order = match finding.order {
            Order::Given => "in the given order",
            Order::Shuffled => "in a shuffled order",
            Order::AtOnce => "at the same time as others",
        };
        writeln!(f, "{request}, {order}, on an instance that had answered {} before:", finding.after)?;
        match &finding.difference {
            Difference::Status { clean, used } => {
                writeln!(f, "           its status is {used}, on a clean one {clean}")
            }
            Difference::Header { name, clean, used } => {
                writeln!(
                    f,
                    "           the header field {name} differs\n             clean  {clean}\n             used   {used}"
                )
            }
            Difference::Body { at, clean, used } => {
                writeln!(
                    f,
                    "           the body differs at byte {at}\n             clean  {clean}\n             used   {used}"
                )
            }
            Difference::Failed { why } => writeln!(f, "           it fails: {why}"),
            Difference::Hung { after_ms } => writeln!(f, "           it hangs: no answer in {after_ms} ms"),
            Difference::Answered { status } => {
                writeln!(f, "           it answers {status}, and a clean one fails")
            }
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { app, kind, requests, varying, failing, asked, modes, .. } = self;
        let (requests, plural) = (requests.len(), if requests.len() == 1 { "" } else { "s" });
        writeln!(f, "{app} ({kind}): {requests} request{plural}, {asked} answers of used instances")?;
        for at in varying {
            writeln!(
                f,
                "note: {} is answered otherwise by each clean instance: only what is always the same was compared",
                self.request(*at)
            )?;
        }
        for (at, why) in failing {
            writeln!(f, "note: {} fails on a clean instance: {why}", self.request(*at))?;
        }
        writeln!(f)?;
        for Judged { mode, verdict } in modes {
            write!(f, "{mode:<9}  ")?;
            match verdict {
                Verdict::Clean => writeln!(f, "safe: each request has a clean instance")?,
                Verdict::NothingFound { growth } => {
                    writeln!(f, "no state found that these requests show{}", Grows(growth))?;
                }
                Verdict::Unsafe { finding } => {
                    write!(f, "NOT SAFE: ")?;
                    self.write_finding(f, finding)?;
                }
                Verdict::Untested => {
                    writeln!(f, "not tested: no request is answered by a clean instance, so ask others")?;
                }
                Verdict::Impossible { why } => writeln!(f, "impossible: {why}")?,
            }
        }
        Ok(())
    }
}

struct Grows<'g>(&'g Growth);

impl fmt::Display for Grows<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Growth { memory, handles } = *self.0;
        if memory > 0.0 {
            // A growth of memory is in whole pages, so this is a mean.
            let bytes = memory.ceil() as u64;
            write!(f, "; its memory grows by {} a request, so set max_requests", format_size(bytes))?;
        }
        if handles > 0.0 {
            write!(f, "; it leaves {handles:.1} handles open a request, so set max_requests")?;
        }
        Ok(())
    }
}
