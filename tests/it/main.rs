//! Integration tests: a real host, asked over HTTP.

mod program;
mod support;
mod wire;

mod cgi;
mod failures;
mod kinds;
mod limits;
mod protocol;
mod shutdown;
mod streaming;
