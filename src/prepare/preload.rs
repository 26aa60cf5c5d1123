//! Preloading an app: it is started once at its deploy, and the state that it has then is the one that each instance
//! begins with.
//!
//! Here is what is asked for, what has come of it, and the two steps that work on bytes alone, which are Wizer's:
//! [`opened`] lets the state of an instance be read, and the `cx` it gives writes such a state into the app. What is
//! between the two, running the guest, is `compile::preload`.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::{Deserialize, Serialize};
use wasmtime_wizer::{ComponentContext, Wizer};

use super::{Digest, Hasher};

/// The version of what is done to an app that is preloaded, and of what does it; part of its artifact's key.
const RECIPE: &str = "preload-2, wizer 48.0.8";

/// The export that `preload = "init"` calls: `func()`.
pub const INIT: &str = "wizer-initialize";

/// Bytes by which an app may grow.
pub const MOST_GROWTH: usize = 64 << 20;

/// How an app is brought to the state that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// By a call of [`INIT`].
    Init,
    /// By GET requests for these paths, one after the other.
    Warmup(Vec<String>),
}

/// What a guest can have from the host, or do there, so that an image of it may be no good for every instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    Random,
    Clocks,
    Environment,
    Filesystem,
    Stdin,
    Stdout,
    Outbound,
}

/// A source that a guest may use while it is preloaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Allowance {
    pub source: Source,
    /// What it had from there may stay in the image, the same for all instances.
    pub frozen: bool,
}

/// All that decides what image comes of an app's bytes, and whether it is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preload {
    pub start: Start,
    pub allowed: Vec<Allowance>,
    /// Paths that are asked for to compare the image with the plain app: two.
    pub compared: [String; 2],
    /// What the app is configured to have. It is in the image only where that is allowed; what is compared has it.
    pub env: Vec<(String, String)>,
    pub memory_limit: usize,
    pub table_limit: usize,
    pub resource_limit: usize,
    pub header_limit: usize,
}

/// What has come of it. It is kept with the code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "state")]
pub enum Verdict {
    /// Its instances begin with the image.
    On {
        /// Bytes of the app as it was.
        app_size: u64,
        /// Bytes of the app with the image in it.
        image_size: u64,
    },
    /// It is served as it is.
    Refused { reason: String },
    /// It is served as it is, for a reason that says nothing of the app: the next deploy or restart tries again.
    Untried { reason: String },
}

impl Source {
    pub const ALL: [Source; 7] = [
        Source::Random,
        Source::Clocks,
        Source::Environment,
        Source::Filesystem,
        Source::Stdin,
        Source::Stdout,
        Source::Outbound,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Source::Random => "random",
            Source::Clocks => "clocks",
            Source::Environment => "environment",
            Source::Filesystem => "filesystem",
            Source::Stdin => "stdin",
            Source::Stdout => "stdout",
            Source::Outbound => "outbound",
        }
    }

    /// Whether two images can be made with different ones, to see what stays of it.
    pub fn varies(self) -> bool {
        matches!(self, Source::Random | Source::Clocks | Source::Environment)
    }

    /// The source that an interface of WASI is, if it is one. Without a descriptor from the first of them nothing of the
    /// file system can be reached; the same holds for sockets.
    pub fn of_interface(name: &str) -> Option<Source> {
        let (name, _) = name.split_once('@').unwrap_or((name, ""));
        match name {
            "wasi:filesystem/preopens" => Some(Source::Filesystem),
            "wasi:cli/environment" => Some(Source::Environment),
            "wasi:cli/stdin" => Some(Source::Stdin),
            "wasi:http/outgoing-handler" => Some(Source::Outbound),
            "wasi:sockets/instance-network"
            | "wasi:sockets/tcp-create-socket"
            | "wasi:sockets/udp-create-socket" => Some(Source::Outbound),
            _ if name.starts_with("wasi:random/") => Some(Source::Random),
            _ if name.starts_with("wasi:clocks/") => Some(Source::Clocks),
            _ => None,
        }
    }
}

/// What an app did that had it from there.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Source::Random => "asked for random bytes",
            Source::Clocks => "looked at a clock",
            Source::Environment => "read its environment",
            Source::Filesystem => "asked for its files",
            Source::Stdin => "read standard input",
            Source::Stdout => "wrote to standard output or standard error",
            Source::Outbound => "wanted to send a request",
        })
    }
}

impl Preload {
    /// What the artifact of an app that is preloaded so is named by, in place of the app's own digest.
    pub fn digest(&self, app: &Digest) -> Digest {
        let mut hasher = Hasher::default();
        hasher.update(RECIPE);
        hasher.update(app.as_bytes());
        // Of plain data, so that it can't fail; if it could, no two would be taken for the same.
        hasher.update(serde_json::to_vec(self).unwrap_or_default());
        hasher.finish()
    }

    pub fn allows(&self, source: Source) -> bool {
        self.allowed.iter().any(|allowance| allowance.source == source)
    }

    pub fn freezes(&self, source: Source) -> bool {
        self.allowed.iter().any(|allowance| allowance.source == source && allowance.frozen)
    }
}

impl Verdict {
    pub fn state(&self) -> &'static str {
        match self {
            Verdict::On { .. } => "on",
            Verdict::Refused { .. } => "refused",
            Verdict::Untried { .. } => "untried",
        }
    }

    /// Why the app is served as it is, if it is.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Verdict::On { .. } => None,
            Verdict::Refused { reason } | Verdict::Untried { reason } => Some(reason),
        }
    }

    pub fn refused(reason: impl Into<String>) -> Verdict {
        Verdict::Refused { reason: shortened(reason.into()) }
    }

    pub fn untried(reason: impl Into<String>) -> Verdict {
        Verdict::Untried { reason: shortened(reason.into()) }
    }
}

fn shortened(mut reason: String) -> String {
    const LONGEST: usize = 1000;
    if let Some((end, _)) = reason.char_indices().nth(LONGEST) {
        reason.truncate(end);
    }
    reason
}

/// The tool, set to leave the app's exports as they are.
pub fn wizer() -> Wizer {
    let mut wizer = Wizer::new();
    wizer.init_func(INIT).keep_init_func(true);
    wizer
}

/// The app with exports by which its state can be read, and what is needed to write one into it.
///
/// # Errors
/// It has something whose state can't be read.
pub fn opened(component: &[u8]) -> Result<(ComponentContext<'_>, Vec<u8>), String> {
    // It counts on bytes that compilers make and gives up on others.
    let opened = catch_unwind(AssertUnwindSafe(|| wizer().instrument_component(component)));
    match opened {
        Ok(Ok(opened)) => Ok(opened),
        Ok(Err(error)) => Err(format!("its state can't be kept: {error:#}")),
        Err(_) => Err("its state can't be kept: it is put together in an unknown way".to_owned()),
    }
}

#[cfg(test)]
mod tests;
