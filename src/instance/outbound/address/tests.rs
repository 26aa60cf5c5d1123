use ipnet::IpNet;
use proptest::prelude::*;

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn grant(network: &str, port: Option<u16>) -> GrantedNetwork {
    GrantedNetwork { network: network.parse().unwrap(), port }
}

fn nets(texts: &[&str]) -> Vec<GrantedNetwork> {
    texts.iter().map(|text| grant(text, None)).collect()
}

fn at(text: &str, granted: &[&str], own: &[&str]) -> Option<Reason> {
    let own: Vec<SocketAddr> = own.iter().map(|own| own.parse().unwrap()).collect();
    prohibited(SocketAddr::new(ip(text), 443), &nets(granted), &own)
}

#[test]
fn public_addresses_are_let_through() {
    for text in [
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.0",
        "192.0.3.0",
        "192.88.98.255",
        "192.88.100.0",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "198.51.99.255",
        "198.51.101.0",
        "203.0.112.255",
        "203.0.114.0",
        "223.255.255.255",
        "168.63.129.17",
        "2000::",
        "2001:200::",
        "2001:4860:4860::8888",
        "2606:4700:4700::1111",
        "2001:db7::",
        "2001:db9::",
        "3fff:1000::",
        "2003::",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
        "2002:808:808::1",
    ] {
        assert_eq!(at(text, &[], &[]), None, "{text}");
    }
}

