//! Sequences of calls to modules that are made up at random: on an instance that is put back after each they come to what
//! they come to on a new one. What generators of modules in general make up hardly writes anything; these do little else.

use std::fmt::Write as _;
use std::time::Instant;

use wasmtime::component::{Component, InstancePre, Linker, Resource, ResourceType, TypedFunc};
use wasmtime::{Store, StoreContextMut};

use super::{EXPORTS, now};
use crate::engine::rewound::{Exports, Handles, Images, Rewinder};
use crate::engine::{EngineKind, EngineSettings, Engines};
use crate::isolation::compaction::Compaction;
use crate::prepare;

/// Functions of a module.
const FUNCTIONS: usize = 6;

/// What one of them does, at most.
const STEPS: usize = 8;

/// Calls of one sequence, at most.
const LONGEST: usize = 6;

struct Subject<'e> {
    engine: &'e wasmtime::Engine,
    pre: InstancePre<Held>,
    exports: Exports,
    /// Handles that there may have been at once, where it makes them itself.
    own: Option<u32>,
    images: Images,
}

/// What the host gives a handle to.
struct Given;

/// How many of those a guest has, and had at once at most since it was put back.
#[derive(Default)]
struct Held {
    now: u32,
    most: u32,
}

struct Made {
    store: Store<Held>,
    functions: Vec<TypedFunc<(), (u32,)>>,
    rewinder: Rewinder,
}

impl<'e> Subject<'e> {
    fn of(engine: &'e wasmtime::Engine, seed: u64) -> Subject<'e> {
        let wasm = wat::parse_str(component(seed, seed.is_multiple_of(2))).expect("the text of a component");
        let instrumented = prepare::for_rewind(&wasm).expect("nothing but what can be put back");
        let component = Component::new(engine, &instrumented.wasm).expect("a valid component");
        let pre = linker(engine).instantiate_pre(&component).expect("no other imports");
        let number = |number: u32| usize::try_from(number).expect("small");
        let manifest = instrumented.manifest;
        let exports = Exports { memories: number(manifest.memories), ..EXPORTS };
        Subject { engine, pre, exports, own: manifest.handles, images: Images::default() }
    }

    fn make(&self) -> Made {
        let mut store = Store::new(self.engine, Held::default());
        store.set_max_component_handles(self.own.map_or(1000, |own| own as usize + 1));
        store.set_epoch_deadline(u64::MAX / 2);
        let had = |held: &mut Held| self.own.unwrap_or(held.most);
        let made = now(Rewinder::instantiate(&mut store, &self.pre, &self.exports, &self.images, had));
        let (instance, rewinder) = made.expect("an instance");
        let rewinder = rewinder.expect("they all begin alike");
        let function = |at| instance.get_typed_func(&mut store, format!("f{at}")).expect("a function");
        let functions = (0..FUNCTIONS).map(function).collect();
        Made { store, functions, rewinder }
    }
}

impl Made {
    /// What the calls give, up to the first trap; and whether there was none.
    fn run(&mut self, sequence: &[usize]) -> (Vec<Option<u32>>, bool) {
        let mut outcomes = Vec::new();
        for at in sequence {
            let called = now(self.functions[*at].call_async(&mut self.store, ()));
            outcomes.push(called.ok().map(|(outcome,)| outcome));
            if outcomes.last() == Some(&None) {
                return (outcomes, false);
            }
        }
        (outcomes, true)
    }
}

fn linker(engine: &wasmtime::Engine) -> Linker<Held> {
    let mut linker = Linker::<Held>::new(engine);
    let mut host = linker.instance("host").expect("a name");
    let dropped = |mut store: StoreContextMut<'_, Held>, _| {
        store.data_mut().now -= 1;
        Ok(())
    };
    host.resource("r", ResourceType::host::<Given>(), dropped).expect("a name");
    let make = |mut store: StoreContextMut<'_, Held>, (rep,): (u32,)| {
        let held = store.data_mut();
        held.now += 1;
        held.most = held.most.max(held.now);
        Ok((Resource::<Given>::new_own(rep),))
    };
    host.func_wrap("make", make).expect("a name");
    linker
}

