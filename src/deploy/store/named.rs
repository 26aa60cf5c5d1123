//! Which blobs are named by how many releases, so that what becomes of one app's record is a matter of its own blobs alone,
//! however many there are of all apps.

use std::collections::HashMap;

use super::record::Record;
use crate::prepare::Digest;

/// Blobs that records name: those of now, and those that are still on disk since they could not be replaced.
#[derive(Debug, Default)]
pub(super) struct Named {
    counts: HashMap<Digest, u64>,
    /// What is on disk of an app instead of its record.
    stale: HashMap<String, Record>,
}

impl Named {
    pub fn add(&mut self, record: &Record) {
        for digest in names(record) {
            *self.counts.entry(digest).or_default() += 1;
        }
    }

    /// A record takes the place of the one before, on disk too if it `is_written`. Returns the blobs that no record names
    /// any more.
    pub fn exchange(&mut self, before: &Record, record: &Record, is_written: bool) -> Vec<Digest> {
        self.add(record);
        if !is_written && !self.stale.contains_key(&before.app) {
            self.stale.insert(before.app.clone(), before.clone());
            return Vec::new();
        }
        let mut unnamed = self.take(before);
        if is_written && let Some(stale) = self.stale.remove(&before.app) {
            unnamed.extend(self.take(&stale));
        }
        unnamed
    }

    pub fn has(&self, digest: Digest) -> bool {
        self.counts.contains_key(&digest)
    }

    /// Takes back what was added, and returns the blobs that no record names any more.
    fn take(&mut self, record: &Record) -> Vec<Digest> {
        let mut unnamed = Vec::new();
        for digest in names(record) {
            let Some(count) = self.counts.get_mut(&digest) else { continue };
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&digest);
                unnamed.push(digest);
            }
        }
        unnamed
    }
}

/// The blobs of an app, one as often as it is named.
fn names(record: &Record) -> impl Iterator<Item = Digest> + '_ {
    record.releases.iter().flat_map(|kept| {
        let own = [Some(kept.digests.wasm), kept.digests.config];
        own.into_iter().flatten().chain(kept.static_files.iter().map(|file| file.digest))
    })
}
