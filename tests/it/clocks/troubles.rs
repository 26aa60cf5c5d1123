//! Guests that would never end by themselves, each stuck in another place.

use std::net::SocketAddr;

use crate::support::{Builder, guest};

/// The clock that ends a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndedBy {
    CpuTime,
    Deadline,
}

/// What its client sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sees {
    /// A 504, nothing before it.
    Timeout,
    /// The whole answer: it was there before the guest got stuck.
    Answer,
    /// A 408, nothing before it: the guest was waiting for its client.
    ClientTooSlow,
}

/// One way of never ending.
pub struct Trouble {
    pub app: &'static str,
    source: Source,
    path: &'static str,
    /// Bytes of a body that are declared, and how many of them come.
    upload: Option<(usize, usize)>,
    pub ended_by: EndedBy,
    pub sees: Sees,
}

enum Source {
    Guest(&'static str),
    /// A command with this body of `_start`.
    Module(&'static str),
}

use EndedBy::{CpuTime, Deadline};
use Sees::{Answer, ClientTooSlow, Timeout};
use Source::{Guest, Module};

/// More than `request_buffer`, so that the guest runs while it comes.
const LARGE: usize = 1 << 20;

const fn plain(app: &'static str, source: Source, path: &'static str, ended_by: EndedBy) -> Trouble {
    Trouble { app, source, path, upload: None, ended_by, sees: Timeout }
}

pub const ALL: [Trouble; 15] = [
    plain("loop", Module("(loop (br 0))"), "/loop", CpuTime),
    plain("fill", Module(FILL), "/fill", CpuTime),
    plain("copy", Module(COPY), "/copy", CpuTime),
    plain("ask-time", Module(ASK_TIME), "/ask-time", CpuTime),
    plain("write-nothing", Module(WRITE_NOTHING), "/write-nothing", CpuTime),
    plain("yield", Module(YIELD), "/yield", CpuTime),
    plain("calls", Guest("spinner"), "/calls?hostcalls=1", CpuTime),
    plain("spin-03", Guest("hello-p3"), "/spin-03?spin=1", CpuTime),
    plain("sleep", Guest("sleeper"), "/sleep?ms=18446744073709551615", Deadline),
    plain("poll", Module(POLL), "/poll", Deadline),
    // `OUTBOUND` stands for a listener that never answers.
    plain("outbound", Guest("fetcher"), "/outbound?url=http://OUTBOUND/", Deadline),
    Trouble { upload: Some((LARGE, 100_000)), ..plain("spin-up", Guest("spinner"), "/spin-up", CpuTime) },
    // It waits for the rest of the body.
    Trouble {
        upload: Some((LARGE, 0)),
        sees: ClientTooSlow,
        ..plain("read", Guest("echo"), "/read", Deadline)
    },
    Trouble { sees: Answer, ..plain("spin-on", Guest("spinner"), "/spin-on?after=1", CpuTime) },
    Trouble {
        sees: Answer,
        ..plain("sleep-on", Guest("sleeper"), "/sleep-on?after=1&ms=99999999", Deadline)
    },
];

/// All of `memory`, over and over.
const FILL: &str = "(loop (memory.fill (i32.const 0) (i32.const 7) (i32.sub (i32.mul (memory.size) (i32.const 65536)) \
                    (i32.const 1))) (br 0))";

/// Half of it onto the other half.
const COPY: &str = "(loop (memory.copy (i32.const 0) (i32.mul (memory.size) (i32.const 32768)) (i32.mul (memory.size) \
                    (i32.const 32768))) (br 0))";

const ASK_TIME: &str = "(loop (drop (call $time (i32.const 1) (i64.const 0) (i32.const 0))) (br 0))";

/// One empty piece.
const WRITE_NOTHING: &str =
    "(loop (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16))) (br 0))";

const YIELD: &str = "(loop (drop (call $yield)) (br 0))";

/// For a moment that never comes.
const POLL: &str = "(i32.store (i32.const 16) (i32.const 1)) (i64.store (i32.const 24) (i64.const -1)) \
                    (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))";

impl Trouble {
    /// Puts the app into the folder; its memory has so many pages if it is a module.
    pub fn deploy(&self, builder: Builder, pages: u32, limits: &str) -> Builder {
        let builder = match self.source {
            Guest(name) => builder.bytes(self.app, &std::fs::read(guest(name)).expect("the guest")),
            Module(body) => builder.bytes(self.app, &module(body, pages)),
        };
        builder.app_config(self.app, limits)
    }

    /// The bytes of its request.
    pub fn request(&self, outbound: SocketAddr) -> Vec<u8> {
        let path = self.path.replace("OUTBOUND", &outbound.to_string());
        match self.upload {
            None => format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").into_bytes(),
            Some((declared, sent)) => {
                let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {declared}\r\n\r\n");
                [head.into_bytes(), vec![b'x'; sent]].concat()
            }
        }
    }
}

fn module(body: &str, pages: u32) -> Vec<u8> {
    let text = format!(
        r#"(module
            (import "wasi_snapshot_preview1" "clock_time_get" (func $time (param i32 i64 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
            (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") {pages})
            (func (export "_start") {body}))"#
    );
    wat::parse_str(text).expect("good WAT")
}
