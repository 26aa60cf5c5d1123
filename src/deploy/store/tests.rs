mod static_files;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

use super::files::record_name;
use super::*;
use crate::public::copies::Room;
use crate::public::{Copies, Limits};

struct Fixture {
    folder: tempfile::TempDir,
    store: Option<Store>,
    copies: Copies,
    /// What static files may be; `None`: they are not served.
    limits: Option<Limits>,
}

impl Fixture {
    fn new() -> Fixture {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(&folder.path().join("state")).expect("a store");
        let cache = folder.path().join("cache");
        fs::create_dir(&cache).expect("a folder");
        let copies = Copies::open(&cache, Room { memory: 8, disk: 1 << 20 }).expect("a place for copies");
        let limits = Some(Limits { entries: 10, size: 1 << 20, depth: 2 });
        Fixture { folder, store: Some(store), copies, limits }
    }

    /// A release of `shop`.
    fn load(&self, number: u64) -> Result<Stored, LoadError> {
        let to = To { copies: &self.copies, limits: &|_| self.limits };
        self.store().load("shop", number, &to)
    }

    fn dir(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn store(&self) -> &Store {
        self.store.as_ref().expect("an open store")
    }

    /// As another host would find it.
    fn reopen(&mut self) {
        self.store = None;
        self.store = Some(Store::open(&self.dir()).expect("a store"));
    }

    fn blobs(&self) -> usize {
        self.store().blobs().expect("a list").len()
    }
}

fn deployed(number: u64, text: &str) -> Deployed {
    let config = format!("# {text}");
    Deployed {
        number,
        digests: Digests {
            wasm: Digest::of(text.as_bytes()),
            config: Some(Digest::of(config.as_bytes())),
            public: None,
        },
        file: "shop.wasm".to_owned(),
        config_file: Some("shop.toml".to_owned()),
        wasm: Bytes::copy_from_slice(text.as_bytes()),
        config: Some(config),
        public: None,
        keep: 3,
        on_probation: false,
    }
}

fn text(stored: Result<Stored, LoadError>) -> String {
    let Stored { wasm, config, .. } = stored.expect("it is kept");
    assert_eq!(config, Some(format!("# {}", String::from_utf8_lossy(&wasm))));
    String::from_utf8(wasm.to_vec()).expect("text")
}

#[test]
fn what_is_kept_is_there_for_the_next_host() {
    let mut fixture = Fixture::new();
    fixture.store().begin("shop", &deployed(1, "one"));
    fixture.store().begin("shop", &deployed(2, "two"));
    fixture.store().begin("api/v1", &deployed(3, "two"));
    let record = fixture.store().record("shop");
    fixture.reopen();
    let store = fixture.store();
    assert_eq!(store.record("shop"), record);
    assert_eq!(store.apps().iter().map(AppName::as_str).collect::<Vec<_>>(), ["api/v1", "shop"]);
    assert_eq!(store.last_number(), 3);
    assert_eq!((text(fixture.load(1)), text(fixture.load(2))), ("one".into(), "two".into()));
    assert_eq!(store.number_of("shop", deployed(2, "two").digests), Some(2));
    assert_eq!(store.number_of("shop", deployed(1, "one").digests), None, "it is not live");
}

#[test]
fn blobs_are_shared_and_removed_when_nothing_names_them() {
    let mut fixture = Fixture::new();
    for number in 1..=5 {
        fixture.store().begin("shop", &deployed(number, &format!("version {number}")));
    }
    fixture.store().begin("copy", &deployed(6, "version 5"));
    assert_eq!(fixture.blobs(), 6, "three releases of two blobs");
    fixture.store().forget("shop", Some(4));
    assert_eq!(fixture.blobs(), 6, "another one has gone live since");
    fixture.store().forget("shop", Some(5));
    assert_eq!((fixture.blobs(), fixture.store().record("shop")), (2, None));
    fixture.store().forget("copy", Some(6));
    assert_eq!(fixture.blobs(), 0);
    // What a crash has left between a blob and its record.
    fixture.store().write_blob(Digest::of(b"x"), b"x").expect("written");
    fs::write(fixture.dir().join("tmp-0123456789abcdef"), b"the beginning").expect("written");
    fixture.reopen();
    assert_eq!(fixture.blobs(), 0);
    let files =
        fs::read_dir(fixture.dir()).expect("a list").map(|entry| entry.expect("an entry").file_name());
    assert_eq!(files.collect::<Vec<_>>(), ["README"]);
}

#[test]
fn a_release_that_did_not_go_live_after_all_leaves_nothing() {
    let mut fixture = Fixture::new();
    let before = fixture.store().begin("shop", &deployed(1, "one"));
    fixture.store().withdraw(&before, 1);
    assert_eq!((fixture.store().record("shop"), fixture.blobs()), (None, 0));
    fixture.store().begin("shop", &deployed(2, "two"));
    let before = fixture.store().begin("shop", &deployed(3, "three"));
    fixture.store().withdraw(&before, 2);
    assert_eq!(
        fixture.store().record("shop").and_then(|record| record.live),
        Some(3),
        "that one is not live any more"
    );
    fixture.store().withdraw(&before, 3);
    fixture.reopen();
    assert_eq!(fixture.store().record("shop"), Some(before));
    assert_eq!(text(fixture.load(2)), "two");
}

#[test]
fn a_torn_blob_is_not_believed_and_its_release_forgotten() {
    for tear in [&b""[..], b"tw", b"twO", b"two and more"] {
        let mut fixture = Fixture::new();
        fixture.store().begin("shop", &deployed(1, "one"));
        fixture.store().begin("shop", &deployed(2, "two"));
        let blob = fixture.dir().join(Digest::of(b"two").to_string());
        fs::remove_file(&blob).expect("it was there");
        fs::write(&blob, tear).expect("written");
        fixture.reopen();
        if fixture.store().record("shop").and_then(|record| record.live) == Some(2) {
            let torn = fixture.load(2);
            assert!(matches!(torn, Err(LoadError::Torn { number: 2, .. })), "{torn:?}");
        }
        let record = fixture.store().record("shop").expect("a record");
        assert_eq!((record.live, record.releases.len()), (Some(1), 1), "{tear:?}");
        assert_eq!(text(fixture.load(1)), "one");
        // The same bytes deployed again heal it.
        fixture.store().begin("shop", &deployed(3, "two"));
        assert_eq!(text(fixture.load(3)), "two");
    }
}

#[test]
fn a_record_that_is_torn_anywhere_is_as_none() {
    let mut fixture = Fixture::new();
    fixture.store().begin("shop", &deployed(1, "one"));
    let path = fixture.dir().join(record_name("shop"));
    let whole = fs::read(&path).expect("the record");
    let replace = |bytes: &[u8]| {
        fs::remove_file(&path).expect("it was there");
        fs::write(&path, bytes).expect("written");
    };
    for at in (0..whole.len()).step_by(7) {
        replace(&whole[..at]);
        fixture.store = None;
        fixture.store = Some(Store::open(&fixture.dir()).expect("a store"));
        assert_eq!(fixture.store().record("shop"), None, "cut at {at}");
        fixture.store().begin("shop", &deployed(1, "one"));
        let mut other = whole.clone();
        other[at] ^= 1;
        replace(&other);
        fixture.reopen();
        assert_eq!(fixture.store().record("shop"), None, "another byte at {at}");
        fixture.store().begin("shop", &deployed(1, "one"));
    }
    // Whole, but of another app.
    fs::rename(&path, fixture.dir().join(record_name("other"))).expect("renamed");
    fixture.reopen();
    assert_eq!(fixture.store().apps(), []);
}

#[test]
fn a_record_that_can_not_be_read_now_is_not_taken_for_a_torn_one() {
    let mut fixture = Fixture::new();
    fixture.store().begin("shop", &deployed(1, "one"));
    let path = fixture.dir().join(record_name("shop"));
    let mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
    mode(0o000);
    let store = fixture.store();
    let taken_in = std::thread::scope(|scope| {
        let powerless = scope.spawn(|| {
            // Nothing is closed to root, but for a thread that has given up all that root may do beyond others.
            let none = CapabilitySet::empty();
            let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
            set_capabilities(None, sets).expect("anybody may have less");
            store.take_in()
        });
        powerless.join().expect("it does not panic")
    });
    assert_eq!(taken_in.map_err(|error| error.kind()), Err(io::ErrorKind::PermissionDenied));
    assert!(path.exists(), "it says what is live");
    mode(0o600);
    fixture.reopen();
    assert_eq!(text(fixture.load(1)), "one");
}

#[test]
fn a_host_that_ends_without_warning_leaves_the_proven_release_to_the_next() {
    let mut fixture = Fixture::new();
    fixture.store().begin("shop", &deployed(1, "one"));
    fixture.store().begin("shop", &Deployed { on_probation: true, ..deployed(2, "two") });
    fixture.reopen();
    assert_eq!(fixture.store().record("shop").and_then(|record| record.live), Some(1));
    fixture.store().begin("shop", &Deployed { on_probation: true, ..deployed(3, "three") });
    fixture.store().stop();
    fixture.reopen();
    assert_eq!(
        fixture.store().record("shop").and_then(|record| record.live),
        Some(3),
        "it was stopped in order"
    );
}

#[test]
fn what_goes_live_while_the_host_stops_is_not_on_probation() {
    let mut fixture = Fixture::new();
    fixture.store().begin("shop", &deployed(1, "one"));
    fixture.store().stop();
    fixture.store().begin("shop", &Deployed { on_probation: true, ..deployed(2, "two") });
    fixture.reopen();
    assert_eq!(fixture.store().record("shop").and_then(|record| record.live), Some(2));
}

#[test]
fn what_is_restored_while_the_host_stops_is_not_on_probation() {
    let mut fixture = Fixture::new();
    fixture.store().begin("shop", &deployed(1, "one"));
    fixture.store().begin("shop", &Deployed { on_probation: true, ..deployed(2, "two") });
    fixture.store().stop();
    fixture.reopen();
    fixture.store().stop();
    fixture.store().resume("shop", 2, true);
    assert_eq!(fixture.store().standing("shop", 2), Some("unproven"));
    fixture.reopen();
    assert_eq!(fixture.store().record("shop").and_then(|record| record.live), Some(2));
    fixture.store().resume("shop", 2, true);
    assert_eq!(fixture.store().standing("shop", 2), Some("on probation"), "it is begun anew");
}

#[test]
fn one_store_is_for_one_host_and_for_its_user_alone() {
    let fixture = Fixture::new();
    let second = Store::open(&fixture.dir()).err().map(|error| error.to_string());
    assert!(second.as_ref().is_some_and(|text| text.ends_with("another host uses it")), "{second:?}");
    assert_eq!(fs::metadata(fixture.dir()).expect("it is there").permissions().mode() & 0o7777, 0o700);
    let open = fixture.folder.path().join("open");
    fs::create_dir(&open).expect("a folder");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).expect("set");
    assert!(Store::open(&open).is_err());
    let file = fixture.folder.path().join("file");
    fs::write(&file, "a file of somebody's").expect("written");
    assert!(Store::open(&file).is_err());
    assert_eq!(fs::read(&file).expect("it is there"), b"a file of somebody's");
}

