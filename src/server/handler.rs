//! One request, from the connection to its answer: route, static files, read, lease, run, reply.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full};

use super::access::AccessLine;
use super::body::{RequestBody, RequestError, ResponseBody, Small, Upload, Uploading, read_small};
use super::connection::{Answered, Arriving, Crowd, Handler, Peer, check_request, host};
use super::files;
use super::reply::{self, Refusal};
use super::seen::Seen;
use super::timing::Timing;
use crate::config::HostConfig;
use crate::instance::{Client, Factory, GuestBody, GuestRequest, Outcome, cgi, exchange};
use crate::metrics::{AnsweredBy, Tally};
use crate::pool::{Cores, Lease, LeaseError};
use crate::registry::{Registry, Target};
use crate::release::Release;
use crate::router::NormalPath;

/// How often a request may be routed anew because its release was replaced before it had a lease.
const MAX_ROUTINGS: u32 = 3;

/// Serves requests from what is live in the registry.
#[derive(Clone)]
pub struct AppHandler(Arc<Shared>);

struct Shared {
    registry: Arc<Registry>,
    cores: Arc<Cores>,
    body_timeout: Duration,
    error_detail: bool,
    access_log: bool,
    debug_headers: bool,
    next_request: AtomicU64,
}

/// A request's release, and its target as the guest sees it: without the mount path, unless it is a command's.
struct Routed {
    release: Arc<Release>,
    target: Uri,
}

enum Served {
    Response(Response<ResponseBody>),
    /// A command named another path of this host, for which the request is to be served instead.
    Redirect(Parts, String),
}

impl AppHandler {
    pub fn new(registry: Arc<Registry>, cores: Arc<Cores>, config: &HostConfig) -> AppHandler {
        // Ids begin at a random place, so that those of two runs don't meet in one log.
        let next_request = AtomicU64::new(fastrand::u64(..) & !0xffff_ffff);
        AppHandler(Arc::new(Shared {
            registry,
            cores,
            body_timeout: config.server.body_timeout,
            error_detail: config.server.error_detail,
            access_log: config.log.access,
            debug_headers: config.debug_headers,
            next_request,
        }))
    }

    async fn serve(
        &self,
        request: Request<Arriving>,
        seen: &mut Seen,
    ) -> Result<Response<ResponseBody>, Refusal> {
        let (mut parts, body) = request.into_parts();
        check_request(&parts)?;
        let mut body = Some(body);
        for _ in 0..=cgi::MAX_LOCAL_REDIRECTS {
            let is_redirected = body.is_none();
            let served = self.serve_once(parts, body.take(), seen).await;
            match served.map_err(|refusal| if is_redirected { refusal.of_redirect() } else { refusal })? {
                Served::Response(response) => return Ok(response),
                Served::Redirect(request, target) => parts = redirected(request, &target)?,
            }
        }
        Err(Refusal::BadRedirect)
    }

    /// THE request: each step is a verb of one module, and what goes wrong is a [`Refusal`].
    async fn serve_once(
        &self,
        parts: Parts,
        body: Option<Arriving>,
        seen: &mut Seen,
    ) -> Result<Served, Refusal> {
        let routed = self.route(&parts, seen)?;
        if let Some(found) = files::find(&routed.release, &parts)? {
            seen.by(AnsweredBy::Files);
            return files::answer(&routed.release, found, &parts).await.map(Served::Response);
        }
        seen.by(AnsweredBy::App);
        let config = &routed.release.config;
        let body = match body {
            Some(body) => {
                let body = RequestBody::new(body, config.max_request_body, self.0.body_timeout)?;
                read_small(body, config.request_buffer, self.0.body_timeout).await?
            }
            None => Small::Whole(Bytes::new(), None),
        };
        record(&routed, &parts, &body);
        seen.timing.asks();
        let (Routed { release, target }, lease) = self.lease(routed, &parts, seen).await?;
        seen.timing.has(&lease, release.config.mode);
        let original = release.kind.is_command().then(|| parts.clone());
        let (body, upload) = guest_body(body);
        seen.upload = upload.clone();
        let request = GuestRequest {
            parts: guest_parts(parts, target, &release, seen.peer.local)?,
            body,
            upload,
            id: seen.id,
            client: Client { remote: seen.peer.remote, local: seen.peer.local, mount: release.mount.clone() },
        };
        let exchanged = exchange(lease, request, &release.config, &release.counters, &release.expired).await;
        seen.timing.answered();
        match (exchanged, original) {
            (Ok(Outcome::Response(response)), _) => Ok(Served::Response(response)),
            (Ok(Outcome::LocalRedirect(target)), Some(original)) => Ok(Served::Redirect(original, target)),
            (Ok(Outcome::LocalRedirect(_)), None) => Err(Refusal::BadRedirect),
            (Err(failure), _) => Err(Refusal::Guest(failure)),
        }
    }

