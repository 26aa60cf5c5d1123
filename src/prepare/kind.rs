//! Which kind of app it is, decided from its imports and exports alone.

use std::fmt;

use serde::{Serialize, Serializer};

use super::refusal::{Reason, shown};
use super::survey::{Format, Survey};

/// The kinds of app that Hostler runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A component that exports `wasi:http/incoming-handler@0.2.x`.
    Http02,
    /// A component that exports `wasi:http/handler@0.3.x`.
    Http03,
    /// A WASI 0.1 core module with `_start`, run as a CGI program.
    CommandModule,
    /// A component that exports `wasi:cli/run@0.2.x`, run as a CGI program.
    CommandComponent,
}

impl Kind {
    /// Needs an engine with concurrency support: the async ABI of WASI 0.3.
    pub fn concurrency(self) -> bool {
        self == Kind::Http03
    }

    /// Run as a CGI program.
    pub fn is_command(self) -> bool {
        matches!(self, Kind::CommandModule | Kind::CommandComponent)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Http02 => "wasi:http 0.2",
            Kind::Http03 => "wasi:http 0.3",
            Kind::CommandModule | Kind::CommandComponent => "command",
        })
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The kind of a surveyed app, or why it is none.
pub fn decide(survey: &Survey<'_>) -> Result<Kind, Reason> {
    match survey.format {
        Format::Module => core_module(survey).map(|()| Kind::CommandModule),
        Format::Component => component(survey),
    }
}

fn core_module(survey: &Survey<'_>) -> Result<(), Reason> {
    let foreign = survey
        .core_imports
        .iter()
        .find(|(module, name)| *module != PREVIEW1 || PREVIEW1_FUNCTIONS.binary_search(name).is_err());
    if let Some((module, name)) = foreign {
        return Err(Reason::CoreImport { module: shown(module), name: shown(name), hint: hint(module) });
    }
    let exports = |wanted: &str| survey.core_exports.contains(&wanted);
    match (exports("_start"), exports("_initialize")) {
        (true, _) => Ok(()),
        (false, true) => Err(Reason::Reactor),
        (false, false) => Err(Reason::NoStart),
    }
}

/// Where modules with such imports usually come from.
fn hint(module: &str) -> &'static str {
    match module {
        "wasi_unstable" => "; it was built for the WASI of 2019, build it again with a current toolchain",
        "wasi" => "; threads are not supported",
        "gojs" | "go" => "; built for a browser by Go, use GOOS=wasip1",
        "wbg" | "__wbindgen_placeholder__" => "; built for a browser by wasm-bindgen",
        _ => "",
    }
}

/// A component that offers several entries is run by the first of these: HTTP before CGI, the newer before the older.
const ENTRIES: [(&str, Line, Kind); 3] = [
    ("wasi:http/handler", Line::V03, Kind::Http03),
    ("wasi:http/incoming-handler", Line::V02, Kind::Http02),
    ("wasi:cli/run", Line::V02, Kind::CommandComponent),
];

fn component(survey: &Survey<'_>) -> Result<Kind, Reason> {
    let exports = |entry: &str, line: Line| {
        let mut instances = survey.exports.iter().filter(|(_, instance)| *instance);
        instances
            .any(|(name, _)| Interface::parse(name).is_some_and(|i| i.name == entry && i.line == Some(line)))
    };
    let entry = ENTRIES.iter().find(|(entry, line, _)| exports(entry, *line));
    let (_, _, kind) = entry.ok_or_else(|| no_entry(survey))?;
    for name in &survey.imports {
        provided(name, *kind)?;
    }
    Ok(*kind)
}

