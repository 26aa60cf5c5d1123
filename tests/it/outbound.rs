//! Guests' requests to elsewhere, the whole way: guest, host, socket, and back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Answer, TestHost, until};

/// A server on loopback: `/hello` answers, `/slow` never does, `/big` sends far more than anybody takes, and
/// `/to/URL` redirects.
struct Upstream {
    address: SocketAddr,
    seen: Arc<Seen>,
    accepting: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    requests: AtomicUsize,
    open: AtomicUsize,
    /// Bytes of `/big` that the kernel took.
    sent: AtomicUsize,
}

const BIG: usize = 256 << 20;

impl Upstream {
    async fn start() -> Upstream {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let (address, seen) = (listener.local_addr().expect("its address"), Arc::new(Seen::default()));
        let shared = seen.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let seen = shared.clone();
                seen.open.fetch_add(1, Relaxed);
                tokio::spawn(async move {
                    // The client's end is the usual one.
                    let _ = answer(stream, &seen).await;
                    seen.open.fetch_sub(1, Relaxed);
                });
            }
        });
        Upstream { address, seen, accepting }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn requests(&self) -> usize {
        self.seen.requests.load(Relaxed)
    }

    async fn closed(&self) {
        until("all connections are closed", || self.seen.open.load(Relaxed) == 0).await;
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn answer(mut stream: TcpStream, seen: &Seen) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    seen.requests.fetch_add(1, Relaxed);
    let head = String::from_utf8_lossy(&head);
    let path = head.split(' ').nth(1).unwrap_or_default();
    match path.strip_prefix("/to/") {
        Some(to) => {
            let head = "HTTP/1.1 302 Found\r\ncontent-length: 0\r\nconnection: close\r\nlocation: ";
            stream.write_all(format!("{head}{to}\r\n\r\n").as_bytes()).await
        }
        None if path == "/slow" => stream.read_u8().await.map(drop),
        None if path == "/big" => {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {BIG}\r\n\r\n");
            stream.write_all(head.as_bytes()).await?;
            let piece = [b'x'; 64 << 10];
            for _ in 0..BIG / piece.len() {
                stream.write_all(&piece).await?;
                seen.sent.fetch_add(piece.len(), Relaxed);
            }
            Ok(())
        }
        None => {
            let head = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nhello\n";
            stream.write_all(head.as_bytes()).await
        }
    }
}

/// A host with the fetcher as `shop`, granted and allowed these.
async fn host(granted: &[&str], allowed: &[&str]) -> TestHost {
    with(granted, allowed, "").await
}

async fn with(granted: &[&str], allowed: &[&str], more: &str) -> TestHost {
    let operator = format!("[grants.\"shop\"]\noutbound = {granted:?}");
    let own = format!("[outbound]\nallow = {allowed:?}\n{more}");
    let host = TestHost::builder().admin().config(&operator).app("shop", "fetcher");
    let host = host.app_config("shop", &own).start().await;
    assert_eq!(host.problem("shop"), "");
    host
}

fn path(url: &str) -> String {
    format!("/shop?url={}", utf8_percent_encode(url, NON_ALPHANUMERIC))
}

async fn fetch(host: &TestHost, url: &str) -> Answer {
    host.get(&path(url)).await
}

