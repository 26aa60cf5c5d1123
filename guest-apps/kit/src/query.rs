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
