//! Preloading: the app is started here, and the state that it comes to is written into it.
//!
//! ```text
//! opened -> start -> image ──twice, under different conditions──> the same? -> checked -> compared with the plain app
//! ```
//!
//! Nothing that a guest does here is of use to anyone but its image: it has no files and no network, and what it asks of
//! the host is refused unless the app's owner allows it. Whatever goes wrong is a reason to serve the app as it is.
//!
//! Reading order: [`guest`] is an instance and its host, and [`time`] how long that may take; [`state`] reads its state;
//! [`comparison`] has the last word.

mod comparison;
mod guest;
mod state;
#[cfg(test)]
mod tests;
mod time;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use wasmtime::Engine;
use wasmtime::component::Component;

use crate::config::units::format_size;
use crate::engine::{self, Code, CodeKind, CompileError, EngineKind, EngineSettings, EpochTicker};
use crate::prepare::preload::{MOST_GROWTH, Preload, Source, opened, wizer};
use crate::prepare::{self, Kind};
use guest::{Conditions, Guests};
use state::State;

/// How often guests give way, so that their time can be seen to be over.
const TICK: Duration = Duration::from_millis(10);

/// Preloads a checked app, in a thread of its own: the app with its image in it. Blocks.
///
/// # Errors
/// Why it can't be: to be served as it is.
pub fn preload(settings: &EngineSettings, preload: &Preload, app: &[u8]) -> Result<Vec<u8>, String> {
    let attempt = || {
        // Wizer gives up where it meets what it doesn't know.
        catch_unwind(AssertUnwindSafe(|| attempt(settings, preload, app)))
            .unwrap_or_else(|_| Err("its state can't be kept: it has something unknown in it".to_owned()))
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("preload".to_owned()).spawn_scoped(scope, attempt);
        match thread.map(|thread| thread.join()) {
            Ok(Ok(attempted)) => attempted,
            Ok(Err(_)) => Err("it came to an unknown end".to_owned()),
            Err(error) => Err(format!("there is no thread for it: {error}")),
        }
    })
}

fn attempt(settings: &EngineSettings, preload: &Preload, app: &[u8]) -> Result<Vec<u8>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.map_err(|error| format!("there is no runtime for it: {error}"))?;
    let engine = settings.compiling_engine(EngineKind::Plain).map_err(|error| format!("{error:#}"))?;
    let ticker = EpochTicker::start(TICK).map_err(|error| format!("there is no clock for it: {error}"))?;
    ticker.watch(&engine);

    let (cx, open) = opened(app)?;
    let open = compiled(&engine, &open)?;
    let guests = Guests::new(&engine, &open, |source| !preload.allows(source))?;
    let usual = Conditions::new(preload);
    let image = async |conditions: &Conditions<'_>| -> Result<(Vec<u8>, State), String> {
        let mut guest = guests.start(conditions).await?;
        guest.reach_state(preload).await?;
        guest.image(&wizer(), &cx).await
    };
    let (wasm, state) = runtime.block_on(image(&usual))?;
    check_size(app.len(), wasm.len())?;
    let varied: Vec<_> = Source::ALL
        .into_iter()
        .filter(|source| source.varies() && preload.allows(*source) && !preload.freezes(*source))
        .collect();
    let (other, other_state) = runtime.block_on(image(&usual.with_other(&varied)))?;
    if wasm != other {
        let mut leaked = Vec::new();
        for source in varied {
            // One that fails alone leaves something, too.
            let alone = runtime.block_on(image(&usual.with_other(&[source])));
            if alone.map_or(true, |(other, _)| other != wasm) {
                leaked.push(source);
            }
        }
        return Err(leak(&leaked, state.difference(&other_state)));
    }
    check_kind(&wasm)?;
    let loaded = compiled(&engine, &wasm)?;
    let plain = Guests::new(&engine, &open, |_| false)?;
    let preloaded = Guests::new(&engine, &loaded, |_| false)?;
    runtime.block_on(comparison::compare(&usual, &plain, &preloaded))?;
    Ok(wasm)
}

fn compiled(engine: &Engine, wasm: &[u8]) -> Result<Component, String> {
    let code = |code| match code {
        Code::Component(component) => Ok(component),
        _ => Err("it was compiled to something else".to_owned()),
    };
    engine::compile_once(engine, wasm, CodeKind::Component, true, code)
        .unwrap_or_else(|error: CompileError| Err(error.to_string()))
}

fn check_size(before: usize, after: usize) -> Result<(), String> {
    if after.saturating_sub(before) <= MOST_GROWTH {
        return Ok(());
    }
    let size = |size: usize| format_size(size as u64);
    Err(format!(
        "its image is too large: {} instead of the app's {}, and it may have {} more",
        size(after),
        size(before),
        size(MOST_GROWTH)
    ))
}

fn check_kind(wasm: &[u8]) -> Result<(), String> {
    match prepare::check(wasm) {
        Ok(checked) if checked.kind == Kind::Http02 => Ok(()),
        Ok(checked) => Err(format!("what comes of it is a {} app", checked.kind)),
        Err(refusal) => Err(format!("what comes of it is not valid: {refusal}")),
    }
}

/// What two images that are not the same mean.
fn leak(leaked: &[Source], difference: String) -> String {
    let named = leaked.iter().map(|source| source.as_str()).collect::<Vec<_>>().join(", ");
    match leaked {
        [] => format!("two images of it are not the same, and why can't be told: {difference}"),
        [first, ..] => format!(
            "what it had from the host stayed in its image ({named}), where every instance would have the same: \
             {difference}; allow \"frozen-{}\" if that does no harm",
            first.as_str()
        ),
    }
}
