//! State that Rust itself has no words for: a global, a table, and traces in memory.

use std::arch::global_asm;
use std::hint::black_box;

// A mutable global that starts at 0 and a table of 8 entries that start empty. An entry is set to
// the function that stands first in the table of the compiler's own function pointers.
global_asm!(
    ".globaltype counter_global, i32",
    "counter_global:",
    ".tabletype counter_table, funcref, 8",
    "counter_table:",
    ".tabletype __indirect_function_table, funcref",
    ".globl counter_bump_global",
    "counter_bump_global:",
    ".functype counter_bump_global () -> (i32)",
    "global.get counter_global",
    "i32.const 1",
    "i32.add",
    "global.set counter_global",
    "global.get counter_global",
    "end_function",
    ".globl counter_entry_is_empty",
    "counter_entry_is_empty:",
    ".functype counter_entry_is_empty (i32) -> (i32)",
    "local.get 0",
    "table.get counter_table",
    "ref.is_null",
    "end_function",
    ".globl counter_set_entry",
    "counter_set_entry:",
    ".functype counter_set_entry (i32) -> ()",
    "local.get 0",
    "i32.const 1",
    "table.get __indirect_function_table",
    "table.set counter_table",
    "end_function",
);

unsafe extern "C" {
    safe fn counter_bump_global() -> u32;
    fn counter_entry_is_empty(index: u32) -> u32;
    fn counter_set_entry(index: u32);
}

const TABLE_ENTRIES: u32 = 8;

/// Adds one to the global; its new value.
pub fn count_in_global() -> u32 {
    counter_bump_global()
}

/// Sets the first empty entry of the table; how many are set then.
pub fn set_one_more_in_table() -> u32 {
    for index in 0..TABLE_ENTRIES {
        // SAFETY: the index is within the table.
        unsafe {
            if counter_entry_is_empty(index) != 0 {
                counter_set_entry(index);
                return index + 1;
            }
        }
    }
    TABLE_ENTRIES
}

/// Sets a variable of the environment; what it was before.
pub fn set_variable() -> String {
    let before = std::env::var("COUNTER_MARK").unwrap_or("unset".to_owned());
    // SAFETY: there is one thread.
    unsafe { std::env::set_var("COUNTER_MARK", "set") };
    before
}

/// Computed each time, and inlined, so that it is nowhere in memory but where it is left.
#[inline(always)]
fn pattern() -> [u64; 2] {
    let seed = black_box(0x0123_4567_89AB_CDEF_u64);
    [seed.wrapping_mul(0x9E37_79B9_7F4A_7C15), seed.wrapping_mul(0xD1B5_4A32_D192_ED03)]
}

/// Leaves the pattern on the heap and on the stack.
pub fn leave_traces() {
    black_box(Box::leak(Box::new([pattern(); 64])));
    black_box(&mut [pattern(); 64]);
}

/// How often the pattern is found in the whole of the memory.
pub fn find_traces() -> usize {
    let [first, second] = pattern();
    let words = std::arch::wasm32::memory_size::<0>() * 64 * 1024 / 8;
    // Word 0 is at the null pointer, which Rust does not read from.
    (1..words - 1)
        .filter(|index| {
            let word = (index * 8) as *const u64;
            // SAFETY: both words are within the memory; reading it races with nobody.
            unsafe { word.read_volatile() == first && word.add(1).read_volatile() == second }
        })
        .count()
}