fn no_entry(survey: &Survey<'_>) -> Reason {
    let names = survey.exports.iter().map(|(name, _)| *name);
    let near = names.clone().find(|name| {
        let unversioned = name.split_once('@').map_or(*name, |(unversioned, _)| unversioned);
        ENTRIES.iter().any(|(entry, _, _)| *entry == unversioned)
    });
    if let Some(near) = near {
        return Reason::EntryVersion(shown(near));
    }
    let some: Vec<String> = names.take(3).map(shown).collect();
    match (some.is_empty(), survey.exports.len().saturating_sub(some.len())) {
        (true, _) => Reason::NoExports,
        (false, 0) => Reason::OtherExports(some.join(", ")),
        (false, more) => Reason::OtherExports(format!("{} and {more} more", some.join(", "))),
    }
}

/// Sockets and files are among what is provided: stock toolchains import them even when they are never used. What
/// an app gets from them is the host's decision when they are called.
fn provided(name: &str, kind: Kind) -> Result<(), Reason> {
    let interface = Interface::parse(name);
    let listed = |list: &[&str]| interface.as_ref().is_some_and(|i| list.contains(&i.name));
    match interface.as_ref().and_then(|i| i.line) {
        Some(Line::V02) if listed(&PROVIDED_02) => Ok(()),
        Some(Line::V03) if listed(&PROVIDED_03) && kind.concurrency() => Ok(()),
        Some(Line::V03) if listed(&PROVIDED_03) => Err(Reason::ImportOf03(shown(name))),
        _ => Err(Reason::Import(shown(name))),
    }
}

/// `namespace:package/interface@version`, taken apart.
struct Interface<'a> {
    /// Without the version.
    name: &'a str,
    /// `None` for a version that Hostler does not know.
    line: Option<Line>,
}

/// A line of WASI releases; within it any patch will do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    V02,
    V03,
}

impl<'a> Interface<'a> {
    fn parse(name: &'a str) -> Option<Interface<'a>> {
        let (name, version) = name.split_once('@')?;
        // A prerelease such as 0.3.0-rc-2025 is another interface under a similar name.
        let patch = |line: &str| {
            version.strip_prefix(line).is_some_and(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))
        };
        let line = match (patch("0.2."), patch("0.3.")) {
            (true, _) => Some(Line::V02),
            (_, true) => Some(Line::V03),
            _ => None,
        };
        Some(Interface { name, line })
    }
}

/// The interfaces of the worlds `wasi:cli/command` and `wasi:http/proxy` in 0.2.
const PROVIDED_02: [&str; 29] = [
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:http/outgoing-handler",
    "wasi:http/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/network",
    "wasi:sockets/tcp",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/udp",
    "wasi:sockets/udp-create-socket",
];

/// The interfaces of the world `wasi:http/service` in 0.3, and of `wasi:cli/command`, which stock toolchains import.
const PROVIDED_03: [&str; 23] = [
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:cli/types",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/system-clock",
    "wasi:clocks/types",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:http/client",
    "wasi:http/types",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/types",
];

const PREVIEW1: &str = "wasi_snapshot_preview1";

/// The functions of WASI 0.1, sorted.
const PREVIEW1_FUNCTIONS: [&str; 46] = [
    "args_get",
    "args_sizes_get",
    "clock_res_get",
    "clock_time_get",
    "environ_get",
    "environ_sizes_get",
    "fd_advise",
    "fd_allocate",
    "fd_close",
    "fd_datasync",
    "fd_fdstat_get",
    "fd_fdstat_set_flags",
    "fd_fdstat_set_rights",
    "fd_filestat_get",
    "fd_filestat_set_size",
    "fd_filestat_set_times",
    "fd_pread",
    "fd_prestat_dir_name",
    "fd_prestat_get",
    "fd_pwrite",
    "fd_read",
    "fd_readdir",
    "fd_renumber",
    "fd_seek",
    "fd_sync",
    "fd_tell",
    "fd_write",
    "path_create_directory",
    "path_filestat_get",
    "path_filestat_set_times",
    "path_link",
    "path_open",
    "path_readlink",
    "path_remove_directory",
    "path_rename",
    "path_symlink",
    "path_unlink_file",
    "poll_oneoff",
    "proc_exit",
    "proc_raise",
    "random_get",
    "sched_yield",
    "sock_accept",
    "sock_recv",
    "sock_send",
    "sock_shutdown",
];
