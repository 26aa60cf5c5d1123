//! Long work that lets others have the processor in between.

use std::time::Duration;

use crate::engine::thread_cpu_time;

/// Processor time after which it pauses: on a machine with one processor a request waits for so long.
const STRETCH: Duration = Duration::from_micros(500);

/// A pause is so many times as long as the stretch before.
pub const PAUSE: u32 = 5;

/// Steps between two looks at the clock.
const STEPS: u32 = 16;

/// The pace of a look at the folder.
#[derive(Debug)]
pub enum Pace {
    /// As fast as it goes: nobody is served yet.
    Fast,
    /// In stretches.
    Even { steps: u32, begun: Duration },
}

impl Pace {
    /// In stretches, from now on, in this thread.
    pub fn even() -> Pace {
        Pace::Even { steps: 0, begun: thread_cpu_time() }
    }

    /// A small piece of the work has been done. Blocks if it is time for a pause.
    pub fn step(&mut self) {
        let Pace::Even { steps, begun } = self else { return };
        *steps += 1;
        if *steps % STEPS != 0 {
            return;
        }
        let stretch = thread_cpu_time().saturating_sub(*begun);
        if stretch >= STRETCH {
            std::thread::sleep(stretch * PAUSE);
            *begun = thread_cpu_time();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn long_work_takes_a_sixth_of_a_processor_and_short_work_is_not_held_up() {
        let work = |pace: &mut Pace, spend: Duration| {
            let (began, before) = (Instant::now(), thread_cpu_time());
            while thread_cpu_time() - before < spend {
                pace.step();
            }
            (began.elapsed(), thread_cpu_time() - before)
        };
        let (took, spent) = work(&mut Pace::even(), Duration::from_millis(10));
        // The last stretch may have had no pause.
        assert!(took >= (spent - Duration::from_millis(2)) * PAUSE, "{took:?} for {spent:?}");
        let mut few = Pace::even();
        for _ in 0..STEPS - 1 {
            few.step();
        }
        assert!(matches!(few, Pace::Even { steps, .. } if steps == STEPS - 1));
    }
}
