//! What is compared of an app: the modes, and the two ways in which `pooled` resets.

use std::fmt;

use serde::Serialize;
use toml::{Table, Value};

use crate::config::Mode;

/// A point of the continuum: a mode. Those that come later keep more between requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Variant {
    Cold,
    Cached,
    /// Mode `pooled`, where each instance is replaced after its request.
    Replace,
    /// As it is where nothing is said of `reset`: instances are put back in place if that can be done, else replaced.
    Pooled,
    Kept,
    Resident,
}

impl Variant {
    pub const ALL: [Variant; 6] =
        [Variant::Cold, Variant::Cached, Variant::Replace, Variant::Pooled, Variant::Kept, Variant::Resident];

    pub fn as_str(self) -> &'static str {
        match self {
            Variant::Replace => "replace",
            other => other.mode().as_str(),
        }
    }

    pub fn mode(self) -> Mode {
        match self {
            Variant::Cold => Mode::Cold,
            Variant::Cached => Mode::Cached,
            Variant::Replace | Variant::Pooled => Mode::Pooled,
            Variant::Kept => Mode::Kept,
            Variant::Resident => Mode::Resident,
        }
    }

    /// Sets the keys of an app's configuration that make it this one.
    pub fn configure(self, config: &mut Table) {
        let mut set = |key: &str, value: &str| {
            config.insert(key.to_owned(), Value::String(value.to_owned()));
        };
        set("mode", self.mode().as_str());
        match self {
            Variant::Replace => set("reset", "replace"),
            _ => drop(config.remove("reset")),
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mode_is_there_and_pooled_twice_with_another_reset() {
        for mode in Mode::ALL {
            assert!(Variant::ALL.iter().any(|variant| variant.as_str() == mode.as_str()), "{mode}");
        }
        let reset = |variant: Variant| {
            let mut config = Table::from_iter([("reset".to_owned(), Value::String("auto".to_owned()))]);
            variant.configure(&mut config);
            (config["mode"].as_str() == Some(variant.mode().as_str())).then(|| config.remove("reset"))
        };
        assert_eq!(reset(Variant::Replace), Some(Some(Value::String("replace".to_owned()))));
        assert_eq!((reset(Variant::Pooled), reset(Variant::Kept)), (Some(None), Some(None)));
    }
}
