//! What of an instrumented component can be put back, behind its machine code: five numbers.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::prepare::instrument::Manifest;

const LENGTH: usize = 20;

/// The payload of an instrumented component.
pub fn append(mut code: Vec<u8>, manifest: &Manifest) -> Vec<u8> {
    let Manifest { memories, handles, globals, tables, droppable } = *manifest;
    code.extend([memories, handles, globals, tables, droppable].map(u32::to_le_bytes).as_flattened());
    code
}

/// The code and the manifest that a payload consists of.
pub fn split(payload: &[u8]) -> wasmtime::Result<(&[u8], Manifest)> {
    match payload.split_last_chunk() {
        Some((code, manifest)) => Ok((code, decode(manifest))),
        None => Err(wasmtime::format_err!("the payload is too short for its manifest")),
    }
}

/// The manifest of the payload that is the first of the file.
pub fn read(file: &File, payload_length: u64) -> wasmtime::Result<Manifest> {
    let mut bytes = [0; LENGTH];
    let at = payload_length.checked_sub(LENGTH as u64);
    let at = at.ok_or_else(|| wasmtime::format_err!("the payload is too short for its manifest"))?;
    file.read_exact_at(&mut bytes, at)?;
    Ok(decode(&bytes))
}

fn decode(bytes: &[u8; LENGTH]) -> Manifest {
    let (numbers, _) = bytes.as_chunks();
    let number = |at: usize| u32::from_le_bytes(numbers[at]);
    Manifest {
        memories: number(0),
        handles: number(1),
        globals: number(2),
        tables: number(3),
        droppable: number(4),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_manifest_comes_back_from_bytes_and_from_a_file_with_more_behind_it() {
        let manifest =
            Manifest { memories: 1, handles: 2, globals: 0x0102_0304, tables: u32::MAX, droppable: 5 };
        let payload = append(b"code".to_vec(), &manifest);
        assert_eq!(split(&payload).expect("long enough"), (b"code".as_slice(), manifest));
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&payload).and_then(|()| file.write_all(b"trailer")).expect("written");
        assert_eq!(read(&file, payload.len() as u64).expect("long enough"), manifest);
        assert!(split(&payload[..LENGTH - 1]).is_err());
        assert!(read(&file, LENGTH as u64 - 1).is_err());
    }
}
