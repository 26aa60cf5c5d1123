//! The whole way from real files to what the deployer is told, with a clock of the test's own.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::AppName;
use super::plan::{AfterRead, Planner, Step};
use super::read::{Reading, read};
use super::scan::{Limits, scan};
use crate::prepare::{self, Refusal};

const SETTLE: Duration = Duration::from_millis(200);

/// What the deployer does, without compiling anything.
struct Deployer {
    planner: Planner,
    now: Instant,
    log: Vec<String>,
}

impl Deployer {
    /// Looks twice at the folder and does what is planned.
    fn settle(&mut self, folder: &Path) -> Vec<String> {
        for _ in 0..2 {
            self.now += SETTLE;
            let state = scan(folder, &Limits::default()).expect("the folder can be listed");
            for step in self.planner.look(&state, self.now).steps {
                self.apply(step);
            }
        }
        std::mem::take(&mut self.log)
    }

    fn apply(&mut self, step: Step) {
        let (app, found) = match step {
            Step::Read { app, found } => (app, found),
            Step::Retire { app } => return self.log.push(format!("{app} retired")),
            Step::Restore { app } => panic!("nothing is kept of {app}"),
        };
        let reading = Reading { max_size: 1 << 20, copies: None, limits: &|_| None };
        let read = match read(&found, &reading) {
            Ok(read) => read,
            Err(error) => return self.planner.unreadable(&app, &found, &error, self.now),
        };
        match self.planner.read(&app, &found, &read.after, read.digests) {
            AfterRead::Deploy => {}
            other => return self.log.push(format!("{app} {other:?}")),
        }
        match prepare::check(&read.wasm) {
            Ok(checked) => {
                self.planner.deployed(&app, read.digests);
                self.log.push(format!("{app} deployed as {}", checked.kind));
            }
            Err(Refusal::Incomplete(_)) => {
                self.planner.incomplete(&app, read.digests);
                self.log.push(format!("{app} incomplete"));
            }
            Err(Refusal::Refused(reason)) => {
                self.planner.failed(&app, read.digests, reason.to_string());
                self.log.push(format!("{app} refused: {reason}"));
            }
        }
    }
}

#[test]
fn a_file_written_in_pieces_is_deployed_once_and_only_when_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("hello.wasm");
    let mut deployer = Deployer { planner: Planner::new(SETTLE), now: Instant::now(), log: Vec::new() };
    let bytes = wat::parse_str(r#"(module (func (export "_start")))"#).expect("the test's own text");

    fs::write(&path, []).expect("written");
    assert_eq!(deployer.settle(folder.path()), ["hello incomplete"]);
    fs::write(&path, &bytes[..20]).expect("written");
    assert_eq!(deployer.settle(folder.path()), ["hello incomplete"]);
    fs::write(&path, &bytes).expect("written");
    assert_eq!(deployer.settle(folder.path()), ["hello deployed as command"]);
    assert_eq!(deployer.settle(folder.path()), [""; 0]);

    // The same bytes by another way: a new file under the old name.
    fs::write(folder.path().join("hello.wasm.tmp"), &bytes).expect("written");
    fs::rename(folder.path().join("hello.wasm.tmp"), &path).expect("renamed");
    assert_eq!(deployer.settle(folder.path()), ["hello Nothing"]);

    fs::write(&path, "<html>").expect("written");
    assert_eq!(deployer.settle(folder.path()), ["hello refused: HTML"]);
    let name = AppName::parse("hello").expect("a good name");
    assert_eq!(deployer.planner.live(&name).map(|live| live.wasm), Some(prepare::Digest::of(&bytes)));

    fs::remove_file(&path).expect("removed");
    assert_eq!(deployer.settle(folder.path()), ["hello retired"]);
}
