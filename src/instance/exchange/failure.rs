//! Why an exchange came to nothing, and whose doing it is.

use std::time::Duration;

use crate::instance::call::BadRequest;
use crate::instance::cgi::response::BadResponse;
use crate::instance::clock::CpuTimeExceeded;
use crate::instance::resident::RequestTimeExceeded;
use crate::server::body::RequestError;

/// How one ended that did not. The instance is gone in each case.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("the guest trapped: {0:#}")]
    Trapped(wasmtime::Error),
    #[error("the guest used up its cpu_time of {0:?}")]
    CpuTime(Duration),
    #[error("the request_timeout of {0:?} passed")]
    Deadline(Duration),
    #[error("its release was replaced, and its drain_timeout of {0:?} passed")]
    Replaced(Duration),
    #[error("the guest returned without an answer")]
    NoAnswer,
    #[error("the guest answered with an error: {0}")]
    ErrorAnswer(String),
    #[error("the command's output is no CGI response: {0}")]
    BadAnswer(BadResponse),
    #[error("the guest answered with status {0}, which ends no request")]
    BadStatus(u16),
    #[error("the guest ended its response's body too early")]
    BrokenBody,
    #[error("the guest's response body is larger than max_response_body ({0} bytes)")]
    BodyTooLarge(u64),
    #[error("{0}")]
    BadRequest(String),
    /// The request's body broke off under the guest, or was still waited for at the deadline.
    #[error("{0}")]
    Upload(RequestError),
    #[error("the client had not taken the response when the request_timeout of {0:?} passed")]
    SlowClient(Duration),
}

impl Failure {
    pub(super) fn of(error: wasmtime::Error) -> Failure {
        if let Some(exceeded) = error.downcast_ref::<CpuTimeExceeded>() {
            Failure::CpuTime(exceeded.0)
        } else if let Some(exceeded) = error.downcast_ref::<RequestTimeExceeded>() {
            Failure::Deadline(exceeded.0)
        } else if let Some(bad) = error.downcast_ref::<BadRequest>() {
            Failure::BadRequest(bad.to_string())
        } else {
            Failure::Trapped(error)
        }
    }

    /// Whether it is the client's doing, which says nothing of the app.
    pub fn is_the_clients(&self) -> bool {
        matches!(self, Failure::BadRequest(_) | Failure::Upload(_) | Failure::SlowClient(_))
    }
}
