use super::*;
use std::time::Duration;

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
    let (expected, answer, wrong) = of_one_request(&of);
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

fn names(wrong: &[Skipped]) -> Vec<(&str, &str)> {
    wrong.iter().map(|one| (one.mode.as_str(), one.reason.as_str())).collect()
}

#[test]
fn a_mode_that_fails_one_of_several_requests_is_not_measured() {
    let modes = [
        ("a".to_owned(), vec![samples(200, &["x"]), samples(200, &["y"])]),
        ("b".to_owned(), vec![samples(200, &["x"]), samples(500, &["y"])]),
    ];
    let verdict = judge(&modes).unwrap();
    assert_eq!(verdict.expected.len(), 2);
    assert_eq!(verdict.answers[1].body, "y");
    let told = "request 2: it answers 500 Internal Server Error, but a 200 OK";
    assert_eq!(names(&verdict.wrong), [("b", told)]);
}

#[test]
fn a_request_that_fails_in_every_mode_is_no_comparison() {
    let modes = [("a".to_owned(), vec![samples(200, &["x"]), samples(502, &["y"])])];
    let wrong = judge(&modes).unwrap_err();
    assert_eq!(names(&wrong), [("a", "request 2: the app answers 502 Bad Gateway")]);
}

#[test]
fn another_server_may_use_other_words_but_not_fail() {
    let app = [samples(200, &["hello"]).remove(0)];
    let other = [samples(200, &["hi", "hi"])];
    let expected = expect_of_other(&other, &app).unwrap();
    assert_eq!(expected, [Expected { status: 200, body: Some(Bytes::from_static(b"hi")) }]);
    let told = "n: its answer has another body (2 bytes) than the app's (5 bytes)";
    assert_eq!(differs("n", &other, &app).as_deref(), Some(told));
    assert_eq!(differs("n", &[samples(200, &["hello"])], &app), None);
    let varying = expect_of_other(&[samples(200, &["1", "2"])], &app).unwrap();
    assert_eq!(varying[0].body, None);
    let told = "request 1: it answers 404 Not Found, but the app 200 OK";
    assert_eq!(expect_of_other(&[samples(404, &["no"])], &app), Err(told.to_owned()));
}
