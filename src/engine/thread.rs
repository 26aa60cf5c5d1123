//! What the kernel knows of a thread, mostly the calling one: its processor time, which no preemption adds to, and how it
//! is scheduled.

use std::io;
use std::time::Duration;

/// What the calling thread has had of the processor so far. Asks the kernel: twenty times the price of an `Instant`.
pub fn thread_cpu_time() -> Duration {
    ThreadClock(libc::CLOCK_THREAD_CPUTIME_ID).time()
}

/// What one thread has had of the processor, for others to ask.
#[derive(Debug, Clone, Copy)]
pub struct ThreadClock(libc::clockid_t);

impl ThreadClock {
    /// Of the calling thread.
    ///
    /// # Errors
    /// The system has no such clock.
    pub fn of_this_thread() -> io::Result<ThreadClock> {
        let mut id = 0;
        // SAFETY: the pointer is to a number of ours that outlives the call, and the thread is there while it calls.
        match unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &raw mut id) } {
            0 => Ok(ThreadClock(id)),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }

    /// Zero for a thread that is gone.
    pub fn time(self) -> Duration {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the pointer is to a timespec of ours that outlives the call. If the call fails, the time stays zero.
        unsafe {
            libc::clock_gettime(self.0, &raw mut time);
        }
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
    }
}

/// Asks the scheduler to let the calling thread run soon whenever it wakes, for it only runs for a moment then. Linux has
/// that since 6.12; elsewhere nothing changes. Without it also a thread of the lowest priority may end its time slice first.
pub fn run_promptly() {
    /// `struct sched_attr` in its first version.
    #[repr(C)]
    struct SchedAttr {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime: u64,
        deadline: u64,
        period: u64,
    }
    const SLICE: Duration = Duration::from_micros(100);
    // SAFETY: no pointers; the thread's own priority is asked for.
    let nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    let attr = SchedAttr {
        size: u32::try_from(size_of::<SchedAttr>()).unwrap_or_default(),
        policy: libc::SCHED_OTHER.cast_unsigned(),
        flags: 0,
        nice,
        priority: 0,
        runtime: u64::try_from(SLICE.as_nanos()).unwrap_or_default(),
        deadline: 0,
        period: 0,
    };
    // SAFETY: the pointer is to a structure of ours that says its own size and outlives the call, which only reads it.
    unsafe {
        libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0);
    }
}

/// The calling thread runs only where no other wants to, from now on and for good.
///
/// Measured on Linux 6.18: a thread that computes at this priority leaves the 99th percentile of an app's latency beside
/// it as it is; at a nice value of 10 it makes three times as much of it. Under the policy that is called idle such a
/// thread would get a fifth of what it gets so from a processor that something else keeps busy, which is little enough.
pub fn give_way_to_all() {
    if let Err(error) = rustix::process::setpriority_process(None, NICEST) {
        tracing::debug!("a thread keeps its priority: {error}");
    }
    // The time slice that it has begun is that of its old priority, for which no other thread is let in before.
    std::thread::yield_now();
}

/// To be called by a thread that has given way to all whenever it has slept: others go before it, now and for a while.
///
/// Measured on Linux 6.18: of two such threads that sleep and wake for pieces of 2 ms, the one or the other ran its piece to
/// the end beside a thread of normal priority that had something to do meanwhile, in most runs in one of ten cases. The
/// kernel lets in whoever has had less than its part, and who has slept begins with what the others have on the average.
/// Who yields gives up the rest of its time slice, which for one of so little weight is a large part.
pub fn let_others_first() {
    std::thread::yield_now();
}

/// The lowest priority, as `nice` counts it.
pub const NICEST: i32 = 19;

/// Does the calling thread?
#[cfg(test)]
pub fn gives_way_to_all() -> bool {
    rustix::process::getpriority_process(None).is_ok_and(|nice| nice == NICEST)
}

/// The calling thread, and those that it starts, give way to threads that have called [`give_way_to_all`], too: it gets a
/// sixth of a processor that such a one keeps busy.
///
/// # Errors
/// The system does not let it.
pub fn give_way_to_the_nicest() -> io::Result<()> {
    let none = libc::sched_param { sched_priority: 0 };
    // SAFETY: the pointer is to a structure of ours that outlives the call, which only reads it.
    match unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const none) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
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

    #[test]
    fn others_can_ask_for_it_until_the_thread_is_gone() {
        let (tell, clock) = std::sync::mpsc::channel();
        let (end, may_end) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            while thread_cpu_time() < Duration::from_millis(2) {
                std::hint::black_box(0);
            }
            tell.send(ThreadClock::of_this_thread().unwrap()).unwrap();
            may_end.recv().unwrap();
        });
        let clock = clock.recv().unwrap();
        assert!(clock.time() >= Duration::from_millis(2));
        end.send(()).unwrap();
        thread.join().unwrap();
        while clock.time() > Duration::ZERO {
            std::thread::yield_now();
        }
    }
}
