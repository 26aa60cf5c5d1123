//! Modules that a generator makes up, each as a component of its own.

use arbitrary::Unstructured;
use proptest::prelude::*;
use wasm_encoder as enc;
use wasmparser::{ExternalKind, Parser, Payload, Validator};
use wasmtime::component::{Component, Instance, Linker, Val};
use wasmtime::{Engine, Store};

use super::super::{Options, REWIND, SAVE, instrument};
use super::{engine, wat};
use crate::prepare::{Kind, features};

const OPTIONS: Options = Options { handles: 8 };

/// What the engines have, and functions that end.
fn plain(memories: usize) -> wasm_smith::Config {
    wasm_smith::Config {
        max_imports: 0,
        min_funcs: 5,
        max_types: 4,
        max_memories: memories,
        max_tables: 3,
        export_everything: true,
        allow_start_export: false,
        exceptions_enabled: false,
        gc_enabled: false,
        memory64_enabled: false,
        relaxed_simd_enabled: false,
        tail_call_enabled: false,
        threads_enabled: false,
        canonicalize_nans: true,
        // A trap is the end of an instance.
        disallow_traps: memories == 0,
        ..wasm_smith::Config::default()
    }
}

fn generated(config: wasm_smith::Config, seed: &[u8]) -> Option<Vec<u8>> {
    let mut module = wasm_smith::Module::new(config, &mut Unstructured::new(seed)).ok()?;
    module.ensure_termination(10_000).ok()?;
    Some(module.to_bytes())
}

/// The module's functions without parameters that give an `i32` or nothing, lifted as `f0`, `f1` and so on.
fn component(module: &[u8]) -> (Vec<u8>, usize) {
    let types = Validator::new_with_features(wasmparser::WasmFeatures::all()).validate_all(module);
    let types = types.expect("the generator's modules are valid");
    let mut lifted = Vec::new();
    for payload in Parser::new(0).parse_all(module) {
        let Ok(Payload::ExportSection(exports)) = payload else { continue };
        for export in exports.into_iter().map(|export| export.expect("a valid export")) {
            let ty = types.as_ref();
            if export.kind == ExternalKind::Func {
                let ty = ty[ty.core_function_at(export.index)].unwrap_func();
                match (ty.params(), ty.results()) {
                    ([], []) => lifted.push((export.name.to_owned(), 0)),
                    ([], [wasmparser::ValType::I32]) => lifted.push((export.name.to_owned(), 1)),
                    _ => {}
                }
            }
        }
    }
    let mut component = enc::Component::new();
    component.section(&enc::RawSection { id: 1, data: module });
    let mut instances = enc::InstanceSection::new();
    instances.instantiate(0, Vec::<(&str, enc::ModuleArg)>::new());
    let mut types = enc::ComponentTypeSection::new();
    let none = || Vec::<(&str, enc::ComponentValType)>::new();
    types.function().params(none()).result(None);
    types
        .function()
        .params(none())
        .result(Some(enc::ComponentValType::Primitive(enc::PrimitiveValType::S32)));
    let mut aliases = enc::ComponentAliasSection::new();
    let mut lifts = enc::CanonicalFunctionSection::new();
    let mut exports = enc::ComponentExportSection::new();
    for (at, (name, ty)) in (0..).zip(&lifted) {
        aliases.alias(enc::Alias::CoreInstanceExport { instance: 0, kind: enc::ExportKind::Func, name });
        lifts.lift(at, *ty, []);
        exports.export(format!("f{at}").as_str(), enc::ComponentExportKind::Func, at, None);
    }
    component.section(&instances).section(&types).section(&aliases).section(&lifts).section(&exports);
    (component.finish(), lifted.len())
}

/// What the functions give, up to the first trap.
fn outcomes(store: &mut Store<()>, instance: &Instance, functions: usize) -> Vec<String> {
    let mut outcomes = Vec::new();
    for at in 0..functions {
        let function = instance.get_func(&mut *store, format!("f{at}")).expect("a lifted function");
        let mut results = vec![Val::Bool(false); function.ty(&*store).results().len()];
        let called = function.call(&mut *store, &[], &mut results);
        outcomes.push(match called {
            Ok(()) => format!("{results:?}"),
            Err(trap) => trap.root_cause().to_string(),
        });
        if !outcomes.last().is_some_and(|outcome| outcome.starts_with('[')) {
            break;
        }
    }
    outcomes
}

fn instance(engine: &Engine, component: &[u8]) -> Option<(Store<()>, Instance)> {
    let component = Component::new(engine, component).expect("a valid component");
    let mut store = Store::new(engine, ());
    store.set_max_component_handles(OPTIONS.handles as usize);
    // A start function or an active segment may trap.
    let instance = Linker::new(engine).instantiate(&mut store, &component).ok()?;
    Some((store, instance))
}

