//! Integration tests: a real host, asked over HTTP.

mod program;
mod support;

mod admin;
mod cache;
mod cli;
mod documents;
mod folder;
mod grants;
mod kinds;
mod outbound;
