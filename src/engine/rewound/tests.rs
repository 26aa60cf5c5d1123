//! A component that was prepared by hand, in the real engine: what Wasmtime does with memories that are put back.

mod sequences;

use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use wasmtime::component::{Component, Linker};

use super::*;
use crate::engine::{EngineKind, EngineSettings, Engines};

const EXPORTS: Exports = Exports {
    save: "hostler-save",
    rewind: "hostler-rewind",
    left: "hostler-left",
    drop: "hostler-drop",
    memories: 1,
    droppable: 0,
};

const NO_HANDLES: Handles = Handles { had: 0, beyond: 0 };

const PREPARED: &str = r#"(component
  (core module $app
    (memory (export "memory") 2)
    (global $g (export "g") (mut i32) (i32.const 7))
    (data (i32.const 100) "first")
    (func (export "run") (param i32) (result i32)
      (local $end i32)
      (local.set $end (i32.mul (memory.grow (local.get 0)) (i32.const 65536)))
      (global.set $g (i32.add (global.get $g) (i32.const 1)))
      (i32.store (i32.const 100) (i32.add (i32.load (i32.const 100)) (i32.const 1)))
      (i32.store (i32.const 100000) (i32.add (i32.load (i32.const 100000)) (i32.const 1)))
      (if (local.get 0) (then
        (i32.store (local.get $end) (i32.add (i32.load (local.get $end)) (i32.const 1)))
        (i32.add (i32.load (local.get $end)) (i32.mul (global.get $g) (i32.const 1000000)))
        (i32.add (i32.load8_u (i32.const 100)))
        (i32.add (i32.mul (i32.load (i32.const 100000)) (i32.const 1000)))
        return))
      (global.get $g))
    (func (export "peek") (param i32) (result i32) (i32.load8_u (local.get 0))))
  (core module $added
    (import "app" "memory" (memory 1))
    (import "app" "g" (global $g (mut i32)))
    (global $saved (mut i32) (i32.const 0))
    (global $pages (mut i32) (i32.const 0))
    (func (export "save") (param i32 i32) (result i32)
      (global.set $saved (global.get $g)) (global.set $pages (memory.size)) (i32.const 0))
    (func (export "rewind") (param i32 i32) (result i32)
      (global.set $g (global.get $saved))
      (i32.or
        (i32.ne (memory.grow (i32.const 0)) (global.get $pages))
        (i32.ne (memory.size) (global.get $pages)))))
  (core instance $app (instantiate $app))
  (core instance $added (instantiate $added (with "app" (instance $app))))
  (func (export "run") (param "x" u32) (result u32) (canon lift (core func $app "run")))
  (func (export "peek") (param "x" u32) (result u32) (canon lift (core func $app "peek")))
  (func (export "hostler-save") (param "had" u32) (param "beyond" u32) (result u32) (canon lift (core func $added "save")))
  (func (export "hostler-rewind") (param "had" u32) (param "beyond" u32) (result u32) (canon lift (core func $added "rewind"))))"#;

struct App {
    engines: Arc<Engines>,
    pre: InstancePre<()>,
    images: Images,
}

struct Made {
    store: Store<()>,
    rewinder: Rewinder,
    run: TypedFunc<(u32,), (u32,)>,
    peek: TypedFunc<(u32,), (u32,)>,
}

fn now<F: Future>(future: F) -> F::Output {
    let mut cx = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut cx) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits for nothing"),
    }
}

impl App {
    fn new(settings: EngineSettings) -> App {
        App::of(settings, PREPARED)
    }

    fn of(settings: EngineSettings, text: &str) -> App {
        let engines = Engines::new(settings).expect("engines");
        let engine = engines.get(EngineKind::Rewound).expect("an engine");
        let bytes = wat::parse_str(text).expect("the text of a component");
        let component = Component::new(engine, bytes).expect("a component");
        let pre = Linker::new(engine).instantiate_pre(&component).expect("no imports");
        App { engines, pre, images: Images::default() }
    }

    fn store(&self) -> Store<()> {
        let mut store = Store::new(self.engines.get(EngineKind::Rewound).expect("an engine"), ());
        store.set_epoch_deadline(1000);
        store
    }

    fn try_make(&self, exports: Exports) -> wasmtime::Result<Made> {
        let mut store = self.store();
        let (instance, rewinder) =
            now(Rewinder::instantiate(&mut store, &self.pre, &exports, &self.images, |()| 0))?;
        let run = instance.get_typed_func(&mut store, "run")?;
        let peek = instance.get_typed_func(&mut store, "peek")?;
        let rewinder = rewinder.expect("they all begin alike");
        Ok(Made { store, rewinder, run, peek })
    }

    fn make(&self) -> Made {
        self.try_make(EXPORTS).expect("an instance")
    }
}

impl Made {
    fn run(&mut self, grow: u32) -> u32 {
        now(self.run.call_async(&mut self.store, (grow,))).expect("an answer").0
    }

    fn peek(&mut self, at: u32) -> wasmtime::Result<u32> {
        now(self.peek.call_async(&mut self.store, (at,))).map(|answer| answer.0)
    }

    fn rewind(&mut self) -> Result<usize, NotRewound> {
        self.rewinder.rewind(&mut self.store, NO_HANDLES)
    }
}

