//! Integration tests: a real host, asked over HTTP.

mod support;

mod isolation;
mod kinds;
