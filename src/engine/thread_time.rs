//! The processor time of the calling thread, which no preemption adds to.

use std::time::Duration;

/// What the calling thread has had of the processor so far. Asks the kernel: twenty times the price of an `Instant`.
pub fn thread_cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec of ours that outlives the call. The clock is there since Linux 2.6.12; if
    // the call fails all the same, the time stays zero.
    unsafe {
        libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time);
    }
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stands_still_while_the_thread_waits_and_goes_on_while_it_works() {
        let before = thread_cpu_time();
        assert!(before > Duration::ZERO);
        let while_waiting = Duration::from_millis(40);
        std::thread::park_timeout(while_waiting);
        assert!(thread_cpu_time() - before < while_waiting);
        let working = thread_cpu_time();
        while thread_cpu_time() - working < Duration::from_millis(2) {
            std::hint::black_box(0);
        }
    }
}
