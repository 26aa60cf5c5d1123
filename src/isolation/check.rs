//! Many canaries for a while, in engines of their own with the settings that are to be verified.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::cage::{self, Cage, Ending, Look, Setup};
use super::canary::{Canary, Shape};
use super::compaction::{Compacted, Compaction};
use super::{CheckError, Finding};
use crate::config::Mode;
use crate::engine::{EngineKind, EngineSettings, Engines};
use crate::pool::Budget;

/// Units of the pools' budget: fewer than the canaries would like, so that they also get slots that others were in.
const INSTANCES: u32 = 5;

/// Instances of one canary at once, and requests that want one.
const OF_EACH: u32 = 2;

/// Of so many requests one ends otherwise than by an answer.
const ENDS_OTHERWISE: usize = 16;

/// Pages of memory behind those that are erased in place.
const PAGES_BEHIND: u64 = 8;

/// How long engines are kept before they are made anew.
const ROUND: Duration = Duration::from_millis(500);

/// How long a client waits after a request that came to nothing.
const PAUSE: Duration = Duration::from_millis(10);

/// Elements of a canary's tables, at least.
const TABLE: usize = 64;

/// How hard it is tried.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    pub time: Duration,
    /// Have the kernel compact memory meanwhile, if it lets us.
    pub compact: bool,
    /// The ways in which requests end.
    pub endings: &'static [Ending],
}

impl Effort {
    /// Before the apps are served: short, and nothing that the rest of the machine would notice.
    pub const AT_START: Effort =
        Effort { time: Duration::from_millis(300), compact: false, endings: &Ending::QUICK };

    /// For the operator who wants to know.
    pub fn of(time: Duration) -> Effort {
        Effort { time, compact: true, endings: &Ending::ALL }
    }
}

/// What a check has come to.
#[derive(Debug)]
pub struct Verdict {
    /// The settings that were checked, in words.
    pub settings: String,
    /// Instances that told what they saw.
    pub checked: u64,
    /// Those that were not as new.
    pub dirty: u64,
    /// The first of them.
    pub finding: Option<Finding>,
    pub endings: usize,
    pub took: Duration,
    pub compacted: Option<Compacted>,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verdict { settings, checked, dirty, finding, endings, took, compacted } = self;
        let took = took.as_secs_f64();
        match finding {
            None => write!(f, "verified: {checked} instances, looked at in {took:.1} s, were all as new")?,
            Some(finding) => write!(
                f,
                "NOT isolated: of {checked} instances, looked at in {took:.1} s, {dirty} were not as new; the first: \
                 {finding}; the settings",
            )?,
        }
        write!(f, " after requests that ended in {endings} ways, with {settings}")?;
        compacted.iter().try_for_each(|compacted| write!(f, "; {compacted}"))
    }
}

/// What the canaries of a check have in common.
struct Tally {
    until: Instant,
    endings: &'static [Ending],
    counts: Arc<Mutex<Counts>>,
}

#[derive(Default)]
struct Counts {
    checked: u64,
    dirty: u64,
    finding: Option<Finding>,
    random: HashSet<String>,
    /// Why one said nothing.
    untold: Option<CheckError>,
    /// Requests in all.
    asked: usize,
}

/// Checks these settings on this machine, in engines made for it, which have few instances: so slots are used again
/// and by different canaries. Now and then the engines are made anew: then their memory is, too, which the kernel
/// moves about most while it is new.
///
/// # Errors
/// See [`CheckError`]: it could not be checked.
pub async fn check(settings: &EngineSettings, effort: Effort) -> Result<Verdict, CheckError> {
    // On a busy machine this may take longer than all the looking, of whose time it must leave everything.
    let canaries = compiled(settings)?;
    let began = Instant::now();
    let compaction = effort.compact.then(Compaction::force);
    let counts = Arc::default();
    loop {
        round(settings, &effort, &counts, &canaries).await?;
        if began.elapsed() >= effort.time {
            break;
        }
    }
    let compacted = compaction.map(Compaction::end);
    let counts = std::mem::take(&mut *counts.lock());
    if counts.checked == 0 {
        return Err(counts.untold.unwrap_or(CheckError::Nothing));
    }
    Ok(Verdict {
        settings: settings.to_string(),
        checked: counts.checked,
        dirty: counts.dirty,
        finding: counts.finding,
        endings: effort.endings.len(),
        took: began.elapsed(),
        compacted,
    })
}

