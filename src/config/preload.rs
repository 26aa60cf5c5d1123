//! The keys `preload` and `preload_allow`.

use toml::de::DeValue;

use super::layer::{MOST_WARMUPS, request_path};
use super::problem::quoted;
use super::reader::kind_of;
use super::values;
use crate::prepare::preload::{Allowance, Source, Start};

/// Before the name of a source of which something may stay in the image.
const FROZEN: &str = "frozen-";

const EXAMPLE: &str = "write \"off\", \"init\" or for example { warmup = [\"GET /\"] }";

/// How an app is brought to the state that is kept; `None` for `"off"`.
pub(super) fn start(value: &DeValue<'_>) -> Result<Option<Start>, String> {
    match value {
        DeValue::String(text) if text == "off" => Ok(None),
        DeValue::String(text) if text == "init" => Ok(Some(Start::Init)),
        DeValue::String(text) => Err(format!("unknown preload {}, {EXAMPLE}", quoted(text))),
        DeValue::Table(table) => {
            if let Some((key, _)) = table.iter().find(|(key, _)| key.get_ref() != "warmup") {
                return Err(format!("unknown key {}, {EXAMPLE}", quoted(key.get_ref())));
            }
            match table.get("warmup").map(|value| value.get_ref()) {
                Some(DeValue::Array(requests)) => {
                    let paths = requests.iter().map(|request| path(request.get_ref()));
                    some_paths(paths.collect::<Result<_, _>>()?).map(Some)
                }
                Some(other) => Err(format!("expected a list of requests, found {}", kind_of(other))),
                None => Err(format!("no requests, {EXAMPLE}")),
            }
        }
        other => Err(format!("expected how to preload, found {}: {EXAMPLE}", kind_of(other))),
    }
}

fn some_paths(paths: Vec<String>) -> Result<Start, String> {
    match paths.len() {
        0 => Err(format!("no requests, {EXAMPLE}")),
        1..=MOST_WARMUPS => Ok(Start::Warmup(paths)),
        _ => Err(format!("more than {MOST_WARMUPS} requests")),
    }
}

fn path(request: &DeValue<'_>) -> Result<String, String> {
    let text = values::string(request, "GET /")?;
    match text.split_once(' ') {
        Some(("GET", path)) => request_path(path),
        _ => Err(format!("{}: not a GET request, write for example \"GET /\"", quoted(text))),
    }
}

/// What the guest may use.
pub(super) fn allowance(value: &DeValue<'_>) -> Result<Allowance, String> {
    let text = values::string(value, "random")?;
    let (frozen, name) = match text.strip_prefix(FROZEN) {
        Some(name) => (true, name),
        None => (false, text),
    };
    match Source::ALL.into_iter().find(|source| source.as_str() == name) {
        Some(Source::Outbound) => {
            Err("outbound can't be allowed: an app is preloaded where there is no network".to_owned())
        }
        Some(source) if source.varies() || !frozen => Ok(Allowance { source, frozen }),
        _ => Err(format!("unknown source {}, use {}", quoted(text), known())),
    }
}

fn known() -> String {
    let sources = Source::ALL.into_iter().filter(|source| *source != Source::Outbound);
    let plain = sources.clone().map(|source| source.as_str().to_owned());
    let frozen =
        sources.filter(|source| source.varies()).map(|source| format!("{FROZEN}{}", source.as_str()));
    plain.chain(frozen).collect::<Vec<_>>().join(", ")
}
