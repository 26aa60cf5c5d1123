//! Tokio gives each poll of a task a budget, and its channels say "not yet" when that is used up, whatever is in them.
//! A task that was just spawned by another one goes on with what that one left.

use bytes::Bytes;
use hostler::instance::{Client, GuestBody, GuestRequest, Outcome, exchange};
use hostler::release::Release;
use hostler::router::Mount;
use http_body_util::BodyExt;

use crate::support::TestHost;

/// What a task has.
const BUDGET: u32 = 128;

/// One request by a task that has used this much of its budget.
async fn ask(host: &TestHost, app: &str, path: &str, used: u32) -> String {
    let apps = host.host().registry().apps();
    let release =
        apps.into_iter().find(|view| *view.app == *app).and_then(|view| view.live).expect("it is live");
    let asked = tokio::spawn({
        let path = path.to_owned();
        async move {
            let lease = release.pool.lease().await.expect("an instance");
            let (parts, ()) =
                http::Request::get(path).header("host", "a").body(()).expect("a request").into_parts();
            let any = ([127, 0, 0, 1], 1).into();
            let client = Client { remote: any, local: any, mount: Mount::root() };
            let request =
                GuestRequest { parts, body: GuestBody::Whole(Bytes::new()), upload: None, id: 0, client };
            tokio::task::yield_now().await;
            for _ in 0..used {
                tokio::task::coop::consume_budget().await;
            }
            let Release { config, counters, expired, .. } = &*release;
            let outcome = exchange(lease, request, config, counters, expired).await;
            let Outcome::Response(response) = outcome.expect("an answer") else { panic!("no response") };
            assert_eq!(response.status(), 200);
            response.into_body().collect().await.expect("a whole body").to_bytes()
        }
    });
    let body = asked.await.unwrap_or_else(|_| panic!("{app} failed with {used} of the budget used"));
    host.settled(app).await;
    String::from_utf8(body.to_vec()).expect("text")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_whole_however_little_is_left_of_its_tasks_budget() {
    let host = TestHost::with(&["hello", "hello-p3", "stream", "cgi-rust"]).await;
    for used in BUDGET - 20..BUDGET {
        assert_eq!(ask(&host, "hello", "/", used).await, "Hello from Hostler!\n");
        assert_eq!(ask(&host, "hello-p3", "/", used).await, "Hello from Hostler, in wasi:http 0.3!\n");
        assert!(ask(&host, "stream", "/?n=3&ms=0", used).await.ends_with("tick 3\n\n"));
        assert!(ask(&host, "cgi-rust", "/?mode=stderr", used).await.ends_with("logged\n"));
    }
}
