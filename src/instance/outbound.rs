//! HTTP requests of guests to elsewhere: denied unless allowed, and checked where it counts.
//!
//! ```text
//! request -> [method, URI, origin allowed] -> [permit] -> pool -> response's headers -> body -> permit back
//!                                                          |
//!                                    new connection: resolve -> [each address] -> TCP -> TLS
//! ```
//!
//! *Allowed* means two things, both needed: the app's `[outbound] allow` has the request's origin, and the address that
//! it leads to is public or granted by the operator ([`address`]). The address is checked by the connector, on the very
//! address it connects to.
//!
//! *Redirects* are not followed by the host. A guest gets the 3xx response, and what it makes of it is a new request,
//! which is checked like any other.
//!
//! *One pool for each app's release, not one for all.* A pooled connection has passed the address check of the app that
//! opened it, and another app's may be stricter. What apps share is what carries no rights: the root certificates, and
//! the host's bounds on connections and look-ups ([`OutboundClient`]). A pool is made when an app may send anything at
//! all, keeps few idle connections for each origin and closes them soon.
//!
//! *Bounds*: requests under way for an app, connections and look-ups for the host; time for resolving, connecting and
//! TLS together, for the response's headers, and for each frame of its body; bytes and number of a response's header
//! fields. A body is streamed, with the guest's pace as the sender's.

pub mod address;
mod body;
mod connect;
mod failure;
mod report;
mod request;

pub use failure::Failure;

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_rustls::ConfigBuilderExt;
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::RwLock;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

use crate::config::Outbound;
use body::ResponseBody;
use connect::{Connector, SecureConnector};
use report::{Call, Reporter};

/// The bounds of all apps together, and of each response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboundLimits {
    /// Connections open at once, busy and idle.
    pub max_connections: usize,
    /// Names being resolved at once.
    pub max_lookups: usize,
    /// Idle connections that an app keeps for one origin, and for how long.
    pub max_idle_per_origin: usize,
    pub idle_timeout: Duration,
    /// Bytes of a response's header section.
    pub max_header_bytes: usize,
    pub max_header_fields: usize,
}

impl Default for OutboundLimits {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            max_lookups: 32,
            max_idle_per_origin: 8,
            idle_timeout: Duration::from_secs(15),
            max_header_bytes: 64 * 1024,
            max_header_fields: 128,
        }
    }
}

/// What the apps share for their requests.
pub struct OutboundClient {
    limits: OutboundLimits,
    tls: Arc<rustls::ClientConfig>,
    connections: Arc<Semaphore>,
    lookups: Arc<Semaphore>,
    listeners: RwLock<Arc<[SocketAddr]>>,
}

/// One release's way out.
pub struct AppOutbound {
    policy: Outbound,
    permits: Arc<Semaphore>,
    reporter: Arc<Reporter>,
    max_header_bytes: usize,
    /// None if the app may send nothing.
    pool: Option<Pool>,
}

type Pool = Client<SecureConnector, WasiBody>;

/// The response, and the fate of the request's body.
pub type Sent = (http::Response<WasiBody>, BoxFuture<'static, Result<(), Error>>);

impl OutboundClient {
    /// A client that trusts the public certificate authorities.
    pub fn new(limits: OutboundLimits) -> Arc<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has the cipher suites of the default versions")
            .with_webpki_roots()
            .with_no_client_auth();
        Self::with_tls(limits, tls)
    }

    fn with_tls(limits: OutboundLimits, mut tls: rustls::ClientConfig) -> Arc<Self> {
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        // A session resumed by one app would tell a server that another app of this host was there before.
        tls.resumption = rustls::client::Resumption::disabled();
        Arc::new(Self {
            connections: Arc::new(Semaphore::new(limits.max_connections)),
            lookups: Arc::new(Semaphore::new(limits.max_lookups)),
            listeners: RwLock::new(Arc::from([])),
            tls: Arc::new(tls),
            limits,
        })
    }

    /// Tells where this host listens, once it does: no guest may connect there without a grant of the very address.
    pub fn set_listeners(&self, listeners: &[SocketAddr]) {
        *self.listeners.write() = Arc::from(listeners);
    }

    /// The way out for a release of `app`.
    pub fn for_app(self: &Arc<Self>, app: &str, policy: Outbound) -> Arc<AppOutbound> {
        let permits = usize::try_from(policy.max_concurrent).unwrap_or(Semaphore::MAX_PERMITS);
        let pool = (!policy.allow.is_empty()).then(|| self.pool(&policy));
        Arc::new(AppOutbound {
            permits: Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS))),
            reporter: Reporter::new(app),
            max_header_bytes: self.limits.max_header_bytes,
            policy,
            pool,
        })
    }

    fn pool(self: &Arc<Self>, policy: &Outbound) -> Pool {
        let granted = Arc::from(policy.granted_networks.as_slice());
        let connector = Connector::new(self.clone(), granted, policy.connect_timeout);
        let mut builder = Client::builder(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(self.limits.idle_timeout)
            .pool_max_idle_per_host(self.limits.max_idle_per_origin)
            // Hyper takes no smaller one.
            .http1_max_buf_size(self.limits.max_header_bytes.max(8 * 1024))
            .http1_max_headers(self.limits.max_header_fields)
            .set_host(false)
            .build(SecureConnector::new(connector, self.tls.clone()))
    }
}

