//! How much of a version is to be sent, by the request's conditions and range, in the order of RFC 9110, 13.2.2.
//!
//! Two things are stricter than they could be. A date is believed only if it is exactly the version's: a release may put
//! an older file in a newer one's place. And of several ranges none is served, but the whole, which is always allowed
//! and never more work than was asked for.

use std::ops::Range;
use std::time::SystemTime;

use headers::{
    ETag, Header, HeaderMapExt, IfMatch, IfModifiedSince, IfNoneMatch, IfRange, IfUnmodifiedSince,
    LastModified,
};
use http::header::RANGE;
use http::{HeaderMap, HeaderValue, Method};

use crate::public::Version;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Whole,
    /// Never empty.
    Part(Range<u64>),
    /// The client has it.
    NotModified,
    /// It is not the one that the client meant.
    Failed,
    /// There is nothing at the range asked for.
    Unsatisfiable,
}

/// What a GET or HEAD is answered with.
pub fn judge(method: &Method, headers: &HeaderMap, version: &Version) -> Verdict {
    let Ok(etag) = ETag::decode(&mut std::iter::once(&version.etag)) else { return Verdict::Whole };
    if let Some(wanted) = headers.typed_get::<IfMatch>() {
        if !wanted.precondition_passes(&etag) {
            return Verdict::Failed;
        }
    } else if let Some(since) = headers.typed_get::<IfUnmodifiedSince>()
        && !since.precondition_passes(version.modified)
    {
        return Verdict::Failed;
    }
    if let Some(known) = headers.typed_get::<IfNoneMatch>() {
        if !known.precondition_passes(&etag) {
            return Verdict::NotModified;
        }
    } else if let Some(since) = headers.typed_get::<IfModifiedSince>()
        && SystemTime::from(since) == version.modified
    {
        return Verdict::NotModified;
    }
    // A range is for GET alone, and counts only if the rest that the client has is of this version.
    let is_other = headers.typed_get::<IfRange>().map(|known| known.is_modified(Some(&etag), None));
    let unreadable = headers.contains_key(http::header::IF_RANGE) && is_other.is_none();
    if method != Method::GET || is_other == Some(true) || unreadable {
        return Verdict::Whole;
    }
    range(headers, version.blob.len())
}

/// A time as HTTP writes it.
pub fn date(time: SystemTime) -> HeaderValue {
    let mut written = Vec::with_capacity(1);
    LastModified::from(time).encode(&mut written);
    written.pop().unwrap_or(HeaderValue::from_static(""))
}

fn range(headers: &HeaderMap, len: u64) -> Verdict {
    let mut lines = headers.get_all(RANGE).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return Verdict::Whole };
    match line.to_str().ok().and_then(|text| parse_range(text, len)) {
        // Not one range of bytes: such a header is to be ignored.
        None => Verdict::Whole,
        Some(range) if range.is_empty() => Verdict::Unsatisfiable,
        Some(range) => Verdict::Part(range),
    }
}

/// One range in `bytes=2-5`, `bytes=2-` or `bytes=-5`, as far as there is anything; empty if there is nothing.
fn parse_range(text: &str, len: u64) -> Option<Range<u64>> {
    let (unit, range) = text.split_once('=')?;
    let (first, last) = range.trim().split_once('-')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More than can be counted is more than there is.
        true if !text.is_empty() => Some(text.parse().unwrap_or(u64::MAX)),
        _ => None,
    };
    match (first, last) {
        ("", last) => Some(len.saturating_sub(number(last)?)..len),
        (first, "") => Some(number(first)?..len),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then(|| first..last.saturating_add(1).min(len))
        }
    }
}

#[cfg(test)]
mod tests;
