//! What the host has to know of the code in a payload, behind the machine code: JSON, and its length in four bytes.

use std::fs::File;
use std::os::unix::fs::FileExt;

use serde::{Deserialize, Serialize};
use wasmtime::{Result, format_err};

use crate::prepare::instrument::Manifest;
use crate::prepare::preload::Verdict;

const LENGTH: usize = 4;
/// Bytes that it may have: a reason may be in it, which is short.
const LONGEST: usize = 64 << 10;

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tail {
    /// What of an instrumented component can be put back.
    pub manifest: Option<Manifest>,
    /// What has come of preloading, where that was asked for.
    pub preload: Option<Verdict>,
    /// Why there is no code: the component can't be instrumented. So it is not tried again.
    pub ineligible: Option<String>,
}

impl Tail {
    /// A payload of this code.
    pub fn append(&self, mut code: Vec<u8>) -> Vec<u8> {
        // Of plain data and short: it can't fail, and an empty one is not accepted.
        let text = serde_json::to_vec(self).unwrap_or_default();
        code.extend_from_slice(&text);
        code.extend_from_slice(&u32::try_from(text.len()).unwrap_or_default().to_le_bytes());
        code
    }

    /// The code and the tail that a payload consists of.
    pub fn split(payload: &[u8]) -> Result<(&[u8], Tail)> {
        let (rest, length) = payload.split_last_chunk().ok_or_else(too_short)?;
        let at = rest.len().checked_sub(checked(length)?).ok_or_else(too_short)?;
        let (code, text) = rest.split_at(at);
        Ok((code, serde_json::from_slice(text)?))
    }

    /// That of the payload that is the first of the file.
    pub fn read(file: &File, payload_length: u64) -> Result<Tail> {
        let end = payload_length.checked_sub(LENGTH as u64).ok_or_else(too_short)?;
        let mut length = [0; LENGTH];
        file.read_exact_at(&mut length, end)?;
        let mut text = vec![0; checked(&length)?];
        let at = end.checked_sub(text.len() as u64).ok_or_else(too_short)?;
        file.read_exact_at(&mut text, at)?;
        Ok(serde_json::from_slice(&text)?)
    }

    pub fn manifest(self) -> Result<Manifest> {
        self.manifest.ok_or_else(|| format_err!("the payload has no manifest"))
    }
}

fn checked(length: &[u8; LENGTH]) -> Result<usize> {
    let length = usize::try_from(u32::from_le_bytes(*length))?;
    if length <= LONGEST { Ok(length) } else { Err(format_err!("the payload's end is no length")) }
}

fn too_short() -> wasmtime::Error {
    format_err!("the payload is too short for its end")
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_tail_comes_back_from_bytes_and_from_a_file_with_more_behind_it() {
        let manifest =
            Manifest { memories: 1, handles: Some(2), globals: 0x0102_0304, tables: u32::MAX, droppable: 5 };
        let preload = Some(Verdict::refused("no"));
        let ineligible = Some("a reason".to_owned());
        for tail in [
            Tail::default(),
            Tail { manifest: Some(manifest), preload, ineligible: None },
            Tail { ineligible, ..Tail::default() },
        ] {
            let payload = tail.append(b"code".to_vec());
            assert_eq!(Tail::split(&payload).expect("long enough"), (b"code".as_slice(), tail.clone()));
            let mut file = tempfile::tempfile().expect("a file");
            file.write_all(&payload).and_then(|()| file.write_all(b"trailer")).expect("written");
            assert_eq!(Tail::read(&file, payload.len() as u64).expect("long enough"), tail);
            assert!(Tail::split(&payload[5..]).is_err(), "its text is cut");
            assert!(Tail::read(&file, 3).is_err());
        }
    }

    #[test]
    fn a_payload_without_a_tail_is_none() {
        for payload in
            [&b""[..], b"abc", b"\0\0\0\0", b"\xff\xff\xff\xff", b"{}\x02\0\0\x01", b"xx\x02\0\0\0"]
        {
            assert!(Tail::split(payload).is_err(), "{payload:?}");
        }
    }
}
