//! The allow-list of instructions.

use wasmparser::Operator;

use super::Ineligible;

/// What an instruction may change beyond memory bytes, memory sizes, globals and what dies with the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    None,
    /// Writes the table of this index, or changes its size.
    WritesTable(u32),
}

/// The effect of an instruction whose effects are known to be put back; every other is refused, and so is whatever a
/// later Wasmtime adds.
///
/// The proposals on the list are closed: nothing is added to them any more. Instructions that write memory or globals
/// need no word here, since all of those are put back whatever was written. Numbers and vectors have no state; the
/// relaxed ones are not on the list because the engine doesn't have them either.
pub fn effect(module: u32, operator: &Operator<'_>) -> Result<Effect, Ineligible> {
    let (proposal, name) = named(operator);
    let refused = |why| Err(Ineligible::Instruction { module, name: text_name(name), why });
    match operator {
        Operator::TableSet { table } | Operator::TableGrow { table } | Operator::TableFill { table } => {
            return Ok(Effect::WritesTable(*table));
        }
        Operator::TableInit { table, .. } | Operator::TableCopy { dst_table: table, .. } => {
            return Ok(Effect::WritesTable(*table));
        }
        // Wasmtime marks a dropped segment in the instance, and nothing takes the mark away again.
        Operator::DataDrop { .. } | Operator::ElemDrop { .. } => {
            return refused("what is dropped cannot be brought back");
        }
        _ => {}
    }
    match proposal {
        "mvp" | "sign_extension" | "saturating_float_to_int" | "bulk_memory" | "reference_types" | "simd" => {
            Ok(Effect::None)
        }
        "threads" | "shared_everything_threads" => refused("threads share state beyond one instance"),
        "exceptions" | "legacy_exceptions" => refused("exceptions live in a heap that is not put back"),
        "gc" => refused("the heap of garbage-collected objects is not put back"),
        _ => refused("it is not among those whose effects are known to be put back"),
    }
}

macro_rules! named_by_parser {
    ($( @$proposal:ident $op:ident $({ $($arg:ident: $ty:ty),* })? => $visit:ident ($($ann:tt)*) )*) => {
        /// The proposal that an instruction comes from, and the parser's name for it.
        fn named(operator: &Operator<'_>) -> (&'static str, &'static str) {
            match operator {
                $( Operator::$op { .. } => (stringify!($proposal), stringify!($visit)), )*
                _ => ("unknown", "visit_unknown"),
            }
        }
    };
}
wasmparser::for_each_operator!(named_by_parser);

/// `visit_data_drop` as `data.drop`. The parser's names have no dots; after the first word is where most have one.
fn text_name(visit: &str) -> String {
    visit.trim_start_matches("visit_").replacen('_', ".", 1)
}
