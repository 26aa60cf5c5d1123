use super::super::restorer::{self, MEMORY_SIZE, Step, TABLE_SIZE};
use super::super::{Manifest, Options, REWIND, instrument};
use super::{Rig, is_put_back_by, is_reported_by, of_module, wat};

/// A module with one global: its type, its first value, what is written, and how it is read.
fn with_global(ty: &str, first: &str, then: &str, read: &str) -> Vec<u8> {
    of_module(&format!(
        r#"(global $g (mut {ty}) {first})
           (func $f)
           (elem declare func $f)
           (func (export "write") (result i32) (global.set $g {then}) (i32.const 0))
           (func (export "read") (result i32) {read})"#
    ))
}

#[test]
fn globals_of_every_type_are_put_back() {
    for (ty, first, then, read) in [
        ("i32", "(i32.const 1)", "(i32.const 2)", "(global.get $g)"),
        ("i64", "(i64.const 1)", "(i64.const 2)", "(i32.wrap_i64 (global.get $g))"),
        ("f32", "(f32.const 1)", "(f32.const 2)", "(i32.trunc_f32_s (global.get $g))"),
        ("f64", "(f64.const 1)", "(f64.const 2)", "(i32.trunc_f64_s (global.get $g))"),
        (
            "v128",
            "(v128.const i32x4 1 2 3 4)",
            "(v128.const i32x4 1 2 3 5)",
            "(i32x4.extract_lane 3 (global.get $g))",
        ),
        ("funcref", "(ref.null func)", "(ref.func $f)", "(ref.is_null (global.get $g))"),
        ("funcref", "(ref.func $f)", "(ref.null func)", "(ref.is_null (global.get $g))"),
    ] {
        is_put_back_by(Step::Globals, &with_global(ty, first, then, read));
    }
}

#[test]
fn what_a_start_function_has_written_is_the_first_state() {
    let component = of_module(
        r#"(global $g (mut i32) (i32.const 1))
           (func $start (global.set $g (i32.const 7)))
           (start $start)
           (func (export "write") (result i32) (global.set $g (i32.const 2)) (i32.const 0))
           (func (export "read") (result i32) (global.get $g))"#,
    );
    is_put_back_by(Step::Globals, &component);
    let mut rig = Rig::saved(&component, &Step::ALL);
    rig.call("write");
    rig.call(REWIND);
    assert_eq!(rig.call("read"), 7);
}

#[test]
fn a_global_that_another_module_writes_is_put_back() {
    let component = wat(r#"(component
        (core module $owner
            (global (export "g") (mut i32) (i32.const 1))
            (func (export "read") (result i32) (global.get 0)))
        (core module $writer
            (import "owner" "g" (global (mut i32)))
            (func (export "write") (result i32) (global.set 0 (i32.const 2)) (i32.const 0)))
        (core instance $owner (instantiate $owner))
        (core instance $writer (instantiate $writer (with "owner" (instance $owner))))
        (func (export "write") (result u32) (canon lift (core func $writer "write")))
        (func (export "read") (result u32) (canon lift (core func $owner "read"))))"#);
    is_put_back_by(Step::Globals, &component);
}

#[test]
fn each_instance_of_one_module_has_its_own_state_put_back() {
    let component = wat(r#"(component
        (core module $m
            (global $g (mut i32) (i32.const 1))
            (func (export "set") (param i32) (global.set $g (local.get 0)))
            (func (export "get") (result i32) (global.get $g)))
        (core module $both
            (import "a" "set" (func $set-a (param i32)))
            (import "b" "set" (func $set-b (param i32)))
            (import "a" "get" (func $get-a (result i32)))
            (import "b" "get" (func $get-b (result i32)))
            (func $start (call $set-a (i32.const 3)) (call $set-b (i32.const 4)))
            (start $start)
            (func (export "write") (result i32) (call $set-a (i32.const 5)) (call $set-b (i32.const 6)) (i32.const 0))
            (func (export "read") (result i32)
                (i32.add (call $get-a) (i32.mul (i32.const 10) (call $get-b)))))
        (core instance $a (instantiate $m))
        (core instance $b (instantiate $m))
        (core instance $i (instantiate $both (with "a" (instance $a)) (with "b" (instance $b))))
        (func (export "write") (result u32) (canon lift (core func $i "write")))
        (func (export "read") (result u32) (canon lift (core func $i "read"))))"#);
    is_put_back_by(Step::Globals, &component);
    let mut rig = Rig::saved(&component, &Step::ALL);
    rig.call("write");
    rig.call(REWIND);
    assert_eq!(rig.call("read"), 43);
}

/// A module with a table of two functions, of which the second is called by `read`.
fn with_table(write: &str) -> Vec<u8> {
    of_module(&format!(
        r#"(table $t 2 20 funcref)
           (type $value (func (result i32)))
           (func $one (result i32) (i32.const 1))
           (func $two (result i32) (i32.const 2))
           (elem (i32.const 0) func $two $one)
           (elem $passive func $two)
           (func (export "write") (result i32) {write} (i32.const 0))
           (func (export "read") (result i32) (call_indirect $t (type $value) (i32.const 1)))"#
    ))
}

