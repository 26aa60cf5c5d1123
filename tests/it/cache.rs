//! The code cache between two starts: it makes the second one fast, and can make nothing else of it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hostler::host::Leftovers;

use crate::program::Place;
use crate::support::{TestHost, put};

const APPS: [&str; 4] = ["hello", "counter", "cgi-rust", "hello-p3"];

/// Starts a host with this code cache, asks every app, and says how long the start took and whence each code came.
async fn start(cache: &Path) -> (Duration, Vec<String>) {
    let began = Instant::now();
    let builder = APPS.iter().fold(TestHost::builder(), |builder, name| builder.app(name, name));
    let host = builder.cache(cache).start().await;
    let took = began.elapsed();
    let marks = ["Hello from Hostler!\n", "count=1 ", "GATEWAY_INTERFACE=CGI/1.1\n", "in wasi:http 0.3!\n"];
    for (name, mark) in APPS.iter().zip(marks) {
        let answer = host.get(&format!("/{name}")).await;
        assert!(answer.status == 200 && answer.text().contains(mark), "{name}: {answer:?}");
        host.settled(name).await;
    }
    let code = APPS.iter().map(|name| host.app(name).release.expect("a release").code).collect();
    assert_eq!(host.stop().await, Leftovers { connections: 0, units: 0 });
    (took, code)
}

/// What becomes of an artifact's bytes.
type Damage = fn(&[u8]) -> Vec<u8>;

pub fn artifacts(cache: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(cache).expect("the cache").map(|entry| entry.expect("an entry").path());
    let mut files: Vec<_> = entries.collect();
    files.sort();
    files
}

/// A folder that is only ours.
fn cache() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    set_mode(dir.path(), 0o700);
    dir
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("its mode");
}

fn all(code: &[String], origin: &str) -> bool {
    code.iter().all(|code| code.starts_with(origin))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_start_loads_from_the_code_cache() {
    let cache = cache();
    let (first, code) = start(cache.path()).await;
    assert!(all(&code, "compiled in "), "{code:?}");
    let (second, code) = start(cache.path()).await;
    assert!(all(&code, "loaded in "), "{code:?}");
    println!("ready after {first:?} without and {second:?} with a code cache: {code:?}");
    assert!(second < first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_artifact_is_compiled_again_and_answers_right() {
    let cache = cache();
    start(cache.path()).await;
    let damages: [(&str, Damage); 4] = [
        ("a changed byte", |bytes| {
            let mut bytes = bytes.to_vec();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            bytes
        }),
        ("cut in half", |bytes| bytes[..bytes.len() / 2].to_vec()),
        ("empty", |_| Vec::new()),
        ("followed by something", |bytes| [bytes, b"more"].concat()),
    ];
    let files = artifacts(cache.path());
    assert_eq!(files.len(), APPS.len(), "an artifact for each app: {files:?}");
    for (file, (_, damage)) in files.iter().zip(damages) {
        put(file, &damage(&std::fs::read(file).expect("an artifact")));
    }
    let (_, code) = start(cache.path()).await;
    let what: Vec<_> = damages.iter().map(|(what, _)| what).collect();
    assert!(all(&code, "compiled in "), "{what:?}: {code:?}");
    let (_, code) = start(cache.path()).await;
    assert!(all(&code, "loaded in "), "the damage is mended: {code:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn artifacts_that_changed_places_are_compiled_again_and_answer_right() {
    let cache = cache();
    start(cache.path()).await;
    let files = artifacts(cache.path());
    let bytes: Vec<_> = files.iter().map(|file| std::fs::read(file).expect("an artifact")).collect();
    for (file, bytes) in files.iter().zip(bytes.iter().cycle().skip(1)) {
        put(file, bytes);
    }
    let (_, code) = start(cache.path()).await;
    assert!(all(&code, "compiled in "), "{code:?}");
}

/// Failed, not misconfigured: the same settings are right as soon as the folder's mode is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_folder_that_is_open_to_others_is_refused_with_advice() {
    let (place, cache) = (Place::new(), cache());
    set_mode(cache.path(), 0o755);
    let dir = cache.path().to_str().expect("a text path");
    let run = place.run(&["serve", "--listen", "127.0.0.1:0", "--cache-dir", dir], &[]).await;
    let run = run.ended_with(1).says("is open to other users (mode 755)");
    run.says(&format!("the code cache {dir}")).says("run `chmod 700` on it");
}
