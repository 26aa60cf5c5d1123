//! Orders to a running host. They change its state, so they are not taken from pages in the operator's browser.
//!
//! A page elsewhere can make a browser send a POST to a loopback address, but not with a JSON content type unless the
//! listener allows that beforehand, which it never does; and one that has its own name lead here could, but the
//! browser then says where the page is from.

use http::header::{ALLOW, CONTENT_TYPE, ORIGIN};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use percent_encoding::percent_decode_str;
use serde_json::json;

use crate::deploy::AppName;
use crate::deploy::restart::{RestartError, Restarts};
use crate::server::body::ResponseBody;

/// The name in `/apps/NAME/restart`, still percent-encoded; it may have slashes.
pub fn restart_target(path: &str) -> Option<&str> {
    path.strip_prefix("/apps/")?.strip_suffix("/restart")
}

/// Restarts an app and says what came of it.
pub async fn restart(restarts: &Restarts, request: &Parts, app: &str) -> Response<ResponseBody> {
    if request.method != Method::POST {
        let mut response = refuse(StatusCode::METHOD_NOT_ALLOWED, "POST only");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return response;
    }
    if request.headers.contains_key(ORIGIN) {
        return refuse(StatusCode::FORBIDDEN, "orders are not taken from web pages");
    }
    let content_type = request.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    if content_type != Some(b"application/json") {
        return refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send it with content-type: application/json");
    }
    let name = percent_decode_str(app).decode_utf8().ok().and_then(|name| AppName::parse(&name).ok());
    let Some(name) = name else { return refuse(StatusCode::NOT_FOUND, "that is no app's name") };
    match restarts.restart(name).await {
        Ok(restarted) => reply(StatusCode::OK, &json!(restarted)),
        Err(error) => refuse(status(&error), &error.to_string()),
    }
}

fn status(error: &RestartError) -> StatusCode {
    match error {
        RestartError::Unknown => StatusCode::NOT_FOUND,
        RestartError::Held | RestartError::Failed { .. } => StatusCode::CONFLICT,
        RestartError::FolderLost | RestartError::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        RestartError::TooLong => StatusCode::GATEWAY_TIMEOUT,
    }
}

fn refuse(status: StatusCode, reason: &str) -> Response<ResponseBody> {
    reply(status, &json!({ "error": reason }))
}

fn reply(status: StatusCode, json: &serde_json::Value) -> Response<ResponseBody> {
    super::answer(status, "application/json", format!("{json}\n"))
}
