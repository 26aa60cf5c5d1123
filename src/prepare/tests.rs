//! What passes, what is refused and how it is named.

mod kinds;
mod refusals;

use super::{Checked, Refusal, check};

/// A component that exports the instance `entry` and imports the given instances, all of them empty.
fn component(entry: &str, imports: &[&str]) -> Vec<u8> {
    let imports: String = imports.iter().map(|name| format!("(import \"{name}\" (instance))\n")).collect();
    wat(&format!("(component {imports} (instance $i) (export \"{entry}\" (instance $i)))"))
}

fn wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).expect("the test's own text")
}

fn passes(bytes: &[u8]) -> Checked {
    check(bytes).unwrap_or_else(|refusal| panic!("refused: {refusal}"))
}

/// The first half of the refusal: what the file is.
fn refused(bytes: &[u8]) -> String {
    match check(bytes) {
        Err(Refusal::Refused(reason)) => reason.to_string(),
        other => panic!("not refused: {other:?}"),
    }
}

fn incomplete(bytes: &[u8]) -> String {
    match check(bytes) {
        Err(Refusal::Incomplete(cut)) => cut.to_string(),
        other => panic!("not incomplete: {other:?}"),
    }
}
