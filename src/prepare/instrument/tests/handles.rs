use super::super::restorer::{HANDLES as LEFT, Step};
use super::super::{REWIND, SAVE};
use super::{HANDLES, Rig, is_put_back_by, is_reported_by, wat};

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
    let mut rig = Rig::saved(&with_handles(&made_and_dropped("abcd", "abc"), ""), &Step::ALL);
    rig.call("write");
    // There is no handle to be had that would show it, so Wasmtime refuses one.
    assert!(rig.try_call(REWIND).is_err());
}

#[test]
fn all_handles_at_once_are_put_back_or_reported_but_never_mixed_up() {
    for dropped in ["abcd", "dcba", "bdca", "cabd"] {
        let mut rig = Rig::saved(&with_handles(&made_and_dropped("abcd", dropped), ""), &Step::ALL);
        rig.call("write");
        match rig.call(REWIND) {
            0 => assert_eq!((rig.call("read"), rig.call("write"), rig.call("write")), (1, 0, 0), "{dropped}"),
            status => assert_eq!(status, LEFT, "{dropped}"),
        }
    }
}

#[test]
fn an_app_that_goes_beyond_what_was_said_is_reported_if_the_host_lets_it() {
    let five = format!("{}(drop (call $new))", made_and_dropped("abcd", ""));
    let mut rig = Rig::saved(&with_handles(&five, ""), &Step::ALL);
    rig.store.set_max_component_handles(HANDLES as usize + 1);
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