    fn route(&self, parts: &Parts, seen: &mut Seen) -> Result<Routed, Refusal> {
        let path = NormalPath::parse(parts.uri.path())?;
        let live = self.0.registry.live();
        let (found, prefix) = live.route(host(parts), &path).ok_or(Refusal::NoApp)?;
        let release = match found {
            Target::Live(release) => release.clone(),
            Target::Starting(asked) => {
                asked.note();
                return Err(Refusal::Starting);
            }
        };
        // A command is told its mount and the rest apart, in variables made from the whole path.
        let seen_path = if release.kind.is_command() { path.as_str() } else { path.below(prefix) };
        let target = target(&parts.uri, seen_path)?;
        seen.release = Some(release.clone());
        Ok(Routed { release, target })
    }

    /// Takes an instance of the routed release, or of the one that has replaced it meanwhile.
    async fn lease(
        &self,
        mut routed: Routed,
        parts: &Parts,
        seen: &mut Seen,
    ) -> Result<(Routed, Lease<Factory>), Refusal> {
        for _ in 0..MAX_ROUTINGS {
            match routed.release.pool.lease().await {
                Ok(lease) => return Ok((routed, lease)),
                Err(LeaseError::Closed) => routed = self.route(parts, seen)?,
                Err(error) => return Err(Refusal::Lease(error)),
            }
        }
        Err(Refusal::Lease(LeaseError::Closed))
    }
}

impl Handler for AppHandler {
    type Body = ResponseBody<AccessLine>;

    async fn handle(&self, request: Request<Arriving>, peer: Peer) -> Answered<ResponseBody<AccessLine>> {
        let id = self.0.next_request.fetch_add(1, Relaxed);
        let mut seen = Seen::new(id, peer, Timing::new(self.0.debug_headers));
        let mut line = match self.0.access_log {
            true => AccessLine::begin(&request, peer, id),
            false => AccessLine::none(),
        };
        let served = self.serve(request, &mut seen).await;
        if let (Some(release), AnsweredBy::App) = (&seen.release, seen.answered_by) {
            count(&served, &seen, &release.counters.tally);
        }
        let crowd = crowd(&served, &seen);
        let mut response = match served {
            Ok(response) => response,
            Err(refusal) => reply::refuse(&refusal, &seen, self.0.error_detail),
        };
        let asked = seen.release.as_ref().filter(|_| seen.answered_by == AnsweredBy::App);
        seen.timing.tell(response.headers_mut(), asked.map(|release| &release.pool));
        if let Some(release) = &seen.release {
            release.counters.app.response(seen.answered_by, response.status());
        }
        line.answered(response.status(), seen.release.map(|release| release.app.clone()));
        Answered { response: response.map(|body| body.watched(line)), crowd }
    }

    /// A thread of the slow lane gets next to nothing while one of these is awake.
    fn may_busy_poll(&self) -> bool {
        !self.0.cores.lane().has_work()
    }
}

/// The pool that answered the request, or refused to, if it keeps the processors busy or refuses what comes.
fn crowd(served: &Result<Response<ResponseBody>, Refusal>, seen: &Seen) -> Option<Crowd> {
    let release = seen.release.as_ref().filter(|_| seen.answered_by == AnsweredBy::App)?;
    let pool = &release.pool;
    (pool.load().is_busy() || matches!(served, Err(Refusal::Lease(_)))).then(|| pool.number())
}

/// Takes the request down if the operator wants to replay it.
fn record(routed: &Routed, parts: &Parts, body: &Small) {
    let Routed { release, target } = routed;
    let below = || {
        let path = target.path_and_query().map_or("/", PathAndQuery::as_str);
        let prefix = if release.kind.is_command() { release.mount.prefix() } else { "" };
        let below = path.strip_prefix(prefix).unwrap_or(path);
        if below.starts_with('/') { below.to_owned() } else { format!("/{below}") }
    };
    let body = match body {
        Small::Whole(bytes, None) => Some(bytes),
        Small::Whole(_, Some(_)) | Small::Streaming(_) => None,
    };
    release.counters.app.recorder().note(&parts.method, below, &parts.headers, body);
}

