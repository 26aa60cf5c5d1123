//! What clients ask of an app, taken down for a while when the operator wants to know: to be replayed by `hostler audit`.
//!
//! A recording has bounds in number and bytes; what is beyond them, and requests whose bodies are streamed, are counted
//! and left out. Fields are taken as they come, cookies and credentials too: an app answers by them.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// Requests of one recording.
const MOST_REQUESTS: usize = 1_000;

/// Bytes that all of them may have, in names, values, paths and bodies.
const MOST_BYTES: usize = 4 << 20;

/// One request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    pub method: String,
    /// Path and query below the app.
    pub path: String,
    /// Names, and values as Base64, which need not be text.
    pub headers: Vec<(String, String)>,
    /// Base64.
    pub body: String,
}

/// What a recording has come to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    pub requests: Vec<Recorded>,
    /// Requests that there was no room for, or whose bodies were too large to be read at once.
    pub left_out: u64,
}

/// Where an app's requests are taken down, if they are.
#[derive(Debug, Default)]
pub struct Recorder(ArcSwapOption<Mutex<Room>>);

#[derive(Debug, Default)]
struct Room {
    taken: Taken,
    bytes: usize,
}

/// A recording under way. Dropping it ends it.
pub struct Recording<'r> {
    recorder: &'r Recorder,
    room: Arc<Mutex<Room>>,
}

impl Recorder {
    /// Begins a recording; `None` if there is one already.
    pub fn begin(&self) -> Option<Recording<'_>> {
        let room = Arc::new(Mutex::new(Room::default()));
        let before = self.0.compare_and_swap(&None::<Arc<Mutex<Room>>>, Some(Arc::clone(&room)));
        before.is_none().then(|| Recording { recorder: self, room })
    }

    /// Takes a request down, if there is a recording; only then is its path asked for. `body`: `None` if it is streamed.
    pub fn note(
        &self,
        method: &Method,
        path: impl FnOnce() -> String,
        headers: &HeaderMap,
        body: Option<&Bytes>,
    ) {
        if let Some(room) = &*self.0.load() {
            room.lock().note(method, path(), headers, body);
        }
    }
}

impl Recording<'_> {
    pub fn end(self) -> Taken {
        std::mem::take(&mut self.room.lock().taken)
    }
}

impl Drop for Recording<'_> {
    fn drop(&mut self) {
        self.recorder.0.store(None);
    }
}

impl Room {
    fn note(&mut self, method: &Method, path: String, headers: &HeaderMap, body: Option<&Bytes>) {
        let fields: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        let bytes = path.len() + fields + body.map_or(0, Bytes::len);
        let has_room = self.taken.requests.len() < MOST_REQUESTS && self.bytes + bytes <= MOST_BYTES;
        let (Some(body), true) = (body, has_room) else {
            self.taken.left_out += 1;
            return;
        };
        self.bytes += bytes;
        let headers = headers.iter().filter(|(name, _)| ![CONTENT_LENGTH, TRANSFER_ENCODING].contains(name));
        self.taken.requests.push(Recorded {
            method: method.to_string(),
            path,
            headers: headers
                .map(|(name, value)| (name.to_string(), BASE64_STANDARD.encode(value.as_bytes())))
                .collect(),
            body: BASE64_STANDARD.encode(body),
        });
    }
}

/// Header fields in their order.
type Fields = Vec<(HeaderName, HeaderValue)>;

impl Recorded {
    /// Method, header fields and body, as they were; `None` if they can't be read.
    pub fn parts(&self) -> Option<(Method, Fields, Bytes)> {
        let field = |(name, value): &(String, String)| {
            let value = BASE64_STANDARD.decode(value).ok()?;
            Some((name.parse::<HeaderName>().ok()?, HeaderValue::from_bytes(&value).ok()?))
        };
        let headers = self.headers.iter().map(field).collect::<Option<Fields>>()?;
        Some((self.method.parse().ok()?, headers, BASE64_STANDARD.decode(&self.body).ok()?.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(recorder: &Recorder, body: Option<&Bytes>) {
        let headers = [("content-length", &b"3"[..]), ("x-odd", &b"\xff"[..])].map(|(name, value)| {
            (HeaderName::from_static(name), HeaderValue::from_bytes(value).expect("a value"))
        });
        recorder.note(&Method::POST, || "/a?b".to_owned(), &headers.into_iter().collect(), body);
    }

    #[test]
    fn what_is_taken_down_comes_back_as_it_was() {
        let (recorder, body) = (Recorder::default(), Bytes::from_static(b"\0\xff\n"));
        note(&recorder, Some(&body));
        let recording = recorder.begin().expect("the only one");
        assert!(recorder.begin().is_none());
        note(&recorder, Some(&body));
        note(&recorder, None);
        let taken = recording.end();
        assert_eq!((taken.requests.len(), taken.left_out), (1, 1));
        let (method, headers, taken_body) = taken.requests[0].parts().expect("a request");
        assert_eq!((method, taken_body), (Method::POST, body.clone()));
        assert_eq!(headers, [(HeaderName::from_static("x-odd"), HeaderValue::from_bytes(b"\xff").unwrap())]);
        note(&recorder, Some(&body));
        assert!(recorder.begin().is_some_and(|recording| recording.end() == Taken::default()));
    }

    #[test]
    fn a_recording_has_an_end_in_number_and_in_bytes() {
        let recorder = Recorder::default();
        let recording = recorder.begin().expect("the only one");
        for _ in 0..MOST_REQUESTS + 5 {
            note(&recorder, Some(&Bytes::new()));
        }
        let taken = recording.end();
        assert_eq!((taken.requests.len(), taken.left_out), (MOST_REQUESTS, 5));
        let recording = recorder.begin().expect("the only one");
        let large = Bytes::from(vec![0; MOST_BYTES / 2]);
        (0..3).for_each(|_| note(&recorder, Some(&large)));
        assert_eq!(recording.end().left_out, 2);
    }
}