#[test]
fn a_table_is_put_back_whatever_instruction_wrote_it() {
    for write in [
        "(table.set $t (i32.const 1) (ref.func $two))",
        "(table.fill $t (i32.const 0) (ref.func $two) (i32.const 2))",
        "(table.copy $t $t (i32.const 1) (i32.const 0) (i32.const 1))",
        "(table.init $t $passive (i32.const 1) (i32.const 0) (i32.const 1))",
    ] {
        is_put_back_by(Step::Tables, &with_table(write));
    }
}

#[test]
fn a_table_that_another_module_writes_is_put_back() {
    let component = wat(r#"(component
        (core module $owner
            (table (export "t") 1 funcref)
            (func $one (result i32) (i32.const 1))
            (elem (i32.const 0) func $one)
            (func (export "read") (result i32) (call_indirect (result i32) (i32.const 0))))
        (core module $writer
            (import "owner" "t" (table 0 funcref))
            (func $two (result i32) (i32.const 2))
            (elem declare func $two)
            (func (export "write") (result i32) (table.set 0 (i32.const 0) (ref.func $two)) (i32.const 0)))
        (core instance $owner (instantiate $owner))
        (core instance $writer (instantiate $writer (with "owner" (instance $owner))))
        (func (export "write") (result u32) (canon lift (core func $writer "write")))
        (func (export "read") (result u32) (canon lift (core func $owner "read"))))"#);
    is_put_back_by(Step::Tables, &component);
}

#[test]
fn a_table_that_nobody_writes_is_left_alone() {
    let options = Options { handles: 8 };
    let unwritten = instrument(&with_table(""), &options).expect("eligible").manifest;
    assert_eq!(unwritten, Manifest { memories: 0, handles: None, globals: 0, tables: 0, droppable: 0 });
    let written = instrument(&with_table("(drop (table.grow $t (ref.null func) (i32.const 1)))"), &options);
    assert_eq!(written.expect("eligible").manifest.tables, 1);
}

#[test]
fn a_table_that_has_grown_is_reported() {
    let grown = with_table("(drop (table.grow $t (ref.null func) (i32.const 1)))");
    is_reported_by(Step::TableSizes, TABLE_SIZE, &grown);
}

#[test]
fn a_memory_that_has_grown_is_reported() {
    let grown = of_module(
        r#"(memory 1 10)
           (func (export "write") (result i32) (memory.grow (i32.const 1)))
           (func (export "read") (result i32) (memory.size))"#,
    );
    is_reported_by(Step::MemorySizes, MEMORY_SIZE, &grown);
    let manifest = instrument(&grown, &Options { handles: 0 }).expect("eligible").manifest;
    assert_eq!(manifest, Manifest { memories: 1, handles: None, globals: 0, tables: 0, droppable: 0 });
}

#[test]
fn each_of_several_memories_is_looked_at() {
    for grows in ["a", "b"] {
        let component = wat(&format!(
            r#"(component
                (core module $m (memory 1 10) (func (export "grow") (result i32) (memory.grow (i32.const 1))))
                (core instance $a (instantiate $m))
                (core instance $b (instantiate $m))
                (func (export "write") (result u32) (canon lift (core func ${grows} "grow"))))"#
        ));
        is_reported_by(Step::MemorySizes, MEMORY_SIZE, &component);
    }
}

/// What Wasmtime does then is seen where memories are the host's; here that it is asked.
#[test]
fn a_memory_is_grown_by_nothing_so_that_its_size_is_read_again() {
    let keeper = restorer::keeper();
    let mut grows = Vec::new();
    for payload in wasmparser::Parser::new(0).parse_all(&keeper) {
        if let wasmparser::Payload::CodeSectionEntry(body) = payload.expect("a whole module") {
            let operators: Result<Vec<_>, _> =
                body.get_operators_reader().expect("a body").into_iter().collect();
            grows.push(format!("{operators:?}").contains("I32Const { value: 0 }, MemoryGrow { mem: 0 }"));
        }
    }
    assert_eq!(grows, [false, true], "of save and rewind");
}

#[test]
fn code_and_data_are_copied_byte_for_byte() {
    let component = of_module(
        r#"(memory 1)
           (global $g (mut i32) (i32.const 1))
           (data (i32.const 8) "these very bytes")
           (func (export "write") (result i32) (global.set $g (i32.const 0x12345)) (i32.const 0))
           (func (export "read") (result i32) (global.get $g))"#,
    );
    let wasm = instrument(&component, &Options { handles: 8 }).expect("eligible").wasm;
    let (before, after) = (sections(&component), sections(&wasm));
    assert!(
        before.len() == 2 && before.iter().all(|section| after.contains(section)),
        "{before:?}\n{after:?}"
    );
}

/// Code and data sections of all modules.
fn sections(bytes: &[u8]) -> Vec<&[u8]> {
    let payloads = wasmparser::Parser::new(0).parse_all(bytes).map(|payload| payload.expect("a whole file"));
    let wanted = payloads.filter_map(|payload| match payload {
        wasmparser::Payload::CodeSectionStart { range, .. } => Some(&bytes[range]),
        wasmparser::Payload::DataSection(section) => Some(&bytes[section.range()]),
        _ => None,
    });
    wanted.collect()
}
