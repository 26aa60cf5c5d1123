//! A client that sees the bytes: for what a well-behaved one hides, such as a body without an end.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::support::PATIENCE;

/// One HTTP/1.1 connection, byte by byte.
pub struct Wire {
    stream: TcpStream,
    /// What has come and was not yet taken.
    read: Vec<u8>,
    ended: bool,
    /// How long the host may be silent.
    patience: Duration,
}

/// The head of an answer, or a whole one.
#[derive(Debug, Clone)]
pub struct Head {
    pub status: u16,
    pub text: String,
}

/// The connection ended, or was reset, in the middle of an answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Broken;

impl Head {
    /// The value of a field, or nothing.
    pub fn header(&self, name: &str) -> &str {
        let fields = self.text.lines().skip(1).filter_map(|line| line.split_once(": "));
        fields.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).next().unwrap_or("")
    }
}

impl Wire {
    pub async fn connect(address: SocketAddr) -> Wire {
        let stream = TcpStream::connect(address).await.expect("a connection");
        Wire::over(stream)
    }

    /// A client for whom little is on the way that it has not read.
    pub async fn connect_narrow(address: SocketAddr) -> Wire {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(8 << 10).expect("a socket option");
        Wire::over(socket.connect(address).await.expect("a connection"))
    }

    fn over(stream: TcpStream) -> Wire {
        stream.set_nodelay(true).expect("a socket option");
        Wire { stream, read: Vec::new(), ended: false, patience: PATIENCE }
    }

    /// For a host that has a great deal to do.
    pub fn patient(self, patience: Duration) -> Wire {
        Wire { patience, ..self }
    }

    /// Sends text as it is; what is refused shows in the answer.
    pub async fn say(&mut self, text: &str) {
        self.send(text.as_bytes()).await.expect("the request is taken");
    }

    pub async fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        timeout(self.patience, self.stream.write_all(bytes)).await.expect("the host reads on")
    }

    /// Asks for a path, with nothing but a host, and leaves the answer where it is.
    pub async fn ask(&mut self, path: &str) {
        self.say(&format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")).await;
    }

    /// The next answer's head.
    pub async fn head(&mut self) -> Result<Head, Broken> {
        loop {
            if let Some(end) = self.read.windows(4).position(|window| window == b"\r\n\r\n") {
                let text = String::from_utf8(self.take(end + 4)).expect("a text head");
                let status = text.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
                return Ok(Head { status, text });
            }
            self.more().await?;
        }
    }

    /// So many bytes.
    pub async fn exactly(&mut self, count: usize) -> Result<Vec<u8>, Broken> {
        while self.read.len() < count {
            self.more().await?;
        }
        Ok(self.take(count))
    }

    /// The next chunk of a chunked body; none is the final one.
    pub async fn chunk(&mut self) -> Result<Option<Vec<u8>>, Broken> {
        let size = self.line().await?;
        let size = usize::from_str_radix(size.trim(), 16).expect("a chunk's size");
        let data = self.exactly(size).await?;
        assert_eq!(self.exactly(2).await?, b"\r\n");
        Ok((size > 0).then_some(data))
    }

    /// The rest of an answer whose head was taken.
    pub async fn body(&mut self, head: &Head) -> Result<Vec<u8>, Broken> {
        if head.header("transfer-encoding") == "chunked" {
            let mut body = Vec::new();
            while let Some(chunk) = self.chunk().await? {
                body.extend(chunk);
            }
            return Ok(body);
        }
        self.exactly(head.header("content-length").parse().expect("a length")).await
    }

    /// A whole answer.
    pub async fn answer(&mut self) -> Result<(Head, String), Broken> {
        let head = self.head().await?;
        let body = self.body(&head).await?;
        Ok((head, String::from_utf8(body).expect("a text answer")))
    }

    /// Waits until the host has closed the connection, and throws away what still comes.
    pub async fn closed(&mut self) {
        while self.more().await.is_ok() {
            self.read.clear();
        }
    }

    /// Whether nothing comes within this time.
    pub async fn is_silent_for(&mut self, time: Duration) -> bool {
        self.read.is_empty() && timeout(time, self.more()).await.is_err()
    }

    async fn line(&mut self) -> Result<String, Broken> {
        loop {
            if let Some(end) = self.read.windows(2).position(|window| window == b"\r\n") {
                return Ok(String::from_utf8(self.take(end + 2)).expect("a text line"));
            }
            self.more().await?;
        }
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        let rest = self.read.split_off(count);
        std::mem::replace(&mut self.read, rest)
    }

    async fn more(&mut self) -> Result<(), Broken> {
        if self.ended {
            return Err(Broken);
        }
        let read =
            timeout(self.patience, self.stream.read_buf(&mut self.read)).await.expect("the host says more");
        self.ended = !matches!(read, Ok(1..));
        if self.ended { Err(Broken) } else { Ok(()) }
    }
}
