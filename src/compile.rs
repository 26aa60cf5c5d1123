//! Compiling aside: apps' bytes become machine code in a process of its own, while the host serves.
//!
//! ```text
//! host   | line ──a place──> process ──job on stdin──>  child | confine, check, compile
//!        |                      ^                             |
//!        |                      └──answer on stdout, exit ────┘
//! ```
//!
//! A compiler that is given hostile bytes may take minutes or gigabytes, or crash; none of that can be stopped within a
//! process, or kept from harming it. So it is the same program once more, `hostler compile`, which gives itself a
//! low priority and limits of memory and time before it looks at the bytes. Whatever becomes of it, the host has a
//! release less and nothing else.
//!
//! What stays in the host before that is [`prepare::check_known`]: one pass over the sections' headers and a digest, in
//! time that grows with the file alone and with bounded lists, which names the kind of app and refuses what is none. The
//! validator looks into every function and takes some fifty times as long (for 30 MB 1.5 s instead of 20 ms, most of them
//! for the digest); it runs in the child, right before the compiler.
//!
//! Reading order: [`queue`] is the pure policy of who compiles next; [`line`] is what waits by it; [`job`] is what host
//! and child say to each other; [`process`] starts a child and waits for its end; [`child`] is the child, and [`preload`]
//! what it does with an app that is to be preloaded.

pub mod child;
mod confine;
pub mod job;
pub mod line;
pub mod preload;
pub mod process;
pub mod queue;

use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::runtime::Handle;

use crate::config;
use crate::engine::{self, CodeKind, CompileError, EngineKind, EngineSettings, Engines, Reset};
use crate::prepare::preload::{Preload, Verdict};
use crate::prepare::{self, Digest, Kind};
use line::{Line, Place};
use process::{Children, Program};
use queue::{Asked, Standing};

/// Where the compiler runs.
pub enum Way {
    /// In a child process: this program with the verb `compile`.
    Child(Program),
    /// In this process, without limits: for programs that have the library in them and are not `hostler` themselves.
    InProcess,
}

/// What all compilations of a host may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory of one child.
    pub memory: u64,
    /// Processor time of one child.
    pub cpu_time: Duration,
    /// From the start of a child to its end.
    pub time: Duration,
    /// Their priority, as `nice` counts it.
    pub nice: u8,
    /// Children at once.
    pub jobs: NonZero<usize>,
    /// Processors that all children share.
    pub processors: NonZero<usize>,
}

/// Compiles apps, a few at once. One for the host.
pub struct Compiler {
    way: Way,
    limits: Limits,
    line: Arc<Line>,
    children: Children,
    guests_compute: Box<dyn Fn() -> bool + Send + Sync>,
}

/// What is to be made of an app's bytes.
#[derive(Debug, Clone)]
pub struct Order {
    pub kind: Kind,
    pub reset: Reset,
    /// How it is preloaded, if it is.
    pub preload: Option<Arc<Preload>>,
}

impl Order {
    pub fn engine_kind(&self) -> EngineKind {
        EngineKind::of(self.kind, self.reset)
    }

    pub fn code_kind(&self) -> CodeKind {
        CodeKind::of(self.kind, self.reset)
    }

    /// What the artifact is named by, together with the engine and the kind of code. `app`: of its bytes.
    pub fn digest(&self, app: &Digest) -> Digest {
        self.preload.as_ref().map_or(*app, |preload| preload.digest(app))
    }
}

/// How much there is to compile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Compilers that run.
    pub running: usize,
    /// Apps that wait for their turn.
    pub waiting: usize,
}

impl Limits {
    /// Half of the `cpus` for all children together, so that serving keeps the rest. Unless the operator has said how many
    /// there are at once, as many as each have some processors, but two at least, so that an app which takes long to
    /// compile doesn't hold up all others.
    pub fn of(config: &config::Compile, cpus: usize) -> Limits {
        let processors = NonZero::new(cpus / 2).unwrap_or(NonZero::<usize>::MIN);
        let by_processors = NonZero::new((processors.get() / engine::COMPILE_THREADS).max(2));
        Limits {
            memory: config.memory_limit,
            cpu_time: config.cpu_time,
            time: config.time_limit,
            nice: config.nice,
            jobs: config.jobs.or(by_processors).unwrap_or(NonZero::<usize>::MIN),
            processors,
        }
    }
}

