//! The child: one job from standard input, one answer to standard output, and the end.

use std::io::{self, Read};

use super::checked_compile;
use super::confine::confine;
use super::job::{Answer, Job};
use crate::engine::{self, CompileError};

/// Does the job. What is wrong with the app is an answer; an error is what kept the child from giving one.
pub fn run() -> io::Result<()> {
    engine::close_inherited()?;
    let told = |error: io::Error| io::Error::new(error.kind(), format!("no job on standard input: {error}"));
    let (job, mut from) = Job::read(io::stdin()).map_err(told)?;
    confine(&job).map_err(|error| io::Error::new(error.kind(), format!("can't limit itself: {error}")))?;
    let mut bytes = Vec::with_capacity(usize::try_from(job.length).map_err(io::Error::other)?);
    from.read_to_end(&mut bytes)?;
    if bytes.len() as u64 != job.length {
        return Err(io::Error::other("the app's bytes end early"));
    }
    let (answer, payload) = answer(&job, &bytes);
    answer.write(io::stdout(), &payload)
}

fn answer(job: &Job, bytes: &[u8]) -> (Answer, Vec<u8>) {
    let engine = match job.settings.compiling_engine(job.engine) {
        Ok(engine) => engine,
        Err(error) => return (Answer::Failed { reason: format!("{error:#}") }, Vec::new()),
    };
    let compatibility = engine::compatibility(&engine);
    if compatibility != job.compatibility {
        return (Answer::Mismatch { compatibility }, Vec::new());
    }
    match checked_compile(&job.settings, &engine, job.engine, job.preload.as_ref(), bytes) {
        Ok(payload) => (Answer::Compiled { compatibility, length: payload.len() as u64 }, payload),
        Err(CompileError::Refused(reason)) => (Answer::Refused { reason }, Vec::new()),
        Err(CompileError::Ineligible(reason)) => (Answer::Ineligible { reason }, Vec::new()),
        Err(CompileError::Compile(reason)) => (Answer::Failed { reason }, Vec::new()),
        Err(other) => (Answer::Failed { reason: other.to_string() }, Vec::new()),
    }
}
