//! Deploying: from files in the apps folder to live releases.
//!
//! ```text
//! watcher ──"look again"──> scan ──folder state──> plan ──steps──> deployer ──> registry
//!                                                    ^                │
//!                                                    └── what came of it
//! ```
//!
//! Reading order: [`name`] is what an app is called and which names are refused; [`mod@scan`] looks at the folder without
//! opening a file; [`plan`] is the pure core that decides what to read, deploy and retire, and when to look again;
//! [`mod@read`] takes one app's files into memory; [`watcher`] says when to look; [`builder`] makes a release of what was
//! read, and `probe` and `warmup` ask it (`asking`); `passing` says which of its failures may pass; [`store`] keeps what
//! was live, to return to it, and `probation` says when that is due; [`deployer`] carries the steps out. A hint of the
//! watcher may be late, doubled or missing: the timer behind it and the plan make up for that, so nothing depends on
//! notification.

mod asking;
mod behind;
pub mod builder;
pub mod deployer;
mod moved;
pub mod name;
mod passing;
pub mod plan;
mod probation;
mod probe;
pub mod read;
pub mod scan;
mod shelf;
pub mod store;
mod warmup;
pub mod watcher;

pub use builder::{Builder, DeployError, Sources};
pub use deployer::{Deployer, MAX_APP_SIZE, Progress, orders};
pub use name::AppName;

#[cfg(test)]
mod tests;
