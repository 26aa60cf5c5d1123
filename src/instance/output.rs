//! What a guest prints, as lines in the host's log: bounded in length and number.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::AsyncWrite;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

/// Longest line that is logged whole, bytes; a longer one is cut into several.
const MAX_LINE: usize = 4096;

/// Bytes that a guest may write at once.
const WRITE_BUDGET: usize = 64 << 10;

/// The output of one instance's guest. Cheap to clone: both streams and the instance share it.
#[derive(Debug, Clone)]
pub struct GuestLog(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    app: Arc<str>,
    /// The request that the instance works on; 0 before the first.
    request: AtomicU64,
    max_lines: u32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Unfinished lines of stdout and stderr.
    partial: [Vec<u8>; 2],
    lines: u32,
    dropped: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Stdout = 0,
    Stderr = 1,
}

impl GuestLog {
    pub fn new(app: Arc<str>, max_lines: u32) -> GuestLog {
        GuestLog(Arc::new(Shared { app, request: AtomicU64::new(0), max_lines, state: Mutex::default() }))
    }

    /// Begins a request: its lines are tagged with this id, and the count starts anew.
    pub fn begin(&self, request: u64) {
        self.0.request.store(request, Relaxed);
        let mut state = self.0.state.lock();
        state.lines = 0;
        state.dropped = 0;
    }

    pub fn stream(&self, stream: Stream) -> LogStream {
        LogStream { log: self.clone(), stream }
    }

    fn write(&self, stream: Stream, mut bytes: &[u8]) {
        let mut state = self.0.state.lock();
        while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
            let partial = std::mem::take(&mut state.partial[stream as usize]);
            self.line(&mut state, stream, partial, &bytes[..end]);
            bytes = &bytes[end + 1..];
        }
        while !bytes.is_empty() {
            let room = MAX_LINE.saturating_sub(state.partial[stream as usize].len());
            let (now, rest) = bytes.split_at(room.min(bytes.len()));
            state.partial[stream as usize].extend_from_slice(now);
            bytes = rest;
            if state.partial[stream as usize].len() >= MAX_LINE {
                let partial = std::mem::take(&mut state.partial[stream as usize]);
                self.line(&mut state, stream, partial, b"");
            }
        }
    }

    fn line(&self, state: &mut State, stream: Stream, mut line: Vec<u8>, end: &[u8]) {
        if state.lines >= self.0.max_lines {
            state.dropped = state.dropped.saturating_add(1);
            return;
        }
        state.lines += 1;
        line.extend_from_slice(&end[..end.len().min(MAX_LINE)]);
        let text = String::from_utf8_lossy(&line);
        let request_id = format_args!("{:016x}", self.0.request.load(Relaxed)).to_string();
        match stream {
            Stream::Stdout => {
                tracing::info!(target: "guest", app = %self.0.app, request_id, "{}", text.escape_debug())
            }
            Stream::Stderr => {
                tracing::warn!(target: "guest", app = %self.0.app, request_id, "{}", text.escape_debug())
            }
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let log = std::mem::take(self.state.get_mut());
        let request_id = format!("{:016x}", self.request.load(Relaxed));
        for partial in log.partial.iter().filter(|partial| !partial.is_empty()) {
            let text = String::from_utf8_lossy(partial);
            tracing::info!(target: "guest", app = %self.app, request_id, "{}", text.escape_debug());
        }
        if log.dropped > 0 {
            tracing::warn!(target: "guest", app = %self.app, request_id, dropped = log.dropped, "more lines than log_lines");
        }
    }
}

/// One of a guest's two output streams.
#[derive(Debug, Clone)]
pub struct LogStream {
    log: GuestLog,
    stream: Stream,
}

impl IsTerminal for LogStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogStream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Pollable for LogStream {
    async fn ready(&mut self) {}
}

impl OutputStream for LogStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.log.write(self.stream, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BUDGET)
    }
}

impl AsyncWrite for LogStream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.log.write(self.stream, bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
