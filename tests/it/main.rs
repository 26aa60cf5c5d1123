//! Integration tests: a real host, asked over HTTP.

mod program;
mod support;

mod admin;
mod cache;
mod chaos;
mod cli;
mod documents;
mod failures;
mod folder;
mod grants;
mod isolation;
mod kinds;
mod limits;
mod outbound;
mod streaming;
