//! Host names: what one looks like, and which ones a wildcard covers.

use std::net::{IpAddr, Ipv6Addr};

/// Checks a name and brings it into its one form: lower case, no final dot, an address in its usual text without
/// brackets. It may begin with `*.` for every name below.
pub(super) fn host_pattern(text: &str) -> Result<String, String> {
    let (prefix, name) = match text.strip_prefix("*.") {
        Some(name) => ("*.", name),
        None => ("", text),
    };
    let name = host(name)?;
    if !prefix.is_empty() && name.parse::<IpAddr>().is_ok() {
        return Err("an address has no names below it".to_owned());
    }
    Ok(format!("{prefix}{name}"))
}

/// Whether a granted pattern (`*`, `*.example.com`, `example.com`) covers all that another one stands for. `*`
/// and wildcards cover names only: an address has to be named.
pub(super) fn covers(granted: &str, asked: &str) -> bool {
    if granted == asked {
        return true;
    }
    let is_address = || ends_in_number(asked) || asked.contains(':');
    match granted.strip_prefix('*') {
        Some("") => !is_address(),
        Some(suffix) => {
            let below = |name: &str| name.len() > suffix.len() && name.ends_with(suffix);
            asked.strip_prefix('*').is_some_and(|asked| asked.ends_with(suffix))
                || (!asked.starts_with('*') && below(asked) && !is_address())
        }
        None => false,
    }
}

/// Whether the last label is a number: resolvers take such a name (`127.1`, `0x7f.1`) for an address.
pub(super) fn ends_in_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    let hexadecimal = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let decimal = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
    decimal || last.strip_prefix("0x").or_else(|| last.strip_prefix("0X")).is_some_and(hexadecimal)
}

fn host(text: &str) -> Result<String, String> {
    if let Some(address) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return match address.parse::<Ipv6Addr>() {
            Ok(address) => Ok(address.to_string()),
            Err(_) => Err("not an IPv6 address between [ and ]".to_owned()),
        };
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.to_string());
    }
    if !text.is_ascii() {
        return Err("a host name is plain ASCII, write its punycode form (xn--…)".to_owned());
    }
    if text.contains(':') {
        return Err("a host is named without a port here, for example \"shop.example.com\"".to_owned());
    }
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    if name.len() > 253 || !name.split('.').all(is_label) {
        let message = "not a host name, write for example \"shop.example.com\" or \"*.example.com\"";
        return Err(message.to_owned());
    }
    if ends_in_number(&name) {
        return Err("a host name can't end in a number, and this is no address".to_owned());
    }
    Ok(name)
}

fn is_label(label: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=63).contains(&label.len())
        && label.bytes().all(inner)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_one_form() {
        let table = [
            ("Shop.Example.COM", "shop.example.com"),
            ("shop.example.com.", "shop.example.com"),
            ("*.Example.com", "*.example.com"),
            ("localhost", "localhost"),
            ("a_b.c-d", "a_b.c-d"),
            ("10.0.0.1", "10.0.0.1"),
            ("[0:0::1]", "::1"),
            ("::1", "::1"),
            ("xn--caf-dma.example", "xn--caf-dma.example"),
        ];
        for (text, form) in table {
            assert_eq!(host_pattern(text).as_deref(), Ok(form), "{text}");
        }
        for text in [
            "",
            "*",
            "*.",
            "a..b",
            "-a",
            "a-",
            "a b",
            "a/b",
            "a:80",
            "*.10.0.0.1",
            "127.1",
            "0x7f.1",
            "a.0x",
            "café",
            "[a]",
            "a.*.b",
        ] {
            assert!(host_pattern(text).is_err(), "{text}");
        }
        assert!(host_pattern(&"a".repeat(64)).is_err() && host_pattern(&"a.".repeat(128)).is_err());
    }

    #[test]
    fn a_wildcard_covers_what_is_below_it() {
        for (granted, asked) in [
            ("a.example", "a.example"),
            ("*.example", "a.example"),
            ("*.example", "a.b.example"),
            ("*.example", "*.example"),
            ("*.example", "*.b.example"),
            ("*", "a.example"),
            ("*", "*.example"),
            ("10.0.0.1", "10.0.0.1"),
        ] {
            assert!(covers(granted, asked), "{granted} covers {asked}");
        }
        for (granted, asked) in [
            ("*.example", "example"),
            ("*.example", "aexample"),
            ("*.example", "*"),
            ("*.b.example", "*.example"),
            ("a.example", "*.example"),
            ("*", "10.0.0.1"),
            ("*", "::1"),
            ("*", "0x7f.1"),
            ("*.1", "10.0.0.1"),
        ] {
            assert!(!covers(granted, asked), "{granted} does not cover {asked}");
        }
    }
}
