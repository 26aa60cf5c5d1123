//! A world of files that the planner is driven through, and the promises that hold at every step of the way.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::deploy::store::record::{Record, Standing};

mod returns;

use returns::kept;

/// What is in a `.wasm`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    Good(u8),
    Bad(u8),
    /// The beginning of a good one.
    Partial(u8),
}

/// A config with which no app can be deployed.
const BAD_CONFIG: u8 = 0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mount {
    Here,
    /// Can't be listed.
    Lost,
    /// Another folder in its place, with nothing in it.
    Empty,
}

/// Something that is done to the folder, or comes to an end.
#[derive(Debug, Clone, Copy)]
pub enum Event {
    Write(usize, Content),
    Touch(usize),
    Delete(usize),
    Rename(usize, usize),
    WriteConfig(usize, u8),
    DeleteConfig(usize),
    Hold(usize),
    Release(usize),
    Mount(Mount),
    /// Some milliseconds pass, then somebody looks.
    Look(u16),
    FinishRead(usize),
    FinishDeploy(usize),
    FinishRestore(usize),
    /// What is under way fails, for a reason that passes or not.
    FailDeploy(usize, Passes),
    FailRestore(usize, Passes),
    /// To the release before, by an order.
    RollBack(usize),
    /// What is on probation fails, or stands it.
    FailProbation(usize),
    StandProbation(usize),
    /// The host ends, in order or not, and another one starts.
    Restart {
        in_order: bool,
    },
}

/// Releases that are kept of an app.
const KEEP: usize = 3;

pub const NAMES: [&str; 3] = ["a", "b", "shop/c"];

#[derive(Debug, Clone, Copy)]
struct File<T> {
    content: T,
    version: u64,
}

pub struct World {
    planner: Planner,
    now: Instant,
    files: BTreeMap<usize, File<Content>>,
    configs: BTreeMap<usize, File<u8>>,
    held: BTreeSet<usize>,
    mount: Mount,
    version: u64,
    reading: BTreeMap<usize, Found>,
    deploying: BTreeMap<usize, (Digests, Content, Option<u8>)>,
    /// What requests would be answered by.
    pub served: BTreeMap<usize, Digests>,
    /// Bytes that failed, for apps that were there at every look since.
    failed: BTreeMap<usize, Digests>,
    /// The apps at the last look, each with the time since when it looks like that.
    last_look: BTreeMap<usize, (Found, Instant)>,
    /// The apps that were gone at the last look, each with the time of the first look at which it was.
    gone: BTreeMap<usize, Instant>,
    /// What is on disk of each app.
    pub records: BTreeMap<usize, Record>,
    /// Restores under way: to the release that was live, or back to one.
    restoring: BTreeMap<usize, Option<u64>>,
    /// What each app was rolled back from since other bytes of its file went live, and to what.
    pub undone: BTreeMap<usize, (BTreeSet<Digests>, Digests)>,
    /// What was last read of its file.
    file: BTreeMap<usize, Digests>,
    /// Apps that could not be restored, and are not tried again.
    pub lost: BTreeSet<usize>,
}

impl World {
    pub fn new() -> World {
        World {
            planner: Planner::new(SETTLE),
            now: Instant::now(),
            files: BTreeMap::new(),
            configs: BTreeMap::new(),
            held: BTreeSet::new(),
            mount: Mount::Here,
            version: 0,
            reading: BTreeMap::new(),
            deploying: BTreeMap::new(),
            served: BTreeMap::new(),
            failed: BTreeMap::new(),
            last_look: BTreeMap::new(),
            gone: BTreeMap::new(),
            records: BTreeMap::new(),
            restoring: BTreeMap::new(),
            undone: BTreeMap::new(),
            file: BTreeMap::new(),
            lost: BTreeSet::new(),
        }
    }

