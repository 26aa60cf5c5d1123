//! Whatever way a file is written, what is served is the whole of it, once it is whole.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::support::{Answer, TestHost, guest};

/// How long a file has to be quiet here.
const SETTLE: Duration = Duration::from_millis(30);

async fn host() -> TestHost {
    let config = "[apps]\nsettle_time = \"30ms\"\nscan_interval = \"200ms\"";
    TestHost::builder().config(config).app("shop", "hello").start().await
}

/// One of two apps in turn, so that each write is of other bytes than the one before.
struct Version {
    bytes: Vec<u8>,
    words: &'static str,
}

impl Version {
    fn new(round: u64) -> Version {
        let (name, words) = if round.is_multiple_of(2) {
            ("index", "Welcome to Hostler")
        } else {
            ("hello", "Hello from Hostler!")
        };
        Version { bytes: fs::read(guest(name)).expect("the guest"), words }
    }

    fn is_answered(&self, answer: &Answer) -> bool {
        answer.status == 200 && answer.text().contains(self.words)
    }
}

/// A way of writing bytes to a path that exists.
type Way = fn(&Path, &[u8]);

const WAYS: [(&str, Way); 12] = [
    ("mv over", rename_over),
    ("cp over", |path, bytes| fs::write(path, bytes).expect("a copy")),
    ("removed and written anew", |path, bytes| {
        fs::remove_file(path).expect("the old one to go");
        fs::write(path, bytes).expect("the new one");
    }),
    ("rewritten in pieces", |path, bytes| in_pieces(path, bytes, 7, SETTLE / 10)),
    ("rewritten with pauses longer than the settle time", |path, bytes| {
        in_pieces(path, bytes, 3, SETTLE * 2)
    }),
    ("overwritten, then cut to its length", |path, bytes| {
        let mut file = OpenOptions::new().write(true).open(path).expect("the file");
        file.write_all(bytes).expect("the bytes");
        file.set_len(bytes.len() as u64).expect("its length");
    }),
    ("an editor that keeps a backup", |path, bytes| {
        let backup = path.with_extension("wasm~");
        fs::rename(path, &backup).expect("a backup");
        fs::write(path, bytes).expect("the new one");
        fs::remove_file(backup).expect("the backup to go");
    }),
    ("rsync", |path, bytes| rsync(path, bytes, &[])),
    ("rsync --inplace", |path, bytes| rsync(path, bytes, &["--inplace"])),
    ("a hard link", |path, bytes| {
        let elsewhere = elsewhere(path, bytes);
        fs::remove_file(path).expect("the old one to go");
        fs::hard_link(elsewhere, path).expect("a link");
    }),
    ("a symbolic link that is swapped", |path, bytes| {
        let elsewhere = elsewhere(path, bytes);
        let link = path.with_extension("tmp");
        symlink(Path::new(".elsewhere").join(elsewhere.file_name().expect("a name")), &link).expect("a link");
        fs::rename(link, path).expect("its place");
    }),
    ("older than what it replaces", |path, bytes| {
        let partial = path.with_extension("part");
        fs::write(&partial, bytes).expect("a file");
        let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let file = File::options().write(true).open(&partial).expect("the file");
        file.set_modified(long_ago).expect("another time");
        fs::rename(partial, path).expect("its place");
    }),
];

fn rename_over(path: &Path, bytes: &[u8]) {
    crate::support::put(path, bytes);
}

fn in_pieces(path: &Path, bytes: &[u8], pieces: usize, pause: Duration) {
    let mut file = OpenOptions::new().write(true).truncate(true).open(path).expect("the file");
    for piece in bytes.chunks(bytes.len().div_ceil(pieces)) {
        file.write_all(piece).expect("a piece");
        // What is tested is a slow writer.
        std::thread::sleep(pause);
    }
}

/// A file of its own in a hidden folder below the apps folder.
fn elsewhere(path: &Path, bytes: &[u8]) -> std::path::PathBuf {
    let folder = path.with_file_name(".elsewhere");
    fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join(format!("{}.wasm", fastrand::u64(..)));
    fs::write(&file, bytes).expect("a file");
    file
}

