//! What is asked: a request from the command line, or several from a file.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use serde::Deserialize;
use thiserror::Error;

use super::http::Asked;

#[derive(Debug, Error)]
pub enum RequestsError {
    #[error("cannot read {}: {error}", .file.display())]
    Read { file: PathBuf, error: io::Error },
    #[error("{}: {error}", .file.display())]
    Toml { file: PathBuf, error: toml::de::Error },
    #[error("{} has no request, write at least one [[request]]", .0.display())]
    None(PathBuf),
    #[error("{} has {count} requests, {MOST} are the most", .file.display())]
    TooMany { file: PathBuf, count: usize },
    #[error("{}: request {number}: {problem}", .file.display())]
    Request { file: PathBuf, number: usize, problem: String },
}

/// Requests in one file: all of them are asked of every server before it is measured.
const MOST: usize = 1_000;

/// `[[request]]`, each with what differs from `GET /`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    request: Vec<Raw>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    method: Option<String>,
    path: Option<String>,
    #[serde(default)]
    headers: toml::Table,
    body: Option<String>,
    /// Beside the file that names it.
    body_file: Option<PathBuf>,
}

/// Reads the requests in a file, in their order.
pub fn read(file: &Path) -> Result<Vec<Asked>, RequestsError> {
    let cannot = |file: &Path, error| RequestsError::Read { file: file.into(), error };
    let text = std::fs::read_to_string(file).map_err(|error| cannot(file, error))?;
    let document = toml::from_str::<Document>(&text)
        .map_err(|error| RequestsError::Toml { file: file.into(), error })?;
    match document.request.len() {
        0 => return Err(RequestsError::None(file.into())),
        count if count > MOST => return Err(RequestsError::TooMany { file: file.into(), count }),
        _ => (),
    }
    let folder = file.parent().unwrap_or(Path::new(""));
    let numbered = document.request.into_iter().enumerate();
    numbered
        .map(|(at, raw)| {
            let body = match &raw.body_file {
                Some(beside) => {
                    let beside = folder.join(beside);
                    Some(std::fs::read(&beside).map_err(|error| cannot(&beside, error))?.into())
                }
                None => None,
            };
            let wrong = |problem| RequestsError::Request { file: file.into(), number: at + 1, problem };
            raw.check(body).map_err(wrong)
        })
        .collect()
}

/// A request with a body is a POST unless it is said to be something else.
pub fn default_method(body: Option<&Bytes>) -> Method {
    if body.is_some() { Method::POST } else { Method::GET }
}

pub fn path(text: &str) -> Result<String, String> {
    match text.parse::<http::uri::PathAndQuery>() {
        Ok(path) if path.as_str() == text && text.starts_with('/') => Ok(text.to_owned()),
        _ => Err(
            "write a path, and perhaps a query, as in a request line: it begins with / and has no fragment"
                .to_owned(),
        ),
    }
}

pub fn method(text: &str) -> Result<Method, String> {
    match text.parse::<Method>().map_err(|error| error.to_string())? {
        Method::CONNECT => Err("CONNECT asks for no answer that could be compared".to_owned()),
        method => Ok(method),
    }
}

/// A field as in a message: `name: value`.
pub fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("write it as \"name: value\"")?;
    field(name.trim(), value.trim())
}

fn field(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), String> {
    let name = name.parse::<HeaderName>().map_err(|error| error.to_string())?;
    let value = value.parse::<HeaderValue>().map_err(|error| error.to_string())?;
    let framing = ["connection", "content-length", "expect", "te", "trailer", "transfer-encoding", "upgrade"];
    match framing.contains(&name.as_str()) {
        true => Err(format!("{name} is the load's own")),
        false => Ok((name, value)),
    }
}

impl Raw {
    fn check(self, from_file: Option<Bytes>) -> Result<Asked, String> {
        let body = match (self.body, from_file) {
            (Some(_), Some(_)) => return Err("it has both body and body_file, name one".to_owned()),
            (Some(text), None) => Some(Bytes::from(text)),
            (None, file) => file,
        };
        let mut headers = Vec::new();
        for (name, value) in &self.headers {
            let one = std::slice::from_ref(value);
            for value in value.as_array().map_or(one, Vec::as_slice) {
                let text = value.as_str().ok_or_else(|| format!("headers.{name} is no text"))?;
                headers.push(field(name, text).map_err(|problem| format!("headers.{name}: {problem}"))?);
            }
        }
        Ok(Asked {
            method: match self.method {
                Some(text) => method(&text).map_err(|problem| format!("method: {problem}"))?,
                None => default_method(body.as_ref()),
            },
            path: path(self.path.as_deref().unwrap_or("/")).map_err(|problem| format!("path: {problem}"))?,
            headers,
            body: body.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Vec<Asked>, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("order.json"), "{}").unwrap();
        let file = folder.path().join("requests.toml");
        std::fs::write(&file, text).unwrap();
        read(&file).map_err(|error| error.to_string())
    }

    #[test]
    fn each_request_says_what_differs_from_the_simplest_one() {
        let text = r#"
            [[request]]
            [[request]]
            path = "/find?q=a"
            headers = { accept = "text/html", x = ["1", "2"] }
            [[request]]
            path = "/orders"
            body_file = "order.json"
            [[request]]
            method = "PUT"
            body = "x"
        "#;
        let asked = read_text(text).unwrap();
        let lines = asked.iter().map(|one| (one.method.as_str(), one.path.as_str(), &one.body[..]));
        let expected: [(&str, &str, &[u8]); 4] =
            [("GET", "/", b""), ("GET", "/find?q=a", b""), ("POST", "/orders", b"{}"), ("PUT", "/", b"x")];
        assert_eq!(lines.collect::<Vec<_>>(), expected);
        assert_eq!(asked[1].headers.len(), 3);
    }

    #[test]
    fn what_is_wrong_is_said_with_the_requests_number_or_line() {
        for (text, told) in [
            ("", "has no request"),
            ("[[request]]\n[[request]]\npath = \"a\"", "request 2: path: write a path"),
            ("[[request]]\nmethod = \"CONNECT\"", "request 1: method: CONNECT"),
            ("[[request]]\nheaders = { te = \"x\" }", "request 1: headers.te: te is the load's own"),
            ("[[request]]\nheaders = { x = 1 }", "request 1: headers.x is no text"),
            ("[[request]]\nbody = \"a\"\nbody_file = \"order.json\"", "both body and body_file"),
            ("[[request]]\nbody_file = \"none\"", "cannot read"),
            ("[[request]]\nbdy = \"a\"", "unknown field `bdy`"),
            ("[[requests]]", "unknown field `requests`"),
        ] {
            let error = read_text(text).unwrap_err();
            assert!(error.contains(told), "{told:?} is not in {error:?}");
        }
        assert!(read_text(&"[[request]]\n".repeat(MOST + 1)).unwrap_err().contains("1001 requests"));
    }
}