impl AppOutbound {
    /// Sends a guest's request, and gives the response once its headers have come.
    ///
    /// A call that is refused or fails is logged. The permit taken is given back at the end of the response's body.
    ///
    /// Cancellation safety: dropping the future gives up the request, and its connection with it.
    ///
    /// # Errors
    /// The error code of wasi:http that says why the request was refused or failed: see [`Failure`].
    pub fn send(
        self: &Arc<Self>,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
    ) -> impl Future<Output = Result<Sent, Error>> + Send + use<> {
        let this = self.clone();
        async move {
            let call = this.reporter.call(request.uri());
            match this.try_send(request, options.unwrap_or_default(), call.clone()).await {
                Ok(response) => Ok((response, Box::pin(std::future::ready(Ok(()))) as BoxFuture<_>)),
                Err(failure) => {
                    call.report(&failure);
                    Err(failure.into())
                }
            }
        }
    }

    async fn try_send(
        &self,
        request: http::Request<WasiBody>,
        options: RequestOptions,
        call: Call,
    ) -> Result<http::Response<WasiBody>, Failure> {
        let (mut parts, body) = request.into_parts();
        let (target, matched) = request::check(&parts, &self.policy.allow)?;
        let pool = self.pool.as_ref().ok_or(Failure::NotAllowed)?;
        // At once, as a guest that waits here would keep its instance from others.
        let permit = self.permits.clone().try_acquire_owned().map_err(|_| Failure::TooManyRequests)?;
        request::prepare(&mut parts, &target, matched)?;
        let request = http::Request::from_parts(parts, body);
        let waited = timeout(self.policy.timeout, exchange(pool, request, options)).await;
        let response = waited.unwrap_or(Err(Failure::ResponseTimeout))?;
        // Hyper's own bound is on its buffer, into which twice as much may get.
        if request::header_bytes(response.headers()) > self.max_header_bytes {
            return Err(Failure::HeaderSize);
        }
        let patience = at_most(self.policy.timeout, options.between_bytes_timeout);
        let (mut parts, body) = response.into_parts();
        request::strip_connection_fields(&mut parts.headers);
        let body = ResponseBody::new(body, patience, permit, call);
        Ok(http::Response::from_parts(parts, body.boxed_unsync()))
    }
}

/// Until the response's headers: the guest's own patience, which the policy's bounds from outside.
async fn exchange(
    pool: &Pool,
    mut request: http::Request<WasiBody>,
    options: RequestOptions,
) -> Result<http::Response<Incoming>, Failure> {
    let mut connection = capture_connection(&mut request);
    let mut response = pin!(pool.request(request));
    let failed = |error: legacy::Error| Failure::of_client(&error);
    let connected = async {
        let connected = connection.wait_for_connection_metadata();
        at_most_for(options.connect_timeout, connected).await.is_some()
    };
    tokio::select! {
        biased;
        response = &mut response => return response.map_err(failed),
        connected = connected => if !connected {
            return Err(Failure::ConnectTimeout);
        },
    }
    match at_most_for(options.first_byte_timeout, response).await {
        Some(response) => response.map_err(failed),
        None => Err(Failure::ResponseTimeout),
    }
}

fn at_most(limit: Duration, wanted: Option<Duration>) -> Duration {
    wanted.map_or(limit, |wanted| wanted.min(limit))
}

/// The future's output, unless the limit passes first.
async fn at_most_for<F: Future>(limit: Option<Duration>, future: F) -> Option<F::Output> {
    match limit {
        Some(limit) => timeout(limit, future).await.ok(),
        None => Some(future.await),
    }
}

#[cfg(test)]
mod tests;
