//! What the edge's tests share: a real server on a free port, an app whose paths do what a test needs, and a client
//! that speaks raw bytes.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::Wake;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use tokio::sync::Semaphore;

use super::accept::{self, Listener};
use super::body::{RequestBody, ResponseBody, Sender, channel};
use super::connection::{Answered, Arriving, Handler, Limits, Peer, check_request};
use super::drain::{Drain, Drained};

pub use client::Raw;

mod client;

/// Long enough for anything that happens at once, also on a busy machine.
pub const SOON: Duration = Duration::from_secs(20);

/// Limits under which nothing ends by itself within a test.
pub fn patient() -> Limits {
    let long = Duration::from_secs(60);
    Limits {
        max_connections: 5000,
        header_timeout: long,
        idle_timeout: long,
        write_timeout: long,
        half_close_time: long,
        drain_grace: Duration::from_millis(50),
        linger_time: Duration::from_millis(300),
        max_header_bytes: 16 * 1024,
        max_streams: 20,
        ping_interval: long,
        busy_poll: true,
    }
}

/// A waker that counts how often it was woken.
#[derive(Default)]
pub struct Wakes(AtomicUsize);

impl Wakes {
    pub fn count(&self) -> usize {
        self.0.load(SeqCst)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// A running server. Every test ends with [`Edge::done`], which fails if anything was leaked.
pub struct Edge {
    pub address: SocketAddr,
    pub app: App,
    pub drain: Drain,
    finished: bool,
}

/// Answers by path; see [`App::answer`].
#[derive(Clone, Default)]
pub struct App {
    seen: Arc<Seen>,
}

#[derive(Debug)]
struct Seen {
    started: AtomicUsize,
    ended: AtomicUsize,
    gate: Semaphore,
}

impl Default for Seen {
    fn default() -> Self {
        Self { started: AtomicUsize::new(0), ended: AtomicUsize::new(0), gate: Semaphore::new(0) }
    }
}

struct Running(Arc<Seen>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, SeqCst);
    }
}

impl Edge {
    pub fn start(limits: Limits) -> Self {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let (address, app, drain) = (listener.local_addr(), App::default(), Drain::new());
        tokio::spawn(accept::serve(listener, limits, app.clone(), drain.signal()));
        Self { address, app, drain, finished: false }
    }

    pub async fn connect(&self) -> Raw {
        Raw::connect(self.address).await
    }

    /// Ends the server and checks that every connection, stream and handler has ended.
    pub async fn done(mut self) {
        self.finished = true;
        let nothing = Drained { aborted: 0, stuck: 0 };
        assert_eq!(self.drain.finish(SOON).await, nothing);
        self.assert_empty();
    }

    /// The same where the test leaves connections that only an abort ends.
    pub async fn abort(mut self) -> Drained {
        self.finished = true;
        let drained = self.drain.finish(Duration::from_millis(100)).await;
        self.assert_empty();
        drained
    }

    fn assert_empty(&self) {
        assert_eq!(self.drain.tasks(), 0, "tasks are left");
        assert_eq!(self.drain.connections(), 0, "connections are left");
        assert_eq!(self.app.running(), 0, "handlers are left");
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        assert!(self.finished || std::thread::panicking(), "the test must end its server");
    }
}

impl App {
    pub fn started(&self) -> usize {
        self.seen.started.load(SeqCst)
    }

    pub fn running(&self) -> usize {
        self.started() - self.seen.ended.load(SeqCst)
    }

    /// Lets `requests` waiting at `/wait` go on.
    pub fn open(&self, requests: usize) {
        self.seen.gate.add_permits(requests);
    }

