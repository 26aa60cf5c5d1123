//! Answers, and how two of them differ: pure, but for taking one.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, StatusCode};
use http_body_util::BodyExt;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::instance::{self, Failure};
use crate::logging::Text;

/// Bytes of a body that are kept to show them; the rest is compared by length and digest.
const SHOWN: usize = 64 << 10;

/// Bytes on either side of a difference that are shown of a body.
const AROUND: usize = 24;

/// What came of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Answered(Answer),
    /// A trap, an exhausted limit, or no answer at all.
    Failed(String),
    /// It took longer than `request_timeout`.
    Hung(Duration),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    status: StatusCode,
    headers: BTreeMap<String, Vec<Vec<u8>>>,
    begin: Bytes,
    length: u64,
    digest: [u8; 32],
}

/// What of an answer is the same on all clean instances.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    pub(super) outcome: Outcome,
    /// Header fields that differ between clean instances, or are not always there.
    own_headers: Vec<String>,
    /// Bodies differ between clean instances.
    pub(super) varies: bool,
    /// Then: the words of their bodies, those that differ left out; `None` if the bodies have not equally many.
    words: Option<Vec<Option<String>>>,
}

/// How an answer of a used instance differs from those of clean ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Difference {
    Status {
        clean: u16,
        used: u16,
    },
    Header {
        name: String,
        clean: String,
        used: String,
    },
    Body {
        at: usize,
        clean: String,
        used: String,
    },
    Failed {
        why: String,
    },
    Hung {
        after_ms: u64,
    },
    /// The request fails on clean instances.
    Answered {
        status: u16,
    },
}

impl Answer {
    /// Takes an answer to its end.
    ///
    /// # Errors
    /// What went wrong.
    pub(super) async fn take(exchanged: Result<instance::Outcome, Failure>) -> Result<Answer, String> {
        let response = match exchanged.map_err(|failure| failure.to_string())? {
            instance::Outcome::Response(response) => response,
            instance::Outcome::LocalRedirect(target) => {
                return Ok(Answer::new(StatusCode::FOUND, &http::HeaderMap::new(), target.as_bytes()));
            }
        };
        let (head, mut body) = response.into_parts();
        let mut answer = Answer::new(head.status, &head.headers, &[]);
        let (mut digest, mut begin) = (Sha256::new(), Vec::new());
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| format!("its answer broke off: {error}"))?;
            let Some(data) = frame.data_ref() else { continue };
            digest.update(data);
            answer.length += data.len() as u64;
            let room = SHOWN.saturating_sub(begin.len()).min(data.len());
            begin.extend_from_slice(&data[..room]);
        }
        (answer.begin, answer.digest) = (begin.into(), digest.finalize().into());
        Ok(answer)
    }

    fn new(status: StatusCode, fields: &http::HeaderMap, body: &[u8]) -> Answer {
        let mut headers = BTreeMap::<String, Vec<Vec<u8>>>::new();
        for (name, value) in fields {
            headers.entry(HeaderName::as_str(name).to_owned()).or_default().push(value.as_bytes().to_vec());
        }
        Answer {
            status,
            headers,
            begin: Bytes::copy_from_slice(&body[..body.len().min(SHOWN)]),
            length: body.len() as u64,
            digest: Sha256::digest(body).into(),
        }
    }

    fn has_body_of(&self, other: &Answer) -> bool {
        (self.length, self.digest) == (other.length, other.digest)
    }
}

impl Expected {
    /// From what clean instances answered to the same request.
    pub(super) fn of(first: Outcome, others: &[Outcome]) -> Expected {
        let (mut own_headers, mut varies) = (Vec::new(), false);
        if let Outcome::Answered(answer) = &first {
            for other in others {
                let Outcome::Answered(other) = other else {
                    varies = true;
                    continue;
                };
                let names = answer.headers.keys().chain(other.headers.keys());
                let differs = |name: &&String| answer.headers.get(*name) != other.headers.get(*name);
                own_headers.extend(names.filter(differs).cloned());
                varies |= answer.status != other.status || !answer.has_body_of(other);
            }
        } else {
            varies = others.iter().any(|other| matches!(other, Outcome::Answered(_)));
        }
        let words = if varies { common_words(&first, others) } else { None };
        if varies {
            own_headers.push("content-length".to_owned());
        }
        own_headers.sort_unstable();
        own_headers.dedup();
        Expected { outcome: first, own_headers, varies, words }
    }

