//! A client that leaves: while it is queued, while its guest runs, or in the middle of either body.

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use http::Request;
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::support::PATIENCE;

/// Leaves again and again, in any way.
pub struct Leaver {
    address: SocketAddr,
    random: Rng,
    /// An HTTP/2 connection on which only streams have been reset so far.
    http2: Option<Http2>,
}

struct Http2 {
    sender: SendRequest<Part>,
    connection: JoinHandle<hyper::Result<()>>,
}

/// What it asks for, and when it leaves: when it has read enough, or has waited long enough.
struct Visit {
    path: &'static str,
    /// Bytes of a body: declared, and sent before it leaves.
    body: Option<(usize, usize)>,
    reads: usize,
    waits: Duration,
}

/// How it leaves.
#[derive(Debug, Clone, Copy)]
enum Manner {
    /// HTTP/1.1, an orderly end of the connection.
    Close,
    /// HTTP/1.1, a reset of the connection.
    Reset,
    /// HTTP/2, a reset of the stream.
    ResetStream,
    /// HTTP/2, the connection and all that is on it.
    Disconnect,
}

/// A body of which this comes, and then nothing, until its client leaves. A whole one has no more to come.
struct Part {
    sent: Option<Bytes>,
    rest: Option<oneshot::Receiver<()>>,
}

/// The client has left: its stream is reset.
#[derive(Debug, thiserror::Error)]
#[error("the client has left")]
struct Left;

const GREETING: &str = "Hello from Hostler!\n";

impl Leaver {
    pub fn new(address: SocketAddr, seed: u64) -> Leaver {
        Leaver { address, random: Rng::with_seed(seed), http2: None }
    }

    /// Comes and leaves once.
    pub async fn visit(&mut self) {
        let visit = self.choose();
        let manner = [Manner::Close, Manner::Reset, Manner::ResetStream, Manner::Disconnect];
        let manner = self.random.choice(manner).unwrap_or(Manner::Close);
        // A connection that the host ends, as it does with one that resets too much, is a visit like the others.
        let left = async {
            match manner {
                Manner::Close | Manner::Reset => drop(self.http1(&visit, manner).await),
                Manner::ResetStream | Manner::Disconnect => {
                    if self.http2(&visit).await.is_none() || matches!(manner, Manner::Disconnect) {
                        self.http2 = None;
                    }
                }
            }
        };
        timeout(PATIENCE, left).await.unwrap_or_else(|_| panic!("stuck at {} ({manner:?})", visit.path));
    }

    fn choose(&mut self) -> Visit {
        let random = &mut self.random;
        let kind = random.u8(..8);
        let at_most = |ms: u64, random: &mut Rng| Duration::from_micros(random.u64(..ms * 1_000));
        let visit = |path, waits| Visit { path, body: None, reads: usize::MAX, waits };
        match kind {
            // Most of them wait for the app's only instance.
            0 | 1 => visit("/narrow?ms=50", at_most(40, random)),
            2 => visit("/sleeper?ms=600000", at_most(20, random)),
            3 => visit("/spinner", at_most(10, random)),
            4 => {
                let declared = random.usize(1_000..400_000);
                let body = Some((declared, random.usize(..declared)));
                Visit { body, ..visit("/echo", at_most(10, random)) }
            }
            5 => {
                let reads = random.usize(..3_000_000);
                Visit { reads, ..visit("/stream?bytes=4000000", at_most(30, random)) }
            }
            6 => visit("/stream?n=1000&ms=1", at_most(30, random)),
            _ => visit("/hello", PATIENCE),
        }
    }

    async fn http1(&mut self, visit: &Visit, manner: Manner) -> std::io::Result<()> {
        let mut stream = TcpStream::connect(self.address).await?;
        if matches!(manner, Manner::Reset) {
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        }
        let (method, length) = match visit.body {
            Some((declared, _)) => ("POST", format!("content-length: {declared}\r\n")),
            None => ("GET", String::new()),
        };
        let head =
            format!("{method} {} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{length}\r\n", visit.path);
        let mut answer = Vec::new();
        let exchange = async {
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(&vec![b'x'; visit.body.map_or(0, |(_, sent)| sent)]).await?;
            (&mut stream).take(visit.reads as u64).read_to_end(&mut answer).await
        };
        if let Ok(read) = timeout(visit.waits, exchange).await {
            read?;
            if visit.path == "/hello" {
                let answer = String::from_utf8_lossy(&answer);
                assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(GREETING), "{answer}");
            }
        }
        Ok(())
    }

    /// `None` if the connection is of no more use.
    async fn http2(&mut self, visit: &Visit) -> Option<()> {
        if self.http2.is_none() {
            let stream = TcpStream::connect(self.address).await.ok()?;
            let made = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
            let (sender, connection) = made.ok()?;
            self.http2 = Some(Http2 { sender, connection: tokio::spawn(connection) });
        }
        let sender = &mut self.http2.as_mut()?.sender;
        sender.ready().await.ok()?;
        let uri = format!("http://a{}", visit.path);
        // Dropped when it leaves, which is what the body waits for.
        let (_stays, rest) = oneshot::channel();
        let request = match visit.body {
            Some((declared, sent)) => {
                let part = Part { sent: Some(vec![b'x'; sent].into()), rest: Some(rest) };
                Request::post(uri).header("content-length", declared).body(part)
            }
            None => Request::get(uri).body(Part { sent: None, rest: None }),
        };
        let answer = sender.send_request(request.ok()?);
        let read = async {
            let (head, mut body) = answer.await.ok()?.into_parts();
            let mut bytes = Vec::new();
            while bytes.len() < visit.reads {
                let Some(frame) = body.frame().await else { break };
                bytes.extend_from_slice(&frame.ok()?.into_data().unwrap_or_default());
            }
            if visit.path == "/hello" {
                assert_eq!((head.status.as_u16(), &*String::from_utf8_lossy(&bytes)), (200, GREETING));
            }
            Some(())
        };
        // Dropping what has begun resets the stream.
        timeout(visit.waits, read).await.unwrap_or(Some(()))
    }
}

impl http_body::Body for Part {
    type Data = Bytes;
    type Error = Left;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Left>>> {
        match (self.sent.take(), &mut self.rest) {
            (Some(bytes), _) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            (None, Some(rest)) => Pin::new(rest).poll(cx).map(|_| Some(Err(Left))),
            (None, None) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.sent.is_none() && self.rest.is_none()
    }
}

impl Drop for Http2 {
    fn drop(&mut self) {
        self.connection.abort();
    }
}
