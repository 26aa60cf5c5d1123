use std::fs;
use std::future::Future;

use super::*;

/// Longer than any test takes: with it, a hint was notified and not timed.
const NEVER: Duration = Duration::from_secs(3600);
const PATIENCE: Duration = Duration::from_secs(20);

async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} took too long"))
}

/// A watcher that has given its first hint.
async fn watching(folder: &Path, scan_interval: Duration) -> Watcher {
    let mut watcher = Watcher::start(folder, scan_interval);
    soon("the first hint", watcher.changed()).await;
    watcher
}

#[tokio::test]
async fn the_first_hint_comes_at_once_and_the_next_one_with_a_change() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut watcher = watching(folder.path(), NEVER).await;
    assert!(watcher.is_watching());
    for name in ["hello.wasm", "other.wasm"] {
        fs::write(folder.path().join(name), b"code").expect("written");
        soon("a hint of a new file", watcher.changed()).await;
    }
    fs::rename(folder.path().join("hello.wasm"), folder.path().join("new.wasm")).expect("renamed");
    soon("a hint of a renamed file", watcher.changed()).await;
    fs::remove_file(folder.path().join("new.wasm")).expect("removed");
    soon("a hint of a removed file", watcher.changed()).await;
}

#[tokio::test]
async fn files_in_new_folders_are_noticed() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut watcher = watching(folder.path(), NEVER).await;
    fs::create_dir(folder.path().join("api")).expect("created");
    soon("a hint of a new folder", watcher.changed()).await;
    // The new folder is watched a moment after it was announced, so that one file may be too early to be noticed.
    let mut files = 0;
    soon("a hint of a file in it", async {
        loop {
            fs::write(folder.path().join(format!("api/{files}.wasm")), b"code").expect("written");
            files += 1;
            if tokio::time::timeout(Duration::from_millis(100), watcher.changed()).await.is_ok() {
                return;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn looking_and_reading_is_no_change() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("hello.wasm"), b"code").expect("written");
    let mut watcher = watching(folder.path(), NEVER).await;
    for _ in 0..3 {
        assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 1);
        assert_eq!(fs::read(folder.path().join("hello.wasm")).expect("read"), b"code");
    }
    // Events come in order: with a hint per reading, this one would take several calls.
    let quiet = tokio::time::timeout(Duration::from_millis(200), watcher.changed()).await;
    assert!(quiet.is_err(), "a hint without a change");
}

#[tokio::test]
async fn many_changes_make_few_hints() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut watcher = watching(folder.path(), NEVER).await;
    for n in 0..500 {
        fs::write(folder.path().join(format!("{n}.wasm")), b"code").expect("written");
    }
    let mut hints = 0;
    while tokio::time::timeout(Duration::from_millis(300), watcher.changed()).await.is_ok() {
        hints += 1;
    }
    assert!((1..=5).contains(&hints), "{hints} hints");
}

#[tokio::test]
async fn a_folder_that_comes_later_is_watched_from_then_on() {
    let parent = tempfile::tempdir().expect("a folder");
    let folder = parent.path().join("apps");
    let mut watcher = watching(&folder, Duration::from_millis(20)).await;
    assert!(!watcher.is_watching());
    soon("a timed hint", watcher.changed()).await;
    fs::create_dir(&folder).expect("created");
    soon("watching", until_watching(&mut watcher)).await;
}

#[tokio::test]
async fn a_folder_that_was_deleted_and_made_again_is_watched_again() {
    let parent = tempfile::tempdir().expect("a folder");
    let folder = parent.path().join("apps");
    fs::create_dir(&folder).expect("created");
    let mut watcher = watching(&folder, Duration::from_millis(20)).await;
    assert!(watcher.is_watching());

    fs::remove_dir(&folder).expect("removed");
    soon("losing the folder", async {
        while watcher.is_watching() {
            watcher.changed().await;
        }
    })
    .await;
    soon("timed hints without a folder", watcher.changed()).await;
    fs::create_dir(&folder).expect("created");
    soon("watching again", until_watching(&mut watcher)).await;

    // A folder renamed away and replaced: no event tells, its identity does.
    let identity = |watcher: &Watcher| match watcher.watch {
        Watch::On { identity, .. } => Some(identity),
        Watch::Off { .. } | Watch::Starting(_) => None,
    };
    let old = identity(&watcher);
    fs::rename(&folder, parent.path().join("old")).expect("renamed");
    fs::create_dir(&folder).expect("created");
    soon("watching the new one", async {
        while identity(&watcher) == old || !watcher.is_watching() {
            watcher.changed().await;
        }
    })
    .await;
    watcher.scan_interval = NEVER;
    soon("settling", async {
        while tokio::time::timeout(Duration::from_millis(200), watcher.changed()).await.is_ok() {}
    })
    .await;
    fs::write(folder.join("hello.wasm"), b"code").expect("written");
    soon("a notified hint", watcher.changed()).await;
}

#[tokio::test]
async fn without_any_notification_hints_come_with_the_interval() {
    let parent = tempfile::tempdir().expect("a folder");
    let interval = Duration::from_millis(20);
    let mut watcher = watching(&parent.path().join("missing"), interval).await;
    let start = Instant::now();
    for _ in 0..3 {
        soon("a timed hint", watcher.changed()).await;
    }
    assert!(start.elapsed() >= 3 * interval);
}

#[tokio::test]
async fn a_dropped_call_loses_no_hint() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut watcher = Watcher::start(folder.path(), NEVER);
    let mut calls = 0;
    // Each call is polled once and dropped, so that it is dropped at whatever await it has come to.
    soon("the first hint", until_ready(&mut watcher, &mut calls)).await;
    fs::write(folder.path().join("hello.wasm"), b"code").expect("written");
    soon("a notified hint", until_ready(&mut watcher, &mut calls)).await;
    assert!(calls > 2 && watcher.is_watching());
}

async fn until_ready(watcher: &mut Watcher, calls: &mut u32) {
    loop {
        *calls += 1;
        if tokio::time::timeout(Duration::ZERO, watcher.changed()).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn lost_events_make_a_hint_and_a_new_watch() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut watcher = watching(folder.path(), NEVER).await;
    let overflow = Event::new(EventKind::Other).set_flag(notify::event::Flag::Rescan);
    watcher.signal.take(folder.path(), Ok(overflow));
    assert!(!watcher.is_watching());
    soon("a hint", watcher.changed()).await;
    assert!(watcher.is_watching());
    watcher.signal.take(folder.path(), Err(notify::Error::new(notify::ErrorKind::MaxFilesWatch)));
    assert!(!watcher.is_watching());
    soon("a hint", watcher.changed()).await;
    assert!(watcher.is_watching());
}

async fn until_watching(watcher: &mut Watcher) {
    while !watcher.is_watching() {
        watcher.changed().await;
    }
}
