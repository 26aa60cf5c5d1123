//! Where the control groups of this process are.
//!
//! A process is in one group of each hierarchy, which `/proc/self/cgroup` names from the hierarchy's root. Where that
//! is to be found says `/proc/self/mountinfo`: a mount may show only the part below some group, which in a container
//! is often the container's own. Groups above what is mounted can't be seen, nor their limits.

/// For each hierarchy with something to say, the process's own group and all above it, as paths without the first
/// slash.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Groups {
    unified: Vec<String>,
    memory: Vec<String>,
    cpu: Vec<String>,
}

/// A hierarchy of groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hierarchy {
    /// Version 2, with all controllers.
    Unified,
    /// Version 1, with this controller and perhaps others.
    Of(&'static str),
}

impl Groups {
    /// `memberships` is the text of `/proc/self/cgroup`, `mounts` that of `/proc/self/mountinfo`.
    pub fn find(memberships: &str, mounts: &str) -> Groups {
        let chain = |hierarchy| chain(hierarchy, memberships, mounts).unwrap_or_default();
        Groups {
            unified: chain(Hierarchy::Unified),
            memory: chain(Hierarchy::Of("memory")),
            cpu: chain(Hierarchy::Of("cpu")),
        }
    }

    /// Those of version 2, the process's own first.
    pub fn unified(&self) -> impl Iterator<Item = &str> {
        self.unified.iter().map(String::as_str)
    }

    /// Those of version 1 that limit memory.
    pub fn memory(&self) -> impl Iterator<Item = &str> {
        self.memory.iter().map(String::as_str)
    }

    /// Those of version 1 that limit processor time.
    pub fn cpu(&self) -> impl Iterator<Item = &str> {
        self.cpu.iter().map(String::as_str)
    }
}

fn chain(hierarchy: Hierarchy, memberships: &str, mounts: &str) -> Option<Vec<String>> {
    let group = memberships.lines().find_map(|line| member(line, hierarchy))?;
    let mounts: Vec<Mount> = mounts.lines().filter_map(|line| mount(line, hierarchy)).collect();
    // One that shows the group before one that shows another part of the tree.
    let shown = mounts.iter().find_map(|mount| Some((mount, below(group, &mount.root)?)));
    let (mount, mut path) = shown.or_else(|| Some((mounts.first()?, "")))?;
    let at = mount.point.trim_matches('/');
    let mut chain = Vec::new();
    while !path.is_empty() {
        chain.push(format!("{at}/{path}"));
        path = path.rsplit_once('/').map_or("", |(above, _)| above);
    }
    chain.push(at.to_owned());
    Some(chain)
}

/// The group of a line such as `4:cpu,cpuacct:/docker/0123` or `0::/system.slice/hostler.service`.
fn member(line: &str, hierarchy: Hierarchy) -> Option<&str> {
    let (_, rest) = line.split_once(':')?;
    let (controllers, group) = rest.split_once(':')?;
    let is_it = match hierarchy {
        Hierarchy::Unified => controllers.is_empty(),
        Hierarchy::Of(controller) => controllers.split(',').any(|name| name == controller),
    };
    is_it.then_some(group)
}

struct Mount {
    /// The group that is at the mount point.
    root: String,
    point: String,
}

/// A line such as `32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct`.
fn mount(line: &str, hierarchy: Hierarchy) -> Option<Mount> {
    let (place, system) = line.split_once(" - ")?;
    let mut place = place.split(' ').skip(3);
    let (root, point) = (place.next()?, place.next()?);
    let mut system = system.split(' ');
    let (kind, options) = (system.next()?, system.nth(1).unwrap_or_default());
    let is_it = match hierarchy {
        Hierarchy::Unified => kind == "cgroup2",
        Hierarchy::Of(controller) => kind == "cgroup" && options.split(',').any(|name| name == controller),
    };
    is_it.then(|| Mount { root: unescape(root), point: unescape(point) })
}

/// What is left of a group's path below the group that is mounted; `None` if it is elsewhere.
fn below<'g>(group: &'g str, root: &str) -> Option<&'g str> {
    let rest = group.strip_prefix(root.trim_end_matches('/'))?;
    let inside = rest.is_empty() || rest.starts_with('/');
    // A group outside of a namespace is shown with steps up, which lead nowhere here.
    (inside && !rest.split('/').any(|step| step == "..")).then(|| rest.trim_matches('/'))
}

/// A blank in a path is written `\040`, and so on.
fn unescape(path: &str) -> String {
    let escapes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    escapes.iter().fold(path.to_owned(), |path, (escape, plain)| path.replace(escape, plain))
}
