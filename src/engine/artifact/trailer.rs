//! What stands behind a payload and says what it is.

use super::{CodeKind, Flaw, Key};

/// Version of the trailer's layout.
pub(super) const FORMAT: u32 = 2;
const MAGIC: [u8; 8] = *b"HOSTLERa";
/// Length of the trailer in bytes.
pub const TRAILER_LEN: usize = 88;

#[derive(PartialEq)]
pub(super) struct Trailer {
    magic: [u8; 8],
    format: u32,
    kind: u32,
    payload_len: u64,
    id: [u8; 32],
    pub(super) digest: [u8; 32],
}

impl Trailer {
    pub(super) fn expected(key: &Key, payload_len: u64, digest: [u8; 32]) -> Trailer {
        Trailer {
            magic: MAGIC,
            format: FORMAT,
            kind: key.kind.tag(),
            payload_len,
            id: *key.id.as_bytes(),
            digest,
        }
    }

    pub(super) fn encode(&self) -> [u8; TRAILER_LEN] {
        let mut bytes = [0; TRAILER_LEN];
        bytes[0..8].copy_from_slice(&self.magic);
        bytes[8..12].copy_from_slice(&self.format.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.kind.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.payload_len.to_le_bytes());
        bytes[24..56].copy_from_slice(&self.id);
        bytes[56..88].copy_from_slice(&self.digest);
        bytes
    }

    pub(super) fn decode(bytes: &[u8; TRAILER_LEN]) -> Trailer {
        Trailer {
            magic: field(bytes, 0),
            format: u32::from_le_bytes(field(bytes, 8)),
            kind: u32::from_le_bytes(field(bytes, 12)),
            payload_len: u64::from_le_bytes(field(bytes, 16)),
            id: field(bytes, 24),
            digest: field(bytes, 56),
        }
    }

    pub(super) fn compare(&self, expected: &Trailer) -> Result<(), Flaw> {
        let checks = [
            (self.magic == expected.magic, "magic number"),
            (self.format == expected.format, "format version"),
            (self.kind == expected.kind, "kind"),
            (self.payload_len == expected.payload_len, "length"),
            (self.id == expected.id, "key"),
        ];
        match checks.iter().find(|(same, _)| !same) {
            Some((_, what)) => Err(Flaw::Mismatch(what)),
            None => Ok(()),
        }
    }
}

impl CodeKind {
    pub(super) fn tag(self) -> u32 {
        match self {
            CodeKind::Module => 1,
            CodeKind::Component => 2,
            CodeKind::Instrumented => 3,
        }
    }
}

/// The `N` bytes of the trailer that begin at `at`; both are constants that lie within it.
fn field<const N: usize>(bytes: &[u8; TRAILER_LEN], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}
