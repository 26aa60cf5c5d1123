//! A client that asks for anything and leaves at any time.

use std::net::SocketAddr;

use fastrand::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub struct Client {
    address: SocketAddr,
    random: Rng,
    /// The first answer of `counter`, as which all others have to be.
    counter: Option<String>,
}

/// When it goes.
#[derive(Clone, Copy)]
enum Leaves {
    Never,
    /// In the middle of sending its request.
    Sending,
    /// At once when its request is sent.
    Sent,
    /// When so many bytes of the answer have come.
    Reading(usize),
}

const TARGETS: [&str; 22] = [
    "/hello",
    "/hello",
    "/hello",
    "/counter?scan=1",
    "/counter?scan=1",
    "/counter?scan=1",
    "/trapper?when=before",
    "/trapper?when=after&bytes=100",
    "/trapper?when=nothing",
    "/trapper?when=error",
    "/spinner",
    "/spinner?fill=1",
    "/hog?mib=64",
    "/leaker?n=100",
    "/leaker?n=20000",
    "/sleeper?ms=5",
    "/sleeper?ms=1000",
    "/stream?n=4&ms=5",
    "/stream?bytes=3000000",
    "/cgi-rust?mode=trap&after=1",
    "/cgi-rust?mode=spin",
    "/echo",
];

impl Client {
    pub fn new(address: SocketAddr, seed: u64) -> Client {
        Client { address, random: Rng::with_seed(seed), counter: None }
    }

    /// One request, to its end or not. What a good app answers is checked when all of it was read.
    pub async fn ask(&mut self) {
        let target = self.random.choice(TARGETS).expect("a target");
        let leaves = match self.random.u8(..10) {
            0 => Leaves::Sending,
            1 => Leaves::Sent,
            2 => Leaves::Reading(self.random.usize(1..200)),
            3 => Leaves::Reading(self.random.usize(200..2_000_000)),
            _ => Leaves::Never,
        };
        let mut request =
            format!("GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").into_bytes();
        if target == "/echo" {
            let body = self.random.usize(..300_000);
            request = format!(
                "POST /echo HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {body}\r\n\r\n"
            )
            .into_bytes();
            request.resize(request.len() + body, b'e');
        }
        // Breaks are what this is about: only a whole answer is looked at.
        if let Ok(Some(answer)) = self.exchange(&request, leaves).await {
            self.check(target, &String::from_utf8_lossy(&answer));
        } else if matches!(leaves, Leaves::Never) {
            assert!(!good(target), "the connection broke on {target}");
        }
    }

    async fn exchange(&mut self, request: &[u8], leaves: Leaves) -> std::io::Result<Option<Vec<u8>>> {
        let mut stream = TcpStream::connect(self.address).await?;
        if let Leaves::Sending = leaves {
            stream.write_all(&request[..self.random.usize(..request.len())]).await?;
            return Ok(None);
        }
        let (mut reader, mut writer) = stream.split();
        let mut answer = Vec::new();
        let read = async {
            match leaves {
                Leaves::Sending | Leaves::Sent => Ok(0),
                Leaves::Never => reader.read_to_end(&mut answer).await,
                Leaves::Reading(most) => reader.take(most as u64).read_to_end(&mut answer).await,
            }
        };
        // At once, as one who only wrote would wait for ever for a host that echoes.
        let (written, read) = tokio::join!(writer.write_all(request), read);
        written.and(read)?;
        Ok(matches!(leaves, Leaves::Never).then_some(answer))
    }

    fn check(&mut self, target: &str, answer: &str) {
        if !good(target) {
            return;
        }
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {answer:?}"));
        assert!(head.starts_with("HTTP/1.1 200 "), "{target}: {answer}");
        match target {
            "/hello" => assert_eq!(body, "Hello from Hostler!\n"),
            _ => {
                assert!(body.starts_with("count=1 "), "{body}");
                assert_eq!(self.counter.get_or_insert_with(|| body.to_owned()), body);
            }
        }
    }
}

/// An app that answers well whatever the others do.
fn good(target: &str) -> bool {
    target == "/hello" || target.starts_with("/counter")
}
