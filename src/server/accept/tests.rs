use std::collections::VecDeque;
use std::process::Stdio;

use super::*;
use crate::server::drain::Drain;
use crate::server::testing::{App, Edge, Raw, SOON, eventually, patient};

#[tokio::test]
async fn the_real_address_of_port_zero_is_known_and_is_taken() {
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    assert_ne!(listener.local_addr().port(), 0);
    let again = Listener::bind(listener.local_addr()).unwrap_err();
    assert_eq!(again.kind(), io::ErrorKind::AddrInUse);
}

#[tokio::test]
async fn beyond_the_limit_connections_wait_and_none_is_refused() {
    let edge = Edge::start(Limits { max_connections: 2, ..patient() });
    let mut clients = Vec::new();
    for _ in 0..5 {
        let mut client = edge.connect().await;
        client.get("/wait").await;
        clients.push(client);
    }
    eventually("two run", || edge.app.running() == 2).await;
    assert_eq!(edge.drain.connections(), 2);
    edge.app.open(5);
    for mut client in clients {
        assert_eq!(client.answer().await.text(), "waited");
    }
    edge.done().await;
}

#[tokio::test]
async fn a_thousand_silent_sockets_keep_nobody_from_being_answered() {
    let edge = Edge::start(patient());
    let mut silent = Vec::new();
    for _ in 0..1000 {
        silent.push(edge.connect().await);
    }
    eventually("all are open", || edge.drain.connections() == 1000).await;
    let mut client = edge.connect().await;
    for _ in 0..100 {
        client.get("/hello").await;
        assert_eq!(client.answer().await.status, 200);
    }
    drop((client, silent));
    edge.done().await;
}

/// Fails as it is told before it accepts.
struct Failing {
    inner: TcpListener,
    errors: VecDeque<i32>,
}

impl Source for Failing {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        match self.errors.pop_front() {
            Some(code) => Poll::Ready(Err(io::Error::from_raw_os_error(code))),
            None => self.inner.poll_accept(cx),
        }
    }

    fn into_std(self) -> io::Result<std::net::TcpListener> {
        self.inner.into_std()
    }
}

#[tokio::test]
async fn every_accept_error_is_survived() {
    let errors = [
        libc::ECONNABORTED,
        libc::EINTR,
        libc::EMFILE,
        libc::ENFILE,
        libc::ENOBUFS,
        libc::ENOMEM,
        libc::EPERM,
        libc::EIO,
    ];
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr();
    let source = Failing { inner: listener.inner, errors: errors.into() };
    let drain = Drain::new();
    let acceptor = Acceptor::new(source, patient(), App::default(), drain.signal());
    tokio::spawn(acceptor.run());
    let mut client = Raw::connect(address).await;
    client.get("/hello").await;
    assert_eq!(client.answer().await.status, 200);
    drop(client);
    let drained = drain.finish(SOON).await;
    assert_eq!((drained.aborted, drain.tasks()), (0, 0));
}

#[test]
fn only_what_the_machine_lacks_is_waited_for() {
    let pause = |code| pause_after(&io::Error::from_raw_os_error(code));
    assert_eq!(pause(libc::ECONNABORTED), Duration::ZERO);
    for code in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM] {
        assert_eq!(pause(code), BACK_OFF);
    }
}

/// Set in a child process that has few file descriptors.
const CHILD: &str = "EDGE_TEST_FEW_DESCRIPTORS";

#[tokio::test]
async fn running_out_of_file_descriptors_is_survived() {
    if std::env::var_os(CHILD).is_some() {
        return with_few_descriptors().await;
    }
    let me = std::env::current_exe().unwrap();
    let name = std::thread::current().name().unwrap().to_owned();
    let script = r#"ulimit -n 40 && exec "$0" --exact "$1""#;
    let child = tokio::process::Command::new("sh")
        .args(["-c", script])
        .arg(me)
        .arg(name)
        .env(CHILD, "1")
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && said.contains("1 passed"), "{said}");
}

async fn with_few_descriptors() {
    let edge = Edge::start(patient());
    // The clients take every descriptor before the server comes to accept.
    let mut clients = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect(edge.address) {
        clients.push(stream);
    }
    tokio::time::sleep(BACK_OFF * 3).await;
    assert_eq!((edge.drain.connections(), clients.len() > 10), (0, true));
    clients.clear();
    let mut client = edge.connect().await;
    client.get("/hello").await;
    assert_eq!(client.answer().await.status, 200);
    drop(client);
    edge.done().await;
}
