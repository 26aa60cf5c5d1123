use super::*;
use bytes::Bytes;
use http::StatusCode;

fn samples(status: u16, bodies: &[&'static str]) -> Vec<Sample> {
    let sample = |body: &&'static str| Sample {
        status: StatusCode::from_u16(status).unwrap(),
        headers: http::HeaderMap::new(),
        body: Bytes::from_static(body.as_bytes()),
        took: Duration::ZERO,
    };
    bodies.iter().map(sample).collect()
}

fn answers(of: &[(&str, Vec<Sample>)]) -> (Option<Expected>, Vec<(String, String)>) {
    let of = of.iter().map(|(name, samples)| ((*name).to_owned(), samples.clone())).collect::<Vec<_>>();
    let (expected, answer, wrong) = judge(&of);
    assert_eq!(expected.is_some(), answer.is_some());
    (expected, wrong.into_iter().map(|skipped| (skipped.mode, skipped.reason)).collect())
}

#[test]
fn modes_that_answer_alike_are_held_to_that_answer() {
    let (expected, wrong) = answers(&[("a", samples(200, &["x", "x"])), ("b", samples(200, &["x"]))]);
    assert_eq!(expected, Some(Expected { status: 200, body: Some(Bytes::from_static(b"x")) }));
    assert!(wrong.is_empty());
}

#[test]
fn an_app_whose_answers_vary_is_held_to_its_status() {
    let (expected, wrong) = answers(&[("a", samples(200, &["1", "1"])), ("b", samples(200, &["1", "2"]))]);
    assert_eq!(expected, Some(Expected { status: 200, body: None }));
    assert!(wrong.is_empty());
}

#[test]
fn a_mode_that_answers_otherwise_is_not_measured() {
    let (expected, wrong) = answers(&[
        ("a", samples(500, &["oops"])),
        ("b", samples(404, &["no"])),
        ("c", samples(200, &["no"])),
        ("d", samples(404, &["other", "other"])),
    ]);
    assert_eq!(expected.map(|expected| expected.status), Some(404));
    let told = [
        ("a", "it answers 500 Internal Server Error, but b 404 Not Found"),
        ("c", "it answers 200 OK, but b 404 Not Found"),
        ("d", "its answer has another body than that of b"),
    ];
    assert_eq!(wrong, told.map(|(mode, reason)| (mode.to_owned(), reason.to_owned())));
}

#[test]
fn an_app_that_fails_in_every_mode_is_not_compared() {
    let (expected, wrong) = answers(&[("a", samples(500, &["oops"])), ("b", samples(503, &["later"]))]);
    assert_eq!(expected, None);
    assert_eq!(wrong[0], ("a".to_owned(), "the app answers 500 Internal Server Error".to_owned()));
    assert_eq!(wrong.len(), 2);
}

#[test]
fn the_hosts_reason_to_refuse_an_app_is_found_in_its_log() {
    let log = ["WARN something", "ERROR not deployed: it has no exports app=hello"].map(str::to_owned);
    assert_eq!(refusal(&log).as_deref(), Some("it has no exports app=hello"));
    assert_eq!(refusal(&log[..1]), None);
}
