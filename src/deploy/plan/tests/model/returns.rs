//! The model's ways back: restarts of the host, restores and rollbacks.

use super::*;
use crate::deploy::store::record::Kept;

impl World {
    pub(super) fn check_restore(&mut self, app: usize) {
        assert!(
            self.held.contains(&app) || self.files.contains_key(&app),
            "an app without a file is restored"
        );
        let busy = self.reading.contains_key(&app) || self.deploying.contains_key(&app);
        assert!(self.restoring.insert(app, None).is_none() && !busy, "one app is handled twice at once");
    }

    pub(super) fn begin_rollback(&mut self, app_index: usize, to: Option<u64>) {
        let (Some(to), true) = (to, self.served.contains_key(&app_index)) else { return };
        if self.planner.begin_rollback(&app(NAMES[app_index])) {
            assert!(self.restoring.insert(app_index, Some(to)).is_none(), "one app is handled twice at once");
        }
    }

    pub(super) fn restart(&mut self, in_order: bool) {
        self.planner = Planner::new(SETTLE);
        self.reading.clear();
        self.deploying.clear();
        self.restoring.clear();
        self.served.clear();
        self.lost.clear();
        self.failed.clear();
        self.last_look.clear();
        self.gone.clear();
        self.file.clear();
        for (index, record) in &mut self.records {
            if in_order {
                record.stop();
            }
            let live = record.live().map(|live| live.digests);
            if record.recover().is_some()
                && let (Some(failed), Some(to)) = (live, record.live().map(|live| live.digests))
            {
                undo(&mut self.undone, *index, [failed], to);
            }
            let held = record.held.clone().map(|held| held.digests).unwrap_or_default();
            self.planner.remember(app(NAMES[*index]), held, self.now);
        }
    }

    pub(super) fn fail_deploy(&mut self, index: usize, passes: Passes) {
        let Some((digests, ..)) = self.deploying.remove(&index) else { return };
        let name = app(NAMES[index]);
        let again = self.planner.postponed(&name, digests, "it did not work".to_owned(), passes, self.now);
        let live = self.served.contains_key(&index);
        let wanted = passes == Passes::Surely || (passes == Passes::Perhaps && !live);
        assert_eq!(again.is_some(), wanted, "{passes:?}, {live}");
        match again {
            None => self.failed.insert(index, digests),
            Some(_) => self.failed.remove(&index),
        };
    }

    pub(super) fn fail_restore(&mut self, index: usize, passes: Passes) {
        let Some(back_to) = self.restoring.remove(&index) else { return };
        let passes = if back_to.is_some() { Passes::Never } else { passes };
        let again = self.planner.not_restored(&app(NAMES[index]), passes, self.now);
        if again.is_none() && !self.served.contains_key(&index) {
            self.lost.insert(index);
        }
    }

    pub(super) fn finish_restore(&mut self, index: usize) {
        let Some(back_to) = self.restoring.remove(&index) else { return };
        let name = app(NAMES[index]);
        let record = self.records.get_mut(&index).expect("a record");
        let Some(number) = back_to else {
            record.resume(record.live.expect("a live release"), &Standing::Probation);
            let live = record.live().expect("it is kept").digests;
            self.planner.restored(&name, live);
            self.served.insert(index, live);
            return;
        };
        let (file, to) = (self.planner.file(&name), record.get(number).expect("it is kept").digests);
        record.roll_back(number, file, "it is bad");
        let held = record.held.clone().map(|held| held.digests).unwrap_or_default();
        self.planner.rolled_back(&name, to, held);
        let from = self.served.insert(index, to).expect("something was live");
        let read = self.file.get(&index).copied();
        undo(&mut self.undone, index, [Some(from), read].into_iter().flatten(), to);
        if read == Some(to) {
            self.undone.remove(&index);
        }
        assert_eq!(self.planner.live(&name), Some(to));
    }
}

fn undo(
    undone: &mut BTreeMap<usize, (BTreeSet<Digests>, Digests)>,
    index: usize,
    from: impl IntoIterator<Item = Digests>,
    to: Digests,
) {
    let (set, back_to) = undone.entry(index).or_insert_with(|| (BTreeSet::new(), to));
    set.extend(from);
    set.remove(&to);
    *back_to = to;
}

pub(super) fn kept(number: u64, digests: Digests) -> Kept {
    Kept {
        number,
        digests,
        size: 0,
        file: String::new(),
        config_file: None,
        static_files: Default::default(),
        deployed: 0,
        standing: Standing::Probation,
    }
}