    pub fn apply(&mut self, event: Event) {
        self.version += 1;
        let version = self.version;
        match event {
            Event::Write(app, content) => {
                self.files.insert(app, File { content, version });
            }
            Event::Touch(app) => {
                self.files.entry(app).and_modify(|file| file.version = version);
            }
            Event::Delete(app) => {
                self.files.remove(&app);
            }
            Event::Rename(from, to) => {
                if let Some(file) = self.files.remove(&from) {
                    self.files.insert(to, file);
                }
            }
            Event::WriteConfig(app, content) => {
                self.configs.insert(app, File { content, version });
            }
            Event::DeleteConfig(app) => {
                self.configs.remove(&app);
            }
            Event::Hold(app) => {
                self.held.insert(app);
            }
            Event::Release(app) => {
                self.held.remove(&app);
            }
            Event::Mount(mount) => self.mount = mount,
            Event::Look(pause) => {
                self.now += Duration::from_millis(pause.into());
                self.look();
            }
            Event::FinishRead(app) => self.finish_read(app),
            Event::FinishDeploy(app) => self.finish_deploy(app),
            Event::FinishRestore(app) => self.finish_restore(app),
            Event::FailDeploy(app, passes) => self.fail_deploy(app, passes),
            Event::FailRestore(app, passes) => self.fail_restore(app, passes),
            Event::RollBack(app) => {
                let to = self.records.get(&app).and_then(|record| Some(record.target(None).ok()?.number));
                self.begin_rollback(app, to);
            }
            Event::FailProbation(app) => {
                let on_probation =
                    |record: &&Record| record.live().is_some_and(|live| live.standing == Standing::Probation);
                let record = self.records.get(&app).filter(on_probation);
                let to = record.and_then(|record| Some(record.proven()?.number));
                self.begin_rollback(app, to);
            }
            Event::StandProbation(app) => {
                if let Some(record) = self.records.get_mut(&app)
                    && let (Some(live), true) = (record.live, self.served.contains_key(&app))
                {
                    record.prove(live);
                }
            }
            Event::Restart { in_order } => self.restart(in_order),
        }
    }

    /// Everything is released, whatever is under way ends, and somebody looks once, and then only when the planner asks
    /// for it, until nothing is pending. The app `stuck` stays where it is. False if the folder seems to be lost.
    pub fn come_to_rest(&mut self, stuck: Option<usize>) -> bool {
        self.mount = Mount::Here;
        self.held.clear();
        self.now += Duration::from_millis(1);
        self.look();
        for _ in 0..50 {
            for app in (0..NAMES.len()).filter(|app| Some(*app) != stuck) {
                self.finish_read(app);
                self.finish_deploy(app);
                self.finish_restore(app);
            }
            if self.state().is_some_and(|state| self.planner.is_lost(&state)) {
                // Then nobody looks before something is notified.
                return false;
            }
            let Some(at) = self.planner.next_look() else {
                assert_eq!(self.in_flight(stuck), 0);
                return true;
            };
            self.now = at.max(self.now + Duration::from_millis(1));
            self.look();
        }
        panic!("it never comes to rest");
    }

    /// What should be served when all is at rest; `None` when the files say nothing about it.
    pub fn wanted(&self, app: usize) -> Option<Option<Digests>> {
        let Some(file) = self.files.get(&app) else { return Some(None) };
        let good = matches!(file.content, Content::Good(_)) && self.config(app) != Some(BAD_CONFIG);
        let digests = self.digests(app).filter(|digests| good && self.failed.get(&app) != Some(digests));
        digests.map(Some)
    }

    fn in_flight(&self, stuck: Option<usize>) -> usize {
        let jobs = self.reading.keys().chain(self.deploying.keys()).chain(self.restoring.keys());
        jobs.filter(|app| Some(**app) != stuck).count()
    }

    fn config(&self, app: usize) -> Option<u8> {
        self.configs.get(&app).map(|file| file.content)
    }

    fn found(&self, app: usize) -> Option<Found> {
        let config = self.configs.get(&app).map(|file| file.version);
        self.files.get(&app).map(|file| found(NAMES[app], file.version, config))
    }

    fn digests(&self, app: usize) -> Option<Digests> {
        let file = self.files.get(&app)?;
        let config = self.config(app).map(|content| Digest::of(&[content]));
        Some(Digests { wasm: Digest::of(format!("{:?}", file.content).as_bytes()), config, public: None })
    }

    fn state(&self) -> Option<FolderState> {
        let mut state = match self.mount {
            Mount::Here => FolderState::new((1, 1)),
            Mount::Empty => return Some(FolderState::new((2, 2))),
            Mount::Lost => return None,
        };
        for (index, name) in NAMES.iter().enumerate() {
            if let Some(found) = self.found(index) {
                state.apps.insert(app(name), found);
            }
        }
        for index in &self.held {
            let name = NAMES[*index];
            let trouble = Trouble::NotAFile("a folder");
            state.report(Problem { path: name.into(), holds: Holds::App(app(name)), trouble });
        }
        Some(state)
    }

    fn look(&mut self) -> Option<Plan> {
        let state = self.state()?;
        let plan = self.planner.look(&state, self.now);
        for step in &plan.steps {
            match step {
                Step::Read { app, found } => self.check_read(index(app), found),
                Step::Retire { app } => self.check_retire(index(app)),
                Step::Restore { app } => self.check_restore(index(app)),
            }
        }
        assert!(plan.next_look.is_none_or(|at| at > self.now), "a look was planned for a time that is over");
        if !state.is_empty() || self.mount == Mount::Here {
            self.remember();
        }
        Some(plan)
    }

