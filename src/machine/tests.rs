use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::*;

const GIB: u64 = 1 << 30;

/// A machine of 8 GiB and four processors, in a folder of its own.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Tree {
        let tree = Tree(tempfile::tempdir().unwrap());
        tree.write("proc/meminfo", "MemTotal:        8388608 kB\nMemFree:          100000 kB\n");
        tree.write("proc/self/status", "Name:\thostler\nRssAnon:\t    2048 kB\nCpus_allowed_list:\t0-3\n");
        tree
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Where version 2 alone is mounted, as in most systems and containers of today.
    fn unified(&self, group: &str) {
        self.write("proc/self/cgroup", &format!("0::{group}\n"));
        self.write("proc/self/mountinfo", UNIFIED);
    }

    /// Where version 1 is mounted, and version 2 beside it without controllers.
    fn hybrid(&self, memory: &str, cpu: &str, mounted: &str) {
        let memberships = format!("9:name=systemd:/\n4:memory:{memory}\n1:cpu,cpuacct:{cpu}\n0::/\n");
        self.write("proc/self/cgroup", &memberships);
        self.write("proc/self/mountinfo", &HYBRID.replace("ROOT", mounted));
    }

    fn machine(&self) -> Machine {
        Machine::at(self.0.path())
    }

    fn memory(&self) -> Memory {
        self.machine().memory().unwrap()
    }
}

const UNIFIED: &str = "\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:26 / /sys/fs/cgroup rw,nosuid,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate
";

const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 ROOT /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
33 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset
35 31 0:32 ROOT /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

#[test]
fn without_control_groups_the_machine_has_all_its_memory_and_processors() {
    let tree = Tree::new();
    assert_eq!(tree.memory(), Memory { limit: 8 * GIB, is_grouped: false });
    assert_eq!(tree.machine().cpus(), 4);
    assert_eq!(tree.machine().stall(), Stall { group: None, machine: None });
    assert_eq!(tree.machine().max_mappings(), None);
}

#[test]
fn nothing_readable_is_nothing_known() {
    let empty = tempfile::tempdir().unwrap();
    let machine = Machine::at(empty.path());
    assert_eq!((machine.memory(), machine.resident()), (None, None));
    assert!(machine.cpus() >= 1);
}

#[test]
fn a_container_has_what_its_group_allows() {
    let tree = Tree::new();
    tree.unified("/");
    tree.write("sys/fs/cgroup/memory.max", "1073741824\n");
    tree.write("sys/fs/cgroup/memory.high", "max\n");
    tree.write("sys/fs/cgroup/cpu.max", "150000 100000\n");
    tree.write(
        "sys/fs/cgroup/memory.pressure",
        "some avg10=12.50 avg60=1.00 avg300=0.10 total=1\nfull avg10=9.00\n",
    );
    tree.write("proc/pressure/memory", "some avg10=0.25 avg60=0.00 avg300=0.00 total=1\n");
    tree.write("proc/sys/vm/max_map_count", "65530\n");
    let machine = tree.machine();
    assert_eq!(machine.memory(), Some(Memory { limit: GIB, is_grouped: true }));
    assert_eq!(machine.cpus(), 2, "one and a half is rounded up");
    assert_eq!(machine.stall(), Stall { group: Some(12.5), machine: Some(0.25) });
    assert_eq!(machine.max_mappings(), Some(65_530));
}

#[test]
fn the_least_on_the_way_to_the_root_counts() {
    let tree = Tree::new();
    tree.unified("/system.slice/a b/hostler.service");
    let at = |group: &str, file: &str| format!("sys/fs/cgroup{group}/{file}");
    tree.write(&at("/system.slice/a b/hostler.service", "memory.max"), "max\n");
    tree.write(&at("/system.slice/a b/hostler.service", "cpu.max"), "max 100000\n");
    tree.write(&at("/system.slice/a b", "memory.max"), "4294967296\n");
    tree.write(&at("/system.slice/a b", "memory.high"), "2147483648\n");
    tree.write(&at("/system.slice", "memory.max"), "3221225472\n");
    tree.write(&at("/system.slice", "cpu.max"), "50000 100000\n");
    tree.write(&at("/other.slice", "memory.max"), "1\n");
    assert_eq!(tree.memory(), Memory { limit: 2 * GIB, is_grouped: true });
    assert_eq!(tree.machine().cpus(), 1);
}

#[test]
fn a_limit_is_read_anew_each_time() {
    let tree = Tree::new();
    tree.unified("/box");
    let machine = tree.machine();
    assert_eq!(machine.memory().unwrap().limit, 8 * GIB);
    tree.write("sys/fs/cgroup/box/memory.max", "1073741824\n");
    assert_eq!(machine.memory().unwrap().limit, GIB);
}

