//! Asking: clean instances, one that is kept, and one by many at once.

use futures_util::future::join_all;
use serde::Serialize;

use super::answer::{Difference, Expected, Outcome};
use super::subject::Subject;
use super::{AuditError, Effort};
use crate::compare::Asked;
use crate::instance::{Factory, Figures};
use crate::pool::Pool;

/// Clean instances that are asked each request: they say what of an answer differs by itself.
const CLEAN: usize = 3;

/// Requests that one instance is asked at least: what grows by little needs some to be seen.
const LEAST: usize = 24;

/// Requests at once.
const AT_ONCE: usize = 32;

/// What clean instances answer, for each request.
pub(super) struct Clean(pub(super) Vec<Expected>);

/// What used instances have shown.
#[derive(Debug, Default)]
pub(super) struct Used {
    pub(super) asked: u64,
    /// The first answer that differs.
    pub(super) finding: Option<Finding>,
    pub(super) growth: Growth,
}

/// An answer that differs from a clean instance's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which of the requests, from 0.
    pub request: usize,
    pub order: Order,
    /// Requests that the instance had answered before.
    pub after: u64,
    pub difference: Difference,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// One after the other, as they were given.
    Given,
    /// One after the other, shuffled.
    Shuffled,
    AtOnce,
}

/// What an instance grows by with each request, in the second half of those that it was asked in order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Growth {
    /// Bytes of linear memory.
    pub memory: f64,
    /// Handles of host resources.
    pub handles: f64,
}

pub(super) async fn clean(subject: &Subject, requests: &[Asked]) -> Result<Clean, AuditError> {
    let pool = subject.clean().map_err(AuditError::NoInstance)?;
    let mut expected = Vec::with_capacity(requests.len());
    for asked in requests {
        let mut outcomes = Vec::with_capacity(CLEAN);
        for _ in 0..CLEAN {
            let lease = pool.lease().await.map_err(|error| AuditError::NoInstance(error.to_string()))?;
            outcomes.push(subject.ask(lease, asked).await);
        }
        let first = outcomes.swap_remove(0);
        expected.push(Expected::of(first, &outcomes));
    }
    end(&pool).await;
    Ok(Clean(expected))
}

/// One instance after the other, each asked all requests again and again: in order, then shuffled.
pub(super) async fn kept(subject: &Subject, clean: &Clean, effort: &Effort) -> Result<Used, AuditError> {
    let count = effort.requests.len();
    let rounds = (effort.rounds.max(1) as usize).max(LEAST.div_ceil(count));
    let mut used = Used::default();
    let given: Vec<usize> = (0..rounds).flat_map(|_| 0..count).collect();
    let mut random = fastrand::Rng::with_seed(effort.seed);
    let shuffled = |random: &mut fastrand::Rng| {
        let mut order = given.clone();
        random.shuffle(&mut order);
        order
    };
    one_instance(subject, clean, effort, &given, Order::Given, &mut used).await?;
    for _ in 0..effort.rounds.max(1) {
        if used.finding.is_some() {
            break;
        }
        let order = shuffled(&mut random);
        one_instance(subject, clean, effort, &order, Order::Shuffled, &mut used).await?;
    }
    Ok(used)
}

async fn one_instance(
    subject: &Subject,
    clean: &Clean,
    effort: &Effort,
    sequence: &[usize],
    order: Order,
    used: &mut Used,
) -> Result<(), AuditError> {
    let pool = subject.kept().map_err(AuditError::NoInstance)?;
    let mut figures = Vec::with_capacity(sequence.len());
    for &request in sequence {
        let (Some(asked), Some(expected)) = (effort.requests.get(request), clean.0.get(request)) else {
            continue;
        };
        let mut lease = pool.lease().await.map_err(|error| AuditError::NoInstance(error.to_string()))?;
        let after = lease.uses();
        if after == 0 {
            // The one before failed, or this is the first.
            figures.clear();
        }
        figures.push(lease.figures());
        let outcome = subject.ask(lease, asked).await;
        used.asked += 1;
        if let Some(difference) = expected.differs(&outcome)
            && after > 0
            && used.finding.is_none()
        {
            used.finding = Some(Finding { request, order, after, difference });
        }
        if used.finding.is_some() && !matches!(outcome, Outcome::Answered(_)) {
            break;
        }
    }
    if order == Order::Given {
        used.growth = growth(&figures);
    }
    end(&pool).await;
    Ok(())
}

/// One instance that has many requests at once.
pub(super) async fn at_once(subject: &Subject, clean: &Clean, effort: &Effort) -> Result<Used, AuditError> {
    let count = effort.requests.len();
    let seats = AT_ONCE.min(usize::try_from(subject.config().max_concurrent).unwrap_or(AT_ONCE)).max(1);
    let pool = subject.shared(u32::try_from(seats).unwrap_or(1)).map_err(AuditError::NoInstance)?;
    let total = (effort.rounds.max(1) as usize * count).max(2 * seats);
    let mut used = Used::default();
    let all: Vec<usize> = (0..total).map(|at| at % count).collect();
    for batch in all.chunks(seats) {
        let asked = batch.iter().map(|&request| ask_shared(subject, &pool, effort, request));
        for (request, outcome) in batch.iter().copied().zip(join_all(asked).await) {
            let outcome = outcome?;
            let expected = clean.0.get(request);
            if let Some(difference) = expected.and_then(|expected| expected.differs(&outcome))
                && used.finding.is_none()
            {
                used.finding = Some(Finding { request, order: Order::AtOnce, after: used.asked, difference });
            }
            used.asked += 1;
        }
        if used.finding.is_some() {
            break;
        }
    }
    end(&pool).await;
    Ok(used)
}

async fn ask_shared(
    subject: &Subject,
    pool: &Pool<Factory>,
    effort: &Effort,
    request: usize,
) -> Result<Outcome, AuditError> {
    let lease = pool.lease().await.map_err(|error| AuditError::NoInstance(error.to_string()))?;
    match effort.requests.get(request) {
        Some(asked) => Ok(subject.ask(lease, asked).await),
        None => Err(AuditError::NoRequests),
    }
}

/// By the second half, when what is built at first use has been built.
fn growth(figures: &[Figures]) -> Growth {
    let half = figures.len() / 2;
    let (Some(middle), Some(last)) = (figures.get(half), figures.last()) else { return Growth::default() };
    let requests = (figures.len() - 1 - half) as f64;
    if requests < 1.0 {
        return Growth::default();
    }
    let by = |from: usize, to: usize| (to.saturating_sub(from) as f64) / requests;
    Growth { memory: by(middle.memory, last.memory), handles: by(middle.handles, last.handles) }
}

async fn end(pool: &Pool<Factory>) {
    pool.close();
    pool.drained().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_that_of_the_second_half() {
        let figures = |of: &[(usize, usize)]| -> Vec<_> {
            of.iter().map(|&(memory, handles)| Figures { memory, handles }).collect()
        };
        assert_eq!(growth(&figures(&[(10, 1), (80, 9), (80, 9), (80, 9)])), Growth::default());
        let grows = growth(&figures(&[(0, 0), (10, 3), (20, 6), (30, 9), (40, 12)]));
        assert_eq!(grows, Growth { memory: 10.0, handles: 3.0 });
        assert_eq!(growth(&figures(&[(1, 1)])), Growth::default());
    }
}
