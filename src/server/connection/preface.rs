//! Which protocol a connection speaks, told from its first bytes, within the time that a request head may take.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::Limits;
use crate::server::drain::DrainSignal;

const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes of the first read: an ordinary request head fits.
const FIRST_READ: usize = 2048;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// The protocol and the bytes that were read to find it; none if the client went away, said nothing in time, or
/// nothing while the server drains.
///
/// The bytes are read and handed on, not peeked at: a peek at a half-sent preface would be ready again at once.
pub(super) async fn read(
    stream: &TcpStream,
    limits: &Arc<Limits>,
    drain: &DrainSignal,
    began: Instant,
) -> Option<(Protocol, Bytes)> {
    let mut deadline = began + limits.header_timeout;
    let mut first = BytesMut::new();
    let mut draining = std::pin::pin!(drain.draining());
    let mut drain_seen = false;
    loop {
        tokio::select! {
            biased;
            ready = stream.readable() => ready.ok()?,
            () = &mut draining, if !drain_seen => {
                drain_seen = true;
                deadline = deadline.min(Instant::now() + limits.drain_grace);
                continue;
            }
            () = tokio::time::sleep_until(deadline) => return None,
        }
        // Nothing is allocated for a client that says nothing.
        first.reserve(FIRST_READ);
        match stream.try_read_buf(&mut first) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(_) => return None,
        }
        if let Some(protocol) = tell(&first) {
            return Some((protocol, first.freeze()));
        }
    }
}

fn tell(first: &[u8]) -> Option<Protocol> {
    if first.starts_with(HTTP2_PREFACE) {
        Some(Protocol::Http2)
    } else if HTTP2_PREFACE.starts_with(first) {
        None
    } else {
        Some(Protocol::Http1)
    }
}
