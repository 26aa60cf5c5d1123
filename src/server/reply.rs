//! What went wrong, as an answer: the only place where errors become statuses.

use std::fmt::Write;
use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};

use super::body::{RequestError, ResponseBody};
use super::connection;
use super::request_id;
use super::seen::Seen;
use crate::instance::{Failure, MakeError};
use crate::pool::LeaseError;
use crate::router::BadPath;

/// The header that names an error in the log.
const ERROR_ID: HeaderName = HeaderName::from_static("x-error-id");

/// Seconds over which those who were refused are spread at least, so that they don't all come back at once.
const RETRY_SPREAD: u32 = 2;

/// Why a request was not answered by an app.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("no app is served at this host and path")]
    NoApp,
    #[error("the app is being made ready")]
    Starting,
    #[error("{0}")]
    BadRequest(#[from] connection::Refusal),
    #[error("the request's path is refused: {0}")]
    BadPath(#[from] BadPath),
    #[error("the request's target is not valid")]
    BadTarget,
    #[error("{0}")]
    Body(#[from] RequestError),
    #[error("{0}")]
    Lease(LeaseError<MakeError>),
    #[error("{0}")]
    Guest(Failure),
    #[error("the app's local redirects lead nowhere")]
    BadRedirect,
    #[error("a static file can't be read: {0}; `hostler restart` has the app's files copied anew")]
    File(#[source] std::io::Error),
}

impl Refusal {
    /// What it is for a request that an app has redirected within the host: a path that is none is the app's doing then.
    pub fn of_redirect(self) -> Refusal {
        match self {
            Refusal::BadPath(_) | Refusal::BadTarget => Refusal::BadRedirect,
            other => other,
        }
    }

    pub fn status(&self) -> StatusCode {
        match self {
            Refusal::NoApp => StatusCode::NOT_FOUND,
            Refusal::BadRequest(bad) => bad.status(),
            Refusal::BadPath(_) | Refusal::BadTarget => StatusCode::BAD_REQUEST,
            Refusal::Body(error) => error.status(),
            Refusal::Starting => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::Lease(LeaseError::TimedOut) => StatusCode::GATEWAY_TIMEOUT,
            Refusal::Lease(_) | Refusal::File(_) => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::Guest(failure) => match failure {
                Failure::Trapped(_) => StatusCode::INTERNAL_SERVER_ERROR,
                Failure::CpuTime(_) | Failure::Deadline(_) | Failure::Replaced(_) => {
                    StatusCode::GATEWAY_TIMEOUT
                }
                Failure::SlowClient(_) => StatusCode::REQUEST_TIMEOUT,
                Failure::Upload(error) => error.status(),
                Failure::NoAnswer
                | Failure::ErrorAnswer(_)
                | Failure::BadAnswer(_)
                | Failure::BadStatus(_)
                | Failure::BrokenBody
                | Failure::BodyTooLarge(_) => StatusCode::BAD_GATEWAY,
                Failure::BadRequest(_) => StatusCode::BAD_REQUEST,
            },
            Refusal::BadRedirect => StatusCode::BAD_GATEWAY,
        }
    }

    /// Whether it is the app's doing, and neither the client's nor for want of room.
    pub fn is_the_apps(&self) -> bool {
        match self {
            Refusal::Guest(Failure::Replaced(_)) => false,
            Refusal::Guest(failure) => !failure.is_the_clients(),
            Refusal::Lease(error) => matches!(error, LeaseError::Failing { .. }),
            Refusal::BadRedirect => true,
            Refusal::NoApp
            | Refusal::Starting
            | Refusal::File(_)
            | Refusal::BadRequest(_)
            | Refusal::BadPath(_)
            | Refusal::BadTarget
            | Refusal::Body(_) => false,
        }
    }

    /// What the client is told. The guest's own words are for the log, and for developers if they ask for them.
    fn public(&self) -> &'static str {
        match self.status() {
            _ if matches!(self, Refusal::Starting) => "the app is not ready yet",
            _ if let Refusal::File(_) = self => "the file can't be read just now",
            StatusCode::NOT_FOUND => "no app is served here",
            StatusCode::INTERNAL_SERVER_ERROR => "the app failed",
            StatusCode::BAD_GATEWAY => "the app gave no valid answer",
            StatusCode::SERVICE_UNAVAILABLE => "the app has no room for this request now",
            StatusCode::GATEWAY_TIMEOUT => "the app took too long",
            StatusCode::PAYLOAD_TOO_LARGE => "the request's body is too large",
            StatusCode::REQUEST_TIMEOUT => "the request came too slowly",
            _ => "the request is not valid",
        }
    }
}

/// Logs a refusal, once, and makes its answer.
pub fn refuse(refusal: &Refusal, seen: &Seen, detail: bool) -> Response<ResponseBody> {
    let status = refusal.status();
    let id = request_id(seen.id);
    let app = seen.release.as_ref().map_or("-", |release| &*release.app);
    match (status.is_server_error(), refusal) {
        // Overload is counted; a line for each would make it worse.
        (true, Refusal::Starting)
        | (
            true,
            Refusal::Lease(
                LeaseError::Full
                | LeaseError::Saturated
                | LeaseError::Overloaded
                | LeaseError::NoMemory
                | LeaseError::TimedOut
                | LeaseError::Closed,
            ),
        )
        | (false, _) => {
            tracing::debug!(app, request_id = id, status = status.as_u16(), "{refusal}");
        }
        (true, _) => tracing::warn!(app, request_id = id, status = status.as_u16(), "{refusal}"),
    }
    if let (Refusal::Guest(failure), Some(release)) = (refusal, &seen.release) {
        release.counters.app.failure(failure);
    }
    let mut text =
        format!("{} {}: {}", status.as_u16(), status.canonical_reason().unwrap_or(""), refusal.public());
    if status.is_server_error() {
        let _ = write!(text, " (error id {id})");
    }
    text.push('\n');
    if detail {
        let _ = writeln!(text, "\n{refusal}");
    }
    let mut response = Response::new(ResponseBody::fixed(Bytes::from(text)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    if status.is_server_error()
        && let Ok(id) = HeaderValue::from_str(&id)
    {
        headers.insert(ERROR_ID, id);
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, HeaderValue::from(fastrand::u32(retry_seconds(refusal))));
    }
    response
}

/// Seconds after which a client may try again. Not before the pause of an app that can't start is over: until then it
/// is refused again for certain.
fn retry_seconds(refusal: &Refusal) -> RangeInclusive<u32> {
    let pause = match refusal {
        Refusal::Lease(LeaseError::Failing { retry_after, .. }) => *retry_after,
        _ => Duration::ZERO,
    };
    let whole = u32::try_from(pause.as_millis().div_ceil(1000)).unwrap_or(u32::MAX);
    let first = whole.max(1);
    first..=first.saturating_add(RETRY_SPREAD.max(first / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_doing_of_the_app_does_not_count_against_it() {
        let failing =
            || LeaseError::Failing { error: MakeError::Compile("no".into()), retry_after: Duration::ZERO };
        for refusal in [
            Refusal::Guest(Failure::NoAnswer),
            Refusal::Guest(Failure::Deadline(Duration::ZERO)),
            Refusal::Lease(failing()),
            Refusal::BadRedirect,
        ] {
            assert!(refusal.is_the_apps(), "{refusal}");
        }
        for refusal in [
            Refusal::NoApp,
            Refusal::BadTarget,
            Refusal::Body(RequestError::TooSlow),
            Refusal::Lease(LeaseError::Full),
            Refusal::Lease(LeaseError::Saturated),
            Refusal::Lease(LeaseError::Overloaded),
            Refusal::Lease(LeaseError::NoMemory),
            Refusal::Lease(LeaseError::TimedOut),
            Refusal::Lease(LeaseError::Closed),
            Refusal::Guest(Failure::Replaced(Duration::ZERO)),
            Refusal::Guest(Failure::BadRequest(String::new())),
            Refusal::Guest(Failure::Upload(RequestError::TooSlow)),
            Refusal::Guest(Failure::SlowClient(Duration::ZERO)),
        ] {
            assert!(!refusal.is_the_apps(), "{refusal}");
        }
    }

    #[test]
    fn clients_come_back_spread_and_not_before_the_pause_is_over() {
        let failing = |ms| {
            let (error, retry_after) = (MakeError::Compile("no".into()), Duration::from_millis(ms));
            retry_seconds(&Refusal::Lease(LeaseError::Failing { error, retry_after }))
        };
        assert_eq!(retry_seconds(&Refusal::Lease(LeaseError::Full)), 1..=3);
        assert_eq!(failing(0), 1..=3);
        assert_eq!(failing(100), 1..=3);
        assert_eq!(failing(1_001), 2..=4);
        assert_eq!(failing(30_000), 30..=45);
        assert_eq!(failing(u64::MAX), u32::MAX..=u32::MAX);
    }
}
