//! Which blobs are named by how many releases, so that what becomes of one app's record is a matter of its own blobs alone,
//! however many there are of all apps.

use std::collections::HashMap;

use super::record::Record;
use crate::prepare::Digest;

/// Blobs that records name.
#[derive(Debug, Default)]
pub(super) struct Named(HashMap<Digest, u64>);

impl Named {
    pub fn add(&mut self, record: &Record) {
        for digest in names(record) {
            *self.0.entry(digest).or_default() += 1;
        }
    }

    /// Takes back what was added, and returns the blobs that no record names any more.
    pub fn take(&mut self, record: &Record) -> Vec<Digest> {
        let mut unnamed = Vec::new();
        for digest in names(record) {
            let Some(count) = self.0.get_mut(&digest) else { continue };
            *count -= 1;
            if *count == 0 {
                self.0.remove(&digest);
                unnamed.push(digest);
            }
        }
        unnamed
    }

    pub fn has(&self, digest: Digest) -> bool {
        self.0.contains_key(&digest)
    }
}

/// The blobs of an app, one as often as it is named.
fn names(record: &Record) -> impl Iterator<Item = Digest> + '_ {
    record.releases.iter().flat_map(|kept| {
        let own = [Some(kept.digests.wasm), kept.digests.config];
        own.into_iter().flatten().chain(kept.static_files.iter().map(|file| file.digest))
    })
}
