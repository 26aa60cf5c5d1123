//! Integration tests: a real host, asked over HTTP.

mod support;

mod chaos;
mod failures;
mod isolation;
mod kinds;
mod limits;
mod streaming;
