use super::super::{Digest, Kind, Memory, Table};
use super::{component, passes, refused, wat};

const COMMAND: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 2 16) (table 5 9 funcref)
    (func (export "_start")))"#;

#[test]
fn each_kind_is_found_from_its_entry() {
    let cases = [
        (component("wasi:http/incoming-handler@0.2.0", &[]), Kind::Http02, "wasi:http 0.2"),
        (component("wasi:http/incoming-handler@0.2.99", &[]), Kind::Http02, "wasi:http 0.2"),
        (component("wasi:http/handler@0.3.0", &[]), Kind::Http03, "wasi:http 0.3"),
        (component("wasi:cli/run@0.2.3", &[]), Kind::CommandComponent, "command"),
        (wat(COMMAND), Kind::CommandModule, "command"),
    ];
    for (bytes, kind, shown) in cases {
        let checked = passes(&bytes);
        assert_eq!(checked.kind, kind);
        assert_eq!(checked.kind.to_string(), shown);
        assert_eq!(checked.digest, Digest::of(&bytes));
        assert_eq!(checked.kind.concurrency(), kind == Kind::Http03);
    }
}

#[test]
fn http_goes_before_cgi_and_newer_before_older() {
    let both = |a: &str, b: &str| {
        wat(&format!(
            "(component (instance $i) (export \"{a}\" (instance $i)) (export \"{b}\" (instance $i)))"
        ))
    };
    let old = "wasi:http/incoming-handler@0.2.0";
    assert_eq!(passes(&both("wasi:cli/run@0.2.0", old)).kind, Kind::Http02);
    assert_eq!(passes(&both(old, "wasi:http/handler@0.3.0")).kind, Kind::Http03);
}

#[test]
fn other_versions_of_an_entry_are_named() {
    for entry in [
        "wasi:http/incoming-handler@0.1.0",
        "wasi:http/incoming-handler@0.2.0-rc-2023-11-10",
        "wasi:http/incoming-handler@0.3.0",
        "wasi:http/handler@0.3.0-rc-2025-09-16",
        "wasi:http/handler@0.2.0",
        "wasi:http/handler@1.0.0",
        "wasi:cli/run@0.3.0",
        "wasi:cli/run",
    ] {
        let expected = format!("a component that exports {entry}, a version that Hostler does not run");
        assert_eq!(refused(&component(entry, &[])), expected);
    }
}

#[test]
fn an_entry_that_is_no_instance_does_not_count() {
    let bytes = wat(r#"(component (core module $m) (export "wasi:cli/run@0.2.0" (core module $m)))"#);
    assert_eq!(
        refused(&bytes),
        "a component that exports wasi:cli/run@0.2.0, a version that Hostler does not run"
    );
}

#[test]
fn components_without_an_entry_are_named_by_what_they_export() {
    assert_eq!(refused(&wat("(component)")), "a component that exports nothing");
    assert_eq!(
        refused(&component("acme:db/store@1.0.0", &[])),
        "a component that exports acme:db/store@1.0.0"
    );
    let five: String = (0..5).map(|n| format!("(export \"e{n}\" (instance $i))")).collect();
    assert_eq!(
        refused(&wat(&format!("(component (instance $i) {five})"))),
        "a component that exports e0, e1, e2 and 2 more"
    );
}

#[test]
fn what_stock_toolchains_import_is_provided_sockets_among_it() {
    let imports = [
        "wasi:io/poll@0.2.9",
        "wasi:sockets/tcp@0.2.0",
        "wasi:http/types@0.2.3",
        "wasi:filesystem/types@0.2.1",
    ];
    let checked = passes(&component("wasi:http/incoming-handler@0.2.0", &imports));
    assert_eq!(checked.facts.imports.total, 4);
    assert_eq!(checked.facts.imports.names, imports);
    passes(&component("wasi:http/handler@0.3.0", &["wasi:http/client@0.3.0", "wasi:io/streams@0.2.6"]));
}

#[test]
fn imports_that_nobody_provides_are_named() {
    for import in ["acme:db/store@1.0.0", "wasi:keyvalue/store@0.2.0", "wasi:http/types@0.1.0", "plain"] {
        let expected = format!("a component that imports {import} which Hostler does not provide");
        assert_eq!(refused(&component("wasi:cli/run@0.2.0", &[import])), expected);
    }
    assert_eq!(
        refused(&component("wasi:cli/run@0.2.0", &["wasi:clocks/types@0.3.0"])),
        "a component that imports wasi:clocks/types@0.3.0 which Hostler provides to wasi:http 0.3 apps only"
    );
}

#[test]
fn facts_count_what_nested_modules_define() {
    let facts = passes(&wat(COMMAND)).facts;
    assert_eq!((facts.core_modules, facts.core_instances), (1, 1));
    assert_eq!(
        facts.memories,
        [Memory { min_pages: 2, max_pages: Some(16), page_size: 65536, memory64: false }]
    );
    assert_eq!(facts.tables, [Table { min: 5, max: Some(9) }]);
    assert_eq!(facts.imports.names, ["wasi_snapshot_preview1 fd_write"]);
    assert_eq!(facts.exports.names, ["memory", "_start"]);

    let bytes = wat(r#"(component
        (core module $a (memory 1)) (core module $b (table 3 funcref))
        (core instance (instantiate $a)) (core instance (instantiate $a)) (core instance (instantiate $b))
        (component (core module (memory 7)))
        (instance $i) (export "wasi:cli/run@0.2.0" (instance $i)))"#);
    let facts = passes(&bytes).facts;
    assert_eq!((facts.core_modules, facts.core_instances), (3, 3));
    assert_eq!(facts.memories.iter().map(|m| m.min_pages).collect::<Vec<_>>(), [1, 7]);
    assert_eq!(facts.tables.len(), 1);
    assert_eq!(facts.size, bytes.len() as u64);
}

#[test]
fn facts_are_shown_as_text_and_as_json() {
    let checked = passes(&wat(COMMAND));
    let text = checked.to_string();
    assert!(text.starts_with("kind           command (core module)\n"), "{text}");
    assert!(text.contains("memory         2 pages, at most 16, of 65536 bytes\n"), "{text}");
    let json = serde_json::to_value(&checked).expect("plain data");
    assert_eq!(json["kind"], "command");
    assert_eq!(json["facts"]["format"], "core module");
    assert_eq!(json["digest"], checked.digest.to_string());
    assert_eq!(checked.digest.to_string().len(), 64);
}

#[test]
fn many_exports_are_counted_and_some_are_listed() {
    let exports: String = (0..1000).map(|n| format!("(export \"e{n}\" (func 0))")).collect();
    let facts = passes(&wat(&format!("(module (func (export \"_start\")) {exports})"))).facts;
    assert_eq!((facts.exports.total, facts.exports.names.len()), (1001, 200));
}
