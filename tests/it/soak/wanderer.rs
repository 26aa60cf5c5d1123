//! A client that asks for anything and leaves at any time.

use std::net::SocketAddr;

use fastrand::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Seen;
use crate::support::PATIENCE;

pub struct Wanderer {
    address: SocketAddr,
    random: Rng,
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

/// A path, and the statuses that its whole answers may have; none if it may also break off.
struct Target(&'static str, &'static [u16]);

/// A guest of `sleeper` may run into its deadline on a busy machine, and guests that take their time may have more requests
/// there than are let wait.
const TARGETS: [Target; 18] = [
    Target("/hello", &[200]),
    Target("/counter?scan=1", &[200]),
    Target("/trapper?when=before", &[500]),
    Target("/trapper?when=after&bytes=100", &[]),
    Target("/trapper?when=after&bytes=20000", &[]),
    Target("/trapper?when=nothing", &[502]),
    Target("/trapper?when=error", &[502]),
    // More than its share of the processors is asked of it: then the oldest requests are refused.
    Target("/spinner", &[504, 503]),
    Target("/spinner?fill=1", &[504, 503]),
    Target("/spinner?after=1", &[200, 503]),
    Target("/hog?mib=64", &[200]),
    Target("/leaker?n=100", &[200]),
    Target("/leaker?n=20000", &[500]),
    Target("/sleeper?ms=5", &[200, 504, 503]),
    Target("/sleeper?ms=1000", &[504, 503]),
    Target("/stream?n=4&ms=5", &[200, 503]),
    Target("/cgi-rust?mode=trap&after=1", &[]),
    Target("/cgi-rust?mode=spin", &[504, 503]),
];

impl Wanderer {
    pub fn new(address: SocketAddr, seed: u64) -> Wanderer {
        Wanderer { address, random: Rng::with_seed(seed) }
    }

    /// One request, to its end or not. An answer that was read to its end has to have the right status.
    pub async fn ask(&mut self, seen: &Seen) {
        let Target(path, statuses) = self.random.choice(&TARGETS).expect("a target");
        let leaves = match self.random.u8(..10) {
            0 => Leaves::Sending,
            1 => Leaves::Sent,
            2 => Leaves::Reading(self.random.usize(1..200)),
            3 => Leaves::Reading(self.random.usize(200..2_000_000)),
            _ => Leaves::Never,
        };
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        let exchange = tokio::time::timeout(PATIENCE, self.exchange(request.as_bytes(), leaves));
        let answer = exchange.await.unwrap_or_else(|_| panic!("{path} takes too long"));
        match (answer, leaves) {
            (Ok(answer), Leaves::Never) if !answer.is_empty() => {
                let answer = String::from_utf8_lossy(&answer);
                let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
                let status: u16 = status.unwrap_or_else(|| panic!("{path}: {answer}"));
                assert!(statuses.is_empty() || statuses.contains(&status), "{path}: {answer}");
                seen.note(format!("{status} {path}"));
            }
            (_, Leaves::Never) => {
                assert!(statuses.is_empty(), "the connection broke on {path}");
                seen.note(format!("broken {path}"));
            }
            // Breaks are what this is about.
            (_, _) => seen.note(format!("left {path}")),
        }
    }

    async fn exchange(&mut self, request: &[u8], leaves: Leaves) -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(self.address).await?;
        let mut answer = Vec::new();
        if let Leaves::Sending = leaves {
            stream.write_all(&request[..self.random.usize(..request.len())]).await?;
            return Ok(answer);
        }
        stream.write_all(request).await?;
        match leaves {
            Leaves::Sending | Leaves::Sent => {}
            Leaves::Never => drop(stream.read_to_end(&mut answer).await?),
            Leaves::Reading(most) => drop(stream.take(most as u64).read_to_end(&mut answer).await?),
        }
        Ok(answer)
    }
}