/// It is of use all the same.
#[test]
fn an_instance_that_begins_otherwise_than_the_first_is_none_to_be_put_back() {
    let first = App::new(settings());
    first.make();
    let mut other = App::of(settings(), &PREPARED.replace("first", "other"));
    other.images = first.images;
    let mut store = other.store();
    let made = now(Rewinder::instantiate(&mut store, &other.pre, &EXPORTS, &other.images, |()| 0));
    let (instance, rewinder) = made.expect("an instance");
    assert!(rewinder.is_none());
    let peek: TypedFunc<(u32,), (u32,)> = instance.get_typed_func(&mut store, "peek").expect("a function");
    assert_eq!(now(peek.call_async(&mut store, (100,))).expect("an answer").0, u32::from(b'o'));
}

fn settings() -> EngineSettings {
    EngineSettings { instances: 4, ..EngineSettings::default() }
}

/// With guards so large that nothing is checked, and with checks that are in the code.
fn all_settings() -> [EngineSettings; 2] {
    [settings(), EngineSettings { memory_reservation: 64 << 20, ..settings() }]
}

#[test]
fn an_instance_that_was_put_back_answers_as_at_first_ever_again() {
    for settings in all_settings() {
        let mut made = App::new(settings).make();
        let first = made.run(1);
        assert_ne!(made.run(1), first, "it shows what was left");
        for _ in 0..1000 {
            made.rewind().expect("put back");
            assert_eq!(made.rewinder.difference(&mut made.store), None);
            assert_eq!(made.run(1), first);
            made.run(5);
        }
    }
}

#[test]
fn what_a_guest_had_added_is_out_of_its_reach_after_it_was_put_back() {
    for settings in all_settings() {
        let mut made = App::new(settings).make();
        made.run(1);
        let (last, beyond) = (2 * 65536 - 1, 2 * 65536);
        assert!(made.peek(beyond).is_ok());
        made.rewind().expect("put back");
        assert_eq!(made.peek(last).expect("within"), 0);
        let trap = made.peek(beyond).expect_err("beyond the end");
        assert_eq!(trap.downcast_ref(), Some(&wasmtime::Trap::MemoryOutOfBounds));
    }
}

#[test]
fn an_instance_that_trapped_is_not_put_back() {
    let mut made = App::new(settings()).make();
    made.peek(1 << 30).expect_err("beyond the end");
    assert!(matches!(made.rewind(), Err(NotRewound::Trapped(_))));
    assert!(matches!(made.rewind(), Err(NotRewound::Spoiled)), "nor later");
}

#[test]
fn a_call_that_was_given_up_spoils_the_instance() {
    let app = App::new(settings());
    let mut made = app.make();
    // Interrupted as soon as it begins, it yields.
    made.store.epoch_deadline_callback(|_| Ok(wasmtime::UpdateDeadline::Yield(1)));
    made.store.set_epoch_deadline(0);
    let mut call: Pin<Box<dyn Future<Output = _>>> = Box::pin(made.run.call_async(&mut made.store, (1,)));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(call.as_mut().poll(&mut cx).is_pending());
    drop(call);
    assert!(matches!(made.rewind(), Err(NotRewound::Trapped(_))));
}

#[test]
fn an_instance_is_put_back_though_its_epochs_are_over() {
    let mut made = App::new(settings()).make();
    made.store.epoch_deadline_callback(|_| Ok(wasmtime::UpdateDeadline::Yield(1)));
    let first = made.run(1);
    made.store.set_epoch_deadline(0);
    made.rewind().expect("it is not interrupted");
    assert_eq!(made.run(1), first);
}

#[test]
fn a_rewinder_is_for_its_own_store_alone() {
    let app = App::new(settings());
    let (mut one, mut other) = (app.make(), app.make());
    assert!(matches!(one.rewinder.rewind(&mut other.store, NO_HANDLES), Err(NotRewound::Spoiled)));
    let store = other.store;
    // The same store, in another place.
    let mut moved = Box::new(Made { store, ..other });
    moved.rewind().expect("put back");
}

#[test]
fn instances_share_images_and_take_no_more_of_the_kernel_for_being_made_again() {
    let app = App::new(settings());
    let mut one = app.make();
    let other = app.make();
    one.run(1);
    one.rewind().expect("put back");
    drop(other);
    let mut third = app.make();
    assert_eq!(third.run(1), one.run(1));
    let maps = || std::fs::read_to_string("/proc/self/maps").expect("maps").matches("hostler-image").count();
    let before = maps();
    for _ in 0..50 {
        app.make().run(1);
    }
    // Other tests have some of their own meanwhile.
    assert!(maps() < before + 40, "those that are gone left theirs");
}

#[test]
fn a_component_that_is_prepared_otherwise_than_it_is_said_to_be_is_refused() {
    let app = App::new(settings());
    assert!(app.try_make(Exports { memories: 2, ..EXPORTS }).is_err());
    assert!(app.try_make(Exports { droppable: 1, ..EXPORTS }).is_err());
    assert!(app.try_make(Exports { rewind: "run", ..EXPORTS }).is_err());
    assert!(app.try_make(Exports { save: "nothing", ..EXPORTS }).is_err());
}

/// It would have memories that nobody puts back.
#[test]
fn an_instance_that_is_made_in_another_way_is_refused() {
    let app = App::new(settings());
    let mut store = app.store();
    assert!(now(app.pre.instantiate_async(&mut store)).is_err());
}
