//! Hostler: an application host for WebAssembly with instance pooling.
//!
//! The modules in the order in which a reader meets them; ARCHITECTURE.md is the tour.

// The operator's side: what is typed, what is configured, what runs.
pub mod cli;
pub mod config;
pub mod host;
pub mod logging;
pub mod machine;
pub mod sizing;

// A request's way: from the socket to the app that answers.
pub mod after_poll;
pub mod registry;
pub mod release;
pub mod router;
pub mod server;

// Instances: how they are pooled, what they are.
pub mod instance;
pub mod pool;

// The promise that instances are kept apart, held against the facts.
pub mod isolation;

// A deploy's way: from a file to a release.
pub mod compile;
pub mod deploy;
#[expect(unsafe_code, reason = "code is mapped and run, and the kernel is asked, here and nowhere else")]
pub mod engine;
pub mod pieces;
pub mod prepare;
pub mod private_dir;
pub mod public;

// What is seen of it all.
pub mod admin;
pub mod audit;
pub mod compare;
pub mod metrics;
pub mod recording;
