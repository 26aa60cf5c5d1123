//! A request for a static file: answered from the release's own copies, without waking the app.
//!
//! GET and HEAD only. [`accepted`] chooses between a page's versions by what the client takes, [`conditions`] says how
//! much of it is to be sent, [`download`] sends it.

mod accepted;
mod conditions;
mod download;

use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, ETAG, LAST_MODIFIED, LOCATION, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

use super::body::ResponseBody;
use super::reply::Refusal;
use crate::public::{Hit, Page, Version};
use crate::release::Release;
use crate::router::NormalPath;
use conditions::Verdict;

/// What a request for static files is answered with.
pub enum Found<'r> {
    Page(&'r Page),
    /// A folder, asked for without the slash at its end: where it is.
    Elsewhere(HeaderValue),
}

/// The static file of the release that a request is for; `None`: it is the app's.
pub fn find<'r>(release: &'r Release, parts: &Parts) -> Result<Option<Found<'r>>, Refusal> {
    let Some(files) = &release.files else { return Ok(None) };
    if parts.method != Method::GET && parts.method != Method::HEAD {
        return Ok(None);
    }
    let path = NormalPath::parse(parts.uri.path())?;
    let (mount, index) = (release.mount.prefix(), release.config.files.index.as_deref());
    match files.find(path.below(mount.len()), index) {
        None => Ok(None),
        // The mount itself, asked for without a slash, is a folder like any other.
        Some(Hit::Page(page)) if mount.is_empty() || path.as_str() != mount => Ok(Some(Found::Page(page))),
        Some(_) => with_slash(&path, parts.uri.query()).map(|target| Some(Found::Elsewhere(target))),
    }
}

/// Answers from the release's copies.
pub async fn answer(
    release: &Release,
    found: Found<'_>,
    parts: &Parts,
) -> Result<Response<ResponseBody>, Refusal> {
    match found {
        Found::Page(page) => respond(release, page, parts).await,
        Found::Elsewhere(target) => {
            let mut response = Response::new(ResponseBody::empty());
            *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
            let headers = response.headers_mut();
            headers.insert(LOCATION, target);
            // Also what this says is the release's.
            headers.insert(CACHE_CONTROL, release.config.files.cache_control.clone());
            Ok(response)
        }
    }
}

async fn respond(release: &Release, page: &Page, parts: &Parts) -> Result<Response<ResponseBody>, Refusal> {
    let version = accepted::choose(page, &parts.headers);
    let len = version.blob.len();
    let (status, part) = match conditions::judge(&parts.method, &parts.headers, version) {
        Verdict::Whole => (StatusCode::OK, 0..len),
        Verdict::Part(part) => (StatusCode::PARTIAL_CONTENT, part),
        Verdict::NotModified => (StatusCode::NOT_MODIFIED, 0..0),
        Verdict::Failed => (StatusCode::PRECONDITION_FAILED, 0..0),
        Verdict::Unsatisfiable => (StatusCode::RANGE_NOT_SATISFIABLE, 0..0),
    };
    let mut headers = headers(release, page, version);
    match status {
        StatusCode::PARTIAL_CONTENT => {
            content_range(
                &mut headers,
                &format!("bytes {}-{}/{len}", part.start, part.end.saturating_sub(1)),
            );
        }
        StatusCode::RANGE_NOT_SATISFIABLE => content_range(&mut headers, &format!("bytes */{len}")),
        _ => {}
    }
    if !status.is_success() {
        headers.remove(CONTENT_TYPE);
        headers.remove(CONTENT_ENCODING);
    }
    if status.is_client_error() {
        // It is of this one request, and not of the file.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.remove(LAST_MODIFIED);
    }
    let body = match parts.method {
        Method::HEAD if status.is_success() => {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(len));
            ResponseBody::empty()
        }
        _ => download::body(release, &version.blob, part).await.map_err(Refusal::File)?,
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}

fn headers(release: &Release, page: &Page, version: &Version) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(10);
    headers.insert(CONTENT_TYPE, page.content_type.clone());
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, release.config.files.cache_control.clone());
    headers.insert(ETAG, version.etag.clone());
    headers.insert(LAST_MODIFIED, conditions::date(version.modified));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let Some(encoding) = version.encoding {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding.name()));
    }
    if !page.encoded.is_empty() {
        headers.insert(VARY, HeaderValue::from(ACCEPT_ENCODING));
    }
    headers
}

fn content_range(headers: &mut HeaderMap, text: &str) {
    if let Ok(range) = HeaderValue::from_str(text) {
        headers.insert(CONTENT_RANGE, range);
    }
}

/// The same path with a slash at its end. A relative one holds also behind a proxy that takes a part of the path away;
/// the `./` is for names with a colon.
fn with_slash(path: &NormalPath<'_>, query: Option<&str>) -> Result<HeaderValue, Refusal> {
    let name = path.as_str().rsplit('/').next().unwrap_or_default();
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    HeaderValue::from_str(&format!("./{name}/{query}")).map_err(|_| Refusal::BadTarget)
}