    /// How an answer of a used instance differs, apart from what is its own on clean ones.
    pub(super) fn differs(&self, used: &Outcome) -> Option<Difference> {
        match (&self.outcome, used) {
            (Outcome::Answered(clean), Outcome::Answered(used)) => self.answers_differ(clean, used),
            (_, _) if self.varies && !matches!(self.outcome, Outcome::Answered(_)) => None,
            (Outcome::Answered(_), Outcome::Failed(why)) => Some(Difference::Failed { why: why.clone() }),
            (Outcome::Answered(_), Outcome::Hung(after)) => {
                Some(Difference::Hung { after_ms: u64::try_from(after.as_millis()).unwrap_or(u64::MAX) })
            }
            (_, Outcome::Answered(used)) => Some(Difference::Answered { status: used.status.as_u16() }),
            // It fails, or hangs, on clean instances too.
            (_, _) => None,
        }
    }

    fn answers_differ(&self, clean: &Answer, used: &Answer) -> Option<Difference> {
        if clean.status != used.status && !self.varies {
            return Some(Difference::Status { clean: clean.status.as_u16(), used: used.status.as_u16() });
        }
        if !self.varies && !clean.has_body_of(used) {
            return Some(body_difference(clean, used));
        }
        if let Some(difference) = self.words_differ(clean, used) {
            return Some(difference);
        }
        let names = clean.headers.keys().chain(used.headers.keys());
        let mut compared = names.filter(|name| self.own_headers.binary_search(name).is_err());
        let name = compared.find(|name| clean.headers.get(*name) != used.headers.get(*name))?;
        let shown = |answer: &Answer| match answer.headers.get(name) {
            Some(values) => values.iter().map(|value| excerpt(value, 0)).collect::<Vec<_>>().join(", "),
            None => "(none)".to_owned(),
        };
        Some(Difference::Header { name: name.clone(), clean: shown(clean), used: shown(used) })
    }
}

impl Expected {
    /// Whether a word differs that is the same in the bodies of all clean instances.
    fn words_differ(&self, clean: &Answer, used: &Answer) -> Option<Difference> {
        let expected = self.words.as_ref()?;
        let (mut clean_words, mut used_words) = (words(&clean.begin), words(&used.begin));
        let (mut clean_at, mut used_at) = (0, 0);
        for expected in expected {
            let clean_word = clean_words.next().unwrap_or_default();
            let used_word = used_words.next().unwrap_or_default();
            if expected.as_ref().is_some_and(|expected| *expected != used_word) {
                return Some(Difference::Body {
                    at: used_at,
                    clean: excerpt(&clean.begin, clean_at),
                    used: excerpt(&used.begin, used_at),
                });
            }
            (clean_at, used_at) = (clean_at + clean_word.len(), used_at + used_word.len());
        }
        None
    }
}

/// The words that are the same in the bodies of all clean instances.
fn common_words(first: &Outcome, others: &[Outcome]) -> Option<Vec<Option<String>>> {
    let of = |outcome: &Outcome| match outcome {
        Outcome::Answered(answer) => Some(words(&answer.begin).collect::<Vec<_>>()),
        Outcome::Failed(_) | Outcome::Hung(_) => None,
    };
    let mut common: Vec<_> = of(first)?.into_iter().map(Some).collect();
    for other in others {
        let other = of(other)?;
        if other.len() != common.len() {
            return None;
        }
        for (common, other) in common.iter_mut().zip(other) {
            common.take_if(|word| *word != other);
        }
    }
    Some(common)
}

/// A body's words, and what is between them.
fn words(bytes: &[u8]) -> impl Iterator<Item = String> {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || !byte.is_ascii();
    let chunks = bytes.chunk_by(move |one, other| is_part(*one) && is_part(*other));
    chunks.map(|chunk| String::from_utf8_lossy(chunk).into_owned())
}