/// Counts what the app did: nothing, if it was not asked, or could not but fail.
fn count<B>(served: &Result<Response<B>, Refusal>, seen: &Seen, tally: &Tally) {
    let had_its_body = seen.upload.as_ref().is_none_or(|upload| !upload.is_broken());
    match served {
        Ok(response) if response.status().is_server_error() && !had_its_body => {}
        Ok(response) => tally.ended(response.status().is_server_error()),
        Err(refusal) if refusal.is_the_apps() => tally.ended(true),
        Err(_) => {}
    }
}

/// The target with the path that the guest sees. What routes is what the guest sees: the normal form.
fn target(uri: &Uri, path: &str) -> Result<Uri, Refusal> {
    if uri.path() == path {
        return Ok(uri.clone());
    }
    let path_and_query = match uri.query() {
        Some(query) => PathAndQuery::from_maybe_shared(Bytes::from(format!("{path}?{query}"))),
        None => PathAndQuery::from_maybe_shared(Bytes::copy_from_slice(path.as_bytes())),
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path_and_query.map_err(|_| Refusal::BadTarget)?);
    Uri::from_parts(parts).map_err(|_| Refusal::BadTarget)
}

fn guest_parts(
    mut parts: Parts,
    target: Uri,
    release: &Release,
    local: SocketAddr,
) -> Result<Parts, Refusal> {
    parts.uri = target;
    // A command has variables for that, which are made from the connection.
    if !release.kind.is_command() && host(&parts).is_none() {
        parts.uri = at(parts.uri, local)?;
    }
    release.tell_prefix(&mut parts.headers);
    Ok(parts)
}

/// A target that names no host, at the address where it was asked for: wasi:http has no requests without an authority,
/// HTTP/1 has.
fn at(target: Uri, local: SocketAddr) -> Result<Uri, Refusal> {
    let mut uri = target.into_parts();
    uri.scheme = Some(Scheme::HTTP);
    uri.authority = Some(Authority::try_from(local.to_string()).map_err(|_| Refusal::BadTarget)?);
    Uri::from_parts(uri).map_err(|_| Refusal::BadTarget)
}

fn guest_body(body: Small) -> (GuestBody, Option<Arc<Upload>>) {
    match body {
        Small::Whole(bytes, None) => (GuestBody::Whole(bytes), None),
        Small::Whole(bytes, Some(trailers)) => {
            let trailers = futures_util::future::ready(Some(Ok(trailers)));
            let body = Full::new(bytes).map_err(never).with_trailers(trailers);
            (GuestBody::Streaming(body.boxed_unsync()), None)
        }
        Small::Streaming(body) => {
            let upload = Arc::<Upload>::default();
            let body = Uploading::new(body, upload.clone(), guest_error);
            (GuestBody::Streaming(body.boxed_unsync()), Some(upload))
        }
    }
}

fn never(never: std::convert::Infallible) -> wasmtime_wasi_http::Error {
    match never {}
}

/// What a guest is told of a request body that ended early.
fn guest_error(error: &RequestError) -> wasmtime_wasi_http::Error {
    match error {
        RequestError::TooLarge { limit } => wasmtime_wasi_http::Error::HttpRequestBodySize(Some(*limit)),
        RequestError::TooSlow => wasmtime_wasi_http::Error::ConnectionReadTimeout,
        RequestError::Broken(_) => wasmtime_wasi_http::Error::HttpProtocolError,
    }
}

/// The request that a local redirect stands for: a GET of the new target, without a body (RFC 3875, 6.2.2).
fn redirected(mut parts: Parts, target: &str) -> Result<Parts, Refusal> {
    parts.method = Method::GET;
    parts.headers.remove(http::header::CONTENT_LENGTH);
    parts.headers.remove(http::header::CONTENT_TYPE);
    parts.headers.remove(http::header::TRANSFER_ENCODING);
    let mut uri = std::mem::take(&mut parts.uri).into_parts();
    uri.path_and_query = Some(target.parse().map_err(|_| Refusal::BadRedirect)?);
    parts.uri = Uri::from_parts(uri).map_err(|_| Refusal::BadRedirect)?;
    Ok(parts)
}
