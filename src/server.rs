//! The HTTP edge, in the order in which a connection meets it.
//!
//! A listener accepts ([`accept`]) and hands each connection to a task of its own ([`connection`]), which speaks
//! HTTP/1.1 or HTTP/2, whatever the client's first bytes say, on hyper. Each request goes to a
//! [`connection::Handler`] with its body as it comes; [`body`] has what a handler needs to take request bodies in
//! and send response bodies out within bounds. [`handler`] is the host's own: it follows a
//! request from its route to its answer, asks `files` first, and [`reply`] turns what goes wrong into one; `timing` says where its time went. [`drain`] ends it all without
//! losing an accepted request.

pub mod accept;
pub mod connection;

mod files;
pub mod handler;
pub mod reply;

pub mod body;

pub mod drain;

mod access;
mod seen;
#[cfg(test)]
mod testing;
mod timing;

/// A request's id as it stands in logs and answers.
pub(crate) fn request_id(id: u64) -> String {
    format!("{id:016x}")
}
