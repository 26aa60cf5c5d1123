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
//! [`mod@read`] takes one app's files into memory; [`watcher`] says when to look. A hint of the watcher may be late,
//! doubled or missing: the timer behind it and the plan make up for that, so nothing depends on notification.

pub mod name;
pub mod plan;
pub mod read;
pub mod scan;
#[cfg(test)]
mod tests;
pub mod watcher;

pub use name::AppName;
pub use plan::{AfterRead, Outcome, Plan, Planner, Step};
pub use read::{Digests, ReadApp, ReadError, read};
pub use scan::{FolderState, Found, Limits, Problem, ScanError, Stamp, scan};
pub use watcher::Watcher;
