use proptest::prelude::*;

use super::super::{Kind, Refusal, check, check_known, for_rewind};
use super::{component, incomplete, passes, refused, wat};

#[test]
fn files_that_are_not_webassembly_are_named_for_what_they_are() {
    let mut tar = vec![b'a'; 512];
    tar[257..262].copy_from_slice(b"ustar");
    let cases: &[(&[u8], &str)] = &[
        (b"\x7fELF\x02\x01\x01\x00\0\0\0\0", "a native ELF file"),
        (
            b"\x7fELF\x02\x01\x01\xc8\0\0\0\0",
            "precompiled Wasmtime code; give the .wasm that it was made from",
        ),
        (b"\xcf\xfa\xed\xfe\x0c\0\0\x01", "a Mach-O file"),
        (b"\xca\xfe\xba\xbe\0\0\0\x02", "a Mach-O file"),
        (b"\xca\xfe\xba\xbe\0\0\0\x3d", "a Java class"),
        (b"MZ\x90\0\x03\0\0\0\x04\0", "a Windows executable"),
        (b"\x1f\x8b\x08\0\0\0\0\0\0", "a gzip archive"),
        (b"PK\x03\x04\x14\0\0\0\x08\0", "a ZIP archive"),
        (b"#!/bin/sh\necho hello\n", "a shell script"),
        (b"\n <!DOCTYPE html><title>404</title>", "HTML"),
        (b"\xef\xbb\xbf<HTML>", "HTML"),
        (b"<svg>", "HTML or XML"),
        (b"(module (func))", "a WebAssembly text file (.wat); compile it to binary first"),
        (b";; a comment\n(component)", "a WebAssembly text file (.wat); compile it to binary first"),
        (b"{\"name\": 1}", "JSON"),
        (b"export default {}", "JavaScript; build it into a component first"),
        (b"hi", "plain text"),
        (b"\x01\x02\x03", "not WebAssembly: the file begins with the bytes 01 02 03"),
        (&[0; 64], "not WebAssembly: the file begins with the bytes 00 00 00 00 00 00 00 00"),
        (b"\0asm\x02\0\0\0", "a WebAssembly file of unknown version 2 (layer 0)"),
        (b"\0asm\x0a\0\x01\0", "a WebAssembly file of unknown version 10 (layer 1)"),
    ];
    for (bytes, expected) in cases {
        assert_eq!(&refused(bytes), expected);
    }
    assert_eq!(refused(&tar), "a tar archive");
}

#[test]
fn a_refusal_says_what_was_expected() {
    let refusal = check(b"hi").expect_err("plain text is no app").to_string();
    assert!(
        refusal.starts_with("plain text; expected a component that exports wasi:http/incoming-handler@0.2.x")
    );
    assert!(refusal.contains("wasi:http/handler@0.3.x"), "{refusal}");
    assert!(refusal.contains("_start"), "{refusal}");
}

#[test]
fn a_file_cut_anywhere_within_a_section_is_incomplete_not_refused() {
    let whole = component("wasi:http/incoming-handler@0.2.0", &["wasi:io/poll@0.2.0"]);
    passes(&whole);
    assert_eq!(incomplete(b""), "an empty file");
    for len in 1..8 {
        let cut = incomplete(&whole[..len]);
        assert_eq!(cut, "cut short: the file ends within the 8 bytes of the WebAssembly header");
    }
    let boundaries = boundaries(&whole);
    for len in 8..whole.len() {
        match check(&whole[..len]) {
            Err(Refusal::Incomplete(_)) => assert!(!boundaries.contains(&len)),
            // A file cut between two sections looks whole, and without its last custom sections it is even valid.
            Err(Refusal::Refused(_)) | Ok(_) => assert!(boundaries.contains(&len)),
        }
    }
}

#[test]
fn a_cut_section_is_numbered_and_measured() {
    let mut bytes = b"\0asm\x01\0\0\0".to_vec();
    bytes.extend([0, 3, 1, b'n', 0]);
    bytes.extend([0, 100, 1, b'n']);
    assert_eq!(incomplete(&bytes), "cut short: section 2 claims 98 bytes beyond the end of file");
    bytes.truncate(14);
    assert_eq!(incomplete(&bytes), "cut short: the file ends within the header of section 2");
}