#[test]
fn version_1_has_its_limits_in_each_controllers_own_tree() {
    let tree = Tree::new();
    tree.hybrid("/docker/12/inner", "/docker", "/");
    // What version 1 says where there is no limit.
    tree.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    tree.write("sys/fs/cgroup/memory/docker/12/inner/memory.limit_in_bytes", "9223372036854771712\n");
    assert_eq!(tree.memory(), Memory { limit: 8 * GIB, is_grouped: false });
    tree.write("sys/fs/cgroup/memory/docker/12/memory.limit_in_bytes", "536870912\n");
    assert_eq!(tree.memory(), Memory { limit: GIB / 2, is_grouped: true });
    tree.write("sys/fs/cgroup/cpu,cpuacct/docker/cpu.cfs_quota_us", "-1\n");
    tree.write("sys/fs/cgroup/cpu,cpuacct/docker/cpu.cfs_period_us", "100000\n");
    assert_eq!(tree.machine().cpus(), 4);
    tree.write("sys/fs/cgroup/cpu,cpuacct/docker/cpu.cfs_quota_us", "250000\n");
    assert_eq!(tree.machine().cpus(), 3);
    tree.write("sys/fs/cgroup/unified/memory.pressure", "some avg10=7.00 avg60=1.00 avg300=0.10 total=1\n");
    assert_eq!(tree.machine().stall().group, Some(7.0));
}

#[test]
fn a_container_that_sees_only_its_own_part_of_the_tree_finds_its_limits_there() {
    let tree = Tree::new();
    tree.hybrid("/docker/12", "/docker/12/a", "/docker/12");
    tree.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n");
    tree.write("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "100000\n");
    tree.write("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000\n");
    assert_eq!(tree.memory().limit, GIB / 2);
    assert_eq!(tree.machine().cpus(), 1);
    // A name that only begins alike is not below it, and steps up lead out of what is seen.
    for elsewhere in ["/docker/123", "/../../other", "/docker/12/../other"] {
        tree.hybrid(elsewhere, "/", "/docker/12");
        assert_eq!(tree.memory().limit, GIB / 2, "{elsewhere}");
    }
}

#[test]
fn a_larger_limit_than_the_machine_is_none() {
    let tree = Tree::new();
    tree.unified("/");
    tree.write("sys/fs/cgroup/memory.max", "17179869184\n");
    tree.write("sys/fs/cgroup/cpu.max", "1600000 100000\n");
    assert_eq!(tree.memory(), Memory { limit: 8 * GIB, is_grouped: false });
    assert_eq!(tree.machine().cpus(), 4);
}

#[test]
fn garbage_is_not_known() {
    let tree = Tree::new();
    tree.unified("/");
    for garbage in ["", "\n", "lots\n", "-5\n", "1e9\n", "99999999999999999999999\n", "1 2 3\n", "\u{0}"] {
        for file in ["memory.max", "memory.high", "cpu.max", "memory.pressure"] {
            tree.write(&format!("sys/fs/cgroup/{file}"), garbage);
        }
        assert_eq!(tree.memory().limit, 8 * GIB, "{garbage:?}");
        assert_eq!(tree.machine().cpus(), 4, "{garbage:?}");
        assert_eq!(tree.machine().stall().group, None, "{garbage:?}");
    }
    tree.write("sys/fs/cgroup/cpu.max", "100000 0\n");
    assert_eq!(tree.machine().cpus(), 4);
    tree.write("sys/fs/cgroup/memory.pressure", "some avg10=nan avg60=0.00\n");
    assert_eq!(tree.machine().stall().group, None);
}

#[test]
fn a_process_bound_to_few_processors_has_no_more() {
    let tree = Tree::new();
    for (list, cpus) in [("0", 1), ("0-1", 2), ("0-2,5,8-9", 6), ("3-3", 1)] {
        tree.write("proc/self/status", &format!("Cpus_allowed:\tff\nCpus_allowed_list:\t{list}\n"));
        assert_eq!(tree.machine().cpus(), cpus, "{list}");
    }
    for list in ["", "2-1", "a-b", "0-18446744073709551615"] {
        assert_eq!(formats::cpus_allowed(&format!("Cpus_allowed_list:\t{list}\n")), None, "{list}");
    }
}

#[test]
fn a_process_owns_what_it_has_written_and_its_shared_memory_but_no_files() {
    let tree = Tree::new();
    assert_eq!(tree.machine().resident(), Some(2 << 20));
    let status = "RssAnon:\t    2048 kB\nRssFile:\t   90000 kB\nRssShmem:\t    1024 kB\n";
    tree.write("proc/self/status", status);
    assert_eq!(tree.machine().resident(), Some(3 << 20));
}

#[test]
fn this_machine_can_be_read() {
    let machine = Machine::this();
    let memory = machine.memory().expect("memory");
    assert!(memory.limit > 64 << 20, "{memory:?}");
    assert!(machine.cpus() >= 1);
    assert!(machine.resident().expect("resident memory") > 100 << 10);
    println!("{memory:?}, {} cpus, {:?}, {:?}", machine.cpus(), machine.stall(), machine.max_mappings());
    println!("{:?}", machine.groups);
    assert!(!Path::new("/proc/pressure/memory").exists() || machine.stall() != Stall::default());
}

proptest! {
    #[test]
    fn any_text_is_read_or_not_known(a: String, b in "[0-9a-z:/, =.-]{0,80}", c in "[0-9/ a-z,-]{0,60}") {
        for text in [&a, &b, &c] {
            let _ = (formats::kilobytes(text, "a"), formats::cpus_allowed(text), formats::cpu_max(text));
            let _ = (formats::cfs_quota(text, &b), formats::some_avg10(text), formats::bytes(text));
            let _ = Groups::find(text, &a);
            let _ = Groups::find("0::/a/b\n", &format!("30 22 0:26 {text} /sys rw - cgroup2 {b} rw\n"));
        }
    }
}
