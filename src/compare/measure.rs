//! The rounds: in each of them every server gets its slice, in an order that rotates, so that what the machine does
//! besides meets all of them alike.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use thiserror::Error;

use super::cores::Split;
use super::load::{Expected, Load, Outcome};
use super::plan::{Schedule, Share, takes_part};
use super::usage::{CpuReading, Memory};

/// A server that is measured.
#[derive(Debug, Clone)]
pub struct Target {
    pub pid: u32,
    pub address: SocketAddr,
    /// The whole request.
    pub request: Bytes,
    /// How long one request takes when it is the only one.
    pub one_request: Duration,
}

/// What is the same for all servers.
#[derive(Debug, Clone)]
pub struct Plan {
    pub method: Method,
    pub expected: Expected,
    pub connections: usize,
    pub schedule: Schedule,
    pub split: Split,
}

/// What was seen of one server.
#[derive(Debug)]
pub struct Measured {
    pub share: Share,
    /// With all connections.
    pub loaded: Vec<Slice>,
    /// With one connection.
    pub alone: Vec<Slice>,
    /// After the rounds with all connections.
    pub memory: Option<Memory>,
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
    for (target, found) in targets.iter().zip(&measured) {
        let duration = schedule.warm_up.min(found.share.slice);
        slice(target, plan, found.share.connections, duration, found.share.grace, 0).await?;
    }
    for round in 0..schedule.rounds {
        for (target, found) in rotated(targets, &mut measured, round) {
            let share = found.share;
            if takes_part(round, share.rounds, schedule.rounds) {
                let slice = slice(target, plan, share.connections, share.slice, share.grace, round).await?;
                found.loaded.push(slice);
            }
        }
    }
    for (target, found) in targets.iter().zip(&mut measured) {
        found.memory = Memory::of(target.pid).ok();
    }
    for round in 0..schedule.alone_rounds {
        for (target, found) in rotated(targets, &mut measured, round) {
            if takes_part(round, found.share.alone_rounds, schedule.alone_rounds) {
                let slice = slice(target, plan, 1, schedule.alone, found.share.grace, round).await?;
                found.alone.push(slice);
            }
        }
    }
    Ok(measured)
}

impl Measured {
    fn new(target: &Target, plan: &Plan) -> Self {
        let share = plan.schedule.share(target.one_request, plan.connections, plan.split.server_count());
        Self { share, loaded: Vec::new(), alone: Vec::new(), memory: None }
    }
}

async fn slice(
    target: &Target,
    plan: &Plan,
    connections: usize,
    duration: Duration,
    grace: Duration,
    round: usize,
) -> Result<Slice, MeasureError> {
    let load = Load {
        address: target.address,
        method: plan.method.clone(),
        request: target.request.clone(),
        expected: plan.expected.clone(),
        connections,
        duration,
        grace,
        cores: plan.split.load().cloned(),
    };
    tokio::time::sleep(BREATH).await;
    let before = CpuReading::of(target.pid);
    let outcome = load.run().await.ok_or(MeasureError::Threads)?;
    let cpu = before.and_then(|before| Ok(CpuReading::of(target.pid)?.since(&before))).ok();
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
