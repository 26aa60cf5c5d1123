//! When the pages that a guest writes are found out anew; pure.
//!
//! Which pages were written is known since the memory was last protected. To protect them again costs a fault for each
//! page that is written after it, a microsecond or so, and to copy a page back a tenth of that; so all pages are put back
//! that were ever written since. One request that writes much would make all after it dearer for good: when far more
//! pages are put back than used to be, and every now and then in any case, all are dropped and protected again.

/// Rewinds after which it is known how many pages requests write, usually.
const SETTLED: u32 = 16;

/// Rewinds between two times, at least.
const SELDOM: u32 = 64;

/// Rewinds after which it is done in any case.
const ENOUGH: u32 = 1024;

/// So many pages are cheap to put back.
const FEW: usize = 16;

/// So many times as many pages as usual are far more.
const FAR_MORE: usize = 4;

#[derive(Debug, Default)]
pub struct Renewal {
    rewinds: u32,
    /// Pages that were put back when it was settled.
    usual: usize,
}

impl Renewal {
    /// Whether it is time, after a rewind that put so many pages back.
    pub fn is_due(&mut self, pages: usize) -> bool {
        self.rewinds += 1;
        if self.rewinds <= SETTLED {
            self.usual = pages;
        }
        let far_more = self.rewinds >= SELDOM && pages > FAR_MORE * self.usual.max(FEW);
        let due = far_more || self.rewinds >= ENOUGH && pages > FEW;
        if due || self.rewinds >= ENOUGH {
            *self = Renewal::default();
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In how many of so many rewinds it is time.
    fn due(renewal: &mut Renewal, rewinds: u32, pages: usize) -> u32 {
        (0..rewinds).map(|_| u32::from(renewal.is_due(pages))).sum()
    }

    #[test]
    fn few_pages_are_never_worth_it() {
        assert_eq!(due(&mut Renewal::default(), 10 * ENOUGH, FEW), 0);
    }

    #[test]
    fn many_pages_are_found_out_anew_now_and_then() {
        assert_eq!(due(&mut Renewal::default(), 10 * ENOUGH, 10 * FEW), 10);
    }

    #[test]
    fn one_request_that_wrote_much_costs_the_others_something_for_a_short_time() {
        let mut renewal = Renewal::default();
        assert_eq!(due(&mut renewal, 2 * SELDOM, 30), 0);
        assert_eq!(due(&mut renewal, 1, 1000), 1);
        let mut young = Renewal::default();
        due(&mut young, SETTLED + 1, 30);
        assert_eq!(due(&mut young, SELDOM - SETTLED - 2, 1000), 0, "it was just done");
        assert_eq!(due(&mut young, 1, 1000), 1);
    }

    #[test]
    fn what_is_usual_for_a_guest_is_not_far_more() {
        assert_eq!(due(&mut Renewal::default(), ENOUGH - 1, 1000), 0);
    }
}
