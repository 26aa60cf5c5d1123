//! The modules that are put into the component: the restorer, and the keeper of one memory's size.
//!
//! The restorer imports every mutable global of every instance, and the tables that are written, and has as many of its
//! own, which hold the copies. A function reference among them is a pointer to what Wasmtime makes once for each function
//! and keeps as long as the store; a table's entry that Wasmtime has not filled in yet is filled in by the copying, as it
//! would be by the first call.
//!
//! A keeper belongs to one memory, so that no module needs two, which the engines don't have. It looks at the size by
//! growing by nothing: Wasmtime then asks the memory for its size and base and writes them where compiled code reads
//! them, so a memory that the host has made smaller is so for the guest, too.
//!
//! *Handles.* Wasmtime gives out the number that was freed last, and a new one, the next, only if there is none: so the
//! order in which one request dropped its handles would be seen by the next. The restorer has a resource type of its own:
//! it makes as many handles as there were at once, and drops them in falling order, after which they come out as 1, 2, 3
//! again. What is below them was not touched and still lies in rising order. If a number comes out that is higher than
//! how many were made, one below it is not free: a handle was left, or there were more than was said. How many there were
//! at once is for the host to say: it has a resource of its own for each handle, if the component makes none itself, and
//! lets it have no more than a few else (`Store::set_max_component_handles`, which counts tasks, too, on an engine with
//! support for concurrency). Told to, the restorer makes some more, to see that these are in order.
//!
//! *Handles that are left.* Those numbers that do not come out before a higher one does belong to them, so their numbers
//! can be told without touching them. What type they are of can't: dropping one as another type traps, and the instance is lost. Only
//! resources of the host's are dropped: one of the guest's own may run code of the guest's when it goes.

use wasm_encoder as enc;

use super::Wiring;
use super::module::{MEMORY, global_name, table_name};

/// Bits of what save and rewind return.
pub const MEMORY_SIZE: u32 = 1;
pub const TABLE_SIZE: u32 = 2;
pub const HANDLES: u32 = 4;
/// Handles beyond those that there were did not come in order: there were more than was said.
pub const ORDER: u32 = 8;

/// What a rewind does, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    MemorySizes,
    TableSizes,
    Globals,
    Tables,
    Handles,
}

impl Step {
    pub const ALL: [Step; 5] =
        [Step::MemorySizes, Step::TableSizes, Step::Globals, Step::Tables, Step::Handles];
}

/// The state that there is, by core instance.
#[derive(Debug, Default)]
pub struct State {
    /// Instances that have a memory.
    pub memories: Vec<u32>,
    pub globals: Vec<(u32, u32, enc::ValType)>,
    /// Tables that are written.
    pub tables: Vec<(u32, u32)>,
    /// Whether it can have any.
    pub handles: bool,
    /// Indices of the types of the host's resources whose handles can be dropped; none without handles.
    pub droppable: Vec<u32>,
}

impl State {
    /// The instances that the restorer imports from, each once.
    pub fn instances(&self) -> Vec<u32> {
        let globals = self.globals.iter().map(|(instance, ..)| *instance);
        let mut instances: Vec<u32> =
            globals.chain(self.tables.iter().map(|(instance, _)| *instance)).collect();
        instances.sort_unstable();
        instances.dedup();
        instances
    }
}

pub fn instance_name(instance: u32) -> String {
    format!("instance-{instance}")
}

pub fn keeper_name(memory: usize) -> String {
    format!("memory-{memory}")
}

/// The module that keeps one memory's size.
pub fn keeper() -> Vec<u8> {
    let mut types = enc::TypeSection::new();
    types.ty().function([], []);
    types.ty().function([], [enc::ValType::I32]);
    let mut imports = enc::ImportSection::new();
    let any =
        enc::MemoryType { minimum: 0, maximum: None, memory64: false, shared: false, page_size_log2: None };
    imports.import("app", MEMORY, any);
    let mut globals = enc::GlobalSection::new();
    globals.global(mutable(enc::ValType::I32), &enc::ConstExpr::i32_const(0));
    let mut save = enc::Function::new([]);
    save.instructions().memory_size(0).global_set(0).end();
    let mut rewind = enc::Function::new([]);
    rewind.instructions().i32_const(0).memory_grow(0).global_get(0).i32_ne();
    rewind.instructions().memory_size(0).global_get(0).i32_ne().i32_or().end();
    finish(&types, &imports, None, &globals, &[(0, Some("save"), save), (1, Some("rewind"), rewind)], 0)
}

