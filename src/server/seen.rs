//! What is known of a request while it is served: by the handler, and by the refusal that may come of it.

use std::sync::Arc;

use super::body::Upload;
use super::connection::Peer;
use super::timing::Timing;
use crate::metrics::AnsweredBy;
use crate::release::Release;

pub struct Seen {
    pub id: u64,
    pub peer: Peer,
    /// The release that it was routed to.
    pub release: Option<Arc<Release>>,
    pub answered_by: AnsweredBy,
    /// What became of its body, if the guest was given it while it came.
    pub upload: Option<Arc<Upload>>,
    pub timing: Timing,
}

impl Seen {
    pub fn new(id: u64, peer: Peer, timing: Timing) -> Seen {
        Seen { id, peer, release: None, answered_by: AnsweredBy::None, upload: None, timing }
    }

    /// It is answered by `who` of the release that it was routed to. The first one counts: what an app redirects to
    /// within the host is still its own request.
    pub fn by(&mut self, who: AnsweredBy) {
        let Some(release) = &self.release else { return };
        if self.answered_by == AnsweredBy::None {
            self.answered_by = who;
            release.counters.app.request(who);
        }
    }
}
