//! A host's compilers, seen from outside: what the kernel says of a process.

use std::fs::{read_dir, read_to_string};

use rustix::process::{Pid, Signal, kill_process};

/// A process that a host has compile.
#[derive(Debug)]
pub struct Child {
    id: u32,
    /// With the id it names the process for good.
    started: String,
}

/// Those of the host with this id, in the order of their ids.
pub fn compilers_of(host: u32) -> Vec<Child> {
    let processes = read_dir("/proc")
        .expect("/proc")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let mut children: Vec<_> = processes
        .filter(|id| stat(*id, PARENT).is_some_and(|parent| parent == host.to_string()))
        .filter(|id| {
            read_to_string(format!("/proc/{id}/cmdline")).is_ok_and(|line| line == "hostler\0compile\0")
        })
        .filter_map(|id| Some(Child { id, started: stat(id, STARTED)? }))
        .collect();
    children.sort_by_key(|child| child.id);
    children
}

impl Child {
    pub fn is_running(&self) -> bool {
        let state = stat(self.id, STATE);
        stat(self.id, STARTED).as_ref() == Some(&self.started) && state.is_some_and(|state| state != "Z")
    }

    pub fn signal(&self, signal: Signal) {
        assert!(self.is_running(), "it has ended before");
        let id = Pid::from_raw(self.id.try_into().expect("an id")).expect("an id");
        kill_process(id, signal).expect("a process of ours");
    }

    /// Its last limit is set.
    pub fn is_confined(&self) -> bool {
        std::fs::read_link(format!("/proc/{}/cwd", self.id)).is_ok_and(|folder| folder.as_os_str() == "/")
    }

    /// This is the app that it was given.
    pub fn has(&self, app: &[u8]) -> bool {
        std::fs::read(format!("/proc/{}/fd/0", self.id)).is_ok_and(|job| job.ends_with(app))
    }

    pub fn descriptors(&self) -> Vec<u32> {
        descriptors_of(self.id)
    }

    pub fn environment(&self) -> String {
        read_to_string(format!("/proc/{}/environ", self.id)).expect("its environment")
    }

    pub fn name(&self) -> String {
        read_to_string(format!("/proc/{}/comm", self.id)).expect("its name").trim().to_owned()
    }

    pub fn nice(&self) -> i32 {
        stat(self.id, NICE).expect("it runs").parse().expect("a number")
    }

    /// The kernel's number of it.
    pub fn policy(&self) -> i32 {
        stat(self.id, POLICY).expect("it runs").parse().expect("a number")
    }

    pub fn session(&self) -> String {
        session_of(self.id)
    }

    pub fn processors(&self) -> usize {
        processors_of(self.id)
    }

    /// The soft limit of this name.
    pub fn limit(&self, name: &str) -> String {
        let limits = read_to_string(format!("/proc/{}/limits", self.id)).expect("its limits");
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).expect("a limit");
        line.split_whitespace().next().expect("a value").to_owned()
    }
}

pub fn descriptors_of(id: u32) -> Vec<u32> {
    let open = read_dir(format!("/proc/{id}/fd")).expect("its descriptors");
    let number = |entry: std::io::Result<std::fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse().ok();
    let mut numbers: Vec<u32> = open.filter_map(number).collect();
    numbers.sort_unstable();
    numbers
}

pub fn session_of(id: u32) -> String {
    stat(id, SESSION).expect("it runs")
}

/// How many processors it may use.
pub fn processors_of(id: u32) -> usize {
    let status = read_to_string(format!("/proc/{id}/status")).expect("its status");
    let mask = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed:")).expect("its processors");
    let digits = mask.chars().filter_map(|digit| digit.to_digit(16));
    digits.map(|digit| digit.count_ones() as usize).sum()
}

/// Positions among the fields that follow the name in `/proc/PID/stat`.
const STATE: usize = 0;
const PARENT: usize = 1;
const SESSION: usize = 3;
const NICE: usize = 16;
const STARTED: usize = 19;
const POLICY: usize = 38;

fn stat(id: u32, field: usize) -> Option<String> {
    let stat = read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name may have anything in it, and ends with the last bracket.
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(field).map(str::to_owned)
}
