//! The part of a request's path after the question mark.

use wasip2::http::types::IncomingRequest;

/// The parameters of a request, as in `?n=5&ms=100`.
#[derive(Debug, Default)]
pub struct Query(String);

impl Query {
    pub fn of(request: &IncomingRequest) -> Self {
        Self::of_path(&request.path_with_query().unwrap_or_default())
    }

    pub fn of_path(path_with_query: &str) -> Self {
        match path_with_query.split_once('?') {
            Some((_, query)) => Self(query.to_owned()),
            None => Self::default(),
        }
    }

    /// The decoded value of the first parameter of that name.
    pub fn text(&self, name: &str) -> Option<String> {
        self.0
            .split('&')
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| decode(value))
    }

    /// The value as a whole number; `None` if it is missing or is none.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }

    /// Whether the parameter is there and is not `0`.
    pub fn flag(&self, name: &str) -> bool {
        self.text(name).is_some_and(|value| value != "0")
    }
}

/// Undoes `%41` and `+`; what is not an escape stays as it is.
fn decode(value: &str) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        match (first, tail) {
            (b'+', _) => bytes.push(b' '),
            (b'%', [high, low, after @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => {
                    bytes.push(high * 16 + low);
                    rest = after;
                }
                _ => bytes.push(b'%'),
            },
            _ => bytes.push(first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn digit(hex: u8) -> Option<u8> {
    char::from(hex).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::Query;

    #[test]
    fn a_value_is_decoded_and_broken_escapes_stay() {
        let query = Query::of_path("/a?url=http%3A%2F%2Fh%2F%3Fx%3D1&t=a+b%4g%&t=second");
        assert_eq!(query.text("url").as_deref(), Some("http://h/?x=1"));
        assert_eq!(query.text("t").as_deref(), Some("a b%4g%"));
        assert_eq!(query.text("u"), None);
    }

    #[test]
    fn numbers_and_flags_come_from_values() {
        let query = Query::of_path("/?n=5&off=0&on&bad=5x");
        assert_eq!(query.number("n"), Some(5));
        assert_eq!(query.number("bad"), None);
        assert!(query.flag("on") && query.flag("n"));
        assert!(!query.flag("off") && !query.flag("none"));
        assert!(!Query::of_path("/n=1").flag("n"));
    }
}