#[test]
fn other_addresses_are_refused_with_their_reason() {
    use Reason::*;
    for (reason, texts) in [
        (Unspecified, &["0.0.0.0", "::", "::ffff:0.0.0.0"][..]),
        (
            Loopback,
            &["127.0.0.1", "127.0.0.0", "127.255.255.255", "::1", "::ffff:127.0.0.1", "::ffff:7f00:1"],
        ),
        (Loopback, &["64:ff9b::127.0.0.1", "2002:7f00:1::", "2002:7f00:1:1:2:3:4:5"]),
        (
            Private,
            &["10.0.0.0", "10.255.255.255", "172.16.0.0", "172.31.255.255", "192.168.0.0", "192.168.255.255"],
        ),
        (Private, &["fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fec0::1", "64:ff9b:1::8.8.8.8"]),
        (Private, &["::ffff:10.0.0.1", "64:ff9b::192.168.0.1", "2002:c0a8:1::1", "2002:a00:1::"]),
        (
            LinkLocal,
            &["169.254.0.0", "169.254.255.255", "fe80::", "fe80::1", "febf::1", "::ffff:169.254.1.1"],
        ),
        (Metadata, &["169.254.169.254", "fd00:ec2::254", "fd20:ce::254", "168.63.129.16", "100.100.100.200"]),
        (Metadata, &["192.0.0.192", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::"]),
        (Shared, &["100.64.0.0", "100.127.255.255", "::ffff:100.64.0.1"]),
        (Multicast, &["224.0.0.0", "239.255.255.255", "ff00::", "ff02::1", "ff0e::1", "::ffff:224.0.0.1"]),
        (Broadcast, &["255.255.255.255", "::ffff:255.255.255.255"]),
        (
            Documentation,
            &["192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1", "3fff:fff::1"],
        ),
        (Reserved, &["0.0.0.1", "0.255.255.255", "192.0.0.1", "192.88.99.1", "198.18.0.0", "198.19.255.255"]),
        (Reserved, &["240.0.0.0", "255.255.255.254"]),
        // IPv4-compatible, in which nothing is carried any more, not even a public address.
        (Reserved, &["::127.0.0.1", "::8.8.8.8", "::2"]),
        // Teredo, with any server and client.
        (Reserved, &["2001::", "2001:0:808:808::", "2001:0:7f00:1:0:0:80ff:fffe"]),
        (Reserved, &["2001:2::", "2001:10::", "2001:1ff:ffff::", "100::1", "5f00::1", "4000::", "1fff::1"]),
    ] {
        for text in texts {
            assert_eq!(at(text, &[], &[]), Some(reason), "{text}");
        }
    }
}

#[test]
fn a_grant_lifts_what_it_covers_and_nothing_else() {
    assert_eq!(at("10.1.2.3", &["10.1.0.0/16"], &[]), None);
    assert_eq!(at("10.2.0.0", &["10.1.0.0/16"], &[]), Some(Reason::Private));
    assert_eq!(at("127.0.0.1", &["127.0.0.1/32"], &[]), None);
    assert_eq!(at("127.0.0.2", &["127.0.0.1/32"], &[]), Some(Reason::Loopback));
    assert_eq!(at("::1", &["127.0.0.0/8"], &[]), Some(Reason::Loopback));
    assert_eq!(at("::1", &["::1/128"], &[]), None);
    assert_eq!(at("fd12::1", &["fd12::/16"], &[]), None);
}

#[test]
fn a_grant_of_one_port_is_for_that_port() {
    let granted = [grant("127.0.0.1/32", Some(5432))];
    let at_port = |port| prohibited(SocketAddr::new(ip("127.0.0.1"), port), &granted, &[]);
    assert_eq!(at_port(5432), None);
    assert_eq!(at_port(5433), Some(Reason::Loopback));
}

#[test]
fn a_grant_of_an_ipv4_address_covers_the_forms_that_carry_it() {
    for text in ["::ffff:10.1.2.3", "64:ff9b::10.1.2.3", "2002:a01:203::"] {
        assert_eq!(at(text, &["10.1.0.0/16"], &[]), None, "{text}");
        assert_eq!(at(text, &["10.2.0.0/16"], &[]), Some(Reason::Private), "{text}");
    }
}

#[test]
fn a_metadata_service_needs_a_grant_of_its_very_address() {
    for wide in ["169.254.0.0/16", "0.0.0.0/0", "169.254.169.254/31"] {
        assert_eq!(at("169.254.169.254", &[wide], &[]), Some(Reason::Metadata), "{wide}");
    }
    assert_eq!(at("169.254.169.254", &["169.254.169.254/32"], &[]), None);
    assert_eq!(at("fd00:ec2::254", &["fd00::/8"], &[]), Some(Reason::Metadata));
    assert_eq!(at("fd00:ec2::254", &["fd00:ec2::254/128"], &[]), None);
}

#[test]
fn the_unspecified_address_cannot_be_granted() {
    assert_eq!(at("0.0.0.0", &["0.0.0.0/32", "0.0.0.0/0"], &[]), Some(Reason::Unspecified));
    assert_eq!(at("::", &["::/128", "::/0"], &[]), Some(Reason::Unspecified));
}

#[test]
fn a_listener_of_the_host_needs_a_grant_of_its_very_address() {
    let own = &["127.0.0.1:443", "8.8.4.4:443", "[::1]:443"];
    assert_eq!(at("127.0.0.1", &["127.0.0.0/8"], own), Some(Reason::Own));
    assert_eq!(at("127.0.0.2", &["127.0.0.0/8"], own), None);
    assert_eq!(at("127.0.0.1", &["127.0.0.1/32"], own), None);
    assert_eq!(at("8.8.4.4", &[], own), Some(Reason::Own));
    assert_eq!(at("::ffff:8.8.4.4", &[], own), Some(Reason::Own));
    assert_eq!(at("::1", &["::/0"], own), Some(Reason::Own));
}

#[test]
fn another_service_beside_the_hosts_listener_is_judged_by_its_address() {
    let own = &["127.0.0.1:8080", "8.8.4.4:8080"];
    assert_eq!(at("127.0.0.1", &["127.0.0.0/8"], own), None);
    assert_eq!(at("127.0.0.1", &[], own), Some(Reason::Loopback));
    assert_eq!(at("8.8.4.4", &[], own), None);
}

/// Addresses with the special ranges as likely as the public ones.
fn v4() -> impl Strategy<Value = Ipv4Addr> {
    let first = prop_oneof![
        any::<u8>(),
        proptest::sample::select(vec![0, 10, 100, 127, 168, 169, 172, 192, 198, 203, 224, 255]),
    ];
    let second =
        prop_oneof![any::<u8>(), proptest::sample::select(vec![0, 16, 51, 63, 64, 88, 100, 168, 254])];
    (first, second, any::<u8>(), any::<u8>()).prop_map(|(a, b, c, d)| Ipv4Addr::new(a, b, c, d))
}

fn net() -> impl Strategy<Value = GrantedNetwork> {
    let port = proptest::option::of(proptest::sample::select(vec![80, 443]));
    (v4(), 0..=32_u8, port).prop_map(|(ip, prefix, port)| GrantedNetwork {
        network: IpNet::new(ip.into(), prefix).unwrap(),
        port,
    })
}

proptest! {
    #[test]
    fn a_carried_ipv4_address_is_judged_as_itself(
        ip in v4(),
        granted in proptest::collection::vec(net(), 0..3),
        own in proptest::collection::vec(v4(), 0..2),
        suffix in any::<[u16; 5]>(),
    ) {
        let [high, low] = [(u32::from(ip) >> 16) as u16, u32::from(ip) as u16];
        let [a, b, c, d, e] = suffix;
        let own: Vec<_> = own.into_iter().chain([ip]).map(|ip| SocketAddr::new(ip.into(), 443)).collect();
        for own in [&own[..0], &own[..]] {
            let expected = prohibited(SocketAddr::new(ip.into(), 443), &granted, own);
            for form in [
                ip.to_ipv6_mapped(),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0x2002, high, low, a, b, c, d, e),
            ] {
                prop_assert_eq!(prohibited(SocketAddr::new(form.into(), 443), &granted, own), expected, "{}", form);
            }
        }
    }

    #[test]
    fn what_the_standard_library_calls_special_is_never_public(v4 in v4(), v6 in any::<u128>()) {
        let public = |ip: IpAddr| prohibited(SocketAddr::new(ip, 443), &[], &[]).is_none();
        let special = v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_multicast()
            || v4.is_broadcast() || v4.is_documentation() || v4.is_unspecified();
        prop_assert!(!(special && public(v4.into())), "{}", v4);
        let v6 = Ipv6Addr::from(v6);
        let special = v6.is_loopback() || v6.is_multicast() || v6.is_unspecified() || v6.is_unique_local()
            || v6.is_unicast_link_local();
        prop_assert!(!(special && public(v6.into())), "{}", v6);
    }

    #[test]
    fn a_grant_never_prohibits(ip in v4(), granted in proptest::collection::vec(net(), 0..4)) {
        let address = SocketAddr::new(ip.into(), 443);
        let with = prohibited(address, &granted, &[]);
        prop_assert!(with.is_none() || with == prohibited(address, &[], &[]));
        prop_assume!(!ip.is_unspecified());
        let literal = [GrantedNetwork { network: IpNet::from(IpAddr::from(ip)), port: Some(443) }];
        prop_assert_eq!(prohibited(address, &literal, &[address]), None);
    }
}
