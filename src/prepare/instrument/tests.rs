//! Each kind of state is written and put back, and found not to be when just that step is left out. Bytes of memories
//! are the host's to put back, so none of these components keeps anything in one.

mod generated;
mod handles;
mod refusals;
mod states;

use wasmtime::component::{Component, Instance, Linker};
use wasmtime::{Config, Engine, Store};

use super::{Options, REWIND, SAVE, Step, instrument_by};

/// Handles that each of these apps may have, and those of which it is looked at besides whether they are in order.
const HANDLES: u32 = 4;
const BEYOND: u32 = 1;

/// An instance of an instrumented component.
struct Rig {
    store: Store<()>,
    instance: Instance,
}

impl Rig {
    /// One whose first state is saved.
    fn saved(component: &[u8], steps: &[Step]) -> Rig {
        let mut rig = Rig::new(component, steps);
        assert_eq!(rig.call(SAVE), 0, "the first state is saved");
        rig
    }

    fn new(component: &[u8], steps: &[Step]) -> Rig {
        let instrumented = instrument_by(component, &Options { handles: HANDLES }, steps);
        let wasm = instrumented.unwrap_or_else(|reason| panic!("ineligible: {reason}")).wasm;
        let engine = engine();
        let component = Component::new(&engine, wasm).expect("a valid component");
        let mut store = Store::new(&engine, ());
        store.set_max_component_handles((HANDLES + BEYOND) as usize);
        let instance = Linker::new(&engine).instantiate(&mut store, &component).expect("an instance");
        Rig { store, instance }
    }

    fn call(&mut self, export: &str) -> u32 {
        self.try_call(export).unwrap_or_else(|error| panic!("{export} trapped: {error:?}"))
    }

    fn try_call(&mut self, export: &str) -> wasmtime::Result<u32> {
        if [SAVE, REWIND].contains(&export) {
            return self.settle(export, HANDLES, BEYOND);
        }
        let function = self.instance.get_typed_func::<(), (u32,)>(&mut self.store, export)?;
        Ok(function.call(&mut self.store, ())?.0)
    }

    /// Saves or rewinds after so many handles.
    fn settle(&mut self, export: &str, had: u32, beyond: u32) -> wasmtime::Result<u32> {
        let function = self.instance.get_typed_func::<(u32, u32), (u32,)>(&mut self.store, export)?;
        Ok(function.call(&mut self.store, (had, beyond))?.0)
    }
}

fn engine() -> Engine {
    let mut config = Config::new();
    config.concurrency_support(false);
    Engine::new(&config).expect("an engine")
}

fn without(step: Step) -> Vec<Step> {
    Step::ALL.into_iter().filter(|other| *other != step).collect()
}

fn wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// A component of one module that exports `write` and `read`, both `func() -> u32`.
fn of_module(fields: &str) -> Vec<u8> {
    wat(&format!(
        r#"(component
            (core module $m {fields})
            (core instance $i (instantiate $m))
            (func (export "write") (result u32) (canon lift (core func $i "write")))
            (func (export "read") (result u32) (canon lift (core func $i "read"))))"#
    ))
}

/// What is written is put back, and is not when this step is left out.
fn is_put_back_by(step: Step, component: &[u8]) {
    let mut whole = Rig::saved(component, &Step::ALL);
    for _ in 0..3 {
        let first = whole.call("read");
        whole.call("write");
        assert_ne!(whole.call("read"), first, "nothing was written");
        assert_eq!(whole.call(REWIND), 0);
        assert_eq!(whole.call("read"), first, "not put back");
    }
    let mut lacking = Rig::saved(component, &without(step));
    let first = lacking.call("read");
    lacking.call("write");
    assert_eq!(lacking.call(REWIND), 0);
    assert_ne!(lacking.call("read"), first, "put back without {step:?}");
}

/// What is written cannot be put back: it is reported by this bit, and is not when this step is left out.
fn is_reported_by(step: Step, bit: u32, component: &[u8]) {
    let mut whole = Rig::saved(component, &Step::ALL);
    assert_eq!(whole.call(REWIND), 0, "reported before anything was written");
    whole.call("write");
    assert_eq!(whole.call(REWIND), bit);
    let mut lacking = Rig::saved(component, &without(step));
    lacking.call("write");
    assert_eq!(lacking.call(REWIND), 0, "reported without {step:?}");
}
