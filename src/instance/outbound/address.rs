//! Which addresses a guest's requests may go to; pure.
//!
//! A name in an app's `[outbound] allow` says nothing about where the name leads: whoever runs its DNS decides that,
//! and may decide on `127.0.0.1` or on a cloud's metadata service. So the address is what is checked, and only public
//! ones are let through unless the operator has granted others.
//!
//! An IPv6 address that carries an IPv4 one (mapped, NAT64, 6to4) is judged as the IPv4 address that it leads to.
//! Of IPv6 only the global range is public, less what is reserved in it; Teredo and IPv4-compatible addresses, which
//! nobody uses any more, fall under that.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::GrantedNetwork;

/// Why an address is not for guests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A listener of this host.
    Own,
    /// A service that gives a cloud machine its credentials.
    Metadata,
    Unspecified,
    Loopback,
    Private,
    LinkLocal,
    /// Carrier-grade NAT, also the network between containers in some clouds.
    Shared,
    Multicast,
    Broadcast,
    Documentation,
    /// Not in use on the internet, or not as an address of one machine.
    Reserved,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Own => "a listener of this host",
            Self::Metadata => "a cloud metadata service",
            Self::Unspecified => "the unspecified address",
            Self::Loopback => "a loopback address",
            Self::Private => "a private address",
            Self::LinkLocal => "a link-local address",
            Self::Shared => "a shared (carrier-grade NAT) address",
            Self::Multicast => "a multicast address",
            Self::Broadcast => "the broadcast address",
            Self::Documentation => "a documentation address",
            Self::Reserved => "a reserved address",
        })
    }
}

impl Reason {
    /// Which grants lift it.
    fn lifted_by(self, grant: &GrantedNetwork) -> bool {
        match self {
            // It leads to any of this machine's addresses, so a grant of it would be one of them all.
            Self::Unspecified => false,
            // Wider grants are rarely meant to hold for these: only one of this very address (`/32`, `/128`) does.
            Self::Own | Self::Metadata => grant.network.prefix_len() == grant.network.max_prefix_len(),
            _ => true,
        }
    }
}

/// Why a guest must not connect to `address`; `None` if it may.
///
/// `granted` are the operator's grants for the app; `own` are the addresses that lead to this host's listeners.
pub fn prohibited(address: SocketAddr, granted: &[GrantedNetwork], own: &[SocketAddr]) -> Option<Reason> {
    let effective = effective(address.ip());
    let is_own = own.iter().any(|own| own.port() == address.port() && self::effective(own.ip()) == effective);
    let reason = if is_own { Some(Reason::Own) } else { not_public(effective) };
    let effective = SocketAddr::new(effective, address.port());
    let covers = |grant: &GrantedNetwork| grant.contains(address) || grant.contains(effective);
    reason.filter(|reason| !granted.iter().any(|grant| covers(grant) && reason.lifted_by(grant)))
}

/// The address that packets to `ip` end up at, as far as it says so itself: an IPv4 address carried in an IPv6 one.
pub fn effective(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(v6) => carried(v6).map_or(ip, IpAddr::V4),
        IpAddr::V4(_) => ip,
    }
}

fn not_public(ip: IpAddr) -> Option<Reason> {
    match ip {
        IpAddr::V4(v4) => not_public_v4(v4),
        IpAddr::V6(v6) => not_public_v6(v6),
    }
}

/// The IANA special-purpose registry of IPv4, and the metadata services known.
fn not_public_v4(ip: Ipv4Addr) -> Option<Reason> {
    Some(match ip.octets() {
        // The link-local one is common to nearly all clouds; the others are Azure's, Alibaba's and Oracle's.
        [169, 254, 169, 254] | [168, 63, 129, 16] | [100, 100, 100, 200] | [192, 0, 0, 192] => {
            Reason::Metadata
        }
        [0, 0, 0, 0] => Reason::Unspecified,
        [0, ..] => Reason::Reserved,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Reason::Private,
        [100, 64..=127, ..] => Reason::Shared,
        [127, ..] => Reason::Loopback,
        [169, 254, ..] => Reason::LinkLocal,
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Reason::Documentation,
        // IETF protocols, 6to4 relays, benchmarks.
        [192, 0, 0, _] | [192, 88, 99, _] | [198, 18..=19, ..] => Reason::Reserved,
        [224..=239, ..] => Reason::Multicast,
        [255, 255, 255, 255] => Reason::Broadcast,
        [240..=255, ..] => Reason::Reserved,
        _ => return None,
    })
}

/// The IANA special-purpose registry of IPv6; what is not in the global range is not public.
fn not_public_v6(ip: Ipv6Addr) -> Option<Reason> {
    Some(match ip.segments() {
        // AWS, Google Cloud.
        [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254] | [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254] => Reason::Metadata,
        [0, 0, 0, 0, 0, 0, 0, 0] => Reason::Unspecified,
        [0, 0, 0, 0, 0, 0, 0, 1] => Reason::Loopback,
        [0xfc00..=0xfdff, ..] => Reason::Private,
        // Site-local, the predecessor of the private range, is still routed by some.
        [0xfec0..=0xfeff, ..] => Reason::Private,
        // NAT64 prefixes of a network's own.
        [0x64, 0xff9b, 1, ..] => Reason::Private,
        [0xfe80..=0xfebf, ..] => Reason::LinkLocal,
        [0xff00..=0xffff, ..] => Reason::Multicast,
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Reason::Documentation,
        // IETF protocols, with Teredo (2001::/32) among them.
        [0x2001, 0..=0x1ff, ..] => Reason::Reserved,
        [0x2000..=0x3fff, ..] => return None,
        _ => Reason::Reserved,
    })
}

fn carried(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let (high, low) = match ip.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] => (high, low),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => (high, low),
        [0x2002, high, low, ..] => (high, low),
        _ => return None,
    };
    Some(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)))
}

#[cfg(test)]
mod tests;
