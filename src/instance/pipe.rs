//! A bounded pipe of bytes from a command's stdout to the host, with backpressure.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::AsyncWrite;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

/// Bytes that may be under way: what a guest can be ahead of the host.
const CAPACITY: usize = 64 << 10;

/// The guest's end. All clones write into the same pipe; it ends only by [`PipeEnd::finish`].
#[derive(Debug, Clone)]
pub struct PipeStdout(Arc<Mutex<Pipe>>);

/// The host's handle by which a command that ended well closes its output.
#[derive(Debug)]
pub struct PipeEnd(Arc<Mutex<Pipe>>);

/// The host's end: a stream of chunks.
#[derive(Debug)]
pub struct PipeReader(Arc<Mutex<Pipe>>);

#[derive(Debug, Default)]
struct Pipe {
    chunks: VecDeque<Bytes>,
    bytes: usize,
    finished: bool,
    reader_gone: bool,
    reader: Option<Waker>,
    /// Guests may hold several handles to their stdout; all that wait are woken.
    writers: Vec<Waker>,
}

pub fn pipe() -> (PipeStdout, PipeEnd, PipeReader) {
    let pipe = Arc::new(Mutex::new(Pipe::default()));
    (PipeStdout(pipe.clone()), PipeEnd(pipe.clone()), PipeReader(pipe))
}

impl Pipe {
    fn room(&self) -> usize {
        CAPACITY.saturating_sub(self.bytes)
    }

    fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.bytes += bytes.len();
            self.chunks.push_back(bytes);
            if let Some(reader) = self.reader.take() {
                reader.wake();
            }
        }
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.room() > 0 || self.reader_gone {
            return Poll::Ready(());
        }
        if !self.writers.iter().any(|waker| waker.will_wake(cx.waker())) {
            self.writers.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl PipeEnd {
    /// The output is complete.
    pub fn finish(self) {
        let mut pipe = self.0.lock();
        pipe.finished = true;
        if let Some(reader) = pipe.reader.take() {
            reader.wake();
        }
    }
}

impl PipeReader {
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut pipe = self.0.lock();
        if let Some(chunk) = pipe.chunks.pop_front() {
            pipe.bytes -= chunk.len();
            for writer in pipe.writers.drain(..) {
                writer.wake();
            }
            return Poll::Ready(Some(chunk));
        }
        if pipe.finished {
            return Poll::Ready(None);
        }
        pipe.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// The next chunk, or `None` when the output is complete. Cancellation safety: nothing is taken before it is
    /// returned.
    pub async fn chunk(&mut self) -> Option<Bytes> {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }
}

impl Drop for PipeReader {
    fn drop(&mut self) {
        let mut pipe = self.0.lock();
        pipe.reader_gone = true;
        pipe.chunks.clear();
        pipe.bytes = 0;
        for writer in pipe.writers.drain(..) {
            writer.wake();
        }
    }
}

impl IsTerminal for PipeStdout {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for PipeStdout {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Pollable for PipeStdout {
    async fn ready(&mut self) {
        poll_fn(|cx| self.0.lock().poll_room(cx)).await;
    }
}

impl OutputStream for PipeStdout {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let mut pipe = self.0.lock();
        if pipe.reader_gone {
            return Err(StreamError::Closed);
        }
        // Several handles may each have seen the same room, so one write more is taken; a guest that goes on
        // without asking for room is ended.
        if bytes.len() > pipe.room() + CAPACITY {
            return Err(StreamError::Trap(wasmtime::format_err!("wrote to stdout without room")));
        }
        pipe.push(bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        let pipe = self.0.lock();
        if pipe.reader_gone { Err(StreamError::Closed) } else { Ok(pipe.room()) }
    }
}

impl AsyncWrite for PipeStdout {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let mut pipe = self.0.lock();
        if pipe.poll_room(cx).is_pending() {
            return Poll::Pending;
        }
        if pipe.reader_gone {
            return Poll::Ready(Err(std::io::ErrorKind::BrokenPipe.into()));
        }
        let taken = bytes.len().min(pipe.room());
        pipe.push(Bytes::copy_from_slice(&bytes[..taken]));
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
