//! Every kind of app answers, in every mode that it can run in.

use crate::support::TestHost;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rust_component_answers() {
    let host = TestHost::with(&["hello"]).await;
    let answer = host.get("/hello").await;
    assert_eq!((answer.status.as_u16(), answer.text()), (200, "Hello from Hostler!\n"));
    host.settled("hello").await;
}
