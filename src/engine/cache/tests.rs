use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::sync::OnceLock;

use sha2::{Digest, Sha256};
use tempfile::TempDir;
use wasmtime::Config;

use super::*;

mod sharing;
mod size;

const ROOMY: u64 = 1 << 30;

fn engine() -> Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| Engine::new(&Config::new()).unwrap()).clone()
}

/// A module that answers `n`, and its digest.
fn module(n: i32) -> (Vec<u8>, [u8; 32]) {
    let text = format!(r#"(module (func (export "answer") (result i32) i32.const {n}))"#);
    let bytes = wat::parse_str(text).unwrap();
    let digest = Sha256::digest(&bytes).into();
    (bytes, digest)
}

fn key(n: i32) -> Key {
    Key::new(&engine(), CodeKind::Module, &module(n).1)
}

fn answer(code: &Code) -> i32 {
    let Code::Module(module) = code else { panic!("a module was asked for") };
    let mut store = wasmtime::Store::new(module.engine(), ());
    let instance = wasmtime::Instance::new(&mut store, module, &[]).unwrap();
    instance.get_typed_func::<(), i32>(&mut store, "answer").unwrap().call(&mut store, ()).unwrap()
}

struct Fixture {
    dir: PathBuf,
    cache: CodeCache,
    _parent: TempDir,
}

impl Fixture {
    fn new(max_size: u64) -> Fixture {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("state/cache");
        let cache = CodeCache::open(&dir, max_size).unwrap();
        Fixture { dir, cache, _parent: parent }
    }

    /// Asks for module `n`, checks that its code is right, and says where it came from.
    fn ask(&self, n: i32) -> Source {
        let (bytes, digest) = module(n);
        let loaded = self.cache.code(&engine(), &bytes, CodeKind::Module, &digest).unwrap();
        assert_eq!(answer(&loaded.code), n);
        loaded.source
    }

    fn path(&self, n: i32) -> PathBuf {
        self.dir.join(key(n).to_string())
    }

    fn names(&self) -> Vec<String> {
        fs::read_dir(&self.dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    /// Module 1 is in the cache, `harm` is done to its file: it is compiled again, and the cache is whole again.
    fn survives(harm: impl FnOnce(&Fixture, &Path)) -> Fixture {
        let fixture = Fixture::new(ROOMY);
        assert_eq!(fixture.ask(1), Source::Compiled);
        assert_eq!(fixture.ask(1), Source::Cache);
        harm(&fixture, &fixture.path(1));
        assert_eq!(fixture.ask(1), Source::Compiled);
        assert_eq!(fixture.ask(1), Source::Cache);
        fixture
    }
}

/// Replaces the file: one in use is never written in place.
fn put(path: &Path, bytes: &[u8]) {
    let _ = fs::remove_file(path);
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o400)).unwrap();
}

fn set_used(path: &Path, seconds: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    fs::File::open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn code_is_compiled_once_and_then_found_also_by_the_next_process() {
    let fixture = Fixture::new(ROOMY);
    assert_eq!(fixture.ask(1), Source::Compiled);
    assert_eq!(fixture.ask(1), Source::Cache);
    let next = CodeCache::open(&fixture.dir, ROOMY).unwrap();
    assert_eq!(answer(&next.load(&engine(), &key(1)).unwrap()), 1);
    assert_eq!(next.size(), fs::metadata(fixture.path(1)).unwrap().len());
    assert_eq!(next.size(), fixture.cache.size());
}

#[test]
fn components_are_kept_as_well() {
    let fixture = Fixture::new(ROOMY);
    let bytes = wat::parse_str("(component (core module (func)))").unwrap();
    for source in [Source::Compiled, Source::Cache] {
        let loaded = fixture.cache.code(&engine(), &bytes, CodeKind::Component, &[1; 32]).unwrap();
        assert!(matches!(loaded.code, Code::Component(_)));
        assert_eq!(loaded.source, source);
    }
}

#[test]
fn directory_and_files_are_for_us_alone() {
    let fixture = Fixture::new(ROOMY);
    fixture.ask(1);
    assert_eq!(fs::metadata(&fixture.dir).unwrap().mode() & 0o7777, 0o700);
    assert_eq!(fs::metadata(fixture.path(1)).unwrap().mode() & 0o7777, 0o400);
}

#[test]
fn a_damaged_artifact_is_compiled_again() {
    Fixture::survives(|_, path| {
        let mut bytes = fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
        put(path, &bytes);
    });
}

#[test]
fn a_cut_or_empty_artifact_is_compiled_again() {
    Fixture::survives(|_, path| put(path, &fs::read(path).unwrap()[..2000]));
    Fixture::survives(|_, path| put(path, b""));
}

#[test]
fn a_bad_artifact_is_removed_when_it_is_found() {
    let fixture = Fixture::new(ROOMY);
    fixture.ask(1);
    put(&fixture.path(1), b"rotten");
    assert!(fixture.cache.load(&engine(), &key(1)).is_none());
    assert_eq!(fixture.names(), [] as [String; 0]);
}

#[test]
fn two_artifacts_with_their_names_swapped_are_both_compiled_again() {
    let fixture = Fixture::survives(|fixture, path| {
        assert_eq!(fixture.ask(2), Source::Compiled);
        let aside = fixture.dir.join("aside");
        fs::rename(path, &aside).unwrap();
        fs::rename(fixture.path(2), path).unwrap();
        fs::rename(&aside, fixture.path(2)).unwrap();
    });
    assert_eq!(fixture.ask(2), Source::Compiled);
    assert_eq!(fixture.ask(2), Source::Cache);
}

#[test]
fn an_engine_with_other_settings_has_artifacts_of_its_own() {
    let fixture = Fixture::new(ROOMY);
    let other = Engine::new(Config::new().epoch_interruption(true).concurrency_support(false)).unwrap();
    fixture.ask(1);
    let (bytes, digest) = module(1);
    for source in [Source::Compiled, Source::Cache] {
        assert_eq!(fixture.cache.code(&other, &bytes, CodeKind::Module, &digest).unwrap().source, source);
    }
    assert_eq!(fixture.ask(1), Source::Cache);
}

#[test]
fn code_of_another_engine_under_the_right_key_is_compiled_again() {
    Fixture::survives(|fixture, _| {
        let other = Engine::new(Config::new().consume_fuel(true)).unwrap();
        let payload = artifact::compile(&other, &module(1).0, CodeKind::Module).unwrap();
        fixture.cache.store(&key(1), &payload).unwrap();
    });
}

#[test]
fn a_link_in_an_artifacts_place_is_not_followed() {
    let fixture = Fixture::survives(|_, path| {
        let target = path.with_file_name("target");
        fs::rename(path, &target).unwrap();
        symlink(&target, path).unwrap();
    });
    assert!(fs::symlink_metadata(fixture.path(1)).unwrap().is_file());
    assert!(fixture.dir.join("target").exists(), "only the link may go");
}

#[test]
fn an_artifact_that_others_may_write_is_not_run() {
    for mode in [0o420, 0o402, 0o666] {
        Fixture::survives(|_, path| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap());
    }
}

#[test]
fn a_pipe_in_an_artifacts_place_blocks_nobody() {
    Fixture::survives(|_, path| {
        fs::remove_file(path).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    });
}

#[test]
fn a_directory_in_an_artifacts_place_is_served_around() {
    let fixture = Fixture::new(ROOMY);
    fs::create_dir(fixture.path(1)).unwrap();
    assert_eq!(fixture.ask(1), Source::Compiled);
    assert_eq!(fixture.ask(1), Source::Compiled);
    assert_eq!(fixture.ask(2), Source::Compiled);
    assert_eq!(fixture.ask(2), Source::Cache);
    assert_eq!(fixture.names().len(), 2, "no temporary file is left");
}

#[test]
fn an_app_is_served_though_its_code_cannot_be_stored() {
    let fixture = Fixture::new(ROOMY);
    fs::remove_dir(&fixture.dir).unwrap();
    assert_eq!(fixture.ask(1), Source::Compiled);
    assert_eq!(fixture.ask(1), Source::Compiled);
    assert!(fixture.cache.store(&key(1), b"payload").is_err());
}

#[test]
fn a_read_only_directory_still_gives_what_is_in_it() {
    let fixture = Fixture::new(ROOMY);
    fixture.ask(1);
    fs::set_permissions(&fixture.dir, Permissions::from_mode(0o500)).unwrap();
    assert_eq!(fixture.ask(1), Source::Cache);
    assert_eq!(fixture.ask(2), Source::Compiled);
    // The superuser may write all the same; for everyone else storing has failed, and the app was served.
    let probe = fixture.dir.join("probe");
    let writable = fs::write(&probe, b"").is_ok();
    assert_eq!(fixture.ask(2), if writable { Source::Cache } else { Source::Compiled });
    fs::set_permissions(&fixture.dir, Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn a_directory_open_to_others_is_refused_with_what_to_do() {
    let parent = tempfile::tempdir().unwrap();
    for mode in [0o777, 0o770, 0o755, 0o1777, 0o702] {
        fs::set_permissions(parent.path(), Permissions::from_mode(mode)).unwrap();
        let error = CodeCache::open(parent.path(), ROOMY).err().unwrap();
        assert!(matches!(error, CacheError::Mode { mode: found, .. } if found == mode));
        assert!(error.to_string().contains("chmod 700"), "{error}");
    }
    fs::set_permissions(parent.path(), Permissions::from_mode(0o700)).unwrap();
    assert!(CodeCache::open(parent.path(), ROOMY).is_ok());
}

#[test]
fn a_directory_of_someone_else_is_refused() {
    // Only the superuser can give a directory away; for everyone else /proc is someone else's.
    let parent = tempfile::tempdir().unwrap();
    let given_away = std::os::unix::fs::chown(parent.path(), Some(54321), None).is_ok();
    let path = if given_away { parent.path() } else { Path::new("/proc") };
    assert!(matches!(CodeCache::open(path, ROOMY).err().unwrap(), CacheError::Owner { .. }));
}

#[test]
fn a_file_where_the_directory_should_be_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    assert!(matches!(CodeCache::open(file.path(), ROOMY).err().unwrap(), CacheError::Open { .. }));
}

#[test]
fn another_directory_put_in_place_later_is_not_used() {
    let fixture = Fixture::new(ROOMY);
    fixture.ask(1);
    let aside = fixture.dir.with_file_name("aside");
    fs::rename(&fixture.dir, &aside).unwrap();
    fs::create_dir(&fixture.dir).unwrap();
    assert_eq!(fixture.ask(1), Source::Cache);
    assert_eq!(fixture.ask(2), Source::Compiled);
    assert!(fixture.names().is_empty());
    assert_eq!(fs::read_dir(&aside).unwrap().count(), 2);
}

#[test]
fn leftovers_of_a_crash_are_removed_but_nothing_else() {
    let fixture = Fixture::new(ROOMY);
    fixture.ask(1);
    let held = fs::File::create(fixture.dir.join("tmp-00000000000000ab")).unwrap();
    held.try_lock().unwrap();
    for name in ["tmp-0123456789abcdef", "tmp-notes", "tmp-0123456789abcdef.bak", "README"] {
        fs::write(fixture.dir.join(name), b"half").unwrap();
    }
    CodeCache::open(&fixture.dir, ROOMY).unwrap();
    let mut names = fixture.names();
    names.sort();
    let mut expected = ["README", "tmp-00000000000000ab", "tmp-0123456789abcdef.bak", "tmp-notes"]
        .map(String::from)
        .to_vec();
    expected.push(key(1).to_string());
    expected.sort();
    assert_eq!(names, expected, "a writer that lives keeps its file");
    drop(held);
    CodeCache::open(&fixture.dir, ROOMY).unwrap();
    assert_eq!(fixture.names().len(), 4);
}

#[test]
fn that_an_app_can_not_be_instrumented_is_kept_in_the_place_of_its_code() {
    let fixture = Fixture::new(ROOMY);
    let ask = |compile: &mut dyn FnMut() -> Result<Vec<u8>, CompileError>| {
        let asked = fixture.cache.code_with(&engine(), CodeKind::Instrumented, &module(1).1, compile);
        asked.map(|_| ()).expect_err("it can't be instrumented")
    };
    let ineligible = CompileError::Ineligible("it has shared memory".to_owned());
    assert_eq!(ask(&mut || Err(ineligible.clone())), ineligible);
    assert_eq!(ask(&mut || panic!("it is not tried again")), ineligible);
    // A torn one is.
    let name = fixture.names().pop().expect("one file");
    let path = fixture.dir.join(name);
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    fs::write(&path, b"torn").unwrap();
    assert_eq!(ask(&mut || Err(CompileError::Stopped)), CompileError::Stopped);
    assert_eq!(fixture.names(), [""; 0]);
}
