use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use wasmtime::component::{Component, Linker, Resource, ResourceType};
use wasmtime::{Store, StoreContextMut};

use super::super::restorer::{HANDLES as LEFT, ORDER, Step};
use super::super::{Options, REWIND, SAVE, instrument};
use super::{BEYOND, HANDLES, Rig, is_put_back_by, is_reported_by, wat};

/// A component with a resource of its own. `write` does what is given with `$new`, `$drop` and the locals `$a` to `$d`;
/// `read` is the number of the next handle.
fn with_handles(write: &str, start: &str) -> Vec<u8> {
    wat(&format!(
        r#"(component
            (type $r (resource (rep i32)))
            (core func $new (canon resource.new $r))
            (core func $drop (canon resource.drop $r))
            (core module $m
                (import "r" "new" (func $new-of (param i32) (result i32)))
                (import "r" "drop" (func $drop (param i32)))
                (func $new (result i32) (call $new-of (i32.const 5)))
                (func $start {start})
                (start $start)
                (func (export "write") (result i32)
                    (local $a i32) (local $b i32) (local $c i32) (local $d i32)
                    {write} (i32.const 0))
                (func (export "read") (result i32) (local $a i32)
                    (local.set $a (call $new))
                    (call $drop (local.get $a))
                    (local.get $a)))
            (core instance $i (instantiate $m (with "r" (instance
                (export "new" (func $new)) (export "drop" (func $drop))))))
            (func (export "write") (result u32) (canon lift (core func $i "write")))
            (func (export "read") (result u32) (canon lift (core func $i "read"))))"#
    ))
}

/// Makes handles into the locals `$a` and so on, and drops them in another order.
fn made_and_dropped(made: &str, dropped: &str) -> String {
    let made = made.chars().map(|local| format!("(local.set ${local} (call $new))"));
    made.chain(dropped.chars().map(|local| format!("(call $drop (local.get ${local}))"))).collect()
}

#[test]
fn handles_come_out_in_the_order_of_a_fresh_instance() {
    for (made, dropped) in [("ab", "ab"), ("abc", "cab"), ("abc", "abc")] {
        is_put_back_by(Step::Handles, &with_handles(&made_and_dropped(made, dropped), ""));
    }
}

#[test]
fn a_handle_that_is_left_is_reported() {
    for (made, dropped) in [("a", ""), ("abc", "bc"), ("abc", "ab"), ("abc", "")] {
        is_reported_by(Step::Handles, LEFT, &with_handles(&made_and_dropped(made, dropped), ""));
    }
}

#[test]
fn the_highest_handle_left_is_not_taken_for_clean() {
    is_reported_by(Step::Handles, LEFT, &with_handles(&made_and_dropped("abcd", "abc"), ""));
}

#[test]
fn all_handles_at_once_are_put_back_or_reported_but_never_mixed_up() {
    for dropped in ["abcd", "dcba", "bdca", "cabd"] {
        let mut rig = Rig::saved(&with_handles(&made_and_dropped("abcd", dropped), ""), &Step::ALL);
        for _ in 0..3 {
            rig.call("write");
            assert_eq!((rig.call(REWIND), rig.call("read")), (0, 1), "{dropped}");
        }
    }
}

/// Four were made, and three of them are in order when two are looked at.
#[test]
fn more_handles_than_were_said_are_reported_if_those_beyond_are_looked_at() {
    let app = with_handles(&made_and_dropped("abcd", "dcba"), "");
    // What came out first looks like a handle that is left, unless it is one of those that were said.
    for (dropped, expected) in [("abcd", LEFT), ("bacd", LEFT), ("cdba", ORDER), ("dcba", 0)] {
        let app = with_handles(&made_and_dropped("abcd", dropped), "");
        let mut rig = Rig::saved(&app, &Step::ALL);
        rig.call("write");
        let status = rig.settle(REWIND, 2, 2).expect("a status");
        assert_eq!(status, expected, "{dropped}");
    }
    let mut rig = Rig::saved(&app, &Step::ALL);
    assert_eq!(rig.settle(REWIND, 0, 0).expect("a status"), 0, "none was had");
    assert_eq!(rig.call("read"), 1);
}