/// Engines with these settings, but for few instances.
fn engines(settings: &EngineSettings) -> Result<Arc<Engines>, CheckError> {
    let table_elements = settings.table_elements.max(TABLE);
    Engines::new(EngineSettings { instances: INSTANCES, table_elements, ..settings.clone() })
        .map_err(CheckError::of)
}

/// All canaries, for each engine that can have them.
fn compiled(settings: &EngineSettings) -> Result<Vec<(EngineKind, Canary, Bytes)>, CheckError> {
    let (engines, pages) = (engines(settings)?, pages(settings));
    let mut compiled = Vec::new();
    for kind in EngineKind::ALL {
        if kind == EngineKind::Rewound && !engines.may_rewind() {
            continue;
        }
        for shape in Shape::of(kind) {
            let canary = Canary::new(*shape, pages);
            compiled.push((kind, canary, cage::compile(&canary, &engines, kind)?));
        }
    }
    Ok(compiled)
}

/// Each canary in its engine, from the making of the engines to their end.
async fn round(
    settings: &EngineSettings,
    effort: &Effort,
    counts: &Arc<Mutex<Counts>>,
    canaries: &[(EngineKind, Canary, Bytes)],
) -> Result<(), CheckError> {
    let engines = engines(settings)?;
    let budgets = EngineKind::ALL.map(|kind| (kind, Budget::new(INSTANCES, TABLE)));
    let mut cages = Vec::new();
    for (kind, canary, payload) in canaries {
        let Some((_, budget)) = budgets.iter().find(|(other, _)| other == kind) else { continue };
        let setup = Setup { mode: Mode::Pooled, engine: *kind, instances: OF_EACH };
        cages.push(Arc::new(Cage::new(*canary, payload, setup, &engines, budget)?));
    }
    let until = Instant::now() + ROUND.min(effort.time);
    let tally = Arc::new(Tally { until, endings: effort.endings, counts: counts.clone() });
    let mut clients = JoinSet::new();
    for cage in cages {
        (0..OF_EACH as usize).for_each(|_| {
            clients.spawn(tally.clone().run(cage.clone()));
        });
    }
    let mut outcome = Ok(());
    while let Some(ended) = clients.join_next().await {
        outcome = outcome.and(ended.map_err(CheckError::of).flatten());
    }
    outcome
}

/// Pages that a canary's memory has, so that some are erased in place and some are given back, where there is both.
fn pages(settings: &EngineSettings) -> u32 {
    let page = 64 << 10;
    let pages = settings.memory_keep_resident as u64 / page + PAGES_BEHIND;
    // With room for what it grows by.
    let most = (settings.memory_reservation / page).saturating_sub(16);
    u32::try_from(pages.min(most)).unwrap_or(u32::MAX)
}

impl Tally {
    /// One client after the other request, until the time is over.
    async fn run(self: Arc<Self>, cage: Arc<Cage>) -> Result<(), CheckError> {
        while Instant::now() < self.until {
            let ending = self.next_ending();
            match cage.look(ending).await {
                Ok(look) => self.note(cage.canary().shape, look),
                // On a busy machine an instance may come too late, or not: the others tell enough.
                Err(error @ (CheckError::Slow(_) | CheckError::NoRoom(_))) => {
                    self.counts.lock().untold = Some(error);
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn next_ending(&self) -> Ending {
        let mut counts = self.counts.lock();
        counts.asked += 1;
        match counts.asked % ENDS_OTHERWISE {
            0 => self.endings[counts.asked / ENDS_OTHERWISE % self.endings.len()],
            _ => Ending::Answer,
        }
    }

    fn note(&self, shape: Shape, look: Look) {
        let mut counts = self.counts.lock();
        let finding = match look {
            Look::Untold => return,
            Look::Found(finding) => Some(finding),
            Look::Clean(sighting) => counts.seen_before(shape, sighting.random),
        };
        counts.checked += 1;
        if let Some(finding) = finding {
            counts.dirty += 1;
            counts.finding.get_or_insert(finding);
        }
    }
}

impl Counts {
    /// Random numbers must differ, in all instances.
    fn seen_before(&mut self, shape: Shape, random: Vec<String>) -> Option<Finding> {
        let again = random.into_iter().find(|number| !self.random.insert(number.clone()))?;
        Some(Finding { shape, what: format!("it drew the random number {again}, as one before it") })
    }
}
