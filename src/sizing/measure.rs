//! What an instance takes of RAM, learned from what the whole process takes.
//!
//! Two things are unknown: what the host itself takes and what each instance takes. While few instances are at work,
//! what can't be theirs is the host's; while many are, what is above the host's is theirs. Neither has to be exact:
//! whatever the split, [`Measure::host`] is what the instances don't explain, so the derived limit comes to just the
//! present number of instances when the memory is used up. The split only decides what is expected of those to come.

/// Assumed for an instance before anything was measured.
const ASSUMED: f64 = (2 << 20) as f64;

/// Less is not believed: the page tables of a memory take as much.
const LEAST: f64 = (64 << 10) as f64;

/// Instances at work from which on they are what is seen, and not the noise of everything else.
const ENOUGH: u32 = 16;

/// How much of a difference is learned at one look: more is believed sooner than less, since too large a pool costs
/// more than too small a one.
const RISE: f64 = 1.0 / 4.0;
const FALL: f64 = 1.0 / 16.0;

#[derive(Debug)]
pub struct Measure {
    /// The host's own, at the start: it never takes less.
    start: f64,
    base: f64,
    each: f64,
    is_measured: bool,
    /// What the instances don't explain of what was last seen.
    host: f64,
}

/// One look at the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Bytes of the process's own memory that are in RAM.
    pub resident: u64,
    /// Units of the budget that instances hold.
    pub instances: u32,
    /// Those of them that are not idle: an idle one has touched little yet.
    pub busy: u32,
}

impl Measure {
    /// `resident`: with no instance yet.
    pub fn new(resident: u64) -> Measure {
        let start = resident as f64;
        Measure { start, base: start, each: ASSUMED, is_measured: false, host: start }
    }

    pub fn observe(&mut self, seen: Seen) {
        let (resident, count) = (seen.resident as f64, f64::from(seen.instances));
        if seen.busy < ENOUGH || seen.instances == 0 {
            self.base += (resident - count * self.each - self.base) * FALL;
            self.base = self.base.max(self.start);
        } else {
            let found = (resident - self.base) / count;
            // Idle ones teach nothing: when they are taken they will need what the busy ones need.
            let weight = f64::from(seen.busy) / count;
            let damping = if found > self.each { RISE } else { FALL };
            self.each = (self.each + (found - self.each) * damping * weight.min(1.0)).max(LEAST);
            self.is_measured = true;
        }
        self.host = self.base.max(resident - count * self.each);
    }

    /// Bytes that are not the instances'.
    pub fn host(&self) -> u64 {
        self.host as u64
    }

    /// Bytes of each instance.
    pub fn each(&self) -> u64 {
        self.each as u64
    }

    pub fn is_measured(&self) -> bool {
        self.is_measured
    }
}

#[cfg(test)]
mod tests;
