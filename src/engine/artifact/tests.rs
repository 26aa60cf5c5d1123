use std::io::Write;
use std::sync::OnceLock;

use proptest::prelude::*;
use wasmtime::Config;

use super::trailer::FORMAT;
use super::*;

const MODULE: &str = r#"(module (memory (export "memory") 1) (data (i32.const 8) "stable")
    (func (export "answer") (result i32) i32.const 42))"#;

fn engine() -> Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| Engine::new(&Config::new()).unwrap()).clone()
}

fn other_engine() -> Engine {
    Engine::new(Config::new().consume_fuel(true)).unwrap()
}

fn key(engine: &Engine) -> Key {
    Key::new(engine, CodeKind::Module, &[7; 32])
}

/// The bytes of a whole artifact of [`MODULE`] for [`engine`], under [`key`].
fn artifact() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let mut payload = compile(&engine(), &wat::parse_str(MODULE).unwrap(), CodeKind::Module).unwrap();
        let trailer = trailer(&key(&engine()), &payload);
        payload.extend_from_slice(&trailer);
        payload
    })
}

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn load_all(bytes: &[u8]) -> Result<Code, Flaw> {
    load(&engine(), &file(bytes), &key(&engine()))
}

fn answer(code: &Code) -> i32 {
    let Code::Module(module) = code else { panic!("a module was stored") };
    let mut store = wasmtime::Store::new(module.engine(), ());
    let instance = wasmtime::Instance::new(&mut store, module, &[]).unwrap();
    instance.get_typed_func::<(), i32>(&mut store, "answer").unwrap().call(&mut store, ()).unwrap()
}

#[test]
fn a_whole_artifact_is_loaded_and_runs() {
    assert_eq!(answer(&load_all(artifact()).unwrap()), 42);
}

#[test]
fn code_that_may_not_be_mapped_is_copied() {
    let engine = engine();
    let file = file(artifact());
    let len = verify(&file, &key(&engine)).unwrap();
    assert_eq!(answer(&copy(&engine, &file, &key(&engine), len).unwrap()), 42);
}

#[test]
fn a_file_that_changes_after_it_was_verified_is_not_copied() {
    let (engine, file) = (engine(), file(artifact()));
    let len = verify(&file, &key(&engine)).unwrap();
    file.write_all_at(&[0xff], len / 2).unwrap();
    assert!(matches!(copy(&engine, &file, &key(&engine), len), Err(Flaw::Mismatch(_))));
}

#[test]
fn a_key_names_bytes_kind_and_engine_settings() {
    let base = key(&engine());
    assert_eq!(base, key(&Engine::new(&Config::new()).unwrap()));
    assert_ne!(base, Key::new(&engine(), CodeKind::Module, &[8; 32]));
    assert_ne!(base.to_string(), Key::new(&engine(), CodeKind::Component, &[7; 32]).to_string());
    assert_ne!(base, key(&other_engine()));
    assert_ne!(base, key(&Engine::new(Config::new().epoch_interruption(true)).unwrap()));
    assert_ne!(base, key(&Engine::new(Config::new().concurrency_support(false)).unwrap()));
    assert_ne!(base, key(&Engine::new(Config::new().memory_reservation(1 << 30)).unwrap()));
}

/// So that a host can go over to the safest settings without compiling anything.
#[test]
fn what_is_kept_of_memory_changes_no_code() {
    use crate::engine::{EngineKind, EngineSettings, Engines};
    for memory_reservation in [4 << 30, 128 << 20] {
        let settings = EngineSettings { instances: 2, memory_reservation, ..EngineSettings::default() };
        let safest = Engines::new(settings.safest()).unwrap();
        let engines = Engines::new(settings).unwrap();
        for kind in [EngineKind::Plain, EngineKind::Concurrent] {
            let (engine, safest) = (engines.get(kind).unwrap(), safest.get(kind).unwrap());
            assert_eq!(key(engine), key(safest));
            for (text, kind) in [(MODULE, CodeKind::Module), ("(component)", CodeKind::Component)] {
                let payload = compile(engine, &wat::parse_str(text).unwrap(), kind).unwrap();
                let loaded = load_bytes(engine, &payload, kind).unwrap();
                load_bytes(safest, &loaded.payload().unwrap(), kind).unwrap();
            }
        }
    }
}

