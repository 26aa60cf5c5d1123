use super::*;

fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn a_listener_on_the_unspecified_address_is_found_at_every_address_of_this_machine() {
    for listener in ["0.0.0.0:80", "[::]:80"] {
        let listeners = [socket(listener), socket("192.0.2.1:80")];
        let own = own_addresses(&listeners, socket("127.0.0.1:80"));
        assert_eq!(own, [socket("127.0.0.1:80"), socket("192.0.2.1:80")]);
        let own = own_addresses(&listeners, socket("127.0.0.1:81"));
        assert_eq!(own, listeners, "another port is another service");
    }
}

#[test]
fn the_kernel_tells_which_addresses_are_of_this_machine() {
    for ip in ["127.0.0.1", "127.8.9.10", "::ffff:127.0.0.1"] {
        assert!(is_of_this_machine(ip.parse().unwrap()), "{ip}");
    }
    // Reserved for documentation, so nobody's.
    assert!(!is_of_this_machine("192.0.2.1".parse().unwrap()));
}