impl Compiler {
    /// `guests_compute`: do any have work to do at the lowest priority? A child that begins then gives way to them: it would
    /// else have half of a processor.
    pub fn new(
        way: Way,
        limits: Limits,
        guests_compute: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Compiler {
        let line = Line::new(limits.jobs.get());
        Compiler {
            way,
            limits,
            line,
            children: Children::default(),
            guests_compute: Box::new(guests_compute),
        }
    }

    /// Where to wait for a place, which [`Compiler::compile`] wants to see.
    pub fn line(&self) -> &Arc<Line> {
        &self.line
    }

    /// Checks an app's bytes and compiles them to what [`engine::compile`] makes of them in these engines. Blocks for as
    /// long as that takes.
    ///
    /// # Errors
    /// See [`CompileError`]. Nothing is left of a child that failed.
    pub fn compile(
        &self,
        _: &Place,
        engines: &Engines,
        order: &Order,
        bytes: &[u8],
    ) -> Result<Vec<u8>, CompileError> {
        let (kind, preload) = (order.engine_kind(), order.preload.as_deref());
        let engine = engines.get(kind).map_err(|error| CompileError::Compile(format!("{error:#}")))?;
        let program = match &self.way {
            Way::InProcess => return checked_compile(engines.settings(), engine, kind, preload, bytes),
            Way::Child(program) => program,
        };
        let compatibility = engine::compatibility(engine);
        let job = job::Job {
            // With more priority the operator has said what goes first.
            is_last: i32::from(self.limits.nice) == engine::NICEST && (self.guests_compute)(),
            ..job::Job::new(engines.settings(), kind, &compatibility, bytes, &self.limits)
        };
        let Some(preload) = preload else { return self.children.run(program, &job, bytes, &self.limits) };
        let with_preload = job::Job { preload: Some(preload.clone()), ..job.clone() };
        match self.children.run(program, &with_preload, bytes, &self.limits) {
            // A child that was ended by what a guest did in it says nothing of the app as it is.
            Err(
                error @ (CompileError::Memory(_)
                | CompileError::CpuTime(_)
                | CompileError::Time(_)
                | CompileError::Process(_)),
            ) => {
                let payload = self.children.run(program, &job, bytes, &self.limits)?;
                let reason =
                    format!("it could not be tried: {error}; the next deploy or restart tries again");
                engine::with_verdict(payload, &Verdict::untried(reason))
            }
            other => other,
        }
    }

    /// Waits for a place, and compiles. Blocks, outside of the runtime.
    ///
    /// # Errors
    /// See [`CompileError`].
    pub fn compile_in_turn(
        &self,
        runtime: &Handle,
        standing: Standing,
        asked: Asked,
        engines: &Engines,
        order: &Order,
        bytes: &[u8],
    ) -> Result<Vec<u8>, CompileError> {
        let place = runtime.block_on(self.line.place(standing, asked)).map_err(|_| CompileError::Stopped)?;
        self.compile(&place, engines, order, bytes)
    }

    /// Ends all compilations, and lets no other one begin.
    pub fn stop(&self) {
        self.line.close();
        self.children.stop();
    }

    /// Waits until no child is left.
    pub async fn stopped(&self) {
        self.children.gone().await;
    }

    pub fn status(&self) -> Status {
        Status { running: self.children.running(), waiting: self.line.waiting() }
    }
}

/// What becomes of an app's bytes, wherever it is done.
fn checked_compile(
    settings: &EngineSettings,
    engine: &wasmtime::Engine,
    kind: EngineKind,
    preload: Option<&Preload>,
    bytes: &[u8],
) -> Result<Vec<u8>, CompileError> {
    let checked = prepare::check(bytes).map_err(|refusal| CompileError::Refused(refusal.to_string()))?;
    let compile = |bytes: &[u8]| engine::compile(engine, bytes, CodeKind::of(checked.kind, kind.reset()));
    let Some(preload) = preload else { return compile(bytes) };
    let preloaded = preload::preload(settings, preload, bytes).and_then(|image| {
        // It may be that the app can be rewound and its image can't.
        let payload = compile(&image).map_err(|error| error.to_string())?;
        Ok((payload, image.len() as u64))
    });
    match preloaded {
        Ok((payload, image_size)) => {
            engine::with_verdict(payload, &Verdict::On { app_size: bytes.len() as u64, image_size })
        }
        Err(reason) => engine::with_verdict(compile(bytes)?, &Verdict::refused(reason)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(cpus: usize, jobs: Option<usize>) -> (usize, usize) {
        let config = config::Compile { jobs: jobs.and_then(NonZero::new), ..config::Compile::default() };
        let limits = Limits::of(&config, cpus);
        (limits.processors.get(), limits.jobs.get())
    }

    #[test]
    fn compiling_has_half_of_the_processors_and_one_large_app_never_the_only_place() {
        assert_eq!(limits(0, None), (1, 2));
        assert_eq!(limits(1, None), (1, 2));
        assert_eq!(limits(2, None), (1, 2));
        assert_eq!(limits(3, None), (1, 2));
        assert_eq!(limits(8, None), (4, 2));
        assert_eq!(limits(64, None), (32, 8));
        assert_eq!(limits(64, Some(1)), (32, 1));
    }
}