#[test]
fn what_could_not_be_written_as_a_whole_leaves_no_blobs() {
    let fixture = Fixture::new();
    fixture.store().begin("shop", &deployed(1, "one"));
    let two = deployed(2, "two");
    // A config's blob is written after the code's.
    let config = two.digests.config.expect("a config");
    fs::create_dir(fixture.dir().join(config.to_string())).expect("made");
    fixture.store().begin("shop", &two);
    let record = fixture.store().record("shop").expect("a record");
    assert_eq!((record.live, record.get(2)), (Some(2), None), "it is live, and not kept");
    assert_eq!(fixture.blobs(), 2, "those of the first release alone");
}

#[test]
fn blobs_of_a_record_that_could_not_be_replaced_stay_until_it_is() {
    let mut fixture = Fixture::new();
    fixture.store().begin("shop", &deployed(1, "one"));
    let (path, away) = (fixture.dir().join(record_name("shop")), fixture.folder.path().join("away"));
    fs::rename(&path, &away).expect("moved");
    fs::create_dir(&path).expect("made");
    for number in 2..=6 {
        fixture.store().begin("shop", &deployed(number, &number.to_string()));
    }
    assert_eq!(fixture.store().record("shop").expect("a record").get(1), None, "three are kept");
    assert_eq!(text(fixture.load(6)), "6", "while the host runs");
    fs::remove_dir(&path).expect("removed");
    fs::rename(&away, &path).expect("moved back");
    assert_eq!(fixture.blobs(), 2 + 3 * 2, "and those that the record on disk names");
    fixture.reopen();
    assert_eq!(text(fixture.load(1)), "one", "as it was written last");
    // Once it is replaced they go.
    fs::rename(&path, &away).expect("moved");
    fs::create_dir(&path).expect("made");
    fixture.store().begin("shop", &Deployed { keep: 1, ..deployed(7, "seven") });
    fs::remove_dir(&path).expect("removed");
    fixture.store().begin("shop", &Deployed { keep: 1, ..deployed(8, "eight") });
    assert_eq!((fixture.blobs(), fixture.load(1).is_err()), (2, true));
}