async fn fails(host: &TestHost, url: &str, error: &str) {
    let answer = fetch(host, url).await;
    assert_eq!((answer.status.as_u16(), answer.text().trim_end()), (502, error), "{url}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_to_elsewhere_are_denied_unless_allowed() {
    let upstream = Upstream::start().await;
    let host = TestHost::builder().app("shop", "fetcher").start().await;
    for url in [upstream.url("/hello"), "https://example.com/".to_owned(), "http://192.0.2.1/".to_owned()] {
        fails(&host, &url, "http-request-denied").await;
    }
    assert_eq!(upstream.requests(), 0);
    host.settled("shop").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loopback_server_is_reached_if_granted_by_its_address() {
    let upstream = Upstream::start().await;
    let origin = upstream.url("");
    let host = host(&[&origin], &[&origin]).await;
    let answer = fetch(&host, &upstream.url("/hello")).await;
    assert_eq!((answer.status.as_u16(), answer.text()), (200, "status=200\n\nhello\n"));
    let other_port = format!("http://127.0.0.1:{}/", upstream.address.port() ^ 1);
    fails(&host, &other_port, "http-request-denied").await;
    assert_eq!(upstream.requests(), 1);
    host.settled("shop").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_leads_to_loopback_needs_a_grant_of_the_address() {
    let upstream = Upstream::start().await;
    let origin = format!("http://localhost:{}", upstream.address.port());
    let url = format!("{origin}/hello");
    let by_name = host(&[&origin], &[&origin]).await;
    fails(&by_name, &url, "destination-ip-prohibited").await;
    assert_eq!(upstream.requests(), 0);
    let by_address = host(&[&origin, "127.0.0.0/8"], &[&origin]).await;
    assert_eq!(fetch(&by_address, &url).await.text(), "status=200\n\nhello\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redirect_leads_no_further_than_a_request() {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    let (allowed, named) = (first.url(""), format!("http://localhost:{}", second.address.port()));
    let host = host(&[&allowed, &named], &[&allowed, &named]).await;
    let follow = async |to: &str| {
        let answer = host.get(&(path(&first.url(&format!("/to/{to}"))) + "&follow=1")).await;
        (answer.status.as_u16(), answer.text().trim_end().to_owned())
    };
    assert_eq!(follow(&first.url("/hello")).await, (200, "status=200\n\nhello".to_owned()));
    assert_eq!(follow(&second.url("/hello")).await, (502, "http-request-denied".to_owned()));
    assert_eq!(follow(&format!("{named}/hello")).await, (502, "destination-ip-prohibited".to_owned()));
    assert_eq!(follow("http://169.254.169.254/latest").await, (502, "http-request-denied".to_owned()));
    assert_eq!(second.requests(), 0);
    assert_eq!(fetch(&host, &first.url("/to/http://nowhere.example/")).await.text(), "status=302\n\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_hosts_own_listeners_need_a_grant_of_the_very_address() {
    let host = TestHost::builder()
        .admin()
        .config(
            "[grants.\"shop\"]\noutbound = [\"127.0.0.0/8\"]\n[grants.\"exact\"]\noutbound = [\"127.0.0.1\"]",
        )
        .app("index", "index")
        .start()
        .await;
    let own = [host.address(), host.host().admin_address().expect("an admin listener")];
    let allow: Vec<_> = own.iter().map(|address| format!("http://{address}")).collect();
    for name in ["shop", "exact"] {
        host.put(&format!("{name}.toml"), format!("outbound.allow = {allow:?}"));
        host.put_app(name, "fetcher");
        host.until("the fetcher is live", || host.release(name) > 0).await;
    }
    for origin in &allow {
        fails(&host, &format!("{origin}/"), "destination-ip-prohibited").await;
        let answer = host.get(&path(&format!("{origin}/")).replace("/shop", "/exact")).await;
        assert!(answer.text().starts_with("status=200\n\n"), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_answer_is_given_up() {
    let upstream = Upstream::start().await;
    let origin = upstream.url("");
    let host = with(&[&origin], &[&origin], "timeout = \"300ms\"").await;
    let began = Instant::now();
    fails(&host, &upstream.url("/slow"), "http-response-timeout").await;
    assert!(began.elapsed() < Duration::from_secs(10));
    upstream.closed().await;
    host.settled("shop").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_not_there_is_an_error_for_the_guest() {
    let gone = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        format!("http://{}", listener.local_addr().expect("its address"))
    };
    let host = host(&[&gone], &[&gone]).await;
    fails(&host, &format!("{gone}/"), "connection-refused").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_has_only_so_many_requests_under_way() {
    let upstream = Upstream::start().await;
    let origin = upstream.url("");
    let host = Arc::new(with(&[&origin], &[&origin], "max_concurrent = 1\ntimeout = \"4s\"").await);
    let (asking, url) = (host.clone(), upstream.url("/slow"));
    let first = tokio::spawn(async move { fetch(&asking, &url).await.text().to_owned() });
    until("the first is under way", || upstream.requests() == 1).await;
    fails(&host, &upstream.url("/hello"), "connection-limit-reached").await;
    assert!(!first.is_finished(), "the first was still under way");
    assert_eq!(first.await.expect("no panic"), "http-response-timeout\n");
    assert_eq!(fetch(&host, &upstream.url("/hello")).await.text(), "status=200\n\nhello\n");
    until("the asking task has let go of the host", || Arc::strong_count(&host) == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_response_is_taken_at_the_guests_pace() {
    let upstream = Upstream::start().await;
    let origin = upstream.url("");
    let host = host(&[&origin], &[&origin]).await;
    let answer = fetch(&host, &upstream.url("/big")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body.len(), "status=200\n\n".len() + (1 << 20), "the guest takes 1 MiB");
    upstream.closed().await;
    let sent = upstream.seen.sent.load(Relaxed);
    assert!(sent < BIG / 4, "{sent} bytes were taken from the server for 1 MiB that the guest wanted");
    host.settled("shop").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_releases_the_connection() {
    let upstream = Upstream::start().await;
    let origin = upstream.url("");
    let host = host(&[&origin], &[&origin]).await;
    let client = TcpStream::connect(host.address()).await.expect("a connection");
    let mut client = client;
    let request = format!("GET {} HTTP/1.1\r\nhost: h\r\n\r\n", path(&upstream.url("/slow")));
    client.write_all(request.as_bytes()).await.expect("to ask");
    until("the guest waits for the server", || upstream.requests() == 1).await;
    drop(client);
    upstream.closed().await;
    host.settled("shop").await;
}
