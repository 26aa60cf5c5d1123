//! The socket as hyper sees it: bytes read ahead are replayed, framing is followed, a stalled writer is noticed,
//! and a connection that did not end cleanly is reset instead of closed.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use super::activity::Activity;
use super::framing::Framing;
use crate::server::drain::DrainSignal;

/// Bytes that are read and thrown away at once while a refused request is let run out.
const DISCARD: usize = 16 * 1024;

#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    replay: Bytes,
    /// Followed on HTTP/1 only.
    framing: Option<Framing>,
    activity: Arc<Activity>,
    write_stall: Stall,
    /// The client has shut down its sending side.
    read_ended: bool,
    half_close: Stall,
}

/// A clock that runs while something is waited for; its timer is touched when a wait begins that outlives the
/// timer's last setting, not for every wait.
#[derive(Debug)]
pub(super) struct Stall {
    limit: Duration,
    since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Socket {
    pub(super) fn new(
        stream: TcpStream,
        replay: Bytes,
        activity: Arc<Activity>,
        write_timeout: Duration,
    ) -> Self {
        Self {
            stream,
            replay,
            framing: None,
            activity,
            write_stall: Stall::new(write_timeout),
            read_ended: false,
            half_close: Stall::new(Duration::ZERO),
        }
    }

    /// Follows HTTP/1 requests in what is read, and lets a request that is being answered outlive the end of the
    /// client's sending side by `half_close_time`.
    pub(super) fn following(mut self, framing: Framing, half_close_time: Duration) -> Self {
        self.framing = Some(framing);
        self.half_close = Stall::new(half_close_time);
        self
    }

    /// Says `last` if the socket takes it at once, and that nothing more will come.
    pub(super) async fn say_and_close(&mut self, last: &[u8]) {
        let _ = self.stream.try_write(last);
        let _ = std::future::poll_fn(|cx| Pin::new(&mut self.stream).poll_shutdown(cx)).await;
    }

    /// Waits for the client to stop sending if it may still do so, at most `time`: a socket that is closed while
    /// unread bytes are in it is reset by the kernel, which can take the answer away from a client that is still
    /// sending.
    pub(super) async fn linger(&mut self, time: Duration, expect_more: bool, drain: &DrainSignal) {
        if !expect_more && !self.has_unread() {
            return;
        }
        let over = tokio::time::sleep(time);
        tokio::select! {
            () = over => {}
            () = drain.aborting() => {}
            () = self.discard() => {}
        }
    }

    async fn discard(&self) {
        let mut scrap = Vec::with_capacity(DISCARD);
        while self.stream.readable().await.is_ok() {
            scrap.clear();
            match self.stream.try_read_buf(&mut scrap) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }

    /// Asks the kernel: Tokio knows only what it was told at its last look.
    fn has_unread(&self) -> bool {
        let mut byte = [std::mem::MaybeUninit::uninit()];
        socket2::SockRef::from(&self.stream).peek(&mut byte).is_ok_and(|read| read > 0)
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.replay.is_empty() {
            let taken = self.replay.len().min(buf.remaining());
            buf.put_slice(self.replay.get(..taken).unwrap_or_default());
            self.replay.advance(taken);
            if self.replay.is_empty() {
                // An empty `Bytes` would keep the buffer.
                self.replay = Bytes::new();
            }
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        if !self.read_ended {
            match Pin::new(&mut self.stream).poll_read(cx, buf) {
                Poll::Pending if self.is_quiet() => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) if buf.filled().len() == before => self.read_ended = true,
                other => return other,
            }
        }
        // A client that shut down its sending side can't be told from one that left. It gets an answer that comes
        // soon; the instance of one that left is free soon. What was only half said can't be answered at all.
        let answering = self.activity.in_flight() > 0 && !self.activity.is_mid_request();
        if self.framing.is_some() && answering {
            self.activity.half_closed(cx.waker());
            return self.half_close.poll_over(cx).map(Ok);
        }
        Poll::Ready(Ok(()))
    }

    /// Nothing is under way on a connection that is to end when that is so.
    fn is_quiet(&self) -> bool {
        self.activity.is_finishing() && self.activity.in_flight() == 0 && !self.activity.is_mid_request()
    }

    fn wrote<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            if self.write_stall.end() {
                self.activity.set_write_blocked(false);
            }
            return written;
        }
        self.activity.set_write_blocked(true);
        match self.write_stall.poll_over(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client stopped reading")))
            }
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        let before = buf.filled().len();
        let read = me.poll_fill(cx, buf);
        if let Some(framing) = &mut me.framing {
            let new = buf.filled().get(before..).unwrap_or_default();
            if !new.is_empty() {
                framing.feed(new);
                me.activity.followed(framing);
            }
        }
        read
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let me = self.get_mut();
        let written = Pin::new(&mut me.stream).poll_write(cx, buf);
        me.wrote(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let me = self.get_mut();
        let written = Pin::new(&mut me.stream).poll_write_vectored(cx, bufs);
        me.wrote(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Without a length or chunks, an ordinary close would make half an answer look like a whole one; and for a
        // client that stopped reading, the kernel would keep the unsent bytes for minutes.
        if !self.activity.is_clean() {
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl Stall {
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, since: None, timer: None }
    }

    /// Ends a wait; true if there was one.
    pub(super) fn end(&mut self) -> bool {
        self.since.take().is_some()
    }

    /// Begins a wait or goes on with one; ready when it has lasted for the limit.
    pub(super) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = *self.since.get_or_insert_with(Instant::now) + self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        while timer.as_mut().poll(cx).is_ready() {
            if timer.deadline() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}
