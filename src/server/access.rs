//! The access log's line for a request, written when the response's body is over.

use std::time::Instant;

use http::{Request, StatusCode};

use super::body::{BodyEnd, Watch};
use super::connection::{Arriving, Peer};
use crate::logging::{self, Access};

/// Goes along with a response's body; `None` when no access log is wanted.
#[derive(Debug)]
pub struct AccessLine(Option<Box<Line>>);

#[derive(Debug)]
struct Line {
    method: http::Method,
    host: String,
    path: String,
    peer: Peer,
    began: Instant,
    id: u64,
    status: StatusCode,
    app: Option<std::sync::Arc<str>>,
}

impl AccessLine {
    pub fn none() -> AccessLine {
        AccessLine(None)
    }

    pub fn begin(request: &Request<Arriving>, peer: Peer, id: u64) -> AccessLine {
        let host = request.uri().authority().map(|authority| authority.as_str());
        let host = host.or_else(|| request.headers().get(http::header::HOST)?.to_str().ok());
        AccessLine(Some(Box::new(Line {
            method: request.method().clone(),
            host: host.unwrap_or("-").to_owned(),
            path: request.uri().path().to_owned(),
            peer,
            began: Instant::now(),
            id,
            status: StatusCode::OK,
            app: None,
        })))
    }

    /// The response that this line is about.
    pub fn answered(&mut self, status: StatusCode, app: Option<std::sync::Arc<str>>) {
        if let Some(line) = &mut self.0 {
            line.status = status;
            line.app = app;
        }
    }
}

impl Watch for AccessLine {
    fn ended(self, end: BodyEnd, sent: u64) {
        let Some(line) = self.0 else { return };
        logging::access(&Access {
            method: line.method.as_str(),
            host: &line.host,
            path: &line.path,
            status: line.status.as_u16(),
            bytes: sent,
            duration: line.began.elapsed(),
            app: line.app.as_deref(),
            request_id: &super::request_id(line.id),
            peer: line.peer.remote,
            complete: end == BodyEnd::Complete,
        });
    }
}
