//! Why a guest's request was refused or failed: in full for the log, as an error code of wasi:http for the guest.

use std::error::Error as StdError;
use std::io;

use wasmtime_wasi_http::Error;

use super::address::Reason;

/// Why a request to elsewhere came to nothing.
///
/// Cloneable and without sources, as the pool hands it out from inside its own errors.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    #[error("the method CONNECT is not for guests")]
    Method,
    #[error("its URI is not `http(s)://host[:port]/…`")]
    Uri,
    #[error("its origin is not in the app's `[outbound] allow`")]
    NotAllowed,
    #[error("the app has `max_concurrent` requests under way already")]
    TooManyRequests,
    #[error("the host has its maximum of outbound connections open")]
    TooManyConnections,
    #[error("it leads to {0}, which the operator has not granted")]
    Prohibited(Reason),
    #[error("its name could not be resolved: {0}")]
    Resolve(String),
    #[error("its name was not resolved in time")]
    ResolveTimeout,
    #[error("the connection was refused")]
    Refused,
    #[error("it could not be connected to: {0}")]
    Connect(String),
    #[error("it could not be connected to in time")]
    ConnectTimeout,
    #[error("its certificate was not accepted: {0}")]
    Certificate(String),
    #[error("it ended the TLS handshake with alert {id} ({name})")]
    Alert { id: u8, name: String },
    #[error("the TLS handshake failed: {0}")]
    Tls(String),
    #[error("no response came in time")]
    ResponseTimeout,
    #[error("the response stalled")]
    BodyTimeout,
    #[error("the response's header section is too large")]
    HeaderSize,
    #[error("the connection was closed before the response was complete")]
    Incomplete,
    #[error("the response is not HTTP/1.1: {0}")]
    Protocol(String),
    #[error("the connection broke: {0}")]
    Terminated(String),
    #[error("the request's body is not as long as it says")]
    RequestBodySize(Option<u64>),
    #[error("the request's body could not be sent: {0}")]
    RequestBody(String),
}

impl Failure {
    /// What went wrong in the connection pool, or in hyper beneath it.
    pub(super) fn of_client(error: &(dyn StdError + 'static)) -> Self {
        for cause in causes(error) {
            if let Some(failure) = cause.downcast_ref::<Failure>() {
                return failure.clone();
            }
            match cause.downcast_ref::<Error>() {
                Some(Error::HttpRequestBodySize(size)) => return Self::RequestBodySize(*size),
                Some(guests) => return Self::RequestBody(excerpt(guests)),
                None => {}
            }
        }
        match causes(error).find_map(|cause| cause.downcast_ref::<hyper::Error>()) {
            Some(hyper) => Self::of_hyper(hyper),
            None => Self::Terminated(innermost(error)),
        }
    }

    pub(super) fn of_hyper(error: &hyper::Error) -> Self {
        if error.is_parse_too_large() {
            Self::HeaderSize
        } else if error.is_incomplete_message() {
            Self::Incomplete
        } else if error.is_parse() {
            Self::Protocol(innermost(error))
        } else if is_unexpected_end(error) {
            Self::Incomplete
        } else {
            Self::Terminated(innermost(error))
        }
    }

    /// What went wrong in the connector around the one that makes the TCP connection, which is TLS.
    pub(super) fn of_connector(error: &(dyn StdError + 'static)) -> Self {
        for cause in causes(error) {
            if let Some(failure) = cause.downcast_ref::<Failure>() {
                return failure.clone();
            }
            match cause.downcast_ref::<rustls::Error>() {
                Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => {
                    return Self::Certificate(excerpt(cause));
                }
                Some(rustls::Error::AlertReceived(alert)) => {
                    return Self::Alert { id: u8::from(*alert), name: format!("{alert:?}") };
                }
                Some(_) => return Self::Tls(excerpt(cause)),
                None => {}
            }
        }
        Self::Tls(innermost(error))
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Method => Self::HttpRequestMethodInvalid,
            Failure::Uri => Self::HttpRequestUriInvalid,
            Failure::NotAllowed => Self::HttpRequestDenied,
            Failure::TooManyRequests | Failure::TooManyConnections => Self::ConnectionLimitReached,
            Failure::Prohibited(_) => Self::DestinationIpProhibited,
            // The system's resolver tells no response code.
            Failure::Resolve(_) => Self::DnsError { rcode: None, info_code: None },
            Failure::ResolveTimeout => Self::DnsTimeout,
            Failure::Refused => Self::ConnectionRefused,
            Failure::Connect(_) => Self::DestinationUnavailable,
            Failure::ConnectTimeout => Self::ConnectionTimeout,
            Failure::Certificate(_) => Self::TlsCertificateError,
            Failure::Alert { id, name } => {
                Self::TlsAlertReceived { alert_id: Some(id), alert_message: Some(name) }
            }
            Failure::Tls(_) => Self::TlsProtocolError,
            Failure::ResponseTimeout => Self::HttpResponseTimeout,
            Failure::BodyTimeout => Self::ConnectionReadTimeout,
            Failure::HeaderSize => Self::HttpResponseHeaderSectionSize(None),
            Failure::Incomplete => Self::HttpResponseIncomplete,
            Failure::Protocol(_) => Self::HttpProtocolError,
            Failure::Terminated(_) => Self::ConnectionTerminated,
            Failure::RequestBodySize(size) => Self::HttpRequestBodySize(size),
            Failure::RequestBody(reason) => Self::InternalError(Some(reason)),
        }
    }
}

/// The error, its cause, the cause's cause, and so on.
fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |cause: &&'a (dyn StdError + 'static)| {
        // `io::Error` gives the source of what it wraps as its own, not what it wraps.
        match cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped as &(dyn StdError + 'static)),
            None => (*cause).source(),
        }
    })
}

/// The cause that has no further one, as the outer ones say little.
fn innermost(error: &(dyn StdError + 'static)) -> String {
    causes(error).last().map(excerpt).unwrap_or_default()
}

/// Other machines have a part in these texts, so they are cut and escaped.
fn excerpt(text: impl std::fmt::Display) -> String {
    const SHOWN: usize = 120;
    text.to_string().chars().take(SHOWN).flat_map(char::escape_debug).collect()
}

fn is_unexpected_end(error: &hyper::Error) -> bool {
    let mut io = causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>());
    io.any(|io| io.kind() == io::ErrorKind::UnexpectedEof)
}
