//! Where outbound requests may go: origins by name, networks by address.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use ipnet::IpNet;

use super::names;
use super::problem::quoted;
use super::{GrantedNetwork, Origin, Outbound};

impl Origin {
    /// Whether a request to this scheme, host and port is one to this origin. The host may have brackets, a final
    /// dot and upper case.
    pub fn matches(&self, https: bool, host: &str, port: u16) -> bool {
        if self.https != https || self.port != port {
            return false;
        }
        let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let host = host.strip_suffix('.').unwrap_or(host);
        if let Ok(address) = host.parse::<IpAddr>() {
            return !self.subdomains && self.host.parse() == Ok(address);
        }
        if !self.subdomains {
            return self.host.eq_ignore_ascii_case(host);
        }
        if names::ends_in_number(host) || host.contains(':') {
            return false;
        }
        if self.host.is_empty() {
            return !host.is_empty();
        }
        // At least one byte and the dot come before the name.
        let Some(above) = host.len().checked_sub(self.host.len()).filter(|length| *length > 1) else {
            return false;
        };
        let (below, tail) = host.as_bytes().split_at(above);
        below.ends_with(b".") && tail.eq_ignore_ascii_case(self.host.as_bytes())
    }

    /// Whether every request that `asked` allows is one that this origin allows.
    pub(super) fn covers(&self, asked: &Origin) -> bool {
        self.https == asked.https
            && self.port == asked.port
            && names::covers(&self.pattern(), &asked.pattern())
    }

    /// The address, if the host is one.
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    fn pattern(&self) -> String {
        match (self.subdomains, self.host.as_str()) {
            (true, "") => "*".to_owned(),
            (true, host) => format!("*.{host}"),
            (false, host) => host.to_owned(),
        }
    }
}

impl FromStr for Origin {
    type Err = String;

    /// Reads `https://api.example.com`, `http://*.internal:8080`, `http://[::1]:9000` or `https://*`, which is any
    /// name, but no address.
    fn from_str(text: &str) -> Result<Self, String> {
        const EXAMPLE: &str = "for example \"https://api.example.com\" or \"http://*.internal:8080\"";
        let (scheme, authority) =
            text.split_once("://").ok_or_else(|| format!("not an origin, write {EXAMPLE}"))?;
        let https = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(format!("unknown scheme {:?}, use http or https, {EXAMPLE}", quoted(scheme))),
        };
        if authority.contains(['/', '?', '#', '@', '\\']) {
            let message = "an origin is scheme, host and port only, without a path or a user";
            return Err(format!("{message}, {EXAMPLE}"));
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (authority, None),
        };
        let port = match port {
            None if https => 443,
            None => 80,
            Some(port) => {
                let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
                let number = port.parse().ok().filter(|port| is_number && *port != 0);
                number.ok_or_else(|| format!("not a port from 1 to 65535, write {EXAMPLE}"))?
            }
        };
        if host == "*" {
            return Ok(Self { https, host: String::new(), subdomains: true, port });
        }
        let pattern = names::host_pattern(host)?;
        let (host, subdomains) = match pattern.strip_prefix("*.") {
            Some(host) => (host.to_owned(), true),
            None => (pattern, false),
        };
        Ok(Self { https, host, subdomains, port })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, default) = if self.https { ("https", 443) } else { ("http", 80) };
        let pattern = self.pattern();
        match pattern.contains(':') {
            true => write!(f, "{scheme}://[{pattern}]")?,
            false => write!(f, "{scheme}://{pattern}")?,
        }
        if self.port == default { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

impl Outbound {
    /// Whether the operator granted this very address, so that it may be connected to even if it is a loopback,
    /// private, link-local or metadata one.
    pub fn address_granted(&self, address: SocketAddr) -> bool {
        self.granted_networks.iter().any(|network| network.contains(address))
    }
}

impl GrantedNetwork {
    pub fn contains(&self, address: SocketAddr) -> bool {
        // An IPv4 address is the same one when it comes dressed as an IPv6 one.
        self.network.contains(&address.ip().to_canonical())
            && self.port.is_none_or(|port| port == address.port())
    }
}

/// One entry of a grant's `outbound` list.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Destination {
    Origin(Origin),
    Network(IpNet),
}

impl Destination {
    pub fn covers(&self, asked: &Origin) -> bool {
        match self {
            Self::Origin(origin) => origin.covers(asked),
            Self::Network(network) => {
                asked.address().is_some_and(|address| network.contains(&address.to_canonical()))
            }
        }
    }

    /// The addresses that this entry names literally: a granted address is granted at its port only.
    pub fn network(&self) -> Option<GrantedNetwork> {
        match self {
            Self::Network(network) => Some(GrantedNetwork { network: *network, port: None }),
            Self::Origin(origin) => {
                let network = IpNet::from(origin.address()?.to_canonical());
                Some(GrantedNetwork { network, port: Some(origin.port) })
            }
        }
    }
}

impl FromStr for Destination {
    type Err = String;

    /// Reads an origin, an address or a network in CIDR form.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains("://") {
            return text.parse().map(Self::Origin);
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Network(IpNet::from(address.to_canonical())));
        }
        let network = text.parse::<IpNet>().map_err(|_| {
            "not a destination, write for example \"https://api.example.com\" or \"10.0.0.0/8\"".to_owned()
        })?;
        if network.trunc() != network {
            return Err(format!("this network is written {}", network.trunc()));
        }
        Ok(Self::Network(network))
    }
}

#[cfg(test)]
mod tests;
