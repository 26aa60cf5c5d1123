//! Which cores the servers and the load run on, so that neither takes the other's time.

use std::fmt;
use std::io;
use std::str::FromStr;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// A set of cores, never empty, in ascending order; written as the kernel does: `0-3,6`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cores(Vec<usize>);

/// Where the two sides run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Split {
    /// There is one core, or pinning is not possible: the kernel decides.
    Shared {
        cores: usize,
    },
    Apart {
        servers: Cores,
        load: Cores,
    },
}

impl Cores {
    /// The cores that this thread may run on.
    pub fn allowed() -> io::Result<Self> {
        let set = sched_getaffinity(None)?;
        Self::of((0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect())
            .ok_or_else(|| io::Error::other("this process may run on no core"))
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Keeps this thread, and the threads and processes that it starts from now on, on these cores.
    pub fn pin_this_thread(&self) -> io::Result<()> {
        let mut set = CpuSet::new();
        for core in &self.0 {
            set.set(*core);
        }
        Ok(sched_setaffinity(None, &set)?)
    }

    /// Runs `start` on these cores, so that the processes it starts stay on them, and comes back to where it was.
    pub fn start_on<T>(&self, start: impl FnOnce() -> T) -> io::Result<T> {
        let before = Self::allowed()?;
        self.pin_this_thread()?;
        let started = start();
        before.pin_this_thread()?;
        Ok(started)
    }

    fn of(mut cores: Vec<usize>) -> Option<Self> {
        cores.sort_unstable();
        cores.dedup();
        (!cores.is_empty()).then_some(Self(cores))
    }
}

impl Split {
    /// The servers get the cores wanted, or else the first half of those allowed; the load gets the others.
    pub fn of(allowed: &Cores, wanted: Option<&Cores>) -> Result<Self, String> {
        let Some(wanted) = wanted else {
            let (servers, load) = allowed.0.split_at(allowed.count().div_ceil(2));
            return Ok(match (Cores::of(servers.to_vec()), Cores::of(load.to_vec())) {
                (Some(servers), Some(load)) => Self::Apart { servers, load },
                _ => Self::Shared { cores: allowed.count() },
            });
        };
        if wanted.0.iter().any(|core| !allowed.0.contains(core)) {
            return Err(format!("this process may not run on all of the cores {wanted}, only on {allowed}"));
        }
        let rest = allowed.0.iter().copied().filter(|core| !wanted.0.contains(core)).collect();
        let load = Cores::of(rest)
            .ok_or_else(|| format!("leave a core for the load, {wanted} are all that there are"))?;
        Ok(Self::Apart { servers: wanted.clone(), load })
    }

    pub fn servers(&self) -> Option<&Cores> {
        match self {
            Self::Shared { .. } => None,
            Self::Apart { servers, .. } => Some(servers),
        }
    }

    pub fn load(&self) -> Option<&Cores> {
        match self {
            Self::Shared { .. } => None,
            Self::Apart { load, .. } => Some(load),
        }
    }

    /// Cores that the servers have.
    pub fn server_count(&self) -> usize {
        match self {
            Self::Shared { cores } => *cores,
            Self::Apart { servers, .. } => servers.count(),
        }
    }
}

impl FromStr for Cores {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no list of cores, write for example 0-3,6");
        let mut cores = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |text: &str| text.trim().parse::<usize>().map_err(|_| wrong());
            let (first, last) = (number(first)?, number(last)?);
            if first > last || last >= CpuSet::MAX_CPU {
                return Err(wrong());
            }
            cores.extend(first..=last);
        }
        Self::of(cores).ok_or_else(wrong)
    }
}

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs = self.0.chunk_by(|a, b| a + 1 == *b);
        for (at, run) in runs.enumerate() {
            let comma = if at == 0 { "" } else { "," };
            match run {
                [first, .., last] => write!(f, "{comma}{first}-{last}")?,
                run => run.iter().try_for_each(|core| write!(f, "{comma}{core}"))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cores(text: &str) -> Cores {
        text.parse().unwrap()
    }

    #[test]
    fn a_list_of_cores_is_read_and_written_as_the_kernel_does() {
        for (text, shown) in [("0", "0"), ("0-3,6", "0-3,6"), ("6, 2,1,1", "1-2,6"), ("4-4", "4")] {
            assert_eq!(cores(text).to_string(), shown);
        }
        for wrong in ["", "a", "3-1", "1,,2", "-1", "99999", "0-99999999999"] {
            assert!(wrong.parse::<Cores>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn servers_and_load_share_no_core_unless_there_is_only_one() {
        let apart = |allowed: &str, wanted: Option<&str>| match Split::of(
            &cores(allowed),
            wanted.map(cores).as_ref(),
        )
        .unwrap()
        {
            Split::Apart { servers, load } => (servers.to_string(), load.to_string()),
            Split::Shared { cores } => (cores.to_string(), String::new()),
        };
        assert_eq!(apart("0-1", None), ("0".to_owned(), "1".to_owned()));
        assert_eq!(apart("0-2", None), ("0-1".to_owned(), "2".to_owned()));
        assert_eq!(apart("4-7", Some("5")), ("5".to_owned(), "4,6-7".to_owned()));
        assert_eq!(apart("3", None), ("1".to_owned(), String::new()));
        assert!(Split::of(&cores("0-1"), Some(&cores("0-1"))).unwrap_err().contains("leave a core"));
        assert!(Split::of(&cores("0-1"), Some(&cores("2"))).unwrap_err().contains("only on 0-1"));
    }

    #[test]
    fn what_is_started_on_cores_stays_there_and_the_starter_comes_back() {
        let before = Cores::allowed().unwrap();
        let one = Cores::of(before.0.last().copied().into_iter().collect()).unwrap();
        let started = one.start_on(|| std::thread::spawn(|| Cores::allowed().unwrap())).unwrap();
        assert_eq!(started.join().unwrap(), one);
        assert_eq!(Cores::allowed().unwrap(), before);
    }
}
