//! The first look at raw bytes: are they WebAssembly of a known version, and do the sections tile the file?
//!
//! A section walk is necessary, not sufficient: a file that was cut exactly between two sections passes here. That is
//! why a file must also have been quiet for a while before it is read.

use super::refusal::{Cut, Reason, Refusal};

const MODULE: [u8; 8] = *b"\0asm\x01\0\0\0";
const COMPONENT: [u8; 8] = *b"\0asm\x0d\0\x01\0";

/// How far into a file that is not WebAssembly text is looked for, in bytes.
pub const SNIFF: usize = 4096;

/// What can be told of a file by how it begins: `head`, of a file that has more than that.
pub fn look_at_head(head: &[u8]) -> Result<(), Reason> {
    if head.starts_with(b"\0asm") { Ok(()) } else { Err(name_it(head)) }
}

/// Passes bytes that begin as a core module or a component and whose sections end where the file ends.
pub fn look(bytes: &[u8]) -> Result<(), Refusal> {
    if bytes.is_empty() {
        return Err(Cut::Empty.into());
    }
    if bytes.len() < MODULE.len() && (MODULE.starts_with(bytes) || COMPONENT.starts_with(bytes)) {
        return Err(Cut::Header.into());
    }
    let Some((header, sections)) = bytes.split_first_chunk::<8>() else {
        return Err(name_it(bytes).into());
    };
    look_at_head(bytes)?;
    if *header != MODULE && *header != COMPONENT {
        let [_, _, _, _, v0, v1, l0, l1] = *header;
        let version = u16::from_le_bytes([v0, v1]);
        let layer = u16::from_le_bytes([l0, l1]);
        return Err(Reason::Version { version, layer }.into());
    }
    Ok(tile(sections)?)
}

/// Walks the outermost sections: an id byte, a length in LEB128, that many bytes.
fn tile(mut rest: &[u8]) -> Result<(), Cut> {
    let mut number = 0;
    while let Some((_id, after_id)) = rest.split_first() {
        number += 1;
        let (size, body) = match length(after_id) {
            Length::Read(size, body) => (size, body),
            Length::Cut => return Err(Cut::SectionHeader { number }),
            // Not a length at all: the parser says why better than "incomplete" would.
            Length::Bad => return Ok(()),
        };
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        rest = body
            .get(size..)
            .ok_or(Cut::Section { number, beyond: size.saturating_sub(body.len()) as u64 })?;
    }
    Ok(())
}

enum Length<'a> {
    Read(u32, &'a [u8]),
    Cut,
    Bad,
}

fn length(bytes: &[u8]) -> Length<'_> {
    let mut value: u64 = 0;
    for (index, byte) in bytes.iter().take(5).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let body = bytes.get(index + 1..).unwrap_or_default();
            return u32::try_from(value).map_or(Length::Bad, |value| Length::Read(value, body));
        }
    }
    if bytes.len() < 5 { Length::Cut } else { Length::Bad }
}

/// Names a file that is not WebAssembly for what it is.
fn name_it(bytes: &[u8]) -> Reason {
    if let Some(name) = binary(bytes).or_else(|| text(bytes)) {
        return Reason::Known(name);
    }
    let first: Vec<String> = bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    Reason::Unknown(first.join(" "))
}

fn binary(bytes: &[u8]) -> Option<&'static str> {
    // Wasmtime marks its artifacts by the OS ABI 200 in the ELF header.
    if bytes.starts_with(b"\x7fELF") && bytes.get(7) == Some(&200) {
        return Some("precompiled Wasmtime code; give the .wasm that it was made from");
    }
    // A Java class begins as a Mach-O file for several architectures does; its version is always above 44.
    if bytes.starts_with(b"\xca\xfe\xba\xbe") {
        return Some(if bytes.get(7).is_some_and(|v| *v >= 45) { "a Java class" } else { "a Mach-O file" });
    }
    if bytes.get(257..262) == Some(b"ustar") {
        return Some("a tar archive");
    }
    const MAGICS: &[(&[u8], &str)] = &[
        (b"\x7fELF", "a native ELF file"),
        (b"\xfe\xed\xfa\xce", "a Mach-O file"),
        (b"\xfe\xed\xfa\xcf", "a Mach-O file"),
        (b"\xce\xfa\xed\xfe", "a Mach-O file"),
        (b"\xcf\xfa\xed\xfe", "a Mach-O file"),
        (b"MZ", "a Windows executable"),
        (b"\x1f\x8b", "a gzip archive"),
        (b"PK\x03\x04", "a ZIP archive"),
        (b"PK\x05\x06", "a ZIP archive"),
        (b"\x28\xb5\x2f\xfd", "a zstd archive"),
        (b"!<arch>\n", "a static library"),
        (b"BC\xc0\xde", "LLVM bitcode"),
        (b"version https://git-lfs", "a Git LFS pointer; fetch the file that it stands for"),
        (b"#!", "a shell script"),
    ];
    MAGICS.iter().find(|(magic, _)| bytes.starts_with(magic)).map(|(_, name)| *name)
}

fn text(bytes: &[u8]) -> Option<&'static str> {
    let head = bytes.get(..SNIFF).unwrap_or(bytes);
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        // A character that the cut at `SNIFF` went through.
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(head.get(..error.valid_up_to())?).ok()?
        }
        Err(_) => return None,
    };
    if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t' | '\x0c')) {
        return None;
    }
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let lower: String = text.chars().take(16).map(|c| c.to_ascii_lowercase()).collect();
    let begins = |words: &[&str]| words.iter().any(|word| lower.starts_with(word));
    Some(if begins(&["<!doctype html", "<html", "<head", "<body"]) {
        "HTML"
    } else if begins(&["<"]) {
        "HTML or XML"
    } else if begins(&["(module", "(component", "(;", ";;"]) {
        "a WebAssembly text file (.wat); compile it to binary first"
    } else if begins(&["{", "["]) {
        "JSON"
    } else if begins(&JAVASCRIPT) {
        "JavaScript; build it into a component first"
    } else {
        "plain text"
    })
}

const JAVASCRIPT: [&str; 9] = [
    "import ",
    "import{",
    "export ",
    "function ",
    "async function",
    "const ",
    "let ",
    "\"use strict\"",
    "'use strict'",
];
