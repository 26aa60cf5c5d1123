//! The reference: a server on bare hyper that gives the same answers as the app, with nothing behind it.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::net::TcpListener;

use super::sample::Sample;

/// An answer that the reference gives; it gets a list of them in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    /// The app's answer had no length and was sent in chunks.
    chunked: bool,
}

#[derive(Debug, Error)]
pub enum NativeError {
    #[error("cannot read the answers to give from {path}: {error}")]
    Answer { path: String, error: io::Error },
    #[error("an answer to give is not in order: {0}")]
    Malformed(String),
    #[error("cannot serve: {0}")]
    Serve(#[from] io::Error),
}

impl Answer {
    /// 200 and this text, without a field.
    pub fn plain(text: &str) -> Self {
        Self { status: 200, headers: Vec::new(), body: text.into(), chunked: false }
    }

    pub fn of(sample: &Sample) -> Self {
        // The framing and the date are the server's own, but for the length of the body that HEAD leaves out.
        let length = sample.headers.get(CONTENT_LENGTH);
        let tells_length = length.is_some_and(|length| length != sample.body.len().to_string().as_str());
        let headers = sample.headers.iter().filter(|(name, _)| match **name {
            CONTENT_LENGTH => tells_length,
            CONNECTION | DATE | TRANSFER_ENCODING => false,
            _ => true,
        });
        Self {
            status: sample.status.as_u16(),
            headers: headers.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect(),
            body: sample.body.to_vec(),
            chunked: sample.headers.contains_key(TRANSFER_ENCODING),
        }
    }
}

/// The field of a request that says which of several answers it gets.
pub const WHICH: HeaderName = HeaderName::from_static("x-answer");

/// Hands the answers over: the first to requests that don't say which they get.
pub fn write(answers: &[Answer], file: &Path) -> io::Result<()> {
    std::fs::write(file, serde_json::to_vec(answers)?)
}

fn read(file: &Path) -> Result<Vec<Answer>, NativeError> {
    let cannot = |error| NativeError::Answer { path: file.display().to_string(), error };
    let bytes = std::fs::read(file).map_err(cannot)?;
    serde_json::from_slice(&bytes).map_err(|error| cannot(error.into()))
}

/// Serves the answers in `answer_file` on loopback with this many threads, and writes the address to `address_file`
/// when it is ready. Ends only by a signal or an error.
pub fn serve(answer_file: &Path, address_file: &Path, threads: usize) -> Result<Infallible, NativeError> {
    // Should the one who asked for it die without a word, there is nobody left to end it.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))
        .map_err(io::Error::from)?;
    let ready = ready(read(answer_file)?)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(threads.max(1)).enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
        write_address(address_file, listener.local_addr()?)?;
        // Spawned, so that accepting runs on the threads that serve, as in the host.
        let accepting = tokio::spawn(accept(listener, ready));
        Err(accepting.await.map_err(io::Error::other)?.into())
    })
}

/// Takes connections until the listener fails.
async fn accept(listener: TcpListener, ready: Arc<[Ready]>) -> io::Error {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // The client is gone already.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => return error,
        };
        let ready = ready.clone();
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            let service = service_fn(|request| answer(ready.clone(), request));
            // A connection that ends in an error is the client's to notice.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// The answer, checked.
struct Ready {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    chunked: bool,
}

impl Ready {
    fn of(answer: Answer) -> Result<Self, NativeError> {
        let wrong = |error: &dyn std::fmt::Display| NativeError::Malformed(error.to_string());
        let mut headers = HeaderMap::new();
        for (name, value) in answer.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| wrong(&error))?;
            headers.append(name, HeaderValue::from_bytes(&value).map_err(|error| wrong(&error))?);
        }
        let status = StatusCode::from_u16(answer.status).map_err(|error| wrong(&error))?;
        Ok(Self { status, headers, body: answer.body.into(), chunked: answer.chunked })
    }
}

fn ready(answers: Vec<Answer>) -> Result<Arc<[Ready]>, NativeError> {
    if answers.is_empty() {
        return Err(NativeError::Malformed("there is none".to_owned()));
    }
    answers.into_iter().map(Ready::of).collect()
}

async fn answer(ready: Arc<[Ready]>, request: Request<Incoming>) -> Result<Response<Once>, hyper::Error> {
    let (head, mut body) = request.into_parts();
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        frame?;
    }
    let which = head.headers.get(WHICH).and_then(|which| which.to_str().ok()?.parse::<usize>().ok());
    let Some(ready) = ready.get(which.unwrap_or(0)) else {
        let mut response = Response::new(Once { body: None, chunked: false });
        *response.status_mut() = StatusCode::NOT_FOUND;
        return Ok(response);
    };
    let once = Once { body: Some(ready.body.clone()), chunked: ready.chunked };
    let mut response = Response::new(once);
    *response.status_mut() = ready.status;
    *response.headers_mut() = ready.headers.clone();
    Ok(response)
}

/// A body in one piece, of a length that is told or not.
struct Once {
    body: Option<Bytes>,
    chunked: bool,
}

impl Body for Once {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let body = self.body.take().filter(|body| !body.is_empty());
        Poll::Ready(body.map(|body| Ok(Frame::data(body))))
    }

    fn is_end_stream(&self) -> bool {
        !self.chunked && self.body.as_ref().is_none_or(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            _ if self.chunked => SizeHint::default(),
            body => SizeHint::with_exact(body.as_ref().map_or(0, |body| body.len() as u64)),
        }
    }
}

/// Whoever sees the file sees all of it.
fn write_address(file: &Path, address: SocketAddr) -> io::Result<()> {
    let new = file.with_extension("new");
    std::fs::write(&new, format!("{address}\n"))?;
    std::fs::rename(new, file)
}

#[cfg(test)]
mod tests;
