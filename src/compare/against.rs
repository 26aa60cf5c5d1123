//! Servers of others that are put beside ours: they run already, wherever they are.

use std::net::SocketAddr;
use std::str::FromStr;

use http::Uri;
use http::uri::Scheme;

use super::app::below;

/// Where another server has the app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Other {
    pub name: String,
    host: String,
    port: u16,
    /// What the requests' host field says.
    pub authority: String,
    /// The path that the app is at, without a slash at its end.
    base: String,
}

/// Characters of a name, so that the tables stay readable.
const LONGEST_NAME: usize = 40;

impl Other {
    /// The request's path there.
    pub fn target(&self, path: &str) -> String {
        below(&self.base, path)
    }

    /// Its address: the first one that takes a connection.
    pub async fn resolve(&self) -> Result<SocketAddr, String> {
        let cannot = |error: std::io::Error| format!("{}: {error}", self.authority);
        let mut last = None;
        for address in tokio::net::lookup_host((self.host.as_str(), self.port)).await.map_err(cannot)? {
            match tokio::net::TcpStream::connect(address).await {
                Ok(_) => return Ok(address),
                Err(error) => last = Some(cannot(error)),
            }
        }
        Err(last.unwrap_or_else(|| format!("{} has no address", self.authority)))
    }
}

impl FromStr for Other {
    type Err = String;

    /// `http://HOST[:PORT][/PATH]`, or the same with `NAME=` before it.
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, url) = match text.split_once('=') {
            Some((name, url)) if !name.contains([':', '/']) => (Some(name.trim()), url),
            _ => (None, text),
        };
        let wrong = || "write http://HOST:PORT/PATH, or NAME=http://HOST:PORT/PATH".to_owned();
        let uri = url.parse::<Uri>().map_err(|_| wrong())?;
        match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => (),
            Some(scheme) if *scheme == Scheme::HTTPS => {
                return Err("only http:// is measured, name the server behind the TLS".to_owned());
            }
            _ => return Err(wrong()),
        }
        let authority = uri.authority().ok_or_else(wrong)?;
        if uri.query().is_some() || url.contains('#') || authority.as_str().contains('@') {
            return Err(
                "it says where the app is, so it has no query, fragment or user: the request is said by --path"
                    .to_owned(),
            );
        }
        let name = name.unwrap_or(authority.as_str());
        if name.is_empty() || name.chars().count() > LONGEST_NAME || name.contains(char::is_control) {
            return Err(format!("a name has 1 to {LONGEST_NAME} characters"));
        }
        Ok(Self {
            name: name.to_owned(),
            // As it is in a URL, an IPv6 address is in brackets.
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(80),
            authority: authority.to_string(),
            base: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn other(text: &str) -> Other {
        text.parse().unwrap()
    }

    #[test]
    fn another_server_is_a_url_with_or_without_a_name() {
        let node = other("node 26=http://localhost:3000/api/");
        assert_eq!((node.name.as_str(), node.host.as_str(), node.port), ("node 26", "localhost", 3000));
        assert_eq!(node.authority, "localhost:3000");
        assert_eq!(["/", "/x?y", "/?y"].map(|path| node.target(path)), ["/api", "/api/x?y", "/api?y"]);
        let plain = other("http://[::1]/");
        assert_eq!((plain.name.as_str(), plain.host.as_str(), plain.port), ("[::1]", "::1", 80));
        assert_eq!(["/", "/x", "/?y"].map(|path| plain.target(path)), ["/", "/x", "/?y"]);
        assert_eq!(other("http://h/a=b").name, "h");
    }

    #[test]
    fn what_is_no_server_is_refused() {
        for (wrong, told) in [
            ("localhost:3000", "write http://"),
            ("/path", "write http://"),
            ("https://h/", "only http://"),
            ("http://h/?q", "no query"),
            ("http://u@h/", "user"),
            ("http://h/#f", "fragment"),
            ("=http://h/", "a name has"),
        ] {
            let error = wrong.parse::<Other>().unwrap_err();
            assert!(error.contains(told), "{wrong}: {error}");
        }
        assert!(format!("{}=http://h/", "x".repeat(41)).parse::<Other>().is_err());
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_named() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(other(&format!("http://{free}/")).resolve().await.unwrap_err().contains(&free.to_string()));
        let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        assert_eq!(other(&format!("http://{address}/")).resolve().await, Ok(address));
    }
}