    async fn answer(&self, request: Request<Arriving>) -> Response<ResponseBody> {
        self.seen.started.fetch_add(1, SeqCst);
        let _running = Running(self.seen.clone());
        let (parts, body) = request.into_parts();
        if let Err(refusal) = check_request(&parts) {
            return text(refusal.status(), refusal.to_string());
        }
        match parts.uri.path() {
            "/hello" => text(StatusCode::OK, "hello"),
            "/empty" => text(StatusCode::OK, ""),
            "/204" => declaring(text(StatusCode::NO_CONTENT, "not to be seen")),
            "/205" => declaring(text(StatusCode::RESET_CONTENT, "not to be seen")),
            "/304-declared" => declaring(text(StatusCode::NOT_MODIFIED, "")),
            "/304" => text(StatusCode::NOT_MODIFIED, "not to be seen"),
            "/big" => text(StatusCode::OK, vec![b'x'; 2 * 1024 * 1024 + 1]),
            "/lies" => lies(),
            "/101" => text(StatusCode::SWITCHING_PROTOCOLS, "nonsense"),
            "/wait" => {
                self.seen.gate.acquire().await.unwrap().forget();
                text(StatusCode::OK, "waited")
            }
            "/refuse-body" => text(StatusCode::PAYLOAD_TOO_LARGE, "too large"),
            "/panic" => panic!("a handler's bug"),
            "/echo" => self.make(None, |sender| echo(body, sender)),
            "/count" => count(body).await,
            "/stream" => self.make(None, three_chunks),
            "/stream-known" => self.make(Some(9), three_chunks),
            "/endless" => self.make(None, endless),
            "/slow-maker" => {
                let seen = self.seen.clone();
                self.make(None, |sender| waits(sender, seen))
            }
            "/break" => self.make(None, breaks),
            "/break-known" => self.make(Some(100), breaks),
            "/short" => self.make(Some(100), three_chunks),
            "/long" => self.make(Some(5), three_chunks),
            _ => text(StatusCode::NOT_FOUND, "no such path"),
        }
    }

    /// A response whose body is made by a task, which counts as running.
    fn make<F: Future<Output = ()> + Send + 'static>(
        &self,
        declared: Option<u64>,
        maker: impl FnOnce(Sender) -> F,
    ) -> Response<ResponseBody> {
        let (sender, receiver) = channel(16 * 1024);
        let making = maker(sender);
        self.seen.started.fetch_add(1, SeqCst);
        let running = Running(self.seen.clone());
        tokio::spawn(async move {
            making.await;
            drop(running);
        });
        Response::new(ResponseBody::stream(receiver, declared))
    }
}

impl Handler for App {
    type Body = ResponseBody;

    async fn handle(&self, request: Request<Arriving>, _: Peer) -> Answered<ResponseBody> {
        self.answer(request).await.into()
    }

    fn may_busy_poll(&self) -> bool {
        true
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::fixed(body));
    *response.status_mut() = status;
    response
}

/// A head that claims another length than the body has.
fn lies() -> Response<ResponseBody> {
    declaring(text(StatusCode::OK, "GET / HTTP/1.1 200"))
}

fn declaring(mut response: Response<ResponseBody>) -> Response<ResponseBody> {
    let length = http::HeaderValue::from_static("4");
    response.headers_mut().insert("content-length", length);
    response
}

async fn count(body: Arriving) -> Response<ResponseBody> {
    let mut body = match RequestBody::new(body, 8 * 1024 * 1024, Duration::from_millis(200)) {
        Ok(body) => body,
        Err(error) => return text(error.status(), error.to_string()),
    };
    let mut trailers = 0;
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => trailers += frame.trailers_ref().map_or(0, HeaderMap::len),
            Err(error) => return text(error.status(), error.to_string()),
        }
    }
    let counted = format!("{} bytes, {trailers} trailers", body.received());
    text(StatusCode::OK, counted)
}

async fn echo(mut body: Arriving, mut sender: Sender) {
    let mut trailers = None;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return };
        match frame.into_data() {
            Ok(data) => {
                if sender.send(data).await.is_err() {
                    return;
                }
            }
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    sender.finish(trailers);
}

async fn three_chunks(mut sender: Sender) {
    for chunk in ["one", "two", "six"] {
        let _ = sender.send(Bytes::from_static(chunk.as_bytes())).await;
    }
    sender.finish(None);
}

/// The last chunk comes when the gate is opened.
async fn waits(mut sender: Sender, seen: Arc<Seen>) {
    let _ = sender.send(Bytes::from_static(b"first")).await;
    seen.gate.acquire().await.unwrap().forget();
    let _ = sender.send(Bytes::from_static(b"last")).await;
    sender.finish(None);
}

async fn endless(mut sender: Sender) {
    let chunk = Bytes::from(vec![b'x'; 8 * 1024]);
    while sender.send(chunk.clone()).await.is_ok() {}
}

/// Sends a beginning, waits until it has been taken, and fails.
async fn breaks(mut sender: Sender) {
    let _ = sender.send(Bytes::from_static(b"beginning")).await;
    let full = sender.room();
    while sender.room() == full && !sender.is_closed() {
        tokio::task::yield_now().await;
    }
    sender.abort("trapped");
}

/// Waits until `condition` holds.
pub async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let came = tokio::time::timeout(SOON, waiting).await;
    assert!(came.is_ok(), "it never came that {what}");
}