/// Types of the restorer's functions, and of the keeper's.
const PROCEDURE: u32 = 0;
const STATUS: u32 = 1;
const NEW: u32 = 2;
const DROP: u32 = 3;
const LEFT: u32 = 4;
const DROP_LEFT: u32 = 5;
const SETTLE: u32 = 6;

/// Parameters of what settles handles: how many there were at once, and how many beyond them are looked at.
const HAD: u32 = 0;
const BEYOND: u32 = 1;

/// The name by which the restorer imports the drop of a type.
pub fn drop_name(droppable: usize) -> String {
    format!("drop-{droppable}")
}

/// The restorer. Its exports are `save` and `rewind`, and where handles can be dropped `left` and `drop`.
pub fn restorer(state: &State, steps: &[Step]) -> Vec<u8> {
    let mut types = enc::TypeSection::new();
    types.ty().function([], []);
    types.ty().function([], [enc::ValType::I32]);
    types.ty().function([enc::ValType::I32], [enc::ValType::I32]);
    types.ty().function([enc::ValType::I32], []);
    types.ty().function([enc::ValType::I32], [enc::ValType::I64]);
    types.ty().function([enc::ValType::I32, enc::ValType::I32], []);
    types.ty().function([enc::ValType::I32, enc::ValType::I32], [enc::ValType::I32]);
    let code = Code::new(state);
    let mut functions =
        vec![(SETTLE, Some("save"), code.save()), (SETTLE, Some("rewind"), code.rewind(steps))];
    if state.handles {
        functions.push((SETTLE, None, code.settle_handles()));
    }
    if code.droppable > 0 {
        functions.push((LEFT, Some("left"), code.left_handles()));
        functions.push((DROP_LEFT, Some("drop"), code.drop_left()));
    }
    finish(&types, &imports(state), Some(&own_tables(state)), &own_globals(state), &functions, code.save)
}

fn imports(state: &State) -> enc::ImportSection {
    let mut imports = enc::ImportSection::new();
    for (instance, index, value) in &state.globals {
        imports.import(&instance_name(*instance), &global_name(*index), mutable(*value));
    }
    for (instance, index) in &state.tables {
        imports.import(&instance_name(*instance), &table_name(*index), function_table());
    }
    for memory in 0..state.memories.len() {
        imports.import(&keeper_name(memory), "save", enc::EntityType::Function(PROCEDURE));
        imports.import(&keeper_name(memory), "rewind", enc::EntityType::Function(STATUS));
    }
    if state.handles {
        imports.import("handles", "new", enc::EntityType::Function(NEW));
        imports.import("handles", "drop", enc::EntityType::Function(DROP));
        for droppable in 0..state.droppable.len() {
            imports.import("handles", &drop_name(droppable), enc::EntityType::Function(DROP));
        }
    }
    imports
}

fn own_globals(state: &State) -> enc::GlobalSection {
    let mut globals = enc::GlobalSection::new();
    for (_, _, value) in &state.globals {
        let zero = match value {
            enc::ValType::I32 => enc::ConstExpr::i32_const(0),
            enc::ValType::I64 => enc::ConstExpr::i64_const(0),
            enc::ValType::F32 => enc::ConstExpr::f32_const(0.0.into()),
            enc::ValType::F64 => enc::ConstExpr::f64_const(0.0.into()),
            enc::ValType::V128 => enc::ConstExpr::v128_const(0),
            enc::ValType::Ref(ty) => enc::ConstExpr::ref_null(ty.heap_type),
        };
        globals.global(mutable(*value), &zero);
    }
    globals
}

fn own_tables(state: &State) -> enc::TableSection {
    let mut tables = enc::TableSection::new();
    for _ in &state.tables {
        tables.table(function_table());
    }
    tables
}

fn mutable(val_type: enc::ValType) -> enc::GlobalType {
    enc::GlobalType { val_type, mutable: true, shared: false }
}

/// As an import it takes any table of functions, as an own one it begins empty.
fn function_table() -> enc::TableType {
    enc::TableType {
        element_type: enc::RefType::FUNCREF,
        table64: false,
        minimum: 0,
        maximum: None,
        shared: false,
    }
}

