//! Commands as CGI/1.1 programs (RFC 3875): the request becomes an environment, stdout becomes a response.
//!
//! Both halves are pure: [`environment`] turns a request into meta-variables, [`response`] reads what the program
//! prints. Running the command, its stdin and its body are not the business of this module.
//!
//! Absent on purpose:
//! - *Search words as arguments* (RFC 3875 section 4.4). They are optional, few servers still have them, and they let a
//!   client choose a program's command line. See [`arguments`].
//! - *Non-parsed headers* (section 5). A program that prints `HTTP/1.1 200 OK` is refused: it can't know the
//!   connection it answers on.
//! - `PATH_TRANSLATED`, `REMOTE_IDENT`, `REMOTE_USER` and `AUTH_TYPE`: see [`environment`].

pub mod environment;
pub mod response;

pub use environment::{CgiRequest, arguments, meta_variables};
pub use response::{BadResponse, Document, Head, Parser};

/// Local redirects that one client request may lead through before it is answered with an error.
pub const MAX_LOCAL_REDIRECTS: u32 = 5;

/// Bytes that a program's header section may take, the blank line included, unless set otherwise.
pub const DEFAULT_HEADER_LIMIT: usize = 64 * 1024;
