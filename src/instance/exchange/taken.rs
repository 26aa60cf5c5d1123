//! What an exchange has taken of a response's body and not yet passed on.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Bytes that are worth passing on at once while the guest goes on making more.
pub(super) const PIECE: usize = 16 << 10;

/// A frame below this is joined with others: a guest that writes byte by byte would otherwise take many times its
/// bytes of the host's memory, and have each byte sent as a frame of its own.
const SMALL: usize = 4 << 10;

/// What was taken of a body, in order.
#[derive(Default)]
pub(super) struct Taken {
    chunks: VecDeque<Bytes>,
    /// Small frames behind the chunks.
    joined: BytesMut,
    bytes: usize,
}

impl Taken {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Copies what is small and not the first.
    pub(super) fn push(&mut self, data: Bytes) {
        let first = self.bytes == 0;
        self.bytes += data.len();
        if !first && data.len() < SMALL {
            self.joined.extend_from_slice(&data);
            if self.joined.len() < PIECE {
                return;
            }
            self.chunks.push_back(self.joined.split().freeze());
        } else if !data.is_empty() {
            if !self.joined.is_empty() {
                self.chunks.push_back(self.joined.split().freeze());
            }
            self.chunks.push_back(data);
        }
    }

    /// The next piece; none until more is pushed.
    pub(super) fn pop(&mut self) -> Option<Bytes> {
        let rest = (!self.joined.is_empty()).then_some(&mut self.joined);
        let chunk = self.chunks.pop_front().or_else(|| rest.map(|joined| joined.split().freeze()))?;
        self.bytes -= chunk.len();
        Some(chunk)
    }

    /// All of it as one piece, without a copy if it is one.
    pub(super) fn whole(&mut self) -> Bytes {
        let mut whole = match self.pop() {
            Some(first) if self.bytes == 0 => return first,
            Some(first) => {
                let mut whole = BytesMut::with_capacity(first.len() + self.bytes);
                whole.extend_from_slice(&first);
                whole
            }
            None => return Bytes::new(),
        };
        while let Some(chunk) = self.pop() {
            whole.extend_from_slice(&chunk);
        }
        whole.freeze()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_body_of_one_frame_is_not_copied() {
        let frame = Bytes::from(vec![1; 10]);
        let mut taken = Taken::default();
        taken.push(frame.clone());
        assert_eq!(taken.whole().as_ptr(), frame.as_ptr());
        assert_eq!(taken.bytes(), 0);
        assert_eq!(taken.whole(), Bytes::new());
    }

    #[test]
    fn bytes_that_came_one_by_one_are_few_pieces() {
        let mut taken = Taken::default();
        for _ in 0..1 << 20 {
            taken.push(Bytes::from_static(b"x"));
        }
        assert_eq!(taken.bytes(), 1 << 20);
        assert!(taken.chunks.len() <= 2 + (1 << 20) / PIECE, "{}", taken.chunks.len());
    }

    proptest! {
        #[test]
        fn bytes_come_out_as_they_went_in(
            steps in proptest::collection::vec((0_usize..9000, any::<bool>()), 0..40),
        ) {
            let mut taken = Taken::default();
            let (mut pushed, mut popped) = (Vec::new(), Vec::new());
            for (at, (length, pop)) in steps.into_iter().enumerate() {
                let frame = vec![at as u8; length];
                pushed.extend_from_slice(&frame);
                taken.push(frame.into());
                if let Some(piece) = pop.then(|| taken.pop()).flatten() {
                    prop_assert!(!piece.is_empty());
                    popped.extend_from_slice(&piece);
                }
                prop_assert_eq!(taken.bytes(), pushed.len() - popped.len());
            }
            popped.extend_from_slice(&taken.whole());
            prop_assert_eq!(pushed, popped);
        }
    }
}