/// A module out of its sections. Of each function: its type, the name by which it is exported, if it is, and its body;
/// `first`: the index of the first one.
fn finish(
    types: &enc::TypeSection,
    imports: &enc::ImportSection,
    tables: Option<&enc::TableSection>,
    globals: &enc::GlobalSection,
    bodies: &[(u32, Option<&str>, enc::Function)],
    first: u32,
) -> Vec<u8> {
    let mut functions = enc::FunctionSection::new();
    let mut code = enc::CodeSection::new();
    let mut exports = enc::ExportSection::new();
    for (index, (ty, name, body)) in (first..).zip(bodies) {
        functions.function(*ty);
        code.function(body);
        if let Some(name) = name {
            exports.export(name, enc::ExportKind::Func, index);
        }
    }
    let mut module = enc::Module::new();
    module.section(types).section(imports).section(&functions);
    if let Some(tables) = tables {
        module.section(tables);
    }
    module.section(globals).section(&exports).section(&code);
    module.finish()
}

/// The local with the bits of what stands in the way, behind the two parameters.
const STATUS_LOCAL: u32 = 2;

/// The restorer's functions. In each index space what is imported comes first.
struct Code {
    globals: u32,
    tables: u32,
    memories: u32,
    handles: bool,
    droppable: u32,
    /// Function indices.
    new: u32,
    drop: u32,
    save: u32,
    settle: u32,
}

impl Code {
    fn new(state: &State) -> Code {
        let count = |items: usize| u32::try_from(items).unwrap_or(u32::MAX);
        let memories = count(state.memories.len());
        let droppable = count(state.droppable.len());
        let imported = 2 * memories + if state.handles { 2 + droppable } else { 0 };
        Code {
            globals: count(state.globals.len()),
            tables: count(state.tables.len()),
            memories,
            handles: state.handles,
            droppable,
            new: 2 * memories,
            drop: 2 * memories + 1,
            save: imported,
            settle: imported + 2,
        }
    }

    fn save(&self) -> enc::Function {
        let size = STATUS_LOCAL + 1;
        let mut function = enc::Function::new([(2, enc::ValType::I32)]);
        let mut code = function.instructions();
        for memory in 0..self.memories {
            code.call(2 * memory);
        }
        for global in 0..self.globals {
            code.global_get(global).global_set(self.globals + global);
        }
        for table in 0..self.tables {
            let copy = self.tables + table;
            // The copy grows with the table, or says that it could not.
            code.ref_null(enc::HeapType::FUNC).table_size(table).table_size(copy).i32_sub();
            code.table_grow(copy).i32_const(-1).i32_eq().if_(enc::BlockType::Empty);
            code.i32_const(TABLE_SIZE.cast_signed()).return_().end();
            code.table_size(table).local_set(size);
            code.i32_const(0).i32_const(0).local_get(size).table_copy(copy, table);
        }
        self.restore_handles(&mut code);
        code.local_get(STATUS_LOCAL).end();
        function
    }

    fn rewind(&self, steps: &[Step]) -> enc::Function {
        let mut function = enc::Function::new([(1, enc::ValType::I32)]);
        let mut code = function.instructions();
        for step in steps {
            match step {
                Step::MemorySizes => self.compare_memories(&mut code),
                Step::TableSizes => self.compare_tables(&mut code),
                Step::Globals => self.restore_globals(&mut code),
                Step::Tables => self.restore_tables(&mut code),
                Step::Handles => self.restore_handles(&mut code),
            }
        }
        code.local_get(STATUS_LOCAL).end();
        function
    }

    /// Each adds its bit to the status.
    fn compare_memories(&self, code: &mut enc::InstructionSink<'_>) {
        for memory in 0..self.memories {
            code.call(2 * memory + 1).local_get(STATUS_LOCAL).i32_or().local_set(STATUS_LOCAL);
        }
    }

    fn compare_tables(&self, code: &mut enc::InstructionSink<'_>) {
        for table in 0..self.tables {
            code.table_size(table).table_size(self.tables + table).i32_ne();
            code.i32_const(TABLE_SIZE.cast_signed()).i32_mul();
            code.local_get(STATUS_LOCAL).i32_or().local_set(STATUS_LOCAL);
        }
    }

    fn restore_globals(&self, code: &mut enc::InstructionSink<'_>) {
        for global in 0..self.globals {
            code.global_get(self.globals + global).global_set(global);
        }
    }

    fn restore_tables(&self, code: &mut enc::InstructionSink<'_>) {
        for table in 0..self.tables {
            let copy = self.tables + table;
            code.i32_const(0).i32_const(0).table_size(copy).table_copy(table, copy);
        }
    }

    fn restore_handles(&self, code: &mut enc::InstructionSink<'_>) {
        if self.handles {
            code.local_get(HAD).local_get(BEYOND).call(self.settle);
            code.local_get(STATUS_LOCAL).i32_or().local_set(STATUS_LOCAL);
        }
    }

