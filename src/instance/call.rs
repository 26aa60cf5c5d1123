//! One request's guest code, for each kind of app.
//!
//! A call gives its answer through a channel as soon as the guest has set it, and then goes on until the guest has
//! returned: the body of the answer is made meanwhile.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::TryStreamExt;
use futures_util::future::BoxFuture;
use http_body::Body as _;
use http_body::Frame;
use http_body_util::{BodyExt, Full};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::oneshot;
use tokio_util::io::StreamReader;
use wasmtime::Store;
use wasmtime::component::Accessor;
use wasmtime_wasi::I32Exit;
use wasmtime_wasi::cli::AsyncStdinStream;
use wasmtime_wasi::p2::pipe::MemoryInputPipe;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::{Error as HttpError, WasiBody, WasiHttpView, p2, p3};

use super::cgi::{self, BadResponse, CgiRequest, Document, Head, Parser};
use super::limits::name_limit;
use super::pipe::{PipeReader, pipe};
use super::state::HostState;
use super::{Entry, Instance};
use crate::router::Mount;
use crate::server::body::Upload;

/// A request as the guest sees it.
pub struct GuestRequest {
    /// The target's path is the rest behind the app's mount path, for a command the whole of it; hop-by-hop fields are
    /// dropped further down.
    pub parts: http::request::Parts,
    pub body: GuestBody,
    /// What becomes of the body, if it comes from a client while the guest runs.
    pub upload: Option<Arc<Upload>>,
    pub id: u64,
    pub client: Client,
}

impl GuestRequest {
    /// One that the host makes itself, from loopback, and which is in no log. `local`: where it is made to, if the app is
    /// served.
    pub fn of_the_host(
        parts: http::request::Parts,
        body: GuestBody,
        local: Option<SocketAddr>,
        mount: Mount,
    ) -> GuestRequest {
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let client = Client { remote: nowhere, local: local.unwrap_or(nowhere), mount };
        GuestRequest { parts, body, upload: None, id: 0, client }
    }
}

/// A request's body: what was small enough to be read before the lease is whole.
pub enum GuestBody {
    Whole(Bytes),
    Streaming(WasiBody),
}

/// Who asked, where, and by which mount path: a command's meta-variables tell it.
#[derive(Debug, Clone)]
pub struct Client {
    pub remote: SocketAddr,
    pub local: SocketAddr,
    pub mount: Mount,
}

/// What a guest answered.
pub enum Answer {
    Response(http::Response<WasiBody>),
    /// A command asks for another path of this host to be served instead (RFC 3875, 6.2.2).
    LocalRedirect(String),
    /// The guest answered with an error of wasi:http instead of a response.
    Error(String),
    /// A command printed something that is no CGI response.
    Bad(BadResponse),
}

/// A request that can't be put to a guest: none was entered for it.
#[derive(Debug, thiserror::Error)]
#[error("the request can't be put to a guest: {0}")]
pub struct BadRequest(String);

impl BadRequest {
    fn of(error: impl std::fmt::Display) -> wasmtime::Error {
        wasmtime::Error::new(BadRequest(error.to_string()))
    }
}

pub(super) type Sender = oneshot::Sender<Answer>;

impl Instance {
    /// Runs the guest for one request until it has returned.
    ///
    /// # Errors
    /// A trap, an exhausted limit, or an exit with a failure: the instance is spoiled.
    pub async fn call(&mut self, request: GuestRequest, answer: Sender) -> wasmtime::Result<()> {
        let Instance { store, entry, .. } = &mut *self;
        store.data().log.begin(request.id);
        // The one from its making has passed while it was idle: the guest would be interrupted before it does anything.
        store.set_epoch_deadline(1);
        let called = match entry {
            Entry::Http02(proxy) => call_http02(store, proxy, request, answer).await,
            // Boxed, as the next one: the future of the most common kind would else be as large as the largest.
            Entry::Http03(service) => Box::pin(call_http03(store, service, request, answer)).await,
            Entry::CommandModule(_) | Entry::CommandComponent(_) => {
                Box::pin(self.call_command(request, answer)).await
            }
        };
        called.map_err(|error| name_limit(error, &self.policy.config))
    }

