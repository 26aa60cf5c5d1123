//! The modes: where on the continuum an app's instances live, and what that means.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use super::values;
use crate::prepare::Kind;

/// Where on the continuum an app's instances live (see the README's table).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Compile, instantiate, run and drop within each request, as CGI did.
    Cold,
    /// The compiled code is kept; an instance is made for each request.
    Cached,
    /// Code and ready instances are kept; an instance is reset after each request.
    Pooled,
    /// Instances live on between requests, one request at a time, with whatever state the guest left.
    Kept,
    /// One live instance takes many requests at once.
    Resident,
}

/// What a mode lets a request see of what the guest did in requests before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum GuestState {
    /// Nothing.
    Clean,
    /// Whatever it left in the instance.
    Kept,
    /// That, and what requests do that are answered at the same time.
    Shared,
}

/// Why a kind of app can't run in a mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ModeError {
    #[error("mode kept needs instances that go on after a request, and a {kind} ends with it: use pooled")]
    Ends { kind: Kind },
    #[error(
        "mode resident gives an instance many requests at once, and a {kind} app takes one: use pooled, or build the \
         app for wasi:http/handler@0.3"
    )]
    OneAtATime { kind: Kind },
}

/// How a pooled instance is to be brought back to its first-ready state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reset {
    /// `Rewind` where that is possible, else `Replace`.
    Auto,
    /// Drop the store and instantiate again from the prepared app.
    Replace,
    /// Put the instance back in place; an app of which that is not possible is not deployed.
    Rewind,
}

impl Mode {
    /// In the order of the continuum.
    pub const ALL: [Mode; 5] = [Mode::Cold, Mode::Cached, Mode::Pooled, Mode::Kept, Mode::Resident];

    /// What a request sees of what the guest did in requests before.
    pub fn guest_state(self) -> GuestState {
        match self {
            Self::Cold | Self::Cached | Self::Pooled => GuestState::Clean,
            Self::Kept => GuestState::Kept,
            Self::Resident => GuestState::Shared,
        }
    }

    /// The keys of an app that mean nothing in it.
    pub fn refuses(self) -> &'static [&'static str] {
        const COLD: [&str; 10] = [
            "preload",
            "preload_allow",
            "code_idle_time",
            "idle_time",
            "max_concurrent",
            "max_lifetime",
            "max_requests",
            "max_retained_memory",
            "min_instances",
            "reset",
        ];
        match self {
            Self::Cold => &COLD,
            Self::Cached => &COLD[3..],
            Self::Pooled => &["max_concurrent", "max_requests", "max_retained_memory"],
            Self::Kept => &["max_concurrent", "reset"],
            Self::Resident => &["preload", "preload_allow", "reset"],
        }
    }

    /// # Errors
    /// Why an app of this kind can't run in it.
    pub fn check(self, kind: Kind) -> Result<(), ModeError> {
        match self {
            Self::Kept if kind.is_command() => Err(ModeError::Ends { kind }),
            Self::Resident if kind != Kind::Http03 => Err(ModeError::OneAtATime { kind }),
            _ => Ok(()),
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Cached => "cached",
            Self::Pooled => "pooled",
            Self::Kept => "kept",
            Self::Resident => "resident",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        values::parse_mode(text)
    }
}
