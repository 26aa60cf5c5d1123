//! New connections: a name is resolved, each address is checked, and only an allowed one is connected to.
//!
//! The check is here, and not before the request is handed to the pool, because here it can't be bypassed: the
//! address that is checked is the one that the socket is given. A second look-up of the name, with another answer
//! (DNS rebinding), is checked again.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tower_service::Service;

use super::OutboundClient;
use super::address::{effective, prohibited};
use super::failure::Failure;
use super::request::Target;
use crate::config::GrantedNetwork;

/// Addresses of one name that are tried at most.
const MAX_ADDRESSES: usize = 6;

/// Makes the connections of one app's pool.
#[derive(Clone)]
pub(super) struct Connector {
    host: Arc<OutboundClient>,
    granted: Arc<[GrantedNetwork]>,
    timeout: Duration,
}

impl Connector {
    pub(super) fn new(host: Arc<OutboundClient>, granted: Arc<[GrantedNetwork]>, timeout: Duration) -> Self {
        Self { host, granted, timeout }
    }

    async fn connect(self, uri: Uri) -> Result<Stream, Failure> {
        let target = Target::of(&uri).ok_or(Failure::Uri)?;
        let connections = self.host.connections.clone();
        let permit = connections.try_acquire_owned().map_err(|_| Failure::TooManyConnections)?;
        let addresses = match target.host.parse::<IpAddr>() {
            Ok(ip) => vec![SocketAddr::new(ip, target.port)],
            Err(_) => self.resolve(target).await?,
        };
        let allowed = self.allowed(addresses)?;
        let tcp = self.connect_to_one_of(&allowed).await?;
        // Small requests must not wait for the acknowledgement of the one before.
        tcp.set_nodelay(true).map_err(|error| connect_failure(&error))?;
        Ok(Stream { tcp: TokioIo::new(tcp), _permit: permit })
    }

    /// Asks the system's resolver, which blocks a thread, so only so many at once.
    async fn resolve(&self, target: Target) -> Result<Vec<SocketAddr>, Failure> {
        let resolved = async {
            let lookups = self.host.lookups.clone();
            let permit = lookups.acquire_owned().await.map_err(|_| Failure::ResolveTimeout)?;
            let task = tokio::task::spawn_blocking(move || {
                // Given back when the thread is free again, which is not when nobody waits for it any more.
                let _permit = permit;
                let addresses = (target.host.as_str(), target.port).to_socket_addrs()?;
                Ok::<_, io::Error>(addresses.take(MAX_ADDRESSES).collect::<Vec<_>>())
            });
            match task.await {
                Ok(Ok(addresses)) if addresses.is_empty() => Err(Failure::Resolve("no address".to_owned())),
                Ok(Ok(addresses)) => Ok(addresses),
                Ok(Err(error)) => Err(Failure::Resolve(error.to_string())),
                Err(_) => Err(Failure::Resolve("the look-up was given up".to_owned())),
            }
        };
        timeout(self.timeout, resolved).await.unwrap_or(Err(Failure::ResolveTimeout))
    }

    /// Those of the addresses that the app may connect to; if there are none, why not the first.
    fn allowed(&self, addresses: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Failure> {
        let mut first_reason = None;
        let mut allowed = Vec::with_capacity(addresses.len());
        for address in addresses {
            let own = own_addresses(&self.host.listeners.read(), address);
            match prohibited(address, &self.granted, &own) {
                None => allowed.push(address),
                Some(reason) => first_reason = first_reason.or(Some(reason)),
            }
        }
        match first_reason {
            Some(reason) if allowed.is_empty() => Err(Failure::Prohibited(reason)),
            _ => Ok(allowed),
        }
    }

    /// One after the other, each with an even share of the time: the first one might swallow what it is sent.
    async fn connect_to_one_of(&self, addresses: &[SocketAddr]) -> Result<TcpStream, Failure> {
        let share = self.timeout / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
        let mut last = Failure::Resolve("no address".to_owned());
        for &address in addresses {
            match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(tcp)) => return Ok(tcp),
                Ok(Err(error)) => last = connect_failure(&error),
                Err(_) => last = Failure::ConnectTimeout,
            }
        }
        Err(last)
    }
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = Failure;
    type Future = BoxFuture<'static, Result<Stream, Failure>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

/// Adds TLS for `https`, and sees that the whole of resolving, connecting and handshake keeps to the time.
#[derive(Clone)]
pub(super) struct SecureConnector {
    inner: HttpsConnector<Connector>,
    timeout: Duration,
}

impl SecureConnector {
    pub(super) fn new(inner: Connector, tls: Arc<rustls::ClientConfig>) -> Self {
        let timeout = inner.timeout;
        Self { inner: HttpsConnector::from((inner, tls)), timeout }
    }
}

impl Service<Uri> for SecureConnector {
    type Response = MaybeHttpsStream<Stream>;
    type Error = Failure;
    type Future = BoxFuture<'static, Result<Self::Response, Failure>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = timeout(self.timeout, self.inner.call(uri));
        Box::pin(async move {
            let connected = connecting.await.map_err(|_| Failure::ConnectTimeout)?;
            connected.map_err(|error| Failure::of_connector(&*error))
        })
    }
}

/// A connection, which counts against the host's maximum until it is closed, idle or not.
pub(super) struct Stream {
    tcp: TokioIo<TcpStream>,
    _permit: OwnedSemaphorePermit,
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        self.tcp.connected()
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buffer)
    }
}

impl Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write_vectored(cx, buffers)
    }
}

/// The host's listeners, with `target` itself in place of one on the unspecified address that `target` would reach.
fn own_addresses(listeners: &[SocketAddr], target: SocketAddr) -> Vec<SocketAddr> {
    let reached = |listener: &SocketAddr| {
        effective(listener.ip()).is_unspecified()
            && listener.port() == target.port()
            && is_of_this_machine(target.ip())
    };
    listeners.iter().map(|listener| if reached(listener) { target } else { *listener }).collect()
}

/// Whether packets to the address stay on this machine: then the kernel gives them the same address as their source.
///
/// Connecting a UDP socket only chooses a route; nothing is sent. Where that fails there is no route, and so no danger.
fn is_of_this_machine(ip: IpAddr) -> bool {
    let ip = effective(ip);
    let any: IpAddr = match ip {
        IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let source = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((ip, 9))?;
        socket.local_addr()
    });
    source.is_ok_and(|source| source.ip() == ip || ip.is_loopback())
}

fn connect_failure(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Failure::Refused,
        io::ErrorKind::TimedOut => Failure::ConnectTimeout,
        _ => Failure::Connect(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
