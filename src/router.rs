//! Host and path to app; pure.
//!
//! An exact host beats a wildcard host (the longer one first) beats any host, and there the longest mount wins, on
//! whole segments. If a closer host has nothing at the path, the next one is asked: an app without hosts answers
//! on every host.

mod mount;
mod path;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

pub use mount::{BadName, Mount};
pub use path::{BadPath, NormalPath, normalize};

/// What leads to one target.
#[derive(Debug, Clone)]
pub struct Route<T> {
    /// Host names in lower case, `*.example.com` for every name below; empty or `*` means any host.
    pub hosts: Vec<String>,
    pub mount: Mount,
    pub target: T,
}

/// Two routes that claim the same mount on the same host; both are positions among the routes of the build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// `None` for any host.
    pub host: Option<String>,
    pub mount: Mount,
    /// The route that has it: the earlier one.
    pub holder: usize,
    /// The route that does not get it there.
    pub refused: usize,
}

/// An immutable routing table. A look-up allocates nothing and takes time in the length of host and path,
/// however many routes there are.
#[derive(Debug)]
pub struct Router<T> {
    targets: Vec<T>,
    exact: HashMap<Box<str>, Tree>,
    /// By the part after `*.`.
    wildcard: HashMap<Box<str>, Tree>,
    any: Tree,
}

impl<T> Router<T> {
    /// Builds the table. Of routes that claim the same place the first one stays, so give those of running apps
    /// first; the later one keeps the places that are free.
    pub fn build(routes: impl IntoIterator<Item = Route<T>>) -> (Self, Vec<Conflict>) {
        let mut router = Self::default();
        let mut conflicts = Vec::new();
        for (index, route) in routes.into_iter().enumerate() {
            let hosts = if route.hosts.is_empty() { vec!["*".to_owned()] } else { route.hosts };
            for host in hosts {
                let holder = router.tree_of(&host).insert(route.mount.prefix(), index);
                if holder != index {
                    let host = (host != "*").then_some(host);
                    conflicts.push(Conflict { host, mount: route.mount.clone(), holder, refused: index });
                }
            }
            router.targets.push(route.target);
        }
        (router, conflicts)
    }

    /// Finds the target for a `Host` (port and case don't matter) and how many bytes of the path its mount takes,
    /// for [`NormalPath::below`]. `*` is nobody's.
    pub fn route(&self, host: Option<&str>, path: &NormalPath<'_>) -> Option<(&T, usize)> {
        if path.is_asterisk() {
            return None;
        }
        let path = path.as_str();
        let mut buffer = [0; MAX_HOST];
        let host = host.and_then(|host| lowercase(host_name(host), &mut buffer));
        let (index, prefix) =
            host.and_then(|host| self.find_by_host(host, path)).or_else(|| self.any.find(path))?;
        self.targets.get(index).map(|target| (target, prefix))
    }

    fn find_by_host(&self, host: &str, path: &str) -> Option<(usize, usize)> {
        let exact = self.exact.get(host).and_then(|tree| tree.find(path));
        exact.or_else(|| {
            if self.wildcard.is_empty() {
                return None;
            }
            let names_above = host.match_indices('.').filter_map(|(dot, _)| host.get(dot + 1..));
            names_above.filter_map(|name| self.wildcard.get(name)).find_map(|tree| tree.find(path))
        })
    }

    fn tree_of(&mut self, host: &str) -> &mut Tree {
        let host = host.to_ascii_lowercase();
        match host.strip_prefix("*.") {
            Some(above) => self.wildcard.entry(above.into()).or_default(),
            None if host == "*" => &mut self.any,
            None => self.exact.entry(host.into_boxed_str()).or_default(),
        }
    }
}

impl<T> Default for Router<T> {
    fn default() -> Self {
        Self { targets: Vec::new(), exact: HashMap::new(), wildcard: HashMap::new(), any: Tree::default() }
    }
}

/// The name in a `Host` header or URI authority: without port, brackets and the root's dot.
pub fn host_name(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split_once(']').map_or(rest, |(address, _)| address);
    }
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    name.strip_suffix('.').unwrap_or(name)
}

/// No host name is longer, by the rules of DNS.
const MAX_HOST: usize = 253;

fn lowercase<'b>(host: &str, buffer: &'b mut [u8; MAX_HOST]) -> Option<&'b str> {
    let buffer = buffer.get_mut(..host.len())?;
    buffer.copy_from_slice(host.as_bytes());
    buffer.make_ascii_lowercase();
    std::str::from_utf8(buffer).ok()
}

/// Mounts as a tree of segments: a walk ends at the first segment that no mount has, so a path of many segments
/// costs no more than its length.
#[derive(Debug)]
struct Tree {
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    children: HashMap<Box<str>, usize>,
    route: Option<usize>,
}

impl Tree {
    /// Puts a route at a mount's prefix and returns who has the place: the one who was there already stays.
    fn insert(&mut self, prefix: &str, route: usize) -> usize {
        let mut at = 0;
        for segment in prefix.split('/').skip(1) {
            at = self.child(at, segment);
        }
        match self.nodes.get_mut(at) {
            Some(node) => *node.route.get_or_insert(route),
            None => route,
        }
    }

    fn child(&mut self, at: usize, segment: &str) -> usize {
        let next = self.nodes.len();
        let Some(node) = self.nodes.get_mut(at) else { return at };
        let child = *node.children.entry(segment.into()).or_insert(next);
        if child == next {
            self.nodes.push(Node::default());
        }
        child
    }

    /// The route with the longest mount that the path is at or beneath, and that mount's length.
    fn find(&self, path: &str) -> Option<(usize, usize)> {
        let mut node = self.nodes.first()?;
        let mut best = node.route.map(|route| (route, 0));
        let mut end = 0;
        for segment in path.split('/').skip(1) {
            let Some(child) = node.children.get(segment).and_then(|&at| self.nodes.get(at)) else { break };
            node = child;
            end += 1 + segment.len();
            best = node.route.map(|route| (route, end)).or(best);
        }
        best
    }
}

impl Default for Tree {
    fn default() -> Self {
        Self { nodes: vec![Node::default()] }
    }
}
