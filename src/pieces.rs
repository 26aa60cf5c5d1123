//! Large files in pieces, so that a thread which gives way to all does so while it reads and writes them, too.
//!
//! Measured on Linux 6.18, whose kernel is lazily preempted: a thread that has become ready waits for the end of another
//! one's call of the kernel, or for the next tick, whatever their priorities. A single `write` of 33 MB took 46 ms, and
//! requests that came meanwhile up to 10 ms.

use std::fs::File;
use std::io::{self, Read, Write};

/// Bytes of one call: some 50 us.
pub const PIECE: usize = 64 << 10;

/// Reads from and writes to what is within, at most [`PIECE`] bytes by each call.
#[derive(Debug)]
pub struct InPieces<T>(pub T);

impl<T: Read> Read for InPieces<T> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let length = to.len().min(PIECE);
        self.0.read(&mut to[..length])
    }
}

impl<T: Write> Write for InPieces<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(piece(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// What is written of `bytes` by one call.
pub fn piece(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len().min(PIECE)]
}

/// Empties a file in memory, which would else be done as a whole when it is closed.
pub fn empty(file: &File) -> io::Result<()> {
    const STEP: u64 = 1 << 20;
    let mut length = file.metadata()?.len();
    while length > 0 {
        length = length.saturating_sub(STEP);
        file.set_len(length)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts the bytes of each call.
    #[derive(Default)]
    struct Calls(Vec<usize>);

    impl Read for Calls {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            self.0.push(to.len());
            Ok(to.len())
        }
    }

    impl Write for Calls {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.push(bytes.len());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn no_call_is_for_more_than_a_piece() {
        let all = vec![0; 3 * PIECE + 1];
        let mut calls = Calls::default();
        InPieces(&mut calls).write_all(&all).expect("written");
        assert_eq!(calls.0, [PIECE, PIECE, PIECE, 1]);
        let mut calls = Calls::default();
        let mut read = Vec::new();
        InPieces(&mut calls).take(all.len() as u64).read_to_end(&mut read).expect("read");
        assert!(read == all && calls.0.iter().all(|length| *length <= PIECE), "{:?}", calls.0);
    }

    #[test]
    fn a_file_is_emptied() {
        let file = tempfile::tempfile().expect("a file");
        for length in [0, 1, 5 << 20] {
            file.set_len(length).expect("a length");
            empty(&file).expect("emptied");
            assert_eq!(file.metadata().expect("a length").len(), 0);
        }
    }
}