/// How many there were is what it costs: of those beyond nothing is known to the restorer, or touched.
#[test]
fn as_many_handles_as_were_had_are_enough() {
    let mut rig = Rig::saved(&with_handles(&made_and_dropped("abc", "bca"), ""), &Step::ALL);
    let mut other = Rig::saved(&with_handles(&made_and_dropped("abcd", "bdca"), ""), &Step::ALL);
    for _ in 0..3 {
        rig.call("write");
        assert_eq!((rig.settle(REWIND, 3, 0).expect("a status"), rig.call("read")), (0, 1));
        other.call("write");
        assert_eq!((other.settle(REWIND, 4, 0).expect("a status"), other.call("read")), (0, 1));
    }
}

#[test]
fn an_app_that_goes_beyond_what_was_said_is_reported_if_the_host_lets_it() {
    let five = format!("{}(drop (call $new))", made_and_dropped("abcd", ""));
    let mut rig = Rig::saved(&with_handles(&five, ""), &Step::ALL);
    rig.call("write");
    assert!(rig.try_call(REWIND).is_err(), "no handle is to be had");

    let dropped = "(call $drop (local.get $d))(call $drop (local.get $c))";
    let six = format!("{}(drop (call $new)){dropped}", made_and_dropped("abcd", ""));
    let mut rig = Rig::saved(&with_handles(&six, ""), &Step::ALL);
    rig.store.set_max_component_handles(100);
    rig.call("write");
    assert_eq!(rig.call(REWIND), LEFT);
}

#[test]
fn an_app_that_holds_a_handle_from_the_beginning_cannot_be_saved() {
    let mut rig = Rig::new(&with_handles("", "(drop (call $new))"), &Step::ALL);
    assert_eq!(rig.call(SAVE), LEFT);
}

#[test]
fn handles_that_a_start_function_has_dropped_do_not_count() {
    let start = "(local $a i32) (local $b i32)".to_owned() + &made_and_dropped("ab", "ab");
    let mut rig = Rig::saved(&with_handles(&made_and_dropped("abc", "bca"), &start), &Step::ALL);
    for _ in 0..3 {
        assert_eq!(rig.call("read"), 1);
        rig.call("write");
        assert_eq!(rig.call(REWIND), 0);
    }
}

#[test]
fn a_state_can_be_saved_again_after_a_rewind() {
    let mut rig = Rig::saved(&with_handles(&made_and_dropped("abc", "bca"), ""), &Step::ALL);
    rig.call("write");
    assert_eq!((rig.call(REWIND), rig.call(SAVE), rig.call("read")), (0, 0, 1));
}

/// `write` leaves an `r` and an `s` of the host's, with the numbers 1 and 2; `own` one of the component's own.
const LEAVES: &str = r#"(component
    (import "host" (instance $host
        (export "r" (type $r (sub resource)))
        (export "s" (type $s (sub resource)))
        (export "make-r" (func (result (own $r))))
        (export "make-s" (func (result (own $s))))))
    (alias export $host "r" (type $r))
    (alias export $host "s" (type $s))
    (core module $code (func (export "gone") (param i32) (loop (br 0))))
    (core instance $code (instantiate $code))
    (type $own (resource (rep i32) (dtor (func $code "gone"))))
    (core func $make-r (canon lower (func $host "make-r")))
    (core func $make-s (canon lower (func $host "make-s")))
    (core func $new (canon resource.new $own))
    (core func $drop-own (canon resource.drop $own))
    (core func $drop-r (canon resource.drop $r))
    (core func $drop-r-too (canon resource.drop $r))
    (core func $drop-s (canon resource.drop $s))
    (core module $m
        (import "h" "make-r" (func $make-r (result i32)))
        (import "h" "make-s" (func $make-s (result i32)))
        (import "h" "new" (func $new (param i32) (result i32)))
        (import "h" "drop-r" (func $drop-r (param i32)))
        (func (export "write") (result i32)
            (drop (call $make-r)) (drop (call $make-s)) (i32.const 0))
        (func (export "own") (result i32) (call $new (i32.const 0)))
        (func (export "read") (result i32) (local $a i32)
            (local.set $a (call $make-r)) (call $drop-r (local.get $a)) (local.get $a)))
    (core instance $i (instantiate $m (with "h" (instance
        (export "make-r" (func $make-r)) (export "make-s" (func $make-s))
        (export "new" (func $new)) (export "drop-r" (func $drop-r))))))
    (func (export "write") (result u32) (canon lift (core func $i "write")))
    (func (export "own") (result u32) (canon lift (core func $i "own")))
    (func (export "read") (result u32) (canon lift (core func $i "read"))))"#;

