//! Orders to a running host, and the releases that it keeps. Orders change its state, so they are not taken from pages in
//! the operator's browser.
//!
//! A page elsewhere can make a browser send a POST to a loopback address, but not with a JSON content type unless the
//! listener allows that beforehand, which it never does; and one that has its own name lead here could, but the
//! browser then says where the page is from.

use std::time::Duration;

use http::header::{ALLOW, CONTENT_TYPE, ORIGIN};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use percent_encoding::percent_decode_str;
use serde_json::json;

use super::Deploys;
use crate::config::units::parse_duration;
use crate::deploy::AppName;
use crate::deploy::orders::{Order, OrderError};
use crate::deploy::read::Digests;
use crate::prepare::Digest;
use crate::registry::Registry;
use crate::server::body::ResponseBody;

/// What of an app is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    Releases,
    Restart,
    Rollback,
    Deployed,
    Record,
}

/// The longest that requests are recorded.
const LONGEST: Duration = Duration::from_secs(300);

/// The name in `/apps/NAME/restart` and the like, still percent-encoded; it may have slashes.
pub fn target(path: &str) -> Option<(&str, About)> {
    let (app, about) = path.strip_prefix("/apps/")?.rsplit_once('/')?;
    let about = match about {
        "releases" => About::Releases,
        "restart" => About::Restart,
        "rollback" => About::Rollback,
        "deployed" => About::Deployed,
        "record" => About::Record,
        _ => return None,
    };
    Some((app, about))
}

/// Shows the releases, or carries out the order and says what came of it.
pub async fn answer(
    deploys: &Deploys,
    registry: &Registry,
    request: &Parts,
    app: &str,
    about: About,
) -> Response<ResponseBody> {
    let allowed = if about == About::Releases { "GET" } else { "POST" };
    let is_allowed = match about {
        About::Releases => request.method == Method::GET || request.method == Method::HEAD,
        _ => request.method == Method::POST,
    };
    if !is_allowed {
        let mut response = refuse(StatusCode::METHOD_NOT_ALLOWED, &format!("{allowed} only"));
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
        return response;
    }
    if about != About::Releases
        && let Some(refusal) = refuse_pages(request)
    {
        return refusal;
    }
    let name = percent_decode_str(app).decode_utf8().ok().and_then(|name| AppName::parse(&name).ok());
    let Some(name) = name else { return refuse(StatusCode::NOT_FOUND, "that is no app's name") };
    let query = request.uri.query();
    let order = match about {
        About::Releases => return releases(deploys, &name),
        About::Record => return record(registry, &name, query).await,
        About::Restart => Ok(Order::Restart),
        About::Rollback => rollback(query),
        About::Deployed => deployed(query),
    };
    let order = match order {
        Ok(order) => order,
        Err(message) => return refuse(StatusCode::BAD_REQUEST, message),
    };
    match deploys.orders.give(name, order).await {
        Ok(obeyed) => reply(StatusCode::OK, &json!(obeyed)),
        Err(error) => refuse(status(&error), &error.to_string()),
    }
}

fn refuse_pages(request: &Parts) -> Option<Response<ResponseBody>> {
    if request.headers.contains_key(ORIGIN) {
        return Some(refuse(StatusCode::FORBIDDEN, "orders are not taken from web pages"));
    }
    let content_type = request.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let message = "send it with content-type: application/json";
    (content_type != Some(b"application/json")).then(|| refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, message))
}

fn releases(deploys: &Deploys, app: &AppName) -> Response<ResponseBody> {
    let Some(store) = &deploys.store else { return refuse_order(&OrderError::NoStore) };
    match store.record(app.as_str()) {
        Some(record) => reply(StatusCode::OK, &json!(record.without_lists())),
        None => refuse_order(&OrderError::Unknown),
    }
}

/// `?time=30s`: what clients ask of the app from now on, for so long.
async fn record(registry: &Registry, name: &AppName, query: Option<&str>) -> Response<ResponseBody> {
    let time = query.and_then(|query| query.strip_prefix("time=")).map(parse_duration);
    let Some(time) = time.and_then(Result::ok).filter(|time| *time <= LONGEST) else {
        return refuse(StatusCode::BAD_REQUEST, "say for how long with ?time=30s, at most 5m");
    };
    let Some(app) = registry.app(name.as_str()).filter(|app| app.live.is_some()) else {
        return refuse_order(&OrderError::Unknown);
    };
    // Cancellation safety: a recording that nobody waits for any more ends.
    let counters = registry.counters(&app.app);
    let Some(recording) = counters.recorder().begin() else {
        return refuse(StatusCode::CONFLICT, "its requests are being recorded already");
    };
    tokio::time::sleep(time).await;
    reply(StatusCode::OK, &json!(recording.end()))
}

/// `?release=N`, or nothing for the one before the live one.
fn rollback(query: Option<&str>) -> Result<Order, &'static str> {
    let Some(query) = query else { return Ok(Order::RollBack(None)) };
    let number = query.strip_prefix("release=").and_then(|number| number.parse().ok());
    number
        .map(|number| Order::RollBack(Some(number)))
        .ok_or("name the release with ?release=N, or leave it out")
}

/// `?wasm=DIGEST`, and `&config=DIGEST` if the app has a file of its own.
fn deployed(query: Option<&str>) -> Result<Order, &'static str> {
    let wrong = "name the bytes with ?wasm=SHA256, and &config=SHA256 if there is such a file";
    let (mut wasm, mut config) = (None, None);
    for pair in query.unwrap_or_default().split('&') {
        match pair.split_once('=') {
            Some(("wasm", digest)) => wasm = Some(Digest::parse(digest).ok_or(wrong)?),
            Some(("config", digest)) => config = Some(Digest::parse(digest).ok_or(wrong)?),
            _ => return Err(wrong),
        }
    }
    Ok(Order::Deployed(Digests { wasm: wasm.ok_or(wrong)?, config, public: None }))
}

fn status(error: &OrderError) -> StatusCode {
    match error {
        OrderError::Unknown | OrderError::Gone => StatusCode::NOT_FOUND,
        OrderError::Held
        | OrderError::Failed { .. }
        | OrderError::Overtaken
        | OrderError::RolledBack { .. }
        | OrderError::NoTarget(_)
        | OrderError::NoStore
        | OrderError::Changed
        | OrderError::Busy(_) => StatusCode::CONFLICT,
        OrderError::FolderLost | OrderError::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        OrderError::TooLong => StatusCode::GATEWAY_TIMEOUT,
    }
}

fn refuse_order(error: &OrderError) -> Response<ResponseBody> {
    refuse(status(error), &error.to_string())
}

fn refuse(status: StatusCode, reason: &str) -> Response<ResponseBody> {
    reply(status, &json!({ "error": reason }))
}

fn reply(status: StatusCode, json: &serde_json::Value) -> Response<ResponseBody> {
    super::answer(status, "application/json", format!("{json}\n"))
}