    async fn call_command(&mut self, request: GuestRequest, answer: Sender) -> wasmtime::Result<()> {
        let abi = self.abi();
        let Instance { store, entry, policy, .. } = self;
        let (stdout, end, reader) = pipe();
        let variables = variables(&request, &policy.config.env);
        let arguments = cgi::arguments(request.client.mount.prefix());
        store.data_mut().renew_wasi(abi, |wasi| {
            wasi.envs(&variables).args(&arguments).stdout(stdout);
            match request.body {
                GuestBody::Whole(bytes) => wasi.stdin(MemoryInputPipe::new(bytes)),
                GuestBody::Streaming(body) => wasi.stdin(stdin(body)),
            };
        });
        let run = async {
            run_command(store, entry).await?;
            end.finish();
            Ok(())
        };
        // An early end of the guest in a trap ends both: what it printed so far is no answer.
        tokio::try_join!(run, read_answer(reader, answer)).map(|_| ())
    }
}

async fn call_http02(
    store: &mut Store<HostState>,
    proxy: &p2::bindings::Proxy,
    request: GuestRequest,
    answer: Sender,
) -> wasmtime::Result<()> {
    let mut http = store.data_mut().http();
    let request = match request.body {
        GuestBody::Whole(bytes) => {
            let body = Full::new(bytes);
            http.new_incoming_request(Scheme::Http, http::Request::from_parts(request.parts, body))?
        }
        GuestBody::Streaming(body) => {
            http.new_incoming_request(Scheme::Http, http::Request::from_parts(request.parts, body))?
        }
    };
    let out = http.new_response_outparam_from_callback(move |response| {
        // The receiver is gone when the client is: then nobody wants the answer.
        let _ = answer.send(match response {
            Ok(response) => Answer::Response(response),
            Err(code) => Answer::Error(format!("{code:?}")),
        });
    })?;
    proxy.wasi_http_incoming_handler().call_handle(store, request, out).await
}

async fn call_http03(
    store: &mut Store<HostState>,
    service: &p3::bindings::Service,
    request: GuestRequest,
    answer: Sender,
) -> wasmtime::Result<()> {
    let request = request_http03(store.data_mut(), request)?;
    store
        .run_concurrent(async move |accessor| {
            let (ending, body_ended) = oneshot::channel();
            let answered = answer_http03(accessor, service, request).await?;
            let _ = answer.send(answered.with_body(|body| Ending::of(body, ending)));
            // The guest's task runs on after it has returned its response, and the body may outlive even that: its
            // bytes come through the store for as long as it is polled.
            poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
            let _ = body_ended.await;
            Ok(())
        })
        .await?
}

/// A request of wasi:http 0.3 in a store, and what becomes of its body.
pub(super) type Request03 = (p3::Request, BoxFuture<'static, Result<(), HttpError>>);

/// Puts a request into a store.
///
/// # Errors
/// Its target and host make no URI: a [`BadRequest`].
pub(super) fn request_http03(state: &mut HostState, request: GuestRequest) -> wasmtime::Result<Request03> {
    let GuestRequest { mut parts, body, .. } = request;
    // What HTTP/1.1 has in its Host field belongs to the request's target here.
    if let (None, Some(host)) = (parts.uri.authority(), parts.headers.get(http::header::HOST)) {
        let mut target = std::mem::take(&mut parts.uri).into_parts();
        target.scheme = Some(http::uri::Scheme::HTTP);
        target.authority = Some(http::uri::Authority::try_from(host.as_bytes()).map_err(BadRequest::of)?);
        parts.uri = http::Uri::from_parts(target).map_err(BadRequest::of)?;
    }
    let body = match body {
        GuestBody::Whole(bytes) => Full::new(bytes).map_err(|never| match never {}).boxed_unsync(),
        GuestBody::Streaming(body) => body,
    };
    let (request, transmitted) =
        p3::Request::from_http(state.http().hooks, http::Request::from_parts(parts, body));
    Ok((request, Box::pin(transmitted)))
}

/// Has the guest answer. The answer's body comes through the store for as long as that is run.
///
/// # Errors
/// The store has failed.
pub(super) async fn answer_http03(
    accessor: &Accessor<HostState>,
    service: &p3::bindings::Service,
    (request, transmitted): Request03,
) -> wasmtime::Result<Answer> {
    Ok(match service.handle(accessor, request).await? {
        Ok(response) => Answer::Response(accessor.with(|store| response.into_http(store, transmitted))?),
        Err(code) => Answer::Error(format!("{code:?}")),
    })
}

impl Answer {
    fn with_body(self, change: impl FnOnce(WasiBody) -> WasiBody) -> Answer {
        match self {
            Answer::Response(response) => Answer::Response(response.map(change)),
            other => other,
        }
    }
}

/// A body that tells by its end that the store is no longer needed for it.
pub(super) struct Ending {
    body: WasiBody,
    _ending: oneshot::Sender<Infallible>,
}

impl Ending {
    pub(super) fn of(body: WasiBody, ending: oneshot::Sender<Infallible>) -> WasiBody {
        Ending { body, _ending: ending }.boxed_unsync()
    }
}

impl http_body::Body for Ending {
    type Data = Bytes;
    type Error = wasmtime_wasi_http::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, wasmtime_wasi_http::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }
}