/// An instance of it with its state saved, and how many resources the host was given back.
fn leaving() -> (Rig, Arc<AtomicUsize>) {
    struct Of<const NUMBER: u32>;
    let instrumented = instrument(&wat(LEAVES), &Options { handles: HANDLES }).expect("eligible");
    assert_eq!(instrumented.manifest.droppable, 2, "each type once, and not the component's own");
    let engine = super::engine();
    let component = Component::new(&engine, instrumented.wasm).expect("a valid component");
    let mut linker = Linker::<()>::new(&engine);
    let mut host = linker.instance("host").expect("a name");
    let gone = Arc::new(AtomicUsize::new(0));
    for (name, ty) in [("r", ResourceType::host::<Of<1>>()), ("s", ResourceType::host::<Of<2>>())] {
        let gone = Arc::clone(&gone);
        let count = move |_: StoreContextMut<'_, ()>, _| {
            gone.fetch_add(1, SeqCst);
            Ok(())
        };
        host.resource(name, ty, count).expect("a name");
    }
    host.func_wrap("make-r", |_, ()| Ok((Resource::<Of<1>>::new_own(7),))).expect("a name");
    host.func_wrap("make-s", |_, ()| Ok((Resource::<Of<2>>::new_own(7),))).expect("a name");
    let mut store = Store::new(&engine, ());
    store.set_max_component_handles((HANDLES + BEYOND) as usize);
    let instance = linker.instantiate(&mut store, &component).expect("an instance");
    let mut rig = Rig { store, instance };
    assert_eq!(rig.call(SAVE), 0);
    (rig, gone)
}

impl Rig {
    fn left(&mut self) -> u64 {
        self.left_of(HANDLES)
    }

    fn left_of(&mut self, had: u32) -> u64 {
        let left = self.instance.get_typed_func::<(u32,), (u64,)>(&mut self.store, super::super::LEFT);
        left.and_then(|left| left.call(&mut self.store, (had,))).expect("an answer").0
    }

    fn drop_left(&mut self, ty: u32, handle: u32) -> wasmtime::Result<()> {
        let drop = self.instance.get_typed_func::<(u32, u32), ()>(&mut self.store, super::super::DROP)?;
        drop.call(&mut self.store, (ty, handle))
    }
}

#[test]
fn handles_of_the_hosts_that_are_left_are_told_and_dropped_and_then_all_is_as_at_first() {
    let (mut rig, gone) = leaving();
    for round in 1..=3 {
        assert_eq!(rig.left(), 0);
        assert_eq!(rig.call("read"), 1);
        rig.call("write");
        assert_eq!((rig.left(), rig.left()), (0b11, 0b11), "asking changes nothing");
        assert_eq!((rig.left_of(2), rig.left_of(3)), (0b11, 0b11), "nor more than it had");
        rig.drop_left(1, 2).expect("an s");
        assert_eq!(rig.left(), 0b01);
        rig.drop_left(0, 1).expect("an r");
        assert_eq!((rig.left(), rig.call(REWIND)), (0, 0));
        assert_eq!(gone.load(SeqCst), round * 3, "the one that was read, and those that were left");
    }
}

#[test]
fn what_is_left_and_not_dropped_is_reported() {
    let (mut rig, _) = leaving();
    rig.call("write");
    rig.drop_left(1, 2).expect("an s");
    assert_eq!(rig.call(REWIND), LEFT);
}

#[test]
fn a_handle_that_is_dropped_as_another_type_traps() {
    for (ty, handle) in [(0, 2), (1, 1), (2, 1), (0, 3), (0, 4), (0, 0), (u32::MAX, 1)] {
        let (mut rig, gone) = leaving();
        rig.call("write");
        assert!(rig.drop_left(ty, handle).is_err(), "{ty} {handle}");
        assert_eq!(gone.load(SeqCst), 0);
    }
}

/// Its destructor, which never ends, would be the guest's code.
#[test]
fn handles_of_the_guests_own_resources_are_told_but_can_not_be_dropped() {
    for ty in 0..3 {
        let (mut rig, _) = leaving();
        assert_eq!((rig.call("own"), rig.left()), (1, 0b1));
        assert!(rig.drop_left(ty, 1).is_err());
    }
}
