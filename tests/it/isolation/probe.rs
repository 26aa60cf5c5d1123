//! Guests that tell what state they find, and the check that they always find the same.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use futures_util::future::join_all;
use http::StatusCode;

use crate::support::{Answer, TestHost};

/// A guest that leaves marks in some kinds of state and answers with what it finds there.
pub struct Probe {
    pub app: &'static str,
    path: &'static str,
    /// What the first answer has to contain, if it is that of a new instance.
    tells: &'static str,
    /// The state is that of many a request, so one in so many is enough for this probe.
    pub every: u32,
    /// Words of the answer that a host that does not reset leaves as they are: what is made anew for each call.
    renewed: &'static [&'static str],
}

pub const ALL: [Probe; 6] = [
    Probe {
        app: "counter",
        path: "/counter?scan=1",
        tells: "count=1 global=1 table=1 ",
        every: 1,
        // A page that memory grows by is empty in an instance that is kept, too.
        renewed: &["grown_page"],
    },
    Probe {
        app: "state",
        path: "/state",
        tells: " image=3332316567616d69 memory=0000000000000000",
        every: 10,
        renewed: &["grown", "stdin", "env", "closed"],
    },
    Probe { app: "data", path: "/data", tells: "the segment is there", every: 20, renewed: &[] },
    Probe { app: "elements", path: "/elements", tells: "the segment is there", every: 20, renewed: &[] },
    Probe {
        app: "cgi-c",
        path: "/cgi-c",
        tells: "Hello from C!\nrequest=1\n",
        every: 10,
        renewed: &["method", "path", "query", "body"],
    },
    // More than half of the handles that an instance may hold.
    Probe { app: "leaker", path: "/leaker?n=6000", tells: "leaked=6000", every: 100, renewed: &[] },
];

/// An answer that is not as the first one.
#[derive(Debug)]
pub struct Different {
    first: (StatusCode, String),
    other: (StatusCode, String),
}

impl Probe {
    pub fn named(app: &str) -> &'static Probe {
        ALL.iter().find(|probe| probe.app == app).expect("a probe")
    }

    /// The bytes of one that is written here; none if it is a guest app.
    pub fn wasm(&self) -> Option<Vec<u8>> {
        let state = include_str!("state.wat");
        let segments = include_str!("segments.wat");
        let text = match self.app {
            "state" => state.to_owned(),
            "data" => segments
                .replace("SEGMENT", "(data $segment \"x\")")
                .replace("USE", "memory.init $segment")
                .replace("DROP", "(data.drop $segment)"),
            "elements" => segments
                .replace("SEGMENT", "(elem $segment func $start)")
                .replace("USE", "table.init $segment")
                .replace("DROP", "(elem.drop $segment)"),
            _ => return None,
        };
        Some(wat::parse_str(text).expect("good WAT"))
    }

    /// `state` with a larger memory.
    pub fn wasm_of_pages(&self, pages: u32) -> Vec<u8> {
        let memory = format!("(memory (export \"memory\") {pages})");
        let text = include_str!("state.wat").replace("(memory (export \"memory\") 20)", &memory);
        wat::parse_str(text).expect("good WAT")
    }

    /// Asks so often, over so many connections at once, and returns the first answer that is not as the first.
    pub async fn check(&self, host: &TestHost, connections: u32, requests: u32) -> Result<(), Different> {
        let first = seen(&host.get(self.path).await);
        assert!(first.1.contains(self.tells), "the first answer of {} is {first:?}", self.app);
        let left = AtomicU32::new(requests);
        let client = async || {
            while left.try_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
                let other = seen(&host.get(self.path).await);
                if other != first {
                    return Err(Different { first: first.clone(), other });
                }
            }
            Ok(())
        };
        join_all((0..connections).map(|_| client())).await.into_iter().collect()
    }

    /// One more answer, to be compared with others.
    pub async fn ask(&self, host: &TestHost) -> (StatusCode, String) {
        seen(&host.get(self.path).await)
    }

    /// Whether a word of the answer can tell that there was no reset.
    pub fn told_by_reset(&self) -> impl Fn(&str) -> bool {
        |word| {
            let name = word.split('=').next().unwrap_or_default();
            word.contains('=') && !self.renewed.contains(&name)
        }
    }
}

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

fn seen(answer: &Answer) -> (StatusCode, String) {
    (answer.status, String::from_utf8_lossy(&answer.body).into_owned())
}
