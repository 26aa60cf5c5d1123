//! From an app's bytes to an artifact's payload.

use std::fmt;
use std::num::NonZero;
use std::sync::OnceLock;

use wasmtime::Engine;

use super::tail::Tail;
use super::{Code, CodeKind, CompileError, load_bytes};
use crate::engine::thread::give_way_to_all;
use crate::prepare;
use crate::prepare::instrument::Instrumented;

/// Threads that one compilation takes at most.
pub const COMPILE_THREADS: usize = 4;

/// Compiles checked bytes (binary WebAssembly) to an artifact's payload; instruments them first where the kind is that.
/// Blocks for as long as that takes.
pub fn compile(engine: &Engine, bytes: &[u8], kind: CodeKind) -> Result<Vec<u8>, CompileError> {
    // Threads of its own: in those that all compilations share, a small app's functions come after a large one's.
    let threads = compile_threads(COMPILE_THREADS).build().map_err(no_threads)?;
    threads.install(|| precompile(engine, bytes, kind))
}

/// Compiles and loads checked bytes for one use, and does with the code what is to be done: all in threads that give way
/// to all others, unless it is `urgent`. Blocks for as long as that takes.
///
/// The whole process has no more of them than processors: one that a second of them keeps from running may hold a lock
/// of the allocator or the kernel that a request needs.
pub fn compile_once<T: Send>(
    engine: &Engine,
    bytes: &[u8],
    kind: CodeKind,
    urgent: bool,
    then: impl FnOnce(Code) -> T + Send,
) -> Result<T, CompileError> {
    if urgent {
        return load_bytes(engine, &compile(engine, bytes, kind)?, kind).map(then);
    }
    static THREADS: OnceLock<Result<rayon::ThreadPool, String>> = OnceLock::new();
    let threads = THREADS.get_or_init(|| {
        let threads = compile_threads(usize::MAX).start_handler(|_| give_way_to_all()).build();
        threads.map_err(|error| error.to_string())
    });
    let threads = threads.as_ref().map_err(no_threads)?;
    threads.install(|| load_bytes(engine, &precompile(engine, bytes, kind)?, kind).map(then))
}

/// As many as there are processors, or at most so many.
fn compile_threads(most: usize) -> rayon::ThreadPoolBuilder {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    rayon::ThreadPoolBuilder::new()
        .num_threads(cores.min(most))
        .thread_name(|index| format!("compile-{index}"))
}

fn no_threads(error: impl fmt::Display) -> CompileError {
    CompileError::Compile(format!("no threads to compile with: {error}"))
}

fn precompile(engine: &Engine, bytes: &[u8], kind: CodeKind) -> Result<Vec<u8>, CompileError> {
    let mut manifest = None;
    let compiled = match kind {
        CodeKind::Component => engine.precompile_component(bytes),
        CodeKind::Module => engine.precompile_module(bytes),
        CodeKind::Instrumented => {
            let instrumented =
                prepare::for_rewind(bytes).map_err(|reason| CompileError::Ineligible(reason.to_string()))?;
            let Instrumented { wasm, manifest: found } = instrumented;
            manifest = Some(found);
            engine.precompile_component(&wasm)
        }
    };
    let code = compiled.map_err(|error| CompileError::Compile(format!("{error:#}")))?;
    Ok(Tail { manifest, ..Tail::default() }.append(code))
}
