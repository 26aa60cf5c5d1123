//! Integration tests: a real host, asked over HTTP.

mod process;
mod program;
mod support;
mod wire;

mod admin;
mod cache;
mod cgi;
mod chaos;
mod cli;
mod documents;
mod failures;
mod fairness;
mod folder;
mod grants;
mod isolation;
mod kinds;
mod limits;
mod outbound;
mod protocol;
mod restart;
mod shutdown;
mod sizing;
mod streaming;