#[test]
fn core_modules_are_refused_by_name() {
    let cases = [
        ("(module)", "a core module without _start"),
        (
            r#"(module (func (export "_initialize")))"#,
            "a reactor module: it exports _initialize instead of _start",
        ),
        (
            r#"(module (import "env" "foo" (func)) (func (export "_start")))"#,
            r#"a core module that imports "env" "foo" (not WASI 0.1)"#,
        ),
        (
            r#"(module (import "wasi_snapshot_preview1" "sock_open" (func)) (func (export "_start")))"#,
            r#"a core module that imports "wasi_snapshot_preview1" "sock_open" (not WASI 0.1)"#,
        ),
        (
            r#"(module (import "wbg" "x" (func)))"#,
            r#"a core module that imports "wbg" "x" (not WASI 0.1); built for a browser by wasm-bindgen"#,
        ),
        (
            r#"(module (func (export "_start") (param i32)))"#,
            "a core module whose _start is not a function without parameters and results",
        ),
        (r#"(module (memory (export "_start") 1))"#, "a core module without _start"),
    ];
    for (text, expected) in cases {
        assert_eq!(refused(&wat(text)), expected);
    }
}

#[test]
fn every_function_of_wasi_0_1_may_be_imported() {
    for name in ["args_get", "fd_write", "path_unlink_file", "poll_oneoff", "proc_exit", "sock_shutdown"] {
        let import = format!("(import \"wasi_snapshot_preview1\" \"{name}\" (func))");
        passes(&wat(&format!("(module {import} (func (export \"_start\")))")));
    }
}

#[test]
fn what_the_validator_finds_is_reported_with_its_words() {
    let unbalanced = wat(r#"(module (func (export "_start") i32.const 1))"#);
    assert!(refused(&unbalanced).starts_with("not valid: type mismatch"), "{}", refused(&unbalanced));
    let shared = wat(r#"(module (memory 1 2 shared) (func (export "_start")))"#);
    assert!(refused(&shared).starts_with("not valid: threads must be enabled"), "{}", refused(&shared));
}

#[test]
fn only_the_full_check_runs_the_validator() {
    let unbalanced = wat(r#"(module (func (export "_start") i32.const 1))"#);
    assert!(check(&unbalanced).is_err());
    assert_eq!(check_known(&unbalanced).map(|checked| checked.kind), Ok(Kind::CommandModule));
    assert!(check_known(b"hi").is_err());
}

#[test]
fn text_out_of_the_file_is_escaped_and_cut() {
    let name = format!("a\u{1b}[31m\n{}", "x".repeat(5000));
    let text = format!("(module (import \"env\" {name:?} (func)))").replace("\\u{1b}", "\\1b");
    let refusal = refused(&wat(&text));
    assert!(refusal.chars().all(|c| !c.is_control()), "{refusal:?}");
    assert!(refusal.len() < 400, "{refusal}");
}

/// The validator takes a stack frame for each level, and a stack that is used up ends the process.
#[test]
fn types_that_are_nested_too_deep_are_refused_before_anyone_reads_them() {
    let nested = |levels: usize| {
        let mut ty = [0x42, 1, 1].repeat(levels);
        ty.extend([0x42, 0]);
        let mut types = wasm_encoder::Component::new();
        types.section(&wasm_encoder::RawSection { id: 7, data: &[&[1], &*ty].concat() });
        let mut bytes = component("wasi:http/incoming-handler@0.2.0", &[]);
        bytes.extend(&types.finish()[8..]);
        bytes
    };
    passes(&nested(50));
    for levels in [101, 300_000] {
        let deep = nested(levels);
        assert_eq!(refused(&deep), "a component whose types hold more than 100 others within one section");
        assert!(check_known(&deep).is_err());
        assert!(for_rewind(&deep).is_err());
    }
}

/// Offsets at which an outermost section ends.
fn boundaries(bytes: &[u8]) -> Vec<usize> {
    let mut ends = vec![8];
    let mut at = 8;
    while at < bytes.len() {
        let (mut size, mut shift) = (0usize, 0);
        loop {
            at += 1;
            size |= usize::from(bytes[at] & 0x7f) << shift;
            shift += 7;
            if bytes[at] & 0x80 == 0 {
                break;
            }
        }
        at += 1 + size;
        ends.push(at);
    }
    ends
}

proptest! {
    #[test]
    fn no_bytes_make_the_check_panic(tail in proptest::collection::vec(any::<u8>(), 0..300), layer in 0u8..3) {
        let mut bytes = match layer {
            0 => Vec::new(),
            1 => b"\0asm\x01\0\0\0".to_vec(),
            _ => b"\0asm\x0d\0\x01\0".to_vec(),
        };
        bytes.extend(tail);
        let _ = check(&bytes);
    }

    #[test]
    fn no_change_of_one_byte_makes_the_check_panic(at in 0usize..10_000, to in any::<u8>()) {
        let mut bytes = component("wasi:http/handler@0.3.0", &["wasi:io/poll@0.2.0", "wasi:http/types@0.3.0"]);
        let at = at % bytes.len();
        bytes[at] = to;
        let _ = check(&bytes);
    }
}
