use super::*;
use crate::compare::http::Asked;
use crate::compare::sample::sample;
use http::Method;
use std::time::Duration;

fn asked(method: Method, body: &'static [u8]) -> Asked {
    Asked { method, path: "/".to_owned(), headers: Vec::new(), body: Bytes::from_static(body) }
}

async fn ask(address: SocketAddr, asked: &Asked) -> Sample {
    sample(address, asked, "/x", Duration::from_secs(20)).await.unwrap()
}

async fn reference(sample: &Sample) -> SocketAddr {
    reference_of(std::slice::from_ref(sample)).await
}

/// A server that gives the answers taken from the samples, handed over as to the real one.
async fn reference_of(samples: &[Sample]) -> SocketAddr {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("answer");
    write(&samples.iter().map(Answer::of).collect::<Vec<_>>(), &file).unwrap();
    let ready = ready(read(&file).unwrap()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(accept(listener, ready));
    address
}

/// All but the date.
fn told(sample: &Sample) -> (StatusCode, Vec<(HeaderName, HeaderValue)>, Bytes) {
    let mut headers =
        sample.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect::<Vec<_>>();
    headers.retain(|(name, _)| name != DATE);
    headers.sort_by(|a, b| (a.0.as_str(), a.1.as_bytes()).cmp(&(b.0.as_str(), b.1.as_bytes())));
    (sample.status, headers, sample.body.clone())
}

fn original(status: u16, headers: &[(&'static str, &'static str)], body: &'static [u8]) -> Sample {
    Sample {
        status: StatusCode::from_u16(status).unwrap(),
        headers: headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect(),
        body: Bytes::from_static(body),
        took: Duration::ZERO,
    }
}

#[tokio::test]
async fn the_reference_answers_as_the_app_did() {
    let fields = [("content-type", "a/b"), ("set-cookie", "a=1"), ("set-cookie", "b=2")];
    let sized = [&fields[..], &[("content-length", "5")]].concat();
    let chunked = [&fields[..], &[("transfer-encoding", "chunked")]].concat();
    for original in [
        original(200, &sized, b"hello"),
        original(404, &chunked, b"nothing here"),
        original(200, &chunked, b""),
        original(201, &[("content-length", "0")], b""),
        original(204, &[("x-y", "z")], b""),
    ] {
        let again = ask(reference(&original).await, &asked(Method::GET, b"")).await;
        assert_eq!(told(&again), told(&original));
    }
}

#[tokio::test]
async fn an_answer_to_head_keeps_the_length_of_what_it_leaves_out() {
    let original = original(200, &[("content-length", "5")], b"");
    let again = ask(reference(&original).await, &asked(Method::HEAD, b"")).await;
    assert_eq!(told(&again), told(&original));
}

#[tokio::test]
async fn a_request_body_is_read_before_the_answer() {
    let address = reference(&original(200, &[("content-length", "2")], b"ok")).await;
    let again = ask(address, &asked(Method::POST, b"a body")).await;
    assert_eq!(again.body, "ok");
}

#[tokio::test]
async fn a_request_gets_the_answer_that_it_names() {
    let address = reference_of(&[original(200, &[], b"first"), original(404, &[], b"second")]).await;
    let named = |which: &'static str| Asked {
        headers: vec![(WHICH, HeaderValue::from_static(which))],
        ..asked(Method::GET, b"")
    };
    assert_eq!(ask(address, &named("0")).await.body, "first");
    assert_eq!(ask(address, &named("1")).await.body, "second");
    assert_eq!(ask(address, &asked(Method::GET, b"")).await.body, "first");
    let none = ask(address, &named("2")).await;
    assert_eq!((none.status, &none.body[..]), (StatusCode::NOT_FOUND, &b""[..]));
}

#[test]
fn an_answer_that_is_out_of_order_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("answer");
    assert!(matches!(read(&file), Err(NativeError::Answer { .. })));
    std::fs::write(&file, "{").unwrap();
    assert!(matches!(read(&file), Err(NativeError::Answer { .. })));
    assert!(matches!(ready(Vec::new()), Err(NativeError::Malformed(_))));
    let answer = |status, name: &str| Answer {
        status,
        headers: vec![(name.to_owned(), vec![])],
        body: vec![],
        chunked: false,
    };
    assert!(matches!(Ready::of(answer(99, "a")), Err(NativeError::Malformed(_))));
    assert!(matches!(Ready::of(answer(200, "a b")), Err(NativeError::Malformed(_))));
}

#[test]
fn the_address_is_there_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("address");
    write_address(&file, ([127, 0, 0, 1], 80).into()).unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "127.0.0.1:80\n");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}