#[test]
fn a_payload_from_another_engine_is_refused_though_key_and_digest_are_right() {
    let mut bytes = compile(&other_engine(), &wat::parse_str(MODULE).unwrap(), CodeKind::Module).unwrap();
    let trailer = trailer(&key(&engine()), &bytes);
    bytes.extend_from_slice(&trailer);
    assert!(matches!(load_all(&bytes), Err(Flaw::Unfit(_))));
}

#[test]
fn a_component_under_the_key_of_a_module_is_refused() {
    let mut bytes = compile(&engine(), &wat::parse_str("(component)").unwrap(), CodeKind::Component).unwrap();
    let trailer = trailer(&key(&engine()), &bytes);
    bytes.extend_from_slice(&trailer);
    assert!(matches!(load_all(&bytes), Err(Flaw::Unfit(_))));
}

#[test]
fn another_format_version_is_told_from_damage() {
    let mut bytes = artifact().to_vec();
    let at = bytes.len() - TRAILER_LEN + 8;
    bytes[at..at + 4].copy_from_slice(&(FORMAT + 1).to_le_bytes());
    assert!(matches!(load_all(&bytes), Err(Flaw::Mismatch("format version"))));
}

#[test]
fn an_artifact_of_another_key_is_refused() {
    let other = Key::new(&engine(), CodeKind::Module, &[8; 32]);
    assert!(matches!(load(&engine(), &file(artifact()), &other), Err(Flaw::Mismatch("key"))));
}

#[test]
fn a_cut_artifact_is_refused_at_every_length_near_the_trailer_and_the_start() {
    let bytes = artifact();
    let near_end = bytes.len() - TRAILER_LEN - 64..bytes.len();
    for len in (0..TRAILER_LEN + 64).chain(near_end).chain((0..bytes.len()).step_by(509)) {
        assert!(load_all(&bytes[..len]).is_err(), "cut to {len} of {} bytes", bytes.len());
    }
}

#[test]
fn an_artifact_with_something_behind_it_is_refused() {
    assert!(load_all(&[artifact(), &[0]].concat()).is_err());
    assert!(load_all(&[artifact(), artifact()].concat()).is_err());
}

#[test]
fn every_byte_of_the_trailer_matters() {
    let bytes = artifact();
    for at in bytes.len() - TRAILER_LEN..bytes.len() {
        let mut bad = bytes.to_vec();
        bad[at] ^= 1;
        assert!(load_all(&bad).is_err(), "byte {at} of {}", bytes.len());
    }
}

#[test]
fn what_does_not_compile_says_why() {
    let error = compile(&engine(), b"\0asm\x01\0\0\0\xff", CodeKind::Module).unwrap_err();
    assert!(matches!(&error, CompileError::Compile(text) if !text.is_empty()), "{error}");
    let component = compile(&engine(), &wat::parse_str("(component)").unwrap(), CodeKind::Component).unwrap();
    assert!(matches!(load_bytes(&engine(), &component, CodeKind::Module), Err(CompileError::Load(_))));
    assert!(load_bytes(&engine(), &component, CodeKind::Component).is_ok());
}

proptest! {
    #[test]
    fn one_changed_byte_anywhere_is_found(at: prop::sample::Index, flip in 1u8..) {
        let mut bytes = artifact().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        prop_assert!(load_all(&bytes).is_err());
    }

    #[test]
    fn a_cut_artifact_is_refused(len: prop::sample::Index) {
        prop_assert!(load_all(&artifact()[..len.index(artifact().len())]).is_err());
    }

    #[test]
    fn arbitrary_bytes_are_no_artifact(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(load_all(&bytes).is_err());
    }
}