async fn run_command(store: &mut Store<HostState>, entry: &Entry) -> wasmtime::Result<()> {
    let ended = match entry {
        Entry::CommandModule(start) => start.call_async(store, ()).await,
        Entry::CommandComponent(command) => match command.wasi_cli_run().call_run(store).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(())) => Err(wasmtime::Error::new(I32Exit(1))),
            Err(error) => Err(error),
        },
        Entry::Http02(_) | Entry::Http03(_) => Err(wasmtime::format_err!("not a command")),
    };
    match ended {
        Err(error) if error.downcast_ref::<I32Exit>().is_some_and(|exit| exit.0 == 0) => Ok(()),
        ended => ended,
    }
}

/// Reads the header section of a command's output and answers; the rest of the output is the answer's body.
async fn read_answer(mut output: PipeReader, answer: Sender) -> wasmtime::Result<()> {
    let mut parser = Parser::new(cgi::DEFAULT_HEADER_LIMIT);
    let parsed = loop {
        match output.chunk().await {
            Some(chunk) => match parser.feed(&chunk) {
                Ok(None) => continue,
                Ok(Some(head)) => break Ok(head),
                Err(bad) => break Err(bad),
            },
            None => break parser.finish().and_then(|head| head.ok_or(BadResponse::Nothing)),
        }
    };
    let _ = answer.send(match parsed {
        Ok(Head::LocalRedirect { path_query }) => Answer::LocalRedirect(path_query),
        Ok(Head::Document(document) | Head::ClientRedirect(document)) => response(document, output),
        Err(bad) => Answer::Bad(bad),
    });
    Ok(())
}

fn response(document: Document, rest: PipeReader) -> Answer {
    let mut response = http::Response::new(Output { first: document.rest, rest }.boxed_unsync());
    *response.status_mut() = document.status;
    *response.headers_mut() = document.headers;
    Answer::Response(response)
}

fn variables(request: &GuestRequest, env: &[(String, String)]) -> Vec<(String, String)> {
    let GuestRequest { parts, body, client, .. } = request;
    let body_length = match body {
        GuestBody::Whole(bytes) => Some(bytes.len() as u64),
        GuestBody::Streaming(body) => body.size_hint().exact(),
    };
    let cgi = CgiRequest {
        method: &parts.method,
        path: parts.uri.path(),
        query: parts.uri.query(),
        version: parts.version,
        headers: &parts.headers,
        authority: parts.uri.authority().map(|authority| authority.as_str()),
        mount: client.mount.prefix(),
        remote: client.remote,
        local: client.local,
        https: false,
        body_length,
    };
    cgi::meta_variables(&cgi, env)
}

/// A command's output behind its header section.
struct Output {
    first: Bytes,
    rest: PipeReader,
}

impl http_body::Body for Output {
    type Data = Bytes;
    type Error = wasmtime_wasi_http::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, wasmtime_wasi_http::Error>>> {
        if !self.first.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.first)))));
        }
        self.rest.poll_chunk(cx).map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    }
}

fn stdin(body: WasiBody) -> AsyncStdinStream {
    let chunks = body.into_data_stream().map_err(std::io::Error::other);
    AsyncStdinStream::new(Input(Mutex::new(StreamReader::new(chunks))))
}

/// A request's body as a command's stdin. The lock is never taken: it only makes the body shareable, as stdin must be.
struct Input<R>(Mutex<R>);

impl<R: AsyncRead + Unpin> AsyncRead for Input<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(self.0.get_mut()).poll_read(cx, buffer)
    }
}
