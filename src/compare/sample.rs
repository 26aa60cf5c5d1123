//! One request as an ordinary client sends it: what a server answers, and how long that takes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::TcpStream;

use super::http::Asked;

/// An answer, whole.
#[derive(Debug, Clone)]
pub struct Sample {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// From the connection's begin to the last byte.
    pub took: Duration,
}

#[derive(Debug, Error)]
pub enum SampleError {
    #[error("it gave no answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    #[error("the request cannot be written: {0}")]
    Request(#[from] http::Error),
    #[error("it cannot be reached: {0}")]
    Connect(#[from] std::io::Error),
    #[error("its answer broke off: {0}")]
    Answer(#[from] hyper::Error),
    #[error("its answer has no end, or more than {LARGEST} bytes: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
}

/// Bytes of an answer that is compared.
pub const LARGEST: usize = 64 << 20;

/// Asks `address` for `target`.
pub async fn sample(
    address: SocketAddr,
    asked: &Asked,
    target: &str,
    patience: Duration,
) -> Result<Sample, SampleError> {
    let begin = Instant::now();
    let exchange = exchange(address, asked, target);
    let (status, headers, body) =
        tokio::time::timeout(patience, exchange).await.map_err(|_| SampleError::TimedOut(patience))??;
    Ok(Sample { status, headers, body, took: begin.elapsed() })
}

async fn exchange(
    address: SocketAddr,
    asked: &Asked,
    target: &str,
) -> Result<(StatusCode, HeaderMap, Bytes), SampleError> {
    let mut request = Request::builder().method(&asked.method).uri(target);
    for (name, value) in &asked.headers {
        request = request.header(name, value);
    }
    let mut request = request.body(Full::new(asked.body.clone()))?;
    if !request.headers().contains_key(HOST) {
        let host = http::HeaderValue::from_str(&address.to_string()).map_err(http::Error::from)?;
        request.headers_mut().insert(HOST, host);
    }
    request.headers_mut().remove(CONTENT_LENGTH);
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let answer = async {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, LARGEST).collect().await.map_err(SampleError::Body)?.to_bytes();
        Ok((head.status, head.headers, body))
    };
    tokio::pin!(answer, connection);
    tokio::select! {
        answer = &mut answer => answer,
        // The connection may end first; what it has read is still to be had.
        ended = &mut connection => { ended?; answer.await }
    }
}
