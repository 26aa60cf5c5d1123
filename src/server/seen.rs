//! What is known of a request while it is served: by the handler, and by the refusal that may come of it.

use std::sync::Arc;

use super::connection::Peer;
use crate::release::Release;

pub struct Seen {
    pub id: u64,
    pub peer: Peer,
    /// The release that it was routed to.
    pub release: Option<Arc<Release>>,
}