fn rsync(path: &Path, bytes: &[u8], options: &[&str]) {
    let source = tempfile::NamedTempFile::new().expect("a file elsewhere");
    fs::write(&source, bytes).expect("its bytes");
    let status =
        Command::new("rsync").args(options).arg("--ignore-times").arg(source.path()).arg(path).status();
    assert!(status.expect("rsync, which scripts/install-system installs").success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_way_of_writing_an_app_makes_one_release_of_it() {
    let host = host().await;
    let path = host.at("shop.wasm");
    for (round, (way, write)) in (0..).zip(WAYS) {
        let version = Version::new(round);
        let before = host.release("shop");
        write(&path, &version.bytes);
        host.get_until("/shop", &format!("it is live: {way}"), |answer| version.is_answered(answer)).await;
        host.until("nothing is wrong with it", || host.problem("shop").is_empty()).await;
        let live = host.release("shop");
        assert!(live > before, "{way}");
        write(&path, &version.bytes);
        host.seen_by_now(&format!("later-{round}")).await;
        host.until("nothing is wrong with it", || host.problem("shop").is_empty()).await;
        assert_eq!(host.release("shop"), live, "the same bytes again: {way}");
    }
}

/// As Kubernetes mounts a volume: the files are links through `..data`, which is a link to a folder of a version.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_whose_data_link_is_swapped_is_another_release() {
    let host = host().await;
    let volume = host.at("volume");
    let publish = |round: u64| {
        let version = Version::new(round);
        let name = format!("..version-{round}");
        fs::create_dir_all(volume.join(&name)).expect("a folder of the version");
        fs::write(volume.join(&name).join("app.wasm"), &version.bytes).expect("the app");
        symlink(&name, volume.join("..data_tmp")).expect("a link");
        fs::rename(volume.join("..data_tmp"), volume.join("..data")).expect("the swap");
        if round == 0 {
            symlink("..data/app.wasm", volume.join("app.wasm")).expect("the app's link");
        } else {
            fs::remove_dir_all(volume.join(format!("..version-{}", round - 1))).expect("the old one to go");
        }
        version
    };
    for round in 0..4 {
        let version = publish(round);
        host.get_until("/volume", "the version is live", |answer| version.is_answered(answer)).await;
    }
    assert_eq!(host.problem("volume"), "");
}

/// Through a second name outside the folder nothing is notified, as on a file system without notification.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_notifies_is_found_by_looking() {
    let host = host().await;
    let name_outside = host.folder().join("second-name.wasm");
    fs::hard_link(host.at("shop.wasm"), &name_outside).expect("a second name");
    host.seen_by_now("later").await;
    let version = Version::new(0);
    fs::write(&name_outside, &version.bytes).expect("other bytes");
    assert_eq!(fs::metadata(host.at("shop.wasm")).expect("the file").size(), version.bytes.len() as u64);
    host.get_until("/shop", "it is live", |answer| version.is_answered(answer)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_slow_writes_in_a_row_are_each_live_once_they_are_whole() {
    slow_writes(10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "some minutes: make slow-writes"]
async fn a_thousand_slow_writes_in_a_row_are_each_live_once_they_are_whole() {
    slow_writes(1_000).await;
}

/// Each of another number of pieces and another pause, shorter and longer than a file has to be quiet.
async fn slow_writes(rounds: u64) {
    let host = host().await;
    let path = host.at("shop.wasm");
    for round in 0..rounds {
        let version = Version::new(round);
        let (pieces, pause) = (fastrand::usize(1..12), Duration::from_millis(fastrand::u64(0..40)));
        let before = host.release("shop");
        tokio::task::block_in_place(|| in_pieces(&path, &version.bytes, pieces, pause));
        let what = format!("write {round} in {pieces} pieces with {pause:?} between them is live");
        host.get_until("/shop", &what, |answer| version.is_answered(answer)).await;
        assert_eq!(host.release("shop"), before + 1, "a part of it was live, too: {what}");
    }
}