fn status(store: &mut Store<()>, instance: &Instance, export: &str) -> u32 {
    let function = instance.get_typed_func::<(u32, u32), (u32,)>(&mut *store, export);
    let function = function.expect("an instrumented app");
    function.call(&mut *store, (0, OPTIONS.handles)).expect("no trap").0
}

/// Generated components that the engines would take, with the number of functions to call.
fn valid(memories: usize) -> impl Iterator<Item = (Vec<u8>, usize)> {
    (0..SEEDS).filter_map(move |seed| {
        let mut random = fastrand::Rng::with_seed(seed);
        let bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(2000).collect();
        // Many a module that has them drops a segment, or has references that the engines don't take.
        let (bulk_memory_enabled, reference_types_enabled) = (seed % 2 == 0, seed % 4 == 0);
        let config = wasm_smith::Config { bulk_memory_enabled, reference_types_enabled, ..plain(memories) };
        let (component, functions) = component(&generated(config, &bytes)?);
        Validator::new_with_features(features(Kind::Http02)).validate_all(&component).ok()?;
        Some((component, functions))
    })
}

/// Seeds that are tried, and how many of them at least have to make a component that is seen through to the end.
const SEEDS: u64 = 1000;
const ENOUGH: usize = 20;

#[test]
fn an_instrumented_module_behaves_as_before() {
    let mut seen = 0;
    for (component, functions) in valid(1) {
        let Ok(instrumented) = instrument(&component, &OPTIONS) else { continue };
        Validator::new_with_features(features(Kind::Http02)).validate_all(&instrumented.wasm).expect("valid");
        let engine = engine();
        let (before, after) = (instance(&engine, &component), instance(&engine, &instrumented.wasm));
        assert_eq!(before.is_some(), after.is_some());
        if let (Some((mut before, was)), Some((mut after, is))) = (before, after) {
            assert_eq!(status(&mut after, &is, SAVE), 0);
            assert_eq!(outcomes(&mut before, &was, functions), outcomes(&mut after, &is, functions));
            seen += usize::from(functions > 0);
        }
    }
    assert!(seen >= ENOUGH, "only {seen} modules were run");
}

/// Without a memory, all is put back that there is.
#[test]
fn a_rewound_module_does_the_same_again() {
    let mut seen = 0;
    for (component, functions) in valid(0) {
        let Ok(instrumented) = instrument(&component, &OPTIONS) else { continue };
        let Some((mut store, instance)) = instance(&engine(), &instrumented.wasm) else { continue };
        assert_eq!(status(&mut store, &instance, SAVE), 0);
        let first = outcomes(&mut store, &instance, functions);
        if first.iter().all(|outcome| outcome.starts_with('[')) && status(&mut store, &instance, REWIND) == 0
        {
            assert_eq!(outcomes(&mut store, &instance, functions), first);
            seen += usize::from(functions > 0);
        }
    }
    assert!(seen >= ENOUGH, "only {seen} modules were run");
}

proptest! {
    #[test]
    fn no_module_makes_it_panic(seed in proptest::collection::vec(any::<u8>(), 0..3000)) {
        let mut unstructured = Unstructured::new(&seed);
        if let Ok(config) = <wasm_smith::Config as arbitrary::Arbitrary>::arbitrary(&mut unstructured)
            && let Ok(module) = wasm_smith::Module::new(config, &mut unstructured)
        {
            let mut component = enc::Component::new();
            component.section(&enc::RawSection { id: 1, data: &module.to_bytes() });
            let _ = instrument(&component.finish(), &OPTIONS);
        }
    }

    #[test]
    fn no_change_of_one_byte_makes_it_panic(at in 0usize..10_000, to in any::<u8>()) {
        let mut bytes = wat(r#"(component
            (type $r (resource (rep i32)))
            (core func $new (canon resource.new $r))
            (component $c (import "f" (func $f)) (export "g" (func $f)))
            (core module $m
                (import "r" "new" (func (param i32) (result i32)))
                (memory 1) (table 3 funcref) (global (mut i64) (i64.const 3))
                (func $f (export "f") (table.set 0 (i32.const 1) (ref.null func)) (global.set 0 (i64.const 9)))
                (elem (i32.const 0) func $f) (data (i32.const 0) "data"))
            (core instance $i (instantiate $m (with "r" (instance (export "new" (func $new))))))
            (func $f (canon lift (core func $i "f")))
            (instance $c (instantiate $c (with "f" (func $f))))
            (export "c" (instance $c)))"#);
        let at = at % bytes.len();
        bytes[at] = to;
        let _ = instrument(&bytes, &OPTIONS);
    }
}
