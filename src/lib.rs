//! Hostler: an application host for WebAssembly with instance pooling.

pub mod config;