#[test]
fn a_directory_that_is_somebody_elses_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let theirs = folder.path().join("theirs");
    fs::create_dir(&theirs).expect("made");
    fs::set_permissions(&theirs, fs::Permissions::from_mode(0o700)).expect("set");
    let blob = Digest::of(b"theirs").to_string();
    fs::write(theirs.join(&blob), b"theirs").expect("written");
    fs::write(theirs.join("README"), b"Somebody's.").expect("written");
    let is_as_it_was = || {
        assert_eq!(fs::read(theirs.join(&blob)).expect("it is there"), b"theirs");
        assert_eq!(fs::read(theirs.join("README")).expect("it is there"), b"Somebody's.");
    };
    let refused = Store::open(&theirs).err().map(|error| error.to_string());
    assert!(refused.as_ref().is_some_and(|text| text.contains("none of Hostler's")), "{refused:?}");
    is_as_it_was();
    // One that is empty may be a file system that is mounted for it.
    let ours = folder.path().join("ours");
    fs::create_dir_all(ours.join("lost+found")).expect("made");
    fs::set_permissions(&ours, fs::Permissions::from_mode(0o700)).expect("set");
    drop(Store::open(&ours).expect("a store"));
    Store::open(&ours).expect("it is one now");
    // By no link in the apps folder either, wherever that leads.
    let apps = folder.path().join("apps");
    fs::create_dir(&apps).expect("made");
    for to in [&theirs, &ours, &folder.path().join("nowhere")] {
        std::os::unix::fs::symlink(to, apps.join(STATE_FOLDER)).expect("linked");
        let refused = Store::open_within(&apps).err().map(|error| error.to_string());
        assert!(refused.as_ref().is_some_and(|text| text.ends_with("it is a symbolic link")), "{refused:?}");
        fs::remove_file(apps.join(STATE_FOLDER)).expect("removed");
    }
    is_as_it_was();
    Store::open_within(&apps).expect("a store");
    assert!(apps.join(STATE_FOLDER).join("README").is_file());
}