    fn check_read(&mut self, app: usize, found: &Found) {
        assert!(self.mount == Mount::Here && !self.held.contains(&app));
        let (seen, since) = self.last_look.get(&app).expect("it was seen before");
        assert_eq!(seen, found, "it changed since the last look");
        assert!(self.now - *since >= SETTLE, "it was not quiet for long enough");
        let busy = self.deploying.contains_key(&app) || self.restoring.contains_key(&app);
        let twice = self.reading.insert(app, found.clone()).is_some() || busy;
        assert!(!twice, "one app is handled twice at once");
    }

    fn check_retire(&mut self, app: usize) {
        assert!(!self.held.contains(&app) && !self.files.contains_key(&app));
        let since = self.gone.get(&app).expect("it was there at the last look");
        assert!(self.now - *since >= SETTLE, "it was not gone for long enough");
        let (served, kept) = (self.served.remove(&app), self.records.remove(&app));
        assert!(served.is_some() || kept.is_some(), "an app was retired that was not live");
        self.undone.remove(&app);
        self.lost.remove(&app);
    }

    /// What this look saw, for the promises about the next one.
    fn remember(&mut self) {
        for app in 0..NAMES.len() {
            let found = self.found(app);
            if found.is_some() || self.held.contains(&app) {
                self.gone.remove(&app);
            } else {
                self.gone.entry(app).or_insert(self.now);
            }
            match found {
                _ if self.held.contains(&app) => {
                    self.last_look.remove(&app);
                }
                Some(found) => {
                    if self.last_look.get(&app).is_none_or(|(seen, _)| *seen != found) {
                        self.last_look.insert(app, (found, self.now));
                    }
                }
                None => {
                    self.last_look.remove(&app);
                    self.failed.remove(&app);
                }
            }
        }
    }

    fn finish_read(&mut self, index: usize) {
        let Some(before) = self.reading.remove(&index) else { return };
        let name = app(NAMES[index]);
        let (Some(after), Some(digests)) = (self.found(index), self.digests(index)) else {
            self.planner.unreadable(&name, &before, &ReadError::Gone, self.now);
            return;
        };
        let followed = self.planner.read(&name, &before, &after, digests);
        if followed != AfterRead::Again {
            self.file.insert(index, digests);
        }
        let undone = self.undone.get(&index).is_some_and(|(undone, _)| undone.contains(&digests));
        let settled = followed != AfterRead::Again;
        if followed == AfterRead::Held {
            self.failed.remove(&index);
        }
        assert_eq!(
            followed == AfterRead::Held,
            undone && settled,
            "what was undone, and only that, is held back"
        );
        if followed == AfterRead::Deploy {
            assert_eq!(before, after, "what changed while it was read is deployed");
            let seen = self.last_look.get(&index).map(|(seen, _)| seen);
            assert_eq!(seen, Some(&before), "what was seen to be otherwise is deployed");
            assert_ne!(self.served.get(&index), Some(&digests), "what is live is deployed again");
            assert_ne!(self.failed.get(&index), Some(&digests), "what failed is deployed again");
            let content = self.files[&index].content;
            self.deploying.insert(index, (digests, content, self.config(index)));
        } else if settled && self.served.get(&index) == Some(&digests) {
            self.failed.remove(&index);
            self.undone.remove(&index);
            if let Some(record) = self.records.get_mut(&index) {
                record.held = None;
            }
        }
    }

    fn finish_deploy(&mut self, index: usize) {
        let Some((digests, content, config)) = self.deploying.remove(&index) else { return };
        let name = app(NAMES[index]);
        match content {
            Content::Good(_) if config != Some(BAD_CONFIG) => {
                self.planner.deployed(&name, digests);
                self.undone.remove(&index);
                self.version += 1;
                let record = self.records.entry(index).or_insert_with(|| Record::of(NAMES[index]));
                record.begin(kept(self.version, digests), KEEP);
                self.served.insert(index, digests);
                self.failed.remove(&index);
                self.lost.remove(&index);
            }
            Content::Partial(_) => {
                self.planner.incomplete(&name, digests);
                self.failed.insert(index, digests);
            }
            Content::Good(_) | Content::Bad(_) => {
                self.planner.failed(&name, digests, "it is bad".to_owned());
                self.failed.insert(index, digests);
            }
        }
        assert_eq!(self.planner.live(&name), self.served.get(&index).copied());
    }
}

fn index(name: &AppName) -> usize {
    NAMES.iter().position(|known| *known == name.as_str()).expect("a name of the model")
}
