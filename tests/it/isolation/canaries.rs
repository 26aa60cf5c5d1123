//! Guests that tell what state they find, and the check that they always find the same.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use hostler::isolation::canary::{Canary, Shape};
use hostler::prepare::preload::Verdict;
use http::{Method, StatusCode};

use crate::support::{Answer, Builder, TestHost};

/// A guest that leaves marks in some kinds of state and answers with what it finds there.
pub struct Probe {
    pub app: &'static str,
    path: &'static str,
    pub told: Told,
    /// What the first answer has to contain, if it is that of a new instance.
    tells: &'static str,
    /// The state is that of many a request, so one in so many is enough for this one.
    pub every: u32,
    /// Words of the answer that a host that does not reset leaves as they are: what is made anew for each call.
    renewed: &'static [&'static str],
}

/// How it is told in which way to end, by a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    InBody,
    InQuery,
    Nothing,
}

/// In Rust, C and WAT; of each kind of app.
pub const ALL: [Probe; 9] = [
    Probe {
        app: "counter",
        path: "/counter?scan=1&random=1",
        told: Told::InQuery,
        tells: "count=1 global=1 table=1 ",
        every: 1,
        // A page that memory grows by is empty in an instance that is kept, too.
        renewed: &["grown_page"],
    },
    Probe {
        app: "module",
        path: "/module",
        told: Told::InBody,
        tells: " image=3332316567616d69 memory=0000000000000000",
        every: 10,
        renewed: &["grown", "stdin", "env", "handle", "data"],
    },
    Probe {
        app: "component",
        path: "/component",
        told: Told::InBody,
        tells: " image=3332316567616d69 memory=0000000000000000",
        every: 10,
        renewed: &["grown", "stdin", "data"],
    },
    Probe {
        app: "service",
        path: "/service",
        told: Told::InBody,
        tells: " image=3332316567616d69 memory=0000000000000000",
        every: 10,
        // Its table does not grow, and its segments are not dropped: then it could not be rewound.
        renewed: &["grown", "stdin", "data", "tsize"],
    },
    // Its instances begin with the image of one that was started: with other globals, marks in memory, and a page more.
    Probe {
        app: "preloaded",
        path: "/preloaded",
        told: Told::InBody,
        tells: " memory=0000000000000002  grown=0000000000000000    i32=000000000000002a ",
        every: 10,
        renewed: &["grown", "stdin", "data", "v128", "ref", "table", "tsize", "other"],
    },
    Probe {
        app: "canary-c",
        path: "/canary-c",
        told: Told::InBody,
        tells: "zeroed=0 initialised=41 traces=0 ",
        every: 10,
        renewed: &["grown", "stderr"],
    },
    Probe {
        app: "canary-p3",
        path: "/canary-p3?x",
        told: Told::InQuery,
        tells: "count=1 woken=0 ",
        every: 10,
        renewed: &[],
    },
    Probe {
        app: "cgi-c",
        path: "/cgi-c",
        told: Told::Nothing,
        tells: "Hello from C!\nrequest=1\n",
        every: 10,
        renewed: &["method", "path", "query", "body"],
    },
    // More than half of the handles that an instance may hold.
    Probe {
        app: "leaker",
        path: "/leaker?n=6000",
        told: Told::Nothing,
        tells: "leaked=6000",
        every: 100,
        renewed: &[],
    },
];

/// The state of a canary as it is answered: without what has to differ.
pub type State = (StatusCode, String);

/// An answer that is not as the first one.
#[derive(Debug)]
pub struct Different {
    first: State,
    other: State,
}

impl Probe {
    /// The bytes of one that is built into the host; none if it is a guest app.
    pub fn wasm(&self, pages: u32) -> Option<Vec<u8>> {
        let shape = match self.app {
            "module" => Shape::Module,
            "component" => Shape::Component,
            "service" => Shape::Service,
            "preloaded" => return Some(preloaded(pages)),
            _ => return None,
        };
        Some(Canary::new(shape, pages).wasm().expect("good WAT"))
    }

    /// What has to be so that it is the canary it is meant to be.
    pub fn has_its_state(&self, host: &TestHost) {
        let preload = host.app(self.app).release.expect("a live release").preload;
        assert_eq!(
            matches!(preload, Some(Verdict::On { .. })),
            self.is_preloaded(),
            "{}: {preload:?}",
            self.app
        );
    }

    pub fn is_preloaded(&self) -> bool {
        self.app == "preloaded"
    }

    /// Whether it drops its segments, unless it is told to keep them.
    pub fn drops_segments(&self) -> bool {
        matches!(self.app, "module" | "component")
    }

    pub fn put(&self, builder: Builder) -> Builder {
        let builder = match self.wasm(PAGES) {
            Some(bytes) => builder.bytes(self.app, &bytes),
            None => builder.app(self.app, self.app),
        };
        if self.is_preloaded() { builder.app_config(self.app, "preload = \"init\"\n") } else { builder }
    }

