//! The rounds: in each of them every server gets its slice, in an order that rotates, so that what the machine does
//! besides meets all of them alike.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::cores::Split;
use super::load::{Ask, Load, Outcome, Pace};
use super::plan::{Schedule, Share, takes_part};
use super::rate::Rate;
use super::stats::Spread;
use super::status::{self, Own};
use super::usage::{CpuReading, Memory};

/// A server that is measured.
#[derive(Debug, Clone)]
pub struct Target {
    /// `None` if it is not a process of ours.
    pub pid: Option<u32>,
    /// Where it says what it does, if it does that.
    pub admin: Option<SocketAddr>,
    pub address: SocketAddr,
    pub asks: Arc<[Ask]>,
    /// How long one request takes when it is the only one.
    pub one_request: Duration,
}

/// What is the same for all servers.
#[derive(Debug, Clone)]
pub struct Plan {
    pub connections: usize,
    pub schedule: Schedule,
    pub split: Split,
    /// What is asked in the rounds at a fixed rate, if there are any.
    pub rate: Option<Rate>,
}

/// What was seen of one server.
#[derive(Debug)]
pub struct Measured {
    pub share: Share,
    /// With all connections.
    pub loaded: Vec<Slice>,
    /// At a fixed rate, and that rate.
    pub paced: Vec<Slice>,
    pub rate: Option<f64>,
    /// With one connection.
    pub alone: Vec<Slice>,
    /// After the rounds with all connections.
    pub memory: Option<Memory>,
    /// What the server says about these rounds.
    pub own: Option<Own>,
}

#[derive(Debug)]
pub struct Slice {
    /// The round it was in: slices of the same round are comparable.
    pub round: usize,
    pub outcome: Outcome,
    /// Processor time of the server; `None` if it could not be read.
    pub cpu: Option<Duration>,
}

#[derive(Debug, Error)]
pub enum MeasureError {
    #[error("cannot start the threads of the load")]
    Threads,
}

/// Between two slices, so that what a server still does after its last answer is not the next one's loss.
const BREATH: Duration = Duration::from_millis(20);

/// Measures the servers, in the order given.
///
/// Cancellation safety: dropped early, no load goes on.
pub async fn measure(targets: &[Target], plan: &Plan) -> Result<Vec<Measured>, MeasureError> {
    let schedule = &plan.schedule;
    let mut measured = targets.iter().map(|target| Measured::new(target, plan)).collect::<Vec<_>>();
    let mut before = Vec::new();
    for target in targets {
        before.push((snapshot(target).await, memory(target)));
    }
    for (target, found) in targets.iter().zip(&measured) {
        let share = Share { slice: schedule.warm_up.min(found.share.slice), ..found.share };
        slice(target, plan, share, Pace::Closed, 0).await?;
    }
    for round in 0..schedule.rounds {
        for (target, found) in rotated(targets, &mut measured, round) {
            if takes_part(round, found.share.rounds, schedule.rounds) {
                found.loaded.push(slice(target, plan, found.share, Pace::Closed, round).await?);
            }
        }
    }
    for ((target, found), before) in targets.iter().zip(&mut measured).zip(before) {
        let (before, memory_before) = before;
        let after = snapshot(target).await;
        found.memory = memory(target);
        let grown = found.memory.zip(memory_before).map(|(now, then)| now.pss.saturating_sub(then.pss));
        found.own = before.zip(after).map(|(before, after)| Own::between(&before, &after, grown));
        found.rate = plan.rate.and_then(|rate| rate.of(found.capacity()));
    }
    for round in 0..schedule.paced_rounds {
        for (target, found) in rotated(targets, &mut measured, round) {
            if let Some(rate) = found.rate
                && takes_part(round, found.share.rounds, schedule.paced_rounds)
            {
                found.paced.push(slice(target, plan, found.share, Pace::Open { rate }, round).await?);
            }
        }
    }
    for round in 0..schedule.alone_rounds {
        for (target, found) in rotated(targets, &mut measured, round) {
            if takes_part(round, found.share.alone_rounds, schedule.alone_rounds) {
                let share = Share { connections: 1, slice: schedule.alone, ..found.share };
                found.alone.push(slice(target, plan, share, Pace::Closed, round).await?);
            }
        }
    }
    Ok(measured)
}

impl Measured {
    fn new(target: &Target, plan: &Plan) -> Self {
        let share = plan.schedule.share(target.one_request, plan.connections, plan.split.server_count());
        Self {
            share,
            loaded: Vec::new(),
            paced: Vec::new(),
            rate: None,
            alone: Vec::new(),
            memory: None,
            own: None,
        }
    }

    /// Requests/s when it is asked as fast as it answers.
    fn capacity(&self) -> Option<f64> {
        let right = self.loaded.iter().filter(|slice| slice.outcome.counts.right > 0);
        Spread::of(right.map(|slice| slice.outcome.rate())).map(|rate| rate.median)
    }
}

fn memory(target: &Target) -> Option<Memory> {
    Memory::of(target.pid?).ok()
}

async fn snapshot(target: &Target) -> Option<status::Snapshot> {
    status::snapshot(target.admin?).await
}

async fn slice(
    target: &Target,
    plan: &Plan,
    share: Share,
    pace: Pace,
    round: usize,
) -> Result<Slice, MeasureError> {
    let load = Load {
        address: target.address,
        asks: target.asks.clone(),
        pace,
        connections: share.connections,
        duration: share.slice,
        grace: share.grace,
        cores: plan.split.load().cloned(),
        gives_way: false,
    };
    tokio::time::sleep(BREATH).await;
    let before = target.pid.and_then(|pid| CpuReading::of(pid).ok());
    let outcome = load.run().await.ok_or(MeasureError::Threads)?;
    let after = target.pid.and_then(|pid| CpuReading::of(pid).ok());
    let cpu = after.zip(before).map(|(after, before)| after.since(&before));
    Ok(Slice { round, outcome, cpu })
}

/// The servers and what was found of them, beginning with another one in each round.
fn rotated<'a>(
    targets: &'a [Target],
    measured: &'a mut [Measured],
    round: usize,
) -> impl Iterator<Item = (&'a Target, &'a mut Measured)> {
    let first = round % targets.len().max(1);
    let mut all = targets.iter().zip(measured).collect::<Vec<_>>();
    all.rotate_left(first);
    all.into_iter()
}

#[cfg(test)]
mod tests;
