//! Bodies: requests come in and responses go out within bounds, and what is broken looks broken.
//!
//! - [`RequestBody`] limits size and waiting; [`read_small`] takes a small one in before an instance is leased.
//! - [`Uploading`] is one that a guest reads while it comes; [`Upload`] tells what became of it.
//! - [`channel()`] carries a response from a guest to its connection, bounded by bytes.
//! - [`ResponseBody`] is what a handler answers with.

pub use channel::{Receiver, SendError, Sender, channel};
pub use request::{RequestBody, RequestError, Small, read_small};
pub use response::{BodyEnd, ResponseBody, ResponseError, Watch};
pub use upload::{Upload, Uploading};

mod channel;
mod request;
mod response;
mod upload;