/// Where handles come from: the component has a resource of its own.
const OWN: &str = r#"
    (type $r (resource (rep i32)))
    (core func $new (canon resource.new $r))"#;

/// The same: the host gives them.
const GIVEN: &str = r#"
    (import "host" (instance $host
        (export "r" (type $r (sub resource)))
        (export "make" (func (param "rep" u32) (result (own $r))))))
    (alias export $host "r" (type $r))
    (core func $new (canon lower (func $host "make")))"#;

/// A component with a memory, globals, a table and handles, and functions that write and read these, as does its start.
fn component(seed: u64, makes_handles: bool) -> String {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut functions = String::new();
    for at in 0..=FUNCTIONS {
        let name =
            if at == FUNCTIONS { "$start".to_owned() } else { format!("(export \"f{at}\") (result i32)") };
        let _ =
            write!(functions, "(func {name} (local $acc i32) (local $r i32) (local $s i32) (local $t i32)");
        for _ in 0..random.usize(1..=STEPS) {
            functions += &step(&mut random, at < FUNCTIONS);
        }
        functions += if at == FUNCTIONS { ")" } else { "(local.get $acc))" };
    }
    let lifted = (0..FUNCTIONS)
        .map(|at| format!("(func (export \"f{at}\") (result u32) (canon lift (core func $i \"f{at}\")))"));
    format!(
        r#"(component
            {handles}
            (core func $drop (canon resource.drop $r))
            (core module $m
                (import "r" "new" (func $new (param i32) (result i32)))
                (import "r" "drop" (func $drop (param i32)))
                (memory {pages} 9)
                (data (i32.const 100) "as it is at first")
                (table $t 8 funcref)
                (elem (i32.const 1) func $a $b)
                (global $i (mut i32) (i32.const 1)) (global $l (mut i64) (i64.const 2))
                (global $d (mut f64) (f64.const 3)) (global $f (mut funcref) (ref.null func))
                (func $a (result i32) (i32.const 17))
                (func $b (result i32) (global.get $i))
                (func $at (param $at i32) (result i32)
                    (i32.rem_u (local.get $at) (i32.sub (i32.shl (memory.size) (i32.const 16)) (i32.const 5000))))
                {functions}
                (start $start))
            (core instance $i (instantiate $m (with "r" (instance
                (export "new" (func $new)) (export "drop" (func $drop))))))
            {})"#,
        lifted.collect::<String>(),
        handles = if makes_handles { OWN } else { GIVEN },
        pages = random.u32(1..=3),
    )
}

/// Something that changes state, or that what is to be seen of it changes `$acc` by.
fn step(random: &mut fastrand::Rng, may_trap: bool) -> String {
    // Mostly near the beginning, as programs do; each request else writes pages of its own.
    let at = if random.u8(..) < 200 { random.u32(..70_000) } else { random.u32(..) };
    let (number, entry) = (random.u32(..), random.u32(..8));
    let function = if random.bool() { "$a" } else { "$b" };
    let see =
        |value: &str| format!("(local.set $acc (i32.add (i32.mul (local.get $acc) (i32.const 31)) {value}))");
    match random.u32(..15) {
        0..3 => format!("(i32.store (call $at (i32.const {at})) (i32.add (local.get $acc) (i32.const {number})))"),
        3 => see(&format!("(i32.load (call $at (i32.const {at})))")),
        4 => format!(
            "(memory.fill (call $at (i32.const {at})) (local.get $acc) (i32.const {}))",
            number % 5000
        ),
        5 => format!("(memory.copy (call $at (i32.const {at})) (i32.const 90) (i32.const {}))", number % 5000),
        6 if number.is_multiple_of(3) => see("(memory.grow (i32.const 1))"),
        6 => see("(memory.size)"),
        7 => format!("(global.set $i (i32.add (global.get $i) (i32.const {number})))"),
        8 => format!("(global.set $l (i64.add (global.get $l) (i64.const {number})))"),
        9 => "(global.set $d (f64.mul (global.get $d) (f64.const 1.5)))".to_owned(),
        10 => see(
            "(i32.xor (i32.xor (global.get $i) (i32.wrap_i64 (global.get $l)))
                (i32.xor (i32.wrap_i64 (i64.reinterpret_f64 (global.get $d))) (ref.is_null (global.get $f))))",
        ),
        11 => format!(
            "(global.set $f (ref.func {function})) (table.set $t (i32.const {entry}) (global.get $f))"
        ),
        12 => see(&format!("(ref.is_null (table.get $t (i32.const {entry})))")),
        // Often a trap.
        13 if may_trap => see(&format!("(call_indirect $t (result i32) (i32.const {}))", entry % 3)),
        _ => {
            let mut made = vec!["$r", "$s", "$t"];
            made.truncate(random.usize(1..=3));
            let mut text = String::new();
            for local in &made {
                let _ = write!(text, "(local.set {local} (call $new (i32.const 5)))");
                text += &see(&format!("(local.get {local})"));
            }
            random.shuffle(&mut made);
            // Now and then one is left.
            let left = usize::from(may_trap && random.u8(..) < 20);
            for local in &made[left..] {
                let _ = write!(text, "(call $drop (local.get {local}))");
            }
            text
        }
    }
}

