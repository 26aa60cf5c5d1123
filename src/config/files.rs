//! `[static]`: how the files of an app's `public/` are served. Its numbers are in the table of numbers.

use http::HeaderValue;
use toml::de::DeValue;

use super::reader::Table;
use super::{StaticFiles, values};
use crate::public::Limits;

/// What one file says: nothing is filled in yet.
#[derive(Debug, Clone, Default)]
pub(super) struct Files {
    enabled: Option<bool>,
    /// `Some(None)` is `"off"`.
    index: Option<Option<String>>,
    cache_control: Option<HeaderValue>,
}

/// Bytes that `cache_control` may have.
const LONGEST_CACHE_CONTROL: usize = 256;

impl Files {
    pub fn read(table: &mut Table<'_>) -> Files {
        Files {
            enabled: table.get("enabled", values::boolean).map(|given| given.value),
            index: table.get("index", index).map(|given| given.value),
            cache_control: table.get("cache_control", cache_control).map(|given| given.value),
        }
    }

    /// These settings, then those of `lower`, then the defaults.
    pub fn over(&self, lower: &Files, limits: Limits) -> StaticFiles {
        let index = self.index.as_ref().or(lower.index.as_ref()).cloned();
        let cache_control = self.cache_control.as_ref().or(lower.cache_control.as_ref());
        StaticFiles {
            enabled: self.enabled.or(lower.enabled).unwrap_or(true),
            index: index.unwrap_or_else(|| Some("index.html".to_owned())),
            // A new release is seen at once, and what has not changed costs a 304.
            cache_control: cache_control.cloned().unwrap_or(HeaderValue::from_static("no-cache")),
            limits,
        }
    }
}

fn index(value: &DeValue<'_>) -> Result<Option<String>, String> {
    match values::string(value, "index.html")? {
        "off" => Ok(None),
        name if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) => {
            Err("expected the name of a file such as \"index.html\", or \"off\"".to_owned())
        }
        name => Ok(Some(name.to_owned())),
    }
}

fn cache_control(value: &DeValue<'_>) -> Result<HeaderValue, String> {
    let text = values::string(value, "public, max-age=3600")?;
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    if text.trim().is_empty() || text.len() > LONGEST_CACHE_CONTROL || !plain {
        return Err(format!(
            "expected what the header may say, such as \"public, max-age=3600\", in at most {LONGEST_CACHE_CONTROL} \
             characters of ASCII"
        ));
    }
    HeaderValue::from_str(text).map_err(|_| "not a valid header".to_owned())
}
