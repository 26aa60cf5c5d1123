//! A child process that compiles, from its start to its end.
//!
//! All that goes between the two lies in memory files, which are the child's three standard streams: nobody has to read
//! while somebody writes, so to wait is to wait for the end alone.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::sync::watch;

use super::Limits;
use super::job::{Answer, Job, last_words};
use crate::engine::CompileError;
use crate::pieces;

/// The program that children run: an open file, so that it stays the same one when an upgrade puts another in its place.
pub struct Program(File);

impl Program {
    /// The one that runs now.
    pub fn this() -> io::Result<Program> {
        Program::at(Path::new("/proc/self/exe"))
    }

    pub fn at(path: &Path) -> io::Result<Program> {
        File::open(path).map(Program)
    }

    /// The path is looked up by the child before the descriptor is closed for it.
    fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }
}

/// The children that have not ended.
#[derive(Default)]
pub(super) struct Children {
    state: Mutex<Running>,
    /// How many there are.
    count: watch::Sender<usize>,
}

#[derive(Default)]
struct Running {
    are_stopped: bool,
    next: u64,
    children: HashMap<u64, Arc<OwnedFd>>,
}

/// What is left of a child.
struct Ended {
    status: ExitStatus,
    /// It was ended since its time was over.
    was_late: bool,
    answer: File,
    said: Vec<u8>,
}

impl Children {
    /// Runs a child to its end. The thread that starts it is the one that waits for it: the kernel ends a child with the
    /// thread it came from, not with the process.
    pub fn run(
        &self,
        program: &Program,
        job: &Job,
        bytes: &[u8],
        limits: &Limits,
    ) -> Result<Vec<u8>, CompileError> {
        let ended = self.run_to_end(program, job, bytes, limits.time);
        if self.state.lock().are_stopped {
            return Err(CompileError::Stopped);
        }
        let ended = ended.map_err(|error| CompileError::Process(format!("can't be started: {error}")))?;
        match failure(ended.status, ended.was_late, &ended.said, limits) {
            Some(failure) => Err(failure),
            None => {
                let answer = Answer::read(&ended.answer, &job.compatibility, limits.memory);
                let _ = pieces::empty(&ended.answer);
                answer
            }
        }
    }

    /// Ends all that run, and lets no other one begin.
    pub fn stop(&self) {
        let mut running = self.state.lock();
        running.are_stopped = true;
        for child in running.children.values() {
            // One that has ended by itself needs no end.
            let _ = pidfd_send_signal(child, Signal::KILL);
        }
    }

    pub fn running(&self) -> usize {
        *self.count.borrow()
    }

    /// Waits until none runs.
    pub async fn gone(&self) {
        // It fails when the sender is gone, which is here.
        let _ = self.count.subscribe().wait_for(|count| *count == 0).await;
    }

    fn run_to_end(&self, program: &Program, job: &Job, bytes: &[u8], time: Duration) -> io::Result<Ended> {
        let mut input = memory_file("hostler-job")?;
        job.write(&input, bytes)?;
        input.rewind()?;
        let (answer, said) = (memory_file("hostler-answer")?, memory_file("hostler-said")?);
        let mut command = Command::new(program.path());
        // A group of its own: an interrupt typed at the terminal is for the host, which then ends its children.
        command.arg0("hostler").arg("compile").env_clear().process_group(0);
        command.stdin(input.try_clone()?).stdout(answer.try_clone()?).stderr(said.try_clone()?);
        let mut child = Reaped(command.spawn()?);
        let handle = Arc::new(pidfd_open(Pid::from_child(&child.0), PidfdFlags::empty())?);
        let _registered = self.register(&handle);
        let was_late = !wait(&handle, time)?;
        if was_late {
            pidfd_send_signal(&handle, Signal::KILL)?;
        }
        let status = child.0.wait()?;
        // It is closed in any case.
        let _ = pieces::empty(&input);
        Ok(Ended { status, was_late, answer: from_start(answer)?, said: tail(said)? })
    }

    fn register(&self, handle: &Arc<OwnedFd>) -> Registered<'_> {
        let mut running = self.state.lock();
        let number = running.next;
        running.next += 1;
        running.children.insert(number, handle.clone());
        self.count.send_replace(running.children.len());
        if running.are_stopped {
            let _ = pidfd_send_signal(handle, Signal::KILL);
        }
        Registered { children: self, number }
    }
}

/// A child's place among those that run.
struct Registered<'c> {
    children: &'c Children,
    number: u64,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        let mut running = self.children.state.lock();
        running.children.remove(&self.number);
        self.children.count.send_replace(running.children.len());
    }
}

/// A child that is ended and waited for, whatever happens.
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        // Both are nothing to a child that has been waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits for a process's end; false if it has not come in time.
fn wait(handle: &OwnedFd, time: Duration) -> io::Result<bool> {
    let began = Instant::now();
    loop {
        let left = Timespec::try_from(time.saturating_sub(began.elapsed())).ok();
        match poll(&mut [PollFd::new(handle, PollFlags::IN)], left.as_ref()) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Why a child that ended so gave no answer that could be looked at; `None` if it did.
fn failure(status: ExitStatus, was_late: bool, said: &[u8], limits: &Limits) -> Option<CompileError> {
    if was_late {
        return Some(CompileError::Time(limits.time));
    }
    let words = match last_words(said) {
        words if words.is_empty() => String::new(),
        words => format!(": {words}"),
    };
    let signal = status.signal().and_then(Signal::from_named_raw);
    Some(match (status.code(), signal) {
        (Some(0), _) => return None,
        _ if has_no_memory(said) => CompileError::Memory(limits.memory),
        // The artifact itself is larger than the memory that it may be made in.
        (None, Some(Signal::XFSZ)) => CompileError::Memory(limits.memory),
        (None, Some(Signal::XCPU)) => CompileError::CpuTime(limits.cpu_time),
        (None, Some(Signal::KILL)) => CompileError::Process(
            "was killed, by somebody or by the kernel because the machine has too little memory".to_owned(),
        ),
        (Some(code), _) => CompileError::Process(format!("ended with code {code}{words}")),
        (None, _) => {
            CompileError::Process(format!("crashed (signal {}){words}", status.signal().unwrap_or_default()))
        }
    })
}

/// What a Rust program says when there is no memory, and what the arenas in the compiler say.
fn has_no_memory(said: &[u8]) -> bool {
    let said = String::from_utf8_lossy(said);
    said.contains("memory allocation of") || said.contains("out of memory")
}

fn memory_file(name: &str) -> io::Result<File> {
    // Kernels can be told to give no others than these; those before 6.3 don't know them.
    let made = match memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::NOEXEC_SEAL) {
        Err(rustix::io::Errno::INVAL) => memfd_create(name, MemfdFlags::CLOEXEC),
        made => made,
    };
    Ok(File::from(made?))
}

fn from_start(mut file: File) -> io::Result<File> {
    file.rewind()?;
    Ok(file)
}

/// The last of what was said.
fn tail(mut file: File) -> io::Result<Vec<u8>> {
    const KEPT: u64 = 4096;
    let length = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(length.saturating_sub(KEPT)))?;
    let mut said = Vec::new();
    file.take(KEPT).read_to_end(&mut said)?;
    Ok(said)
}

#[cfg(test)]
mod tests;