/// What was tried.
#[derive(Debug, Default)]
struct Tally {
    modules: usize,
    sequences: usize,
    rewound: usize,
    trapped: usize,
    not_rewound: usize,
    written: usize,
}

/// Runs so many sequences, `each` of every module.
fn try_out(sequences: usize, each: usize) -> Tally {
    try_out_with(sequences, each, |_| {})
}

/// The same, with each instance that is put back changed before.
fn try_out_with(sequences: usize, each: usize, change: impl Fn(&mut Rewinder)) -> Tally {
    let settings = EngineSettings { memory_reservation: 64 << 20, ..EngineSettings::default() };
    let engines = Engines::new(settings).expect("engines");
    let engine = engines.get(EngineKind::Rewound).expect("an engine");
    let mut tally = Tally::default();
    for seed in 0.. {
        if tally.sequences >= sequences {
            return tally;
        }
        let subject = Subject::of(engine, seed);
        let mut used = subject.make();
        tally.modules += 1;
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..each {
            let length = random.usize(1..=LONGEST);
            let sequence: Vec<usize> = (0..length).map(|_| random.usize(..FUNCTIONS)).collect();
            let new = subject.make().run(&sequence).0;
            let (outcomes, is_well) = used.run(&sequence);
            assert_eq!(outcomes, new, "seed {seed}, {sequence:?}");
            tally.sequences += 1;
            change(&mut used.rewinder);
            let Held { most, .. } = std::mem::take(used.store.data_mut());
            let handles = match subject.own {
                Some(had) => Handles { had, beyond: 1 },
                None => Handles { had: most, beyond: random.u32(..5) },
            };
            let rewound = if is_well { used.rewinder.rewind(&mut used.store, handles).ok() } else { None };
            match rewound {
                Some(pages) => {
                    tally.rewound += 1;
                    tally.written += pages;
                    assert_eq!(used.rewinder.difference(&mut used.store), None, "seed {seed}, {sequence:?}");
                }
                None => {
                    tally.trapped += usize::from(!is_well);
                    tally.not_rewound += usize::from(is_well);
                    used = subject.make();
                }
            }
        }
    }
    tally
}

#[test]
fn generated_modules_give_the_same_on_an_instance_that_is_put_back() {
    let tally = try_out(2_000, 50);
    assert!(tally.rewound >= 1_000 && tally.written > 0, "{tally:?}");
}

/// A check that can't fail is no check.
#[cfg(debug_assertions)]
#[test]
#[should_panic(expected = "seed")]
fn memories_that_are_not_put_back_are_found() {
    try_out_with(2_000, 50, |rewinder| rewinder.is_broken = true);
}

/// `make rewind-sequences`
#[test]
#[ignore = "takes some ten minutes"]
fn a_million_sequences_give_the_same_while_memory_is_compacted() {
    let compaction = Compaction::force();
    let begun = Instant::now();
    let tally = try_out(1_000_000, 1_000);
    eprintln!("{tally:?} in {:?}; {}", begun.elapsed(), compaction.end());
    assert!(tally.rewound >= 500_000 && tally.written > 0, "{tally:?}");
}