#[test]
fn a_store_that_can_not_be_written_stops_no_deploy_and_no_rollback() {
    let mut fixture = Fixture::new();
    fixture.store().begin("shop", &deployed(1, "one"));
    // Gone under its feet: nothing can be made in it any more.
    let away = fixture.folder.path().join("away");
    fs::create_dir(&away).expect("a folder");
    for entry in fs::read_dir(fixture.dir()).expect("a list") {
        let entry = entry.expect("an entry");
        fs::rename(entry.path(), away.join(entry.file_name())).expect("moved");
    }
    fs::remove_dir(fixture.dir()).expect("removed");
    fixture.store().begin("shop", &deployed(2, "two"));
    let record = fixture.store().record("shop").expect("a record");
    assert_eq!((record.live, record.get(2)), (Some(2), None), "it is live, and not kept");
    fixture.store().change("shop", |record| record.roll_back(1, None, "by order"));
    assert_eq!(fixture.store().record("shop").and_then(|record| record.live), Some(1));
    fs::rename(&away, fixture.dir()).expect("moved back");
    fs::set_permissions(fixture.dir(), fs::Permissions::from_mode(0o700)).expect("set");
    fixture.reopen();
    assert_eq!(
        fixture.store().record("shop").and_then(|record| record.live),
        Some(1),
        "as it was written last"
    );
}
