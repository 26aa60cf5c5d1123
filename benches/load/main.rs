//! What a whole host does under load that it was not made for: its program on one half of the cores, the load on the
//! other, each bench within three minutes.
//!
//! - `fairness`: what one app's flood does to another app (`make bench-fairness`)
//! - `overload`: what is still answered when more is asked than can be (`make bench-overload`)
//! - `brake`: what an app that can't start costs (`make bench-brake`)
//! - `account`: how much of the processor time the apps account for (`make bench-account`)
//! - `compile`: what compiling a large app does to another app (`make bench-compile`)
//! - `deploy`: what deploys of an app do to its own latencies (`make bench-deploy`)
//! - `hostile`: what a folder full of harm does to a neighbour (`make bench-hostile`)
//!
//! Each prints a table and writes its figures to `target/load/`. Needs the guests: `make guests`. With
//! `HOSTLER_BENCH_PROGRAM` set to another `hostler`, that one is measured by the same load.

mod account;
mod brake;
mod compile;
mod deploy;
mod fairness;
mod hostile;
mod large_app;
mod open_loop;
mod overload;
mod stage;

use anyhow::bail;

fn main() -> anyhow::Result<()> {
    // Cargo adds a flag of its own.
    let wanted = std::env::args().skip(1).filter(|argument| argument != "--bench").collect::<Vec<_>>();
    let stage = stage::Stage::set_up()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match wanted.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["fairness"] => runtime.block_on(fairness::run(&stage)),
        ["overload"] => runtime.block_on(overload::run(&stage)),
        ["account"] => runtime.block_on(account::run(&stage)),
        ["brake"] => runtime.block_on(brake::run(&stage)),
        ["deploy"] => runtime.block_on(deploy::run(&stage)),
        ["hostile"] => runtime.block_on(hostile::run(&stage)),
        ["compile"] => runtime.block_on(compile::run(&stage)),
        _ => bail!("say which: fairness, overload, brake, account, compile, deploy or hostile"),
    }
}
