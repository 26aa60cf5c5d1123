//! What the host does about isolation with `verify_isolation`: it checks before it serves, watches while it serves, and
//! after a finding goes on in the safest way there is.
//!
//! The settings of an engine can't be changed while it lives. So a finding closes all pools at once, which ends every
//! further lease of an instance that may be dirty; requests are answered 503 until their app has been made again in
//! engines with the safest settings, which takes as long as loading its artifact. If there is a finding with the
//! safest settings, too, no app is served any more.

use std::sync::Arc;

use anyhow::{Context, bail};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::engine::{EngineSettings, Engines, EnginesInUse};
use crate::isolation::record::State;
use crate::isolation::watch::INTERVAL;
use crate::isolation::{CheckError, Effort, Finding, Record, Verdict, Watch, check};
use crate::pool::Budget;
use crate::registry::Registry;

/// Checks the settings, and the safest ones if the first are no good; returns those that are.
pub(super) fn verified(settings: EngineSettings, record: &Record) -> anyhow::Result<EngineSettings> {
    let verdict = check_now(&settings)?;
    record.checked(&verdict);
    if verdict.finding.is_none() {
        tracing::info!("isolation {verdict}");
        record.is_now(State::Verified);
        return Ok(settings);
    }
    tracing::error!("isolation {verdict}; the safest settings are used instead");
    let safest = settings.safest();
    let verdict = check_now(&safest)?;
    record.checked(&verdict);
    if verdict.finding.is_some() {
        bail!("isolation {verdict}; there are no safer settings, so nothing is served");
    }
    tracing::info!("isolation {verdict}");
    record.is_now(State::Safest);
    Ok(safest)
}

fn check_now(settings: &EngineSettings) -> anyhow::Result<Verdict> {
    // A thread of its own: a host may be started from within a runtime.
    let checked = std::thread::scope(|scope| {
        let check = || -> anyhow::Result<Verdict> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            Ok(runtime.block_on(check(settings, Effort::AT_START))?)
        };
        scope.spawn(check).join()
    });
    let verdict = checked.unwrap_or_else(|_| bail!("the check ended unexpectedly"));
    verdict.context("isolation can't be verified")
}

/// Who looks while the apps are served, and what is told of a finding.
pub(super) struct Vigil {
    pub engines: Arc<EnginesInUse>,
    pub budget: Budget,
    pub record: Arc<Record>,
    pub registry: Arc<Registry>,
    /// Tells the deployer.
    pub engines_replaced: Arc<Notify>,
}

impl Vigil {
    pub async fn keep(self, stop: CancellationToken) {
        let mut watch = Watch::new(self.engines.clone(), self.budget.clone(), self.record.clone());
        let mut tick = tokio::time::interval(INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut said = None;
        while !self.engines.are_withdrawn() {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            let mut looking = std::pin::pin!(watch.look());
            let looked = tokio::select! {
                () = stop.cancelled() => {
                    // So that its instance is gone before the host is.
                    let _ = tokio::time::timeout(INTERVAL, looking).await;
                    return;
                }
                looked = &mut looking => looked,
            };
            match looked {
                Ok(None) => said = None,
                Ok(Some(finding)) => self.found(&finding),
                Err(error) => say_once(&mut said, &error),
            }
        }
    }

    /// Ends the use of all instances in the engines of now.
    fn found(&self, finding: &Finding) {
        let engines = self.engines.now();
        let settings = engines.settings();
        self.record.found(finding);
        tracing::error!("isolation is NOT kept: {finding}; the settings are: {settings}");
        let safest = settings.safest();
        match (*settings == safest, Engines::new(safest)) {
            (false, Ok(safest)) => {
                tracing::warn!("all apps are made again with the safest settings: {}", safest.settings());
                self.engines.replace(safest);
            }
            (true, _) => self.withdraw("there are no safer settings"),
            (false, Err(error)) => self.withdraw(&format!("safer engines can't be made: {error:#}")),
        }
        // After the replacement: a deploy that publishes an instance of the old engines later looks at that itself.
        for release in self.registry.apps().into_iter().filter_map(|app| app.live) {
            if !self.engines.are(release.pool.manager().engines()) {
                release.pool.close();
            }
        }
        let withdrawn = self.engines.are_withdrawn();
        self.record.is_now(if withdrawn { State::Withdrawn } else { State::Safest });
        self.engines_replaced.notify_one();
    }

    fn withdraw(&self, why: &str) {
        tracing::error!("no app is served any more: {why}");
        self.engines.withdraw();
    }
}

/// That it could not be looked is said when it begins, or is another reason than before.
fn say_once(said: &mut Option<String>, error: &CheckError) {
    let text = error.to_string();
    if said.as_ref() != Some(&text) {
        tracing::warn!("isolation could not be looked at: {text}");
    }
    *said = Some(text);
}
