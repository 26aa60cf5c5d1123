//! Which version of a page a client gets, by its `accept-encoding` (RFC 9110, 12.5.3).

use http::HeaderMap;
use http::header::ACCEPT_ENCODING;

use crate::public::{Page, Version};

/// Thousandths: the greatest weight, and that of the plain version if nobody asked for it.
const MOST: u16 = 1000;
const UNASKED: u16 = 1;

/// The version with the greatest weight, of equal ones the smallest. The plain one if no other is accepted: an answer
/// that may not be wanted is better than none.
pub fn choose<'p>(page: &'p Page, headers: &HeaderMap) -> &'p Version {
    if page.encoded.is_empty() || !headers.contains_key(ACCEPT_ENCODING) {
        return &page.plain;
    }
    let weight = |version: &Version| weight(headers, version.encoding.map(|encoding| encoding.name()));
    let accepted = page.versions().filter(|version| weight(version) > 0);
    let best = accepted.max_by_key(|version| (weight(version), std::cmp::Reverse(version.blob.len())));
    best.unwrap_or(&page.plain)
}

/// The weight of an encoding, or of none, in thousandths.
fn weight(headers: &HeaderMap, encoding: Option<&str>) -> u16 {
    let name = encoding.unwrap_or("identity");
    let mut any = None;
    for (coding, weight) in codings(headers) {
        let is_same =
            coding.eq_ignore_ascii_case(name) || (name == "gzip" && coding.eq_ignore_ascii_case("x-gzip"));
        match coding {
            _ if is_same => return weight,
            "*" => any = Some(weight),
            _ => {}
        }
    }
    any.unwrap_or(if encoding.is_none() { UNASKED } else { 0 })
}

/// What is asked for; a part that makes no sense is passed over.
fn codings(headers: &HeaderMap) -> impl Iterator<Item = (&str, u16)> {
    let lines = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).filter_map(|part| {
        let mut pieces = part.split(';').map(str::trim);
        let coding = pieces.next().filter(|coding| !coding.is_empty())?;
        let weight = match pieces.next() {
            None => MOST,
            Some(parameter) => {
                let (name, value) = parameter.split_once('=')?;
                quality(value.trim()).filter(|_| name.trim().eq_ignore_ascii_case("q"))?
            }
        };
        Some((coding, weight))
    })
}

/// `0.25` as 250: at most three digits after the point, and at most 1.
fn quality(text: &str) -> Option<u16> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if decimals.len() > 3 || !decimals.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let thousandths = format!("{decimals:0<3}").parse::<u16>().ok()?;
    match whole {
        "0" => Some(thousandths),
        "1" if thousandths == 0 => Some(MOST),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::public::copies::Room;
    use crate::public::{Beneath, Copies, Hit, Limits, Manifest, manifest, tree};

    /// A page `a` of these versions, by suffix, and how many bytes each has.
    fn pages(files: &[(&str, usize)]) -> (Manifest, tempfile::TempDir) {
        let folder = tempfile::tempdir().expect("a folder");
        for (suffix, bytes) in files {
            std::fs::write(folder.path().join(format!("a{suffix}")), "x".repeat(*bytes)).expect("written");
        }
        let cache = tempfile::tempdir().expect("a folder");
        let copies =
            Copies::open(cache.path(), Room { memory: 1 << 20, disk: 0 }).expect("a place for copies");
        let public = Beneath::open(folder.path()).expect("a folder");
        let limits = Limits { entries: 10, size: 1000, depth: 1 };
        let tree = tree(&public, limits).expect("a tree");
        (manifest(&public, &tree, &Arc::new(copies)).expect("a manifest"), cache)
    }

    fn chosen(manifest: &Manifest, accept: &[&'static str]) -> String {
        let Some(Hit::Page(page)) = manifest.find("/a", None) else { panic!("no page") };
        let mut headers = HeaderMap::new();
        for line in accept {
            headers.append(ACCEPT_ENCODING, http::HeaderValue::from_static(line));
        }
        choose(page, &headers).encoding.map_or("plain".to_owned(), |encoding| encoding.name().to_owned())
    }

    #[test]
    fn the_greatest_weight_wins_and_then_the_smallest_version() {
        let (manifest, _cache) = pages(&[("", 100), (".br", 20), (".gz", 30), (".zst", 25)]);
        let table: [(&[&str], &str); 22] = [
            (&[], "plain"),
            (&[""], "plain"),
            (&["gzip"], "gzip"),
            (&["x-gzip"], "gzip"),
            (&["GZIP"], "gzip"),
            (&["gzip, deflate, br, zstd"], "br"),
            (&["gzip, zstd"], "zstd"),
            (&["gzip", "br"], "br"),
            (&["gzip;q=1.0, br;q=0.5"], "gzip"),
            (&["gzip ; q=0.2 , br ; q=0.1"], "gzip"),
            (&["br;q=0, *"], "zstd"),
            (&["*"], "br"),
            (&["*;q=0"], "plain"),
            (&["identity;q=0"], "plain"),
            (&["identity, gzip;q=0.5"], "plain"),
            (&["identity;q=0.5, gzip;q=0.5"], "gzip"),
            (&["gzip;q=0.001"], "gzip"),
            (&["gzip;q=0"], "plain"),
            (&["gzip;q=2"], "plain"),
            (&["gzip;q=0.1234, br;q=nan, zstd;x=1"], "plain"),
            (&["deflate, compress"], "plain"),
            (&[";;;,=,q=1,\t, br"], "br"),
        ];
        for (accept, encoding) in table {
            assert_eq!(chosen(&manifest, accept), encoding, "{accept:?}");
        }
    }

    #[test]
    fn what_there_is_no_version_of_is_not_chosen() {
        let (manifest, _cache) = pages(&[("", 100), (".gz", 30)]);
        assert_eq!(chosen(&manifest, &["br, gzip;q=0.1"]), "gzip");
        assert_eq!(chosen(&manifest, &["br"]), "plain");
        let (manifest, _cache) = pages(&[("", 100)]);
        assert_eq!(chosen(&manifest, &["br, gzip"]), "plain");
    }
}
