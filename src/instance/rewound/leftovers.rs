//! Of what types the handles are that requests leave; pure.
//!
//! Which numbers they have can be found out, their types can't: a handle that is dropped as one of another type traps, and
//! the instance is lost with it. But a guest that leaves handles mostly leaves the same ones after each request. So each
//! type is tried once for a handle that is left in the same circumstances, and the one that was right is what is tried
//! from then on. A wrong guess costs an instance and nothing else.

use std::collections::HashMap;

/// What the host holds for the guest, by its types, and the handle's number.
pub type Left = (u64, u32);

/// Circumstances that are known at once: a guest that always leaves something else is not worth more.
const MOST: usize = 1024;

#[derive(Debug, Default)]
pub struct Guesses(HashMap<Left, u32>);

impl Guesses {
    /// Which of so many types is to be tried; `None` if none is known to be right.
    pub fn of(&mut self, left: Left, types: u32) -> Option<u32> {
        if self.0.len() >= MOST && !self.0.contains_key(&left) {
            return None;
        }
        let guess = *self.0.entry(left).or_default();
        (guess < types).then_some(guess)
    }

    /// That one was not right: the next one may be. Others may have found that out before.
    pub fn was_wrong(&mut self, left: Left, guess: u32) {
        if let Some(known) = self.0.get_mut(&left) {
            *known = (*known).max(guess + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_is_tried_once_and_what_was_right_is_kept_to() {
        let mut guesses = Guesses::default();
        for guess in 0..3 {
            assert_eq!(guesses.of((1, 2), 5), Some(guess));
            guesses.was_wrong((1, 2), guess);
            guesses.was_wrong((1, 2), guess);
        }
        assert_eq!(guesses.of((1, 2), 5), Some(3));
        assert_eq!(guesses.of((1, 2), 5), Some(3));
        assert_eq!(guesses.of((1, 3), 5), Some(0), "another handle");
        assert_eq!(guesses.of((2, 2), 5), Some(0), "beside other resources");
    }

    #[test]
    fn what_no_type_was_right_for_is_not_tried_again() {
        let mut guesses = Guesses::default();
        guesses.of((1, 1), 1);
        guesses.was_wrong((1, 1), 0);
        assert_eq!(guesses.of((1, 1), 1), None);
        assert_eq!(guesses.of((1, 2), 0), None, "there is no type");
    }

    #[test]
    fn no_more_is_known_than_there_is_room_for() {
        let mut guesses = Guesses::default();
        let known = (0..2 * MOST as u64).filter(|types| guesses.of((*types, 1), 5).is_some()).count();
        assert_eq!((known, guesses.0.len()), (MOST, MOST));
        assert_eq!(guesses.of((0, 1), 5), Some(0), "it was known before");
    }
}