fn body_difference(clean: &Answer, used: &Answer) -> Difference {
    let pairs = clean.begin.iter().zip(&used.begin);
    let at = pairs.take_while(|(clean, used)| clean == used).count();
    Difference::Body { at, clean: excerpt(&clean.begin, at), used: excerpt(&used.begin, at) }
}

/// What is around a place, as one line.
fn excerpt(bytes: &[u8], at: usize) -> String {
    let from = at.saturating_sub(AROUND).min(bytes.len());
    let to = at.saturating_add(2 * AROUND).min(bytes.len());
    Text(&String::from_utf8_lossy(&bytes[from..to])).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, headers: &[(&str, &str)], body: &str) -> Outcome {
        let fields = headers.iter().map(|(name, value)| {
            (
                HeaderName::try_from(*name).expect("a name"),
                http::HeaderValue::from_str(value).expect("a value"),
            )
        });
        let status = StatusCode::from_u16(status).expect("a status");
        Outcome::Answered(Answer::new(status, &fields.collect(), body.as_bytes()))
    }

    #[test]
    fn what_differs_between_clean_instances_is_not_held_against_a_used_one() {
        let clean = |date, body| answered(200, &[("date", date), ("x", "1")], body);
        let expected = Expected::of(clean("a", "same"), &[clean("b", "same")]);
        assert_eq!(expected.differs(&clean("c", "same")), None);
        assert!(matches!(expected.differs(&clean("c", "other")), Some(Difference::Body { at: 0, .. })));
        let random = Expected::of(clean("a", "1"), &[clean("a", "2")]);
        assert!(random.varies);
        assert_eq!(random.differs(&clean("a", "3")), None);
        let other_header = answered(200, &[("date", "a"), ("x", "2")], "3");
        assert!(
            matches!(random.differs(&other_header), Some(Difference::Header { name, .. }) if name == "x")
        );
    }

    #[test]
    fn of_bodies_that_differ_by_themselves_the_words_that_never_do_are_compared() {
        let clean = |random| answered(200, &[], &format!("count=1 random={random}"));
        let expected = Expected::of(clean("a1"), &[clean("b22"), clean("c")]);
        assert_eq!(expected.differs(&clean("dddd")), None);
        let used = answered(200, &[], "count=2 random=e");
        assert!(matches!(expected.differs(&used), Some(Difference::Body { at: 6, .. })));
        let unlike = Expected::of(clean("a"), &[clean("b, c")]);
        assert_eq!(unlike.differs(&used), None);
    }

    #[test]
    fn each_kind_of_difference_is_told() {
        let expected =
            Expected::of(answered(200, &[], "count=1 of it"), &[answered(200, &[], "count=1 of it")]);
        assert_eq!(
            expected.differs(&answered(200, &[], "count=2 of it")),
            Some(Difference::Body { at: 6, clean: "count=1 of it".into(), used: "count=2 of it".into() })
        );
        assert_eq!(
            expected.differs(&answered(500, &[], "count=1 of it")),
            Some(Difference::Status { clean: 200, used: 500 })
        );
        let failed = Outcome::Failed("the guest trapped".into());
        assert_eq!(expected.differs(&failed), Some(Difference::Failed { why: "the guest trapped".into() }));
        let hung = Outcome::Hung(Duration::from_secs(1));
        assert_eq!(expected.differs(&hung), Some(Difference::Hung { after_ms: 1_000 }));
        let fails = Expected::of(failed.clone(), std::slice::from_ref(&failed));
        assert_eq!(fails.differs(&failed), None);
        assert_eq!(fails.differs(&answered(200, &[], "")), Some(Difference::Answered { status: 200 }));
    }

    #[test]
    fn a_large_body_is_compared_to_its_end() {
        let body = |end: &str| answered(200, &[], &("x".repeat(2 * SHOWN) + end));
        let expected = Expected::of(body("a"), &[body("a")]);
        assert_eq!(expected.differs(&body("a")), None);
        assert!(matches!(expected.differs(&body("b")), Some(Difference::Body { at: SHOWN, .. })));
    }
}