    /// Makes as many handles as there were, none of which may have a higher number, and those beyond, which have to come in
    /// order; and drops them in falling order.
    fn settle_handles(&self) -> enc::Function {
        let (handle, made, all) = (2, 3, 4);
        let mut function = enc::Function::new([(3, enc::ValType::I32)]);
        let mut code = function.instructions();
        code.local_get(HAD).local_get(BEYOND).i32_add().local_tee(all);
        code.i32_eqz().if_(enc::BlockType::Empty).i32_const(0).return_().end();
        code.loop_(enc::BlockType::Empty);
        code.local_get(made).i32_const(1).i32_add().local_set(made);
        code.i32_const(0).call(self.new).local_set(handle);
        code.local_get(made).local_get(HAD).i32_le_u().if_(enc::BlockType::Empty);
        code.local_get(handle).local_get(HAD).i32_gt_u();
        code.if_(enc::BlockType::Empty).i32_const(HANDLES.cast_signed()).return_().end();
        code.else_().local_get(handle).local_get(made).i32_ne();
        code.if_(enc::BlockType::Empty).i32_const(ORDER.cast_signed()).return_().end().end();
        code.local_get(made).local_get(all).i32_lt_u().br_if(0).end();
        code.loop_(enc::BlockType::Empty);
        code.local_get(made).call(self.drop);
        code.local_get(made).i32_const(1).i32_sub().local_tee(made).br_if(0).end();
        code.i32_const(0).end();
        function
    }

    /// Makes handles until one comes out that is beyond those that there were, takes down which those before it are, and drops
    /// them in falling order.
    fn left_handles(&self) -> enc::Function {
        let (handle, free) = (1, 2);
        let mut function = enc::Function::new([(1, enc::ValType::I32), (1, enc::ValType::I64)]);
        let mut code = function.instructions();
        let bit = |code: &mut enc::InstructionSink<'_>| {
            code.i64_const(1).local_get(handle).i32_const(1).i32_sub().i64_extend_i32_u().i64_shl();
        };
        code.loop_(enc::BlockType::Empty);
        code.i32_const(0).call(self.new).local_tee(handle);
        code.local_get(HAD).i32_le_u().if_(enc::BlockType::Empty);
        bit(&mut code);
        code.local_get(free).i64_or().local_set(free);
        code.br(1).end().end();
        code.local_get(handle).call(self.drop);
        code.local_get(HAD).local_tee(handle);
        code.i32_eqz().if_(enc::BlockType::Empty).i64_const(0).return_().end();
        code.loop_(enc::BlockType::Empty);
        bit(&mut code);
        code.local_get(free).i64_and().i64_const(0).i64_ne().if_(enc::BlockType::Empty);
        code.local_get(handle).call(self.drop).end();
        code.local_get(handle).i32_const(1).i32_sub().local_tee(handle).br_if(0).end();
        code.i64_const(-1).i32_const(64).local_get(HAD).i32_sub().i64_extend_i32_u().i64_shr_u();
        code.local_get(free).i64_xor().end();
        function
    }

    /// Drops a handle, the second parameter, as one of the type that is the first.
    fn drop_left(&self) -> enc::Function {
        let mut function = enc::Function::new([]);
        let mut code = function.instructions();
        for droppable in 0..self.droppable {
            code.local_get(0).i32_const(droppable.cast_signed()).i32_eq().if_(enc::BlockType::Empty);
            code.local_get(1).call(self.drop + 1 + droppable).return_().end();
        }
        code.unreachable().end();
        function
    }
}

/// The state of all instances of a component.
pub fn state(wiring: &Wiring, handles: bool) -> State {
    let mut state = State { handles, ..State::default() };
    if handles {
        state.droppable = wiring.droppable.iter().copied().take(super::MOST_DROPPABLE).collect();
    }
    let all_written = wiring.modules.iter().any(super::module::Module::writes_imported_table);
    for (instance, module) in wiring.instances.iter().enumerate() {
        let instance = u32::try_from(instance).unwrap_or(u32::MAX);
        let Some(module) = module.and_then(|module| wiring.modules.get(module as usize)) else {
            continue;
        };
        if module.memory.is_some() {
            state.memories.push(instance);
        }
        state.globals.extend(module.globals.iter().map(|(index, value)| (instance, *index, *value)));
        let written = module.tables.iter().filter(|table| all_written || module.writes_table(**table));
        state.tables.extend(written.map(|table| (instance, *table)));
        // One beyond the most is enough to know.
        if state.globals.len() > super::MOST || state.tables.len() > super::MOST_TABLES {
            break;
        }
    }
    state
}
