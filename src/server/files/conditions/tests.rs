use std::time::Duration;

use http::HeaderName;
use http::header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE};

use super::*;
use crate::public::copies::{Copies, Room};

const TAG: &str = "\"0123\"";
const DATE: &str = "Sun, 09 Sep 2001 01:46:40 GMT";
const EARLIER: &str = "Sun, 09 Sep 2001 01:46:39 GMT";
const LATER: &str = "Sun, 09 Sep 2001 01:46:41 GMT";

/// A version of ten bytes.
fn version() -> Version {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("file");
    std::fs::write(&path, "0123456789").expect("written");
    let copies = Copies::open(folder.path(), Room { memory: 100, disk: 0 }).expect("a place for copies");
    let blob = copies.keep(&std::fs::File::open(path).expect("a file"), 10).expect("kept");
    let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    Version { encoding: None, blob, etag: HeaderValue::from_static(TAG), modified }
}

fn judged(method: &Method, fields: &[(HeaderName, &'static str)]) -> Verdict {
    let fields = fields.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
    judge(method, &fields.collect(), &version())
}

fn get(fields: &[(HeaderName, &'static str)]) -> Verdict {
    judged(&Method::GET, fields)
}

#[test]
fn dates_are_written_as_http_has_them() {
    assert_eq!(date(version().modified), DATE);
}

#[test]
fn what_the_client_has_is_not_sent_again() {
    for (name, value, verdict) in [
        (IF_NONE_MATCH, TAG, Verdict::NotModified),
        (IF_NONE_MATCH, "W/\"0123\"", Verdict::NotModified),
        (IF_NONE_MATCH, "\"a\", \"0123\" , \"b\"", Verdict::NotModified),
        (IF_NONE_MATCH, "*", Verdict::NotModified),
        (IF_NONE_MATCH, "\"01234\"", Verdict::Whole),
        (IF_NONE_MATCH, "\"0123-br\"", Verdict::Whole),
        (IF_MODIFIED_SINCE, DATE, Verdict::NotModified),
        (IF_MODIFIED_SINCE, LATER, Verdict::Whole),
        (IF_MODIFIED_SINCE, EARLIER, Verdict::Whole),
        (IF_MODIFIED_SINCE, "yesterday", Verdict::Whole),
    ] {
        assert_eq!(get(&[(name.clone(), value)]), verdict, "{name}: {value}");
        assert_eq!(judged(&Method::HEAD, &[(name.clone(), value)]), verdict, "HEAD, {name}: {value}");
    }
    assert_eq!(
        get(&[(IF_NONE_MATCH, "\"a\""), (IF_MODIFIED_SINCE, DATE)]),
        Verdict::Whole,
        "the tag goes first"
    );
}

#[test]
fn what_the_client_does_not_mean_is_refused() {
    for (name, value, verdict) in [
        (IF_MATCH, TAG, Verdict::Whole),
        (IF_MATCH, "*", Verdict::Whole),
        (IF_MATCH, "\"a\"", Verdict::Failed),
        (IF_MATCH, "W/\"0123\"", Verdict::Failed),
        (IF_UNMODIFIED_SINCE, DATE, Verdict::Whole),
        (IF_UNMODIFIED_SINCE, EARLIER, Verdict::Failed),
    ] {
        assert_eq!(get(&[(name.clone(), value)]), verdict, "{name}: {value}");
    }
    assert_eq!(get(&[(IF_MATCH, "\"a\""), (IF_NONE_MATCH, TAG)]), Verdict::Failed);
}

#[test]
fn one_range_is_served_as_far_as_there_is_anything() {
    for (value, verdict) in [
        ("bytes=0-0", Verdict::Part(0..1)),
        ("bytes=2-5", Verdict::Part(2..6)),
        ("bytes=2-", Verdict::Part(2..10)),
        ("bytes=-3", Verdict::Part(7..10)),
        ("bytes=-10", Verdict::Part(0..10)),
        ("bytes=-11", Verdict::Part(0..10)),
        ("bytes=9-100", Verdict::Part(9..10)),
        ("bytes=0-18446744073709551615", Verdict::Part(0..10)),
        ("bytes=0-99999999999999999999999", Verdict::Part(0..10)),
        ("Bytes = 2-5", Verdict::Part(2..6)),
        ("bytes=10-", Verdict::Unsatisfiable),
        ("bytes=10-20", Verdict::Unsatisfiable),
        ("bytes=99999999999999999999999-", Verdict::Unsatisfiable),
        ("bytes=-0", Verdict::Unsatisfiable),
        ("bytes=5-2", Verdict::Whole),
        ("bytes=-", Verdict::Whole),
        ("bytes=", Verdict::Whole),
        ("bytes=a-b", Verdict::Whole),
        ("bytes=+1-2", Verdict::Whole),
        ("bytes=0-1,3-4", Verdict::Whole),
        ("items=0-1", Verdict::Whole),
        ("0-1", Verdict::Whole),
    ] {
        assert_eq!(get(&[(RANGE, value)]), verdict, "{value}");
    }
    assert_eq!(judged(&Method::HEAD, &[(RANGE, "bytes=2-5")]), Verdict::Whole);
    assert_eq!(get(&[(RANGE, "bytes=2-5"), (IF_NONE_MATCH, TAG)]), Verdict::NotModified);
}

#[test]
fn a_range_of_another_version_is_not_served() {
    for (value, verdict) in [
        (TAG, Verdict::Part(2..6)),
        ("\"a\"", Verdict::Whole),
        ("W/\"0123\"", Verdict::Whole),
        (DATE, Verdict::Whole),
        ("nonsense", Verdict::Whole),
    ] {
        assert_eq!(get(&[(RANGE, "bytes=2-5"), (IF_RANGE, value)]), verdict, "{value}");
    }
}
