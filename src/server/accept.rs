//! The listener and the accept loop.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::connection::{self, Handler, Limits};
use super::drain::DrainSignal;

/// Connections that the kernel holds for us while we don't accept (it may hold fewer: `net.core.somaxconn`).
const BACKLOG: u32 = 4096;

/// How long not to accept after the machine has run out of something.
const BACK_OFF: Duration = Duration::from_millis(50);

/// The least time between two log lines about failing accepts.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// A bound socket: connections to it wait in the kernel until it is served.
#[derive(Debug)]
pub struct Listener {
    inner: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Binds `address`; port 0 takes any free one. Call it inside a Tokio runtime.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        // A restart must not wait until the old connections' remains have gone.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let inner = socket.listen(BACKLOG)?;
        let address = inner.local_addr()?;
        Ok(Self { inner, address })
    }

    /// The real address, with the port that was taken.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }
}

/// Accepts connections and serves each in a task of its own until `drain` begins; then takes what the kernel has
/// already accepted, closes the port and ends. The connections go on: [`super::drain::Drain::finish`] waits for them.
///
/// At `limits.max_connections` it stops accepting until one ends. Nothing that can go wrong with accepting ends it.
pub fn serve<H: Handler>(
    listener: Listener,
    limits: Limits,
    handler: H,
    drain: DrainSignal,
) -> impl Future<Output = ()> + Send {
    Acceptor::new(listener.inner, limits, handler, drain).run()
}

/// What connections come from; a seam for tests of failing accepts.
trait Source: Send {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>>;

    /// Gives up the asynchronous side, to ask the kernel itself what is left.
    fn into_std(self) -> io::Result<std::net::TcpListener>;
}

struct Acceptor<S, H> {
    source: S,
    limits: Arc<Limits>,
    handler: H,
    drain: DrainSignal,
    /// The drain waits for us: the last connections are spawned by us.
    _token: tokio_util::task::task_tracker::TaskTrackerToken,
    free: Arc<Semaphore>,
    troubles: Troubles,
}

/// Failed accepts since the last log line about them.
#[derive(Debug, Default)]
struct Troubles {
    count: u64,
    logged: Option<Instant>,
}

impl<S: Source, H: Handler> Acceptor<S, H> {
    fn new(source: S, limits: Limits, handler: H, drain: DrainSignal) -> Self {
        let most = limits.max_connections.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            source,
            limits: Arc::new(limits),
            handler,
            _token: drain.token(),
            drain,
            free: Arc::new(Semaphore::new(most)),
            troubles: Troubles::default(),
        }
    }

    async fn run(mut self) {
        let mut draining = std::pin::pin!(self.drain.draining());
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut draining => break,
                accepted = next(&self.free, &mut self.source) => accepted,
            };
            match accepted {
                Ok((stream, remote, permit)) => self.spawn(stream, remote, Some(permit)),
                Err(error) => {
                    self.troubles.note(&error);
                    let pause = pause_after(&error);
                    tokio::select! {
                        () = &mut draining => break,
                        () = tokio::time::sleep(pause), if !pause.is_zero() => {}
                        () = tokio::task::yield_now(), if pause.is_zero() => {}
                    }
                }
            }
        }
        self.take_backlog();
    }

    /// Serves what the kernel accepted before the port closes. This is beyond the connection limit, by the backlog's
    /// size at most, and each of them is served once and closed.
    fn take_backlog(self) {
        let Self { source, limits, handler, drain, .. } = self;
        let listener = match source.into_std() {
            Ok(listener) => listener,
            Err(error) => {
                tracing::warn!(%error, "closed the port without its last connections");
                return;
            }
        };
        for _ in 0..BACKLOG {
            let accepted = listener.accept().and_then(|(stream, remote)| {
                stream.set_nonblocking(true)?;
                Ok((TcpStream::from_std(stream)?, remote))
            });
            match accepted {
                Ok((stream, remote)) => {
                    spawn(stream, remote, None, &limits, &handler, &drain);
                }
                Err(error) if pause_after(&error).is_zero() => {}
                Err(error) => {
                    if error.kind() != io::ErrorKind::WouldBlock {
                        tracing::warn!(%error, "closed the port without its last connections");
                    }
                    return;
                }
            }
        }
    }

    fn spawn(&self, stream: TcpStream, remote: SocketAddr, permit: Option<OwnedSemaphorePermit>) {
        let (limits, handler, drain) = (&self.limits, &self.handler, &self.drain);
        spawn(stream, remote, permit, limits, handler, drain);
    }
}

impl Troubles {
    fn note(&mut self, error: &io::Error) {
        self.count += 1;
        let quiet = self.logged.is_some_and(|at| at.elapsed() < LOG_INTERVAL);
        if !quiet {
            tracing::warn!(%error, count = self.count, "accepting a connection failed");
            self.logged = Some(Instant::now());
            self.count = 0;
        }
    }
}

impl Source for TcpListener {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        TcpListener::poll_accept(self, cx)
    }

    fn into_std(self) -> io::Result<std::net::TcpListener> {
        TcpListener::into_std(self)
    }
}

/// The next connection, once there is room for it.
///
/// Cancellation safety: a connection is returned in the same poll that takes it from the kernel.
async fn next(
    free: &Arc<Semaphore>,
    source: &mut impl Source,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = free.clone().acquire_owned().await;
    let permit = permit.map_err(io::Error::other)?;
    let (stream, remote) = poll_fn(|cx| source.poll_accept(cx)).await?;
    Ok((stream, remote, permit))
}

fn spawn<H: Handler>(
    stream: TcpStream,
    remote: SocketAddr,
    permit: Option<OwnedSemaphorePermit>,
    limits: &Arc<Limits>,
    handler: &H,
    drain: &DrainSignal,
) {
    let counted = (permit, drain.connection());
    let (limits, handler, signal) = (limits.clone(), handler.clone(), drain.clone());
    drain.spawn(async move {
        connection::serve(stream, remote, limits, handler, signal).await;
        drop(counted);
    });
}

/// None for what befell one connection only; otherwise the machine lacks something, which takes a moment to come.
fn pause_after(error: &io::Error) -> Duration {
    match error.raw_os_error() {
        Some(
            libc::ECONNABORTED
            | libc::EINTR
            | libc::EPROTO
            | libc::ENETDOWN
            | libc::ENETUNREACH
            | libc::EHOSTUNREACH
            | libc::EHOSTDOWN
            | libc::ENONET
            | libc::ENOPROTOOPT
            | libc::EOPNOTSUPP
            | libc::EPERM,
        ) => Duration::ZERO,
        _ => BACK_OFF,
    }
}

#[cfg(test)]
mod tests;
