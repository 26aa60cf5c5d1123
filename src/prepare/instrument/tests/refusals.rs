use super::super::{Ineligible, Options, instrument};
use super::{of_module, wat};

fn reason(component: &[u8]) -> String {
    match instrument(component, &Options { handles: 8 }) {
        Err(reason) => reason.to_string(),
        Ok(instrumented) => panic!("eligible: {:?}", instrumented.manifest),
    }
}

fn of_bare_module(fields: &str) -> Vec<u8> {
    wat(&format!("(component (core module {fields}))"))
}

#[test]
fn instructions_off_the_list_are_refused_by_name() {
    let module = "core module 0 has the instruction ";
    for (fields, expected) in [
        (r#"(data $d "x") (func (data.drop $d))"#, "data.drop: what is dropped cannot be brought back"),
        (
            "(func $f) (elem $e func $f) (func (elem.drop $e))",
            "elem.drop: what is dropped cannot be brought back",
        ),
        ("(memory 1) (func (drop (i32.atomic.load (i32.const 0))))", "i32.atomic_load: threads share"),
        ("(func (atomic.fence))", "atomic.fence: threads share"),
        ("(tag $t) (func (throw $t))", "exceptions"),
        ("(func (drop (ref.i31 (i32.const 1))))", "ref.i31: the heap of garbage-collected objects"),
        ("(func $f (return_call $f))", "return.call: it is not among those"),
        (
            "(func (drop (i8x16.relaxed_swizzle (v128.const i64x2 0 0) (v128.const i64x2 0 0))))",
            "it is not among those",
        ),
    ] {
        let reason = reason(&of_bare_module(fields));
        assert!(reason.contains(expected), "{fields}\n{reason}");
        assert!(reason.starts_with(module) || expected == "exceptions", "{reason}");
    }
}

#[test]
fn state_that_is_not_put_back_is_refused_by_name() {
    for (fields, expected) in [
        ("(memory 1 2 shared)", "core module 0 has a memory that is shared between threads"),
        ("(memory i64 1)", "core module 0 has a 64-bit memory"),
        ("(memory 1) (memory 1)", "core module 0 has several memories"),
        ("(memory 1 (pagesize 1))", "core module 0 has a memory with a page size of its own"),
        (
            "(import \"a\" \"b\" (memory 1 2 shared))",
            "core module 0 has a memory that is shared between threads",
        ),
        ("(table i64 1 funcref)", "core module 0 has a 64-bit table"),
        ("(table 1 externref)", "core module 0 has a table of type externref"),
        ("(global (mut externref) (ref.null extern))", "core module 0 has a global of type externref"),
        ("(type (struct))", "core module 0 has a type that is no function"),
        ("(tag)", "core module 0 has exceptions, which live in a heap that is not put back"),
        (
            "(import \"a\" \"b\" (tag))",
            "core module 0 has exceptions, which live in a heap that is not put back",
        ),
    ] {
        assert_eq!(reason(&of_bare_module(fields)), expected);
    }
}

#[test]
fn wiring_that_is_not_looked_into_is_refused_by_name() {
    for (fields, expected) in [
        (r#"(import "m" (core module))"#, "it has an imported core module"),
        (r#"(import "c" (component))"#, "it has an imported component"),
        (
            r#"(core module $m) (export "m" (core module $m))"#,
            "it has an instance that exports a core module",
        ),
        ("(component (core module))", "a component nested in it has a core module; such"),
        (
            r#"(component (import "f" (func $f)) (core func (canon lower (func $f))))"#,
            "a component nested in it has canonical functions; such",
        ),
        ("(component (type (resource (rep i32))))", "a component nested in it has a resource; such"),
        ("(core func (canon backpressure.inc))", "it uses the canonical built-in BackpressureInc, which"),
        ("(core func (canon context.get i32 0))", "it uses the canonical built-in ContextGet, which"),
        ("(type (func async))", "it has asynchronous functions"),
        (
            r#"(import "f" (func $f)) (core func (canon lower (func $f) async))"#,
            "it has asynchronous functions",
        ),
        (
            r#"(import "f" (func $f)) (export "hostler-save" (func $f))"#,
            "it exports \"hostler-save\", a name that rewinding needs for itself",
        ),
        (
            r#"(import "f" (func $f)) (export "HOSTLER-rewind" (func $f))"#,
            "it exports \"HOSTLER-rewind\", a name that rewinding needs for itself",
        ),
        (
            r#"(core module (func (export "hostler:x")))"#,
            "it exports \"hostler:x\", a name that rewinding needs for itself",
        ),
    ] {
        let reason = reason(&wat(&format!("(component {fields})")));
        assert!(reason.starts_with(expected), "{fields}\n{reason}");
    }
}

#[test]
fn what_is_no_component_is_refused() {
    assert_eq!(reason(&wat("(module)")), "it is a core module; only components can be rewound");
    assert!(reason(b"").starts_with("not valid"), "{}", reason(b""));
    assert!(reason(b"hello").starts_with("not valid"));
}

#[test]
fn an_instrumented_app_is_not_instrumented_again() {
    let once = instrument(
        &of_module(
            r#"(func (export "write") (result i32) (i32.const 0)) (func (export "read") (result i32) (i32.const 0))"#,
        ),
        &Options { handles: 8 },
    );
    assert!(matches!(
        instrument(&once.expect("eligible").wasm, &Options { handles: 8 }),
        Err(Ineligible::ReservedName(_))
    ));
}

#[test]
fn more_than_can_be_put_back_is_refused() {
    let globals = "(global (mut i32) (i32.const 0))".repeat(2_000);
    let instances = "(core instance (instantiate $m))".repeat(6);
    let component = wat(&format!("(component (core module $m {globals}) {instances})"));
    assert_eq!(reason(&component), "it has more than 10000 globals to be put back");
    let tables = "(table 1 funcref)".repeat(51);
    let writes: String =
        (0..51).map(|table| format!("(table.set {table} (i32.const 0) (ref.null func))")).collect();
    let component = wat(&format!(
        "(component (core module $m {tables} (func {writes})) (core instance (instantiate $m)))"
    ));
    assert_eq!(reason(&component), "it has more than 50 tables to be put back");
    let most = instrument(&of_bare_module(""), &Options { handles: 1 << 16 });
    assert!(most.is_ok(), "{most:?}");
    let reason = instrument(&of_bare_module(""), &Options { handles: (1 << 16) + 1 }).map(|_| ());
    assert_eq!(reason, Err(Ineligible::TooMuch { what: "handles", most: 1 << 16 }));
}

#[test]
fn an_app_that_has_no_room_left_for_the_restorer_is_refused() {
    let instances = "(core instance (instantiate $m))".repeat(999);
    let component = wat(&format!("(component (core module $m) {instances})"));
    assert!(reason(&component).starts_with("rewound it would not be valid any more: instances count"));
}
