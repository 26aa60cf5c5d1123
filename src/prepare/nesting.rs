//! Types of a component that are nested too deep.

use std::ops::Range;

use super::refusal::Reason;

/// Types within types that one section may have; those of real components are three deep.
const MOST: usize = 100;

/// Refuses a section of types that could be nested deeper than a thread's stack bears. The parser takes a stack frame
/// for each level and has no limit of its own.
///
/// An inner type is declared by the byte 1 and, for one that holds others, begins with 0x41 or 0x42. So there are no
/// more levels than such pairs, of which some may be parts of names and numbers.
pub fn look(bytes: &[u8], section: &Range<usize>) -> Result<(), Reason> {
    let section = bytes.get(section.clone()).unwrap_or_default();
    let inner = section.windows(2).filter(|pair| matches!(pair, [1, 0x41 | 0x42]));
    match inner.take(MOST + 1).count() {
        0..=MOST => Ok(()),
        _ => Err(Reason::Nested { most: MOST }),
    }
}
