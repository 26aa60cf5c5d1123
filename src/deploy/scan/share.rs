//! Sharing a bounded number of entries among the folders at the top, whose number and greed are anybody's: pure.
//!
//! In the first round each may have an equal share, in each further one twice as many as in the round before, until nothing
//! is left. So what one has beyond its share is never taken from another that keeps within its own.

/// One of those that share, by number; or [`Part::ROOT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part(Option<usize>);

impl Part {
    /// Of what is common to all: it is bounded by what there is in all alone.
    pub const ROOT: Part = Part(None);

    pub fn numbered(number: usize) -> Part {
        Part(Some(number))
    }
}

/// Whether there was one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    Yes,
    /// It goes beyond the share.
    NotInThisRound,
    NothingLeft,
}

#[derive(Debug)]
pub struct Shares {
    left: u64,
    /// What each may have up to this round.
    share: u64,
    /// What each has had.
    taken: Vec<u64>,
}

impl Shares {
    pub fn of(total: u64) -> Shares {
        Shares { left: total, share: 0, taken: Vec::new() }
    }

    /// The first round, of so many.
    pub fn divide(&mut self, parts: usize) {
        self.taken = vec![0; parts];
        self.share = (self.left / parts.max(1) as u64).max(1);
    }

    /// The next round.
    pub fn grow(&mut self) {
        self.share = self.share.saturating_mul(2);
    }

    /// One of them.
    pub fn take(&mut self, part: Part) -> Taken {
        if self.left == 0 {
            return Taken::NothingLeft;
        }
        if let Part(Some(number)) = part {
            match self.taken.get_mut(number) {
                Some(taken) if *taken < self.share => *taken += 1,
                _ => return Taken::NotInThisRound,
            }
        }
        self.left -= 1;
        Taken::Yes
    }

    /// So many were taken for what did not fit into this round and begins anew in a later one. They have cost what they
    /// cost, so there are no more left than before.
    pub fn begins_anew(&mut self, part: Part, count: u64) {
        if let Some(taken) = part.0.and_then(|number| self.taken.get_mut(number)) {
            *taken = taken.saturating_sub(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Which of them get all that they want, of those that want so many, one after the other in each round.
    fn shared(total: u64, wanted: &[u64]) -> Vec<bool> {
        let mut shares = Shares::of(total);
        shares.divide(wanted.len());
        let mut got = vec![None; wanted.len()];
        while got.contains(&None) {
            for (number, got) in got.iter_mut().enumerate().filter(|(_, got)| got.is_none()) {
                *got = try_to_take(&mut shares, Part::numbered(number), wanted[number]);
            }
            shares.grow();
        }
        got.into_iter().map(|got| got == Some(true)).collect()
    }

    fn try_to_take(shares: &mut Shares, part: Part, wanted: u64) -> Option<bool> {
        for had in 0..wanted {
            match shares.take(part) {
                Taken::Yes => {}
                Taken::NotInThisRound => {
                    shares.begins_anew(part, had);
                    return None;
                }
                Taken::NothingLeft => return Some(false),
            }
        }
        Some(true)
    }

    proptest! {
        #[test]
        fn who_keeps_within_an_equal_share_gets_it_whatever_the_others_want(
            total in 1_u64..500,
            wanted in prop::collection::vec(0_u64..1_000, 1..20),
        ) {
            let got = shared(total, &wanted);
            let share = total / wanted.len() as u64;
            for (wanted, got) in wanted.iter().zip(&got) {
                prop_assert!(*got || *wanted > share);
            }
            // Alone it has all of it.
            prop_assert_eq!(shared(total, &wanted[..1]), [wanted[0] <= total]);
        }
    }
}
