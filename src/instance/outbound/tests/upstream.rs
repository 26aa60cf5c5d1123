//! Servers on loopback for the requests to go to.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::Full;
use http_body_util::combinators::BoxBody;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

pub type Answer = http::Response<BoxBody<Bytes, Infallible>>;

/// A server that stops when it is dropped.
pub struct Upstream {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    task: AbortHandle,
}

impl Upstream {
    /// Gives each connection to `serve`.
    pub async fn raw<F, Fut>(serve: F) -> Self
    where
        F: Fn(TcpStream) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Self::raw_on("127.0.0.1", serve).await
    }

    async fn raw_on<F, Fut>(host: &str, serve: F) -> Self
    where
        F: Fn(TcpStream) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind((host, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = connections.clone();
        let task = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                counter.fetch_add(1, Ordering::SeqCst);
                open.spawn(serve(tcp));
            }
        });
        Self { address, connections, task: task.abort_handle() }
    }

    /// Answers each request with `answer`.
    pub async fn http<F, Fut>(answer: F) -> Self
    where
        F: Fn(http::Request<Incoming>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Answer> + Send + 'static,
    {
        Self::raw(move |tcp| serve_http(tcp, answer.clone())).await
    }

    /// The same over TLS, on an address of loopback.
    pub async fn https<F, Fut>(host: &str, tls: Arc<rustls::ServerConfig>, answer: F) -> Self
    where
        F: Fn(http::Request<Incoming>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Answer> + Send + 'static,
    {
        Self::raw_on(host, move |tcp| {
            let acceptor = tokio_rustls::TlsAcceptor::from(tls.clone());
            let answer = answer.clone();
            async move {
                if let Ok(stream) = acceptor.accept(tcp).await {
                    serve_http(stream, answer).await;
                }
            }
        })
        .await
    }

    /// Reads a request's head from each connection, then sends `response` as it is, and closes or holds it.
    pub async fn canned(response: &'static [u8], close: bool) -> Self {
        Self::raw(move |mut tcp| async move {
            read_head(&mut tcp).await;
            tokio::io::AsyncWriteExt::write_all(&mut tcp, response).await.unwrap();
            if !close {
                std::future::pending().await
            }
        })
        .await
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub fn answer(status: u16, fields: &[(&str, &str)], body: &'static str) -> Answer {
    let mut response = http::Response::builder().status(status);
    for (name, value) in fields {
        response = response.header(*name, *value);
    }
    response.body(BoxBody::new(Full::from(body))).unwrap()
}

/// Reads up to the blank line, and gives what was read.
pub async fn read_head(tcp: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(tcp.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

async fn serve_http<S, F, Fut>(stream: S, answer: F)
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Fn(http::Request<Incoming>) -> Fut,
    Fut: Future<Output = Answer>,
{
    let answer = &answer;
    let service = service_fn(move |request| async move { Ok::<_, Infallible>(answer(request).await) });
    // The client closes connections as it likes; that is no failure of the server.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}
