use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::super::name::AppName;
use super::super::scan::{Limits, scan};
use super::*;
use crate::public::copies::{Copies, Room};

const MAX: u64 = 1 << 20;

fn read(found: &Found, max_size: u64) -> Result<ReadApp, ReadError> {
    super::read(found, &Reading { max_size, copies: None, limits: &|_| None })
}

fn found(folder: &Path, name: &str) -> Found {
    let name = AppName::parse(name).expect("a good name");
    scan(folder, &Limits::default()).expect("a folder").apps.remove(&name).expect("the app is there")
}

#[test]
fn an_app_and_its_config_are_read_with_their_digests() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("hello.wasm"), b"code").expect("written");
    fs::write(folder.path().join("hello.toml"), "mode = \"cold\"").expect("written");
    let found = found(folder.path(), "hello");
    let read = read(&found, MAX).expect("readable");
    assert_eq!(&read.wasm[..], b"code");
    assert_eq!(read.config.as_deref(), Some("mode = \"cold\""));
    assert_eq!(read.digests.wasm, Digest::of(b"code"));
    assert_eq!(read.digests.config, Some(Digest::of(b"mode = \"cold\"")));
    assert_eq!(read.after, found);
}

#[test]
fn a_file_that_changed_since_it_was_seen_is_not_taken() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("hello.wasm");
    fs::write(&path, b"code").expect("written");
    let seen = found(folder.path(), "hello");
    fs::write(&path, b"more code").expect("written");
    assert!(matches!(read(&seen, MAX), Err(ReadError::Changed)));
    fs::remove_file(&path).expect("removed");
    assert!(matches!(read(&seen, MAX), Err(ReadError::Gone)));
}

#[test]
fn a_file_over_the_limit_is_refused_by_its_size() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("big.wasm"), vec![0; 11]).expect("written");
    let found = found(folder.path(), "big");
    assert!(read(&found, 11).is_ok());
    let message = read(&found, 10).map(|_| ()).map_err(|error| error.to_string());
    assert!(message.is_err_and(|message| message.ends_with("has 11 bytes; at most 10 are allowed")));
}

#[test]
fn a_large_file_that_does_not_begin_as_an_app_is_named_for_what_it_is_without_being_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, head: &[u8], size: u64| {
        fs::write(folder.path().join(name), head).expect("written");
        fs::File::options()
            .write(true)
            .open(folder.path().join(name))
            .and_then(|file| file.set_len(size))
            .expect("grown");
    };
    write("hole.wasm", b"", LARGE + 1);
    write("elf.wasm", b"\x7fELF", LARGE + 1);
    write("small.wasm", b"\x7fELF", LARGE);
    write("app.wasm", b"\0asm", LARGE + 1);
    let read = |name: &str| read(&found(folder.path(), name), LARGE + 1).map(|read| read.wasm);
    let refused = |name: &str| read(name).map_err(|error| error.to_string()).expect_err("refused");
    assert!(refused("elf").starts_with("a native ELF file; expected "), "{}", refused("elf"));
    assert!(refused("hole").contains("00 00 00 00"), "{}", refused("hole"));
    // Whoever looks at what was read says the same.
    assert!(crate::prepare::check(&read("small").expect("read")).is_err());
    let app = read("app").expect("read");
    assert!(app.starts_with(b"\0asm") && app.len() as u64 == LARGE + 1, "all of it");
}

#[test]
fn a_config_that_is_not_text_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("hello.wasm"), b"code").expect("written");
    fs::write(folder.path().join("hello.toml"), [0xff, 0xfe]).expect("written");
    assert!(matches!(read(&found(folder.path(), "hello"), MAX), Err(ReadError::ConfigEncoding { .. })));
}

#[test]
fn a_file_that_became_a_link_is_not_followed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("hello.wasm");
    fs::write(&path, b"code").expect("written");
    let seen = found(folder.path(), "hello");
    let moved = folder.path().join("moved");
    fs::rename(&path, &moved).expect("renamed");
    symlink(&moved, &path).expect("linked");
    assert!(matches!(read(&seen, MAX), Err(ReadError::Changed)));
}

#[test]
fn a_folder_on_the_way_that_became_a_link_outwards_is_noticed() {
    let outside = tempfile::tempdir().expect("a folder");
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("api")).expect("created");
    fs::write(folder.path().join("api/v1.wasm"), b"code").expect("written");
    let seen = found(folder.path(), "api/v1");
    // Even the same file, so that its stamp is right.
    fs::rename(folder.path().join("api/v1.wasm"), outside.path().join("v1.wasm")).expect("renamed");
    fs::remove_dir(folder.path().join("api")).expect("removed");
    symlink(outside.path(), folder.path().join("api")).expect("linked");
    assert!(matches!(read(&seen, MAX), Err(ReadError::Outside { .. })));
}

#[test]
fn a_fifo_in_place_of_a_file_does_not_block() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("hello.wasm");
    fs::write(&path, b"code").expect("written");
    let seen = found(folder.path(), "hello");
    fs::remove_file(&path).expect("removed");
    let made = std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo runs");
    assert!(made.success());
    assert!(matches!(read(&seen, MAX), Err(ReadError::NotAFile { .. })));
}

#[test]
fn static_files_are_copied_if_they_are_what_was_seen_and_within_the_limits_of_the_config() {
    let (folder, cache) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let at = |path: &str| folder.path().join(path);
    fs::create_dir_all(at("shop/public")).expect("created");
    fs::write(at("shop/app.wasm"), b"code").expect("written");
    fs::write(at("shop/app.toml"), "its text").expect("written");
    fs::write(at("shop/public/a.css"), b"body{}").expect("written");
    let copies = Copies::open(cache.path(), Room { memory: 100, disk: 0 }).expect("a place for copies");
    let within = |found: &Found, entries: u64| {
        let limits = |text: Option<&str>| {
            assert_eq!(text, Some("its text"));
            (entries > 0).then_some(public::Limits { entries, size: 100, depth: 1 })
        };
        super::read(found, &Reading { max_size: MAX, copies: Some(&copies), limits: &limits })
    };
    let seen = found(folder.path(), "shop");
    let read = within(&seen, 1).expect("readable");
    assert!(read.public.as_ref().is_some_and(|files| files.find("/a.css", None).is_some()));
    assert_eq!(read.digests.public, read.public.as_ref().map(Manifest::digest));
    assert!(within(&seen, 0).is_ok_and(|read| read.public.is_none()), "switched off");
    fs::write(at("shop/public/b.css"), b"more").expect("written");
    assert!(matches!(within(&seen, 2), Err(ReadError::Changed)));
    assert!(matches!(within(&seen, 1), Err(ReadError::Public(public::Trouble::TooMany { limit: 1 }))));
    fs::remove_dir_all(at("shop/public")).expect("removed");
    assert!(matches!(within(&seen, 1), Err(ReadError::Public(public::Trouble::Io { .. }))));
    fs::create_dir(at("shop/public")).expect("created");
    assert!(within(&found(folder.path(), "shop"), 1).is_ok_and(|read| read.public.is_none()), "an empty one");
}