    /// Asks so often, over so many connections at once, and returns the first answer that is not as the first.
    pub async fn check(
        &self,
        host: &TestHost,
        connections: u32,
        requests: u32,
        order: Option<char>,
    ) -> Result<(), Different> {
        self.has_its_state(host);
        let first = state(&self.ask(host, order).await);
        assert!(first.1.contains(self.tells), "the first answer of {} is {first:?}", self.app);
        let (left, refused) = (AtomicU32::new(requests), AtomicU32::new(0));
        let client = async || {
            while left.try_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
                let mut other = state(&self.ask(host, order).await);
                // On a machine that has other work besides, a queue that never empties has its oldest refused.
                while other.0 == StatusCode::SERVICE_UNAVAILABLE && refused.fetch_add(1, Relaxed) < requests {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    other = state(&self.ask(host, order).await);
                }
                if other != first {
                    return Err(Different { first: first.clone(), other });
                }
            }
            Ok(())
        };
        let checked = join_all((0..connections).map(|_| client())).await;
        let apps = host.host().registry().apps().into_iter();
        let failed = apps.filter_map(|app| app.live).map(|release| release.pool.stats().failed).sum::<u64>();
        assert_eq!(failed, 0, "who was refused was so for want of room");
        checked.into_iter().collect()
    }

    /// One more answer.
    pub async fn ask(&self, host: &TestHost, order: Option<char>) -> Answer {
        let (method, path, body) = self.request(order, 0);
        host.send(method, &path, &[], body).await.expect("an answer")
    }

    /// A request with an order, and with so many bytes behind it in the body.
    pub fn request(&self, order: Option<char>, more: usize) -> (Method, String, Bytes) {
        let mut body = vec![b'?'; more];
        let mut path = self.path.to_owned();
        // It says nothing to those who ask without one, as it is asked when it is compared with the plain app.
        let order = if self.is_preloaded() { order.or(Some('a')) } else { order };
        match (order, self.told) {
            (Some(order), Told::InBody) => body.insert(0, order as u8),
            (Some(order), _) => path += &format!("&end={order}"),
            (None, _) => {}
        }
        let method = if body.is_empty() { Method::GET } else { Method::POST };
        (method, path, body.into())
    }

    /// Whether a word of the answer can tell that there was no reset.
    pub fn told_by_reset(&self) -> impl Fn(&str) -> bool {
        |word| {
            let name = word.split('=').next().unwrap_or_default();
            word.contains('=') && !self.renewed.contains(&name)
        }
    }
}

/// The state that an answer tells of.
pub fn state(answer: &Answer) -> State {
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let differs = |word: &&str| VARYING.iter().any(|name| word.starts_with(name));
    let varying: Vec<&str> = text.split_whitespace().filter(differs).collect();
    let state = varying.iter().fold(text.clone(), |text, word| text.replace(word, ""));
    (answer.status, state)
}

/// The words of an answer that have to differ from those of all others, and the times in it.
pub fn varying(answer: &Answer) -> (Vec<String>, Vec<u64>) {
    let (mut random, mut clock) = (Vec::new(), Vec::new());
    for (name, value) in answer.text().split_whitespace().filter_map(|word| word.split_once('=')) {
        match name {
            "random" | "seed" => random.push(value.to_owned()),
            "clock" => clock.push(u64::from_str_radix(value, 16).expect("a time")),
            _ => {}
        }
    }
    (random, clock)
}

/// The service with a function that starts it, and without what keeps an app from being preloaded.
fn preloaded(pages: u32) -> Vec<u8> {
    let mut text = Canary::new(Shape::Service, pages).wat();
    let mut replace = |what: &str, by: &str| {
        assert!(text.contains(what), "{what}");
        text = text.replace(what, by);
    };
    replace("(global $ref (mut funcref) (ref.null func))", "(global $ref funcref (ref.null func))");
    replace("(global $v128 (mut v128)", "(global $v128 v128");
    replace("(global.set $v128 (i64x2.add (global.get $v128) (v128.const i64x2 1 2)))", "");
    replace("(global.set $ref (ref.func $leave_marks))", "");
    replace("(table.set $table (i32.const 2) (ref.func $leave_marks))", "");
    replace("(table.fill $table (i32.const 5) (ref.func $started) (i32.const 2))", "");
    replace("(table.copy $other $table (i32.const 1) (i32.const 5) (i32.const 2))", "");
    replace("(table.init $other $elements (i32.const 0) (i32.const 0) (i32.const 1))", "");
    replace(
        "    ;; For an hour, in the host.",
        "    (func (export \"init\")
      (global.set $i32 (i32.const 42))
      (global.set $i64 (i64.const -42))
      (global.set $f32 (f32.const 4.25))
      (global.set $f64 (f64.const -4.25))
      (i64.store (i32.const 73728) (i64.const 42))
      (i64.store (i32.shl (memory.grow (i32.const 1)) (i32.const 16)) (i64.const 42)))

    ;; For an hour, in the host.",
    );
    replace(
        "(local.set $order (i32.load8_u (i32.const 600)))",
        "(local.set $order (i32.load8_u (i32.const 600)))
        (if (i32.eqz (local.get $order)) (then (global.set $at (i32.const 1024))))",
    );
    replace(
        "  (func $handle (param \"request\"",
        "  (func $init (canon lift (core func $service \"init\")))
  (export \"wizer-initialize\" (func $init))
  (func $handle (param \"request\"",
    );
    wat::parse_str(text).expect("good WAT")
}

const VARYING: [&str; 3] = ["random=", "seed=", "clock="];

/// Pages of the memories of those that are built in.
const PAGES: u32 = 20;

impl Different {
    /// The words that are the same in both, of those that should differ.
    pub fn unmoved(&self, should_differ: impl Fn(&str) -> bool) -> Vec<&str> {
        let words = self.first.1.split_whitespace().filter(|word| should_differ(word));
        words.filter(|word| self.other.1.split_whitespace().any(|other| other == *word)).collect()
    }
}

impl fmt::Display for Different {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the first answer was {:?}, another was {:?}", self.first, self.other)
    }
}
