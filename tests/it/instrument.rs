//! Which of the guest apps can be rewound, and that what comes of them is whole.

use hostler::prepare::instrument::{Ineligible, Instrumented, Manifest, Options, REWIND, SAVE, instrument};
use wasmparser::{Validator, WasmFeatures};
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Engine, Store};

use crate::support::guest;

const OPTIONS: Options = Options { handles: 32 };

fn instrumented(name: &str) -> Result<Instrumented, Ineligible> {
    let bytes = std::fs::read(guest(name)).expect("a readable guest");
    instrument(&bytes, &OPTIONS)
}

fn manifest(name: &str) -> Manifest {
    instrumented(name).unwrap_or_else(|reason| panic!("{name} cannot be rewound: {reason}")).manifest
}

#[test]
fn apps_of_every_toolchain_for_wasi_http_0_2_can_be_rewound() {
    for name in [
        "hello", "counter", "echo", "fetcher", "hog", "index", "leaker", "sleeper", "spinner", "stream",
        "trapper",
    ] {
        let manifest = manifest(name);
        assert_eq!((manifest.memories, manifest.handles), (1, None), "{name}");
        assert!((1..100).contains(&manifest.globals), "{name}: {manifest:?}");
    }
    for name in ["cgi-rust", "hello-js", "hello-py"] {
        let manifest = manifest(name);
        assert_eq!(manifest.memories, 1, "{name}");
    }
}

#[test]
fn the_other_guest_apps_are_ineligible_for_the_reason_that_is_stated() {
    for (name, expected) in [
        ("cgi-c", "it is a core module; only components can be rewound"),
        ("canary-c", "it is a core module; only components can be rewound"),
        ("hello-p3", "asynchronous functions"),
        ("canary-p3", "asynchronous functions"),
    ] {
        let reason = instrumented(name).map(|_| ()).expect_err(name).to_string();
        assert!(reason.contains(expected), "{name}: {reason}");
    }
}

#[test]
fn what_comes_of_a_guest_app_is_valid_to_the_last_function() {
    let features = WasmFeatures::WASM2 | WasmFeatures::EXTENDED_CONST | WasmFeatures::COMPONENT_MODEL;
    for name in ["hello", "counter", "cgi-rust", "hello-js", "hello-py"] {
        let wasm = instrumented(name).expect(name).wasm;
        Validator::new_with_features(features).validate_all(&wasm).expect(name);
    }
}

#[test]
fn an_instance_of_a_guest_app_that_nobody_asked_is_saved_and_rewound() {
    let engine = Engine::new(Config::new().concurrency_support(false)).expect("an engine");
    for name in ["hello", "counter", "echo", "leaker"] {
        let app = instrumented(name).expect(name);
        let component = Component::new(&engine, &app.wasm).expect(name);
        let mut linker = Linker::new(&engine);
        linker.define_unknown_imports_as_traps(&component).expect(name);
        let mut store = Store::new(&engine, ());
        store.set_max_component_handles(32);
        let instance = linker.instantiate(&mut store, &component).expect(name);
        for export in [SAVE, REWIND, REWIND, SAVE, REWIND] {
            let function = instance.get_typed_func::<(u32, u32), (u32,)>(&mut store, export).expect(name);
            assert_eq!(function.call(&mut store, (8, 24)).expect(name), (0,), "{export} of {name}");
        }
    }
}
