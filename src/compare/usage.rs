//! What a process uses, as the kernel tells under `/proc`.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use serde::Serialize;

/// The processor time of a process so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuReading {
    /// Nanoseconds of each thread that lives.
    threads: BTreeMap<u32, u64>,
    /// Clock ticks of all threads, also those that ended.
    own_ticks: u64,
    /// Clock ticks of child processes that ended.
    child_ticks: u64,
}

/// Ticks by which the difference of two readings can be too large: user and kernel time are cut to whole ticks each.
const TRUNCATED: u32 = 2;

/// Bytes of memory in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// All resident pages.
    pub rss: u64,
    /// Resident pages, those shared with other processes divided by how many share them.
    pub pss: u64,
}

impl CpuReading {
    pub fn of(pid: u32) -> io::Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let (own_ticks, child_ticks) = parse_stat(&stat).ok_or_else(|| unreadable("stat"))?;
        let mut threads = BTreeMap::new();
        for entry in std::fs::read_dir(format!("/proc/{pid}/task"))? {
            let entry = entry?;
            let Some(thread) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // A thread that ended since the folder was read is in the ticks.
            if let Ok(text) = std::fs::read_to_string(entry.path().join("schedstat"))
                && let Some(nanoseconds) = parse_schedstat(&text)
            {
                threads.insert(thread, nanoseconds);
            }
        }
        Ok(Self { threads, own_ticks, child_ticks })
    }

    /// The processor time of this process between two readings: exact to the nanosecond if the threads and children that
    /// ended in between did next to nothing, else to some clock ticks (10 ms).
    pub fn since(&self, before: &Self) -> Duration {
        let of_thread =
            |(thread, now): (&u32, &u64)| now.saturating_sub(*before.threads.get(thread).unwrap_or(&0));
        let live = Duration::from_nanos(self.threads.iter().map(of_thread).sum());
        let tick = Duration::from_nanos(1_000_000_000 / rustix::param::clock_ticks_per_second().max(1));
        let ticks = |reading: &Self| reading.own_ticks + reading.child_ticks;
        let counted = tick * u32::try_from(ticks(self).saturating_sub(ticks(before))).unwrap_or(u32::MAX);
        // A thread that has ended, as a compilation's has, is only in the ticks.
        let has_all = counted <= live + TRUNCATED * tick && self.child_ticks == before.child_ticks;
        if has_all && !self.threads.is_empty() { live } else { counted.max(live) }
    }
}

impl Memory {
    pub fn of(pid: u32) -> io::Result<Self> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        parse_rollup(&text).ok_or_else(|| unreadable("smaps_rollup"))
    }
}

/// The processor time of the calling thread so far.
pub fn cpu_of_this_thread() -> io::Result<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    parse_schedstat(&text).map(Duration::from_nanos).ok_or_else(|| unreadable("schedstat"))
}

/// Clock ticks in user and kernel mode: of the process itself, and of its children that ended.
fn parse_stat(text: &str) -> Option<(u64, u64)> {
    // The name of the program, in parentheses, may hold anything, also parentheses and spaces.
    let after_name = text.rsplit_once(')')?.1;
    // The state comes next: `utime` is the twelfth after the name.
    let ticks = after_name.split_ascii_whitespace().skip(11).take(4).map(str::parse::<u64>);
    let ticks = ticks.collect::<Result<Vec<_>, _>>().ok()?;
    let [user, system, child_user, child_system] = ticks[..] else { return None };
    Some((user.checked_add(system)?, child_user.checked_add(child_system)?))
}

/// Nanoseconds on a core.
fn parse_schedstat(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().next()?.parse().ok()
}

fn parse_rollup(text: &str) -> Option<Memory> {
    let bytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    };
    Some(Memory { rss: bytes("Rss")?, pss: bytes("Pss")? })
}

fn unreadable(file: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("cannot make sense of /proc's {file}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_programs_name_does_not_shift_the_fields_after_it() {
        let fields = "S 1 2 3 4 5 6 7 8 9 10 150 50 7 3 20 0 9 0";
        for name in ["hostler", "a) R 1 1 (b", "x y"] {
            assert_eq!(parse_stat(&format!("42 ({name}) {fields}\n")), Some((200, 10)), "{name}");
        }
        assert_eq!(parse_stat("42 (x) S 1 2"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let text = "55d0-7ffe ---p 00000000 00:00 0  [rollup]\nRss:  123 kB\nPss_Dirty: 1 kB\nPss:   45 kB\n";
        assert_eq!(parse_rollup(text), Some(Memory { rss: 123 * 1024, pss: 45 * 1024 }));
        assert_eq!(parse_rollup("Rss: 1 kB\n"), None);
        assert_eq!(parse_rollup("Rss: x kB\nPss: 1 kB\n"), None);
    }

    fn reading(threads: &[(u32, u64)], own_ticks: u64, child_ticks: u64) -> CpuReading {
        CpuReading { threads: threads.iter().copied().collect(), own_ticks, child_ticks }
    }

    #[test]
    fn time_is_exact_while_no_thread_and_no_child_ends_and_counts_them_when_they_do() {
        let before = reading(&[(1, 1_000), (2, 500)], 10, 0);
        let new_thread = reading(&[(1, 1_500), (2, 500), (3, 7)], 11, 0);
        assert_eq!(new_thread.since(&before), Duration::from_nanos(507));
        let tick = Duration::from_nanos(1_000_000_000 / rustix::param::clock_ticks_per_second());
        let ended = reading(&[(1, 1_500)], 14, 0);
        assert_eq!(ended.since(&before), 4 * tick);
        let child = reading(&[(1, 1_500), (2, 500)], 10, 5);
        assert_eq!(child.since(&before), 5 * tick);
        let came_and_went = reading(&[(1, 1_500), (2, 500)], 60, 0);
        assert_eq!(came_and_went.since(&before), 50 * tick);
    }

    #[test]
    fn this_process_uses_time_and_memory() {
        let before = CpuReading::of(std::process::id()).unwrap();
        let thread = cpu_of_this_thread().unwrap();
        let enough = Duration::from_millis(5);
        while cpu_of_this_thread().unwrap() < thread + enough {
            std::hint::black_box(0);
        }
        assert!(CpuReading::of(std::process::id()).unwrap().since(&before) >= Duration::from_millis(1));
        let memory = Memory::of(std::process::id()).unwrap();
        assert!(memory.pss > 0 && memory.rss >= memory.pss);
    }
}
