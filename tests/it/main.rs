//! Integration tests: a real host, asked over HTTP.

mod support;

mod chaos;
mod isolation;
mod kinds;
