//! What a compile child does to itself before it looks at an app's bytes.
//!
//! The child and not its parent sets the limits: what runs between `fork` and `exec` of a process with many threads must
//! not do more than a few things, and a start without such steps also needs no copy of the host's page tables.

use std::io;

use rustix::process::{Resource, Rlimit, Signal};
use rustix::thread::CpuSet;

use super::job::Job;
use crate::engine;

/// Of the OOM killer's marks the greatest: it takes the compiler before it takes the host.
const FIRST_TO_GO: &str = "1000";

/// Confines this process to what the job allows. Called before there is a second thread, which would keep its priority.
pub fn confine(job: &Job) -> io::Result<()> {
    // The program was started by a descriptor's name, which is no name to find it by.
    rustix::thread::set_name(c"hostler-compile")?;
    die_with(job.host)?;
    give_way(job)?;
    // A core dump would be the app's bytes in somebody's folder.
    limit(Resource::Core, 0)?;
    // What is written to, and no address space that is only reserved, of which an allocator takes much for each thread.
    limit(Resource::Data, job.memory)?;
    // What is handed back lies in memory, too, but is not the process's own.
    limit(Resource::Fsize, job.memory)?;
    limit(Resource::Cpu, job.cpu_time)?;
    use_processors(job.processors)?;
    // Some containers don't let it be set; then the kernel judges by size.
    let _ = std::fs::write("/proc/self/oom_score_adj", FIRST_TO_GO);
    // So that no mount is busy because of it.
    std::env::set_current_dir("/")
}

/// Has the kernel end this process together with the thread that started it, which waits for it.
fn die_with(host: u32) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have ended before the kernel was told.
    let parent = rustix::process::getppid().and_then(|pid| u32::try_from(pid.as_raw_nonzero().get()).ok());
    if parent == Some(host) { Ok(()) } else { Err(io::Error::other("the host has ended")) }
}

/// Lets others run first. The process stays in the host's session, since the kernel may compare priorities within a
/// session only.
fn give_way(job: &Job) -> io::Result<()> {
    // A host that is itself started with less priority than this can't have more for its compiler.
    let nice = rustix::process::getpriority_process(None)?.max(job.nice.into());
    rustix::process::setpriority_process(None, nice)?;
    if job.is_last { engine::give_way_to_the_nicest() } else { Ok(()) }
}

/// Sets a limit for good.
fn limit(resource: Resource, limit: u64) -> io::Result<()> {
    // One that was set before on the host is not raised.
    let hard = rustix::process::getrlimit(resource).maximum;
    let limit = hard.map_or(limit, |hard| hard.min(limit));
    // A process at the hard limit of processor time is killed and doesn't show why: a second before, it does.
    let spare = u64::from(matches!(resource, Resource::Cpu));
    let hard = hard.map_or(limit.saturating_add(spare), |hard| hard.min(limit.saturating_add(spare)));
    Ok(rustix::process::setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(hard) })?)
}

/// The last of those that it may use: the first ones have the most to do for the kernel already.
fn use_processors(count: usize) -> io::Result<()> {
    let allowed = rustix::thread::sched_getaffinity(None)?;
    let mut chosen = CpuSet::new();
    for cpu in (0..CpuSet::MAX_CPU).rev().filter(|cpu| allowed.is_set(*cpu)).take(count) {
        chosen.set(cpu);
    }
    Ok(rustix::thread::sched_setaffinity(None, &chosen)?)
}
