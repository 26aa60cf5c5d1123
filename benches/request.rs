//! What one request costs over a kept-alive loopback connection: to a host, and to bare hyper for reference.
//!
//! Needs the guests: `make guests`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use hostler::compile::Way;
use hostler::config::{Mode, Overrides, load_host};
use hostler::host::Host;
use http_body_util::{BodyExt, Empty, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Mutex;

/// That of the program.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const GREETING: &str = "Hello from Hostler!\n";

fn requests(criterion: &mut Criterion) {
    let client = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut group = criterion.benchmark_group("request");
    let mut measure = |name: &str, address: SocketAddr| {
        let connection = Mutex::new(client.block_on(connect(address)));
        group.bench_function(name, |bencher| {
            bencher.to_async(&client).iter(|| async { ask(&mut *connection.lock().await).await });
        });
    };
    let (native, address) = bare_hyper();
    measure("bare hyper", address);
    drop(native);
    for mode in [Mode::Pooled, Mode::Cached] {
        let folder = tempfile::tempdir().expect("a folder");
        let host = client.block_on(serve(folder.path(), mode));
        measure(mode.as_str(), host.address());
        client.block_on(host.shutdown());
    }
    group.finish();
}

/// A host that serves `hello`.
async fn serve(folder: &Path, mode: Mode) -> Host {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    std::fs::copy(target.join("guests/hello.wasm"), folder.join("hello.wasm")).expect("run `make guests`");
    let overrides = Overrides {
        listen: Some(([127, 0, 0, 1], 0).into()),
        folder: Some(folder.to_owned()),
        cache_dir: Some(target.join("bench-cache")),
        worker_threads: Some(THREADS),
        mode: Some(mode),
        ..Overrides::default()
    };
    let (config, policy) = load_host(None, &overrides).expect("a good configuration");
    let host = Host::start(&config, policy, Way::InProcess).expect("a host");
    host.progress().wait_for(|progress| progress.settled()).await.expect("the deployer runs");
    host
}

/// The least that a server can do: the same answer, from memory.
fn bare_hyper() -> (Runtime, SocketAddr) {
    let runtime =
        Builder::new_multi_thread().worker_threads(THREADS).enable_all().build().expect("a runtime");
    let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0))).expect("a port");
    let address = listener.local_addr().expect("an address");
    runtime.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            let answer = service_fn(async |_| {
                let body = Full::new(Bytes::from_static(GREETING.as_bytes()));
                Ok::<_, Infallible>(http::Response::new(body))
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer),
            );
        }
    });
    (runtime, address)
}

async fn connect(address: SocketAddr) -> SendRequest<Empty<Bytes>> {
    let stream = TcpStream::connect(address).await.expect("a connection");
    stream.set_nodelay(true).expect("an option");
    let (sender, connection) = handshake(TokioIo::new(stream)).await.expect("a handshake");
    tokio::spawn(connection);
    sender
}

async fn ask(connection: &mut SendRequest<Empty<Bytes>>) {
    connection.ready().await.expect("an open connection");
    let request = http::Request::get("/hello").header("host", "bench").body(Empty::new()).expect("a request");
    let response = connection.send_request(request).await.expect("a response");
    let body = response.into_body().collect().await.expect("a whole body").to_bytes();
    assert_eq!(body, GREETING);
}

/// Of the server. The client has one more.
const THREADS: usize = 1;

criterion_group!(benches, requests);
criterion_main!(benches);
