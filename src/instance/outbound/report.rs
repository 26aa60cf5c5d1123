//! Log lines about calls that were refused or failed, so many and so long at most: a guest decides how often it tries.

use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::failure::Failure;

/// Lines that one release may log within a [`PERIOD`]; those over it are counted.
const LINES: u32 = 20;
const PERIOD: Duration = Duration::from_secs(10);

/// Characters of an origin that are shown.
const ORIGIN_SHOWN: usize = 100;

/// One release's reports.
pub(super) struct Reporter {
    app: String,
    budget: Mutex<Budget>,
}

/// One request, as it is named in the log.
#[derive(Clone)]
pub(super) struct Call {
    reporter: Arc<Reporter>,
    uri: Uri,
}

impl Reporter {
    pub(super) fn new(app: &str) -> Arc<Self> {
        Arc::new(Self { app: app.to_owned(), budget: Mutex::default() })
    }

    pub(super) fn call(self: &Arc<Self>, uri: &Uri) -> Call {
        Call { reporter: self.clone(), uri: uri.clone() }
    }
}

impl Call {
    pub(super) fn report(&self, reason: &Failure) {
        if let Some(Line { app, origin, unreported }) = self.line(Instant::now()) {
            tracing::info!(app, origin, %reason, unreported, "a guest's request to elsewhere came to nothing");
        }
    }

    /// What the log says besides the reason; `None` if it has said enough.
    fn line(&self, now: Instant) -> Option<Line<'_>> {
        let unreported = self.reporter.budget.lock().take(now)?;
        Some(Line { app: &self.reporter.app, origin: origin(&self.uri), unreported })
    }
}

#[derive(Debug, PartialEq)]
struct Line<'a> {
    app: &'a str,
    origin: String,
    /// Calls before this one that the log says nothing about.
    unreported: u64,
}

/// What is left of the lines of this period.
#[derive(Default)]
struct Budget {
    begun: Option<Instant>,
    used: u32,
    unreported: u64,
}

impl Budget {
    /// Whether a line may be logged now, and if so, how many were not before it.
    fn take(&mut self, now: Instant) -> Option<u64> {
        if self.begun.is_none_or(|begun| now.duration_since(begun) >= PERIOD) {
            self.begun = Some(now);
            self.used = 0;
        }
        if self.used >= LINES {
            self.unreported = self.unreported.saturating_add(1);
            return None;
        }
        self.used += 1;
        Some(std::mem::take(&mut self.unreported))
    }
}

/// Scheme, host and port: the path and the query may be secret, and so may userinfo.
fn origin(uri: &Uri) -> String {
    let port = uri.port().map(|port| format!(":{port}")).unwrap_or_default();
    let origin =
        format!("{}://{}{port}", uri.scheme_str().unwrap_or_default(), uri.host().unwrap_or_default());
    origin.chars().take(ORIGIN_SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_over_the_budget_are_counted_and_told_with_the_next() {
        let start = Instant::now();
        let mut budget = Budget::default();
        for _ in 0..LINES {
            assert_eq!(budget.take(start), Some(0));
        }
        assert_eq!(budget.take(start), None);
        assert_eq!(budget.take(start + PERIOD / 2), None);
        assert_eq!(budget.take(start + PERIOD), Some(2));
        assert_eq!(budget.take(start + PERIOD), Some(0));
    }

    #[test]
    fn a_line_names_the_app_and_the_origin() {
        let call = Reporter::new("shop").call(&Uri::from_static("http://a.example/secret?token=1"));
        let line = |unreported| Line { app: "shop", origin: "http://a.example".to_owned(), unreported };
        let now = Instant::now();
        for _ in 0..LINES {
            assert_eq!(call.clone().line(now), Some(line(0)));
        }
        assert_eq!(call.line(now), None);
        assert_eq!(call.line(now + PERIOD), Some(line(1)));
    }

    #[test]
    fn an_origin_in_the_log_is_short_and_has_no_secrets() {
        let uri = |text: &str| text.parse::<Uri>().unwrap();
        assert_eq!(origin(&uri("https://me:secret@a.example:81/p?q")), "https://a.example:81");
        let long = format!("http://{}.example/", "a".repeat(500));
        assert_eq!(origin(&uri(&long)).len(), ORIGIN_SHOWN);
    }
}
