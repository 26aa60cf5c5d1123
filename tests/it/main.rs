//! Integration tests: a real host, asked over HTTP.

mod footprint;
mod process;
mod program;
mod support;
mod wire;

mod accounts;
mod admin;
mod brake;
mod budget;
mod cache;
mod cgi;
mod cli;
mod clocks;
mod compile;
mod documents;
mod failures;
mod fairness;
mod folder;
mod grants;
mod hostile;
mod isolation;
mod kinds;
mod leavers;
mod limits;
mod outbound;
mod protocol;
mod redeploys;
mod restart;
mod shutdown;
mod sizing;
mod soak;
mod static_files;
mod streaming;
mod ways;
