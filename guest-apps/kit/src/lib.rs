//! What several of the example apps need of a request and for a response.
//!
//! `hello` does without it, to show the bare interface.

mod query;
mod reply;

pub use query::Query;
pub use reply::{Gone, Reply, send, send_text};
