//! `debug_headers`: where a request's time went.

use crate::support::{Answer, TestHost};

/// The names in `server-timing`, with their descriptions, and that each has a duration.
fn names(answer: &Answer) -> Vec<String> {
    let metrics = answer.header("server-timing").split(", ").map(|metric| {
        let (name, took) = metric.split_once(";dur=").expect("a duration");
        assert!(took.parse::<f64>().is_ok_and(|took| took >= 0.0), "{metric}");
        name.to_owned()
    });
    metrics.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_say_where_their_time_went() {
    let mut builder =
        TestHost::builder().config("debug_headers = true\n[defaults]\nqueue_timeout = \"60s\"\n");
    for mode in ["cold", "cached", "pooled", "kept"] {
        builder = builder.app(mode, "hello").app_config(mode, &format!("mode = {mode:?}"));
    }
    let host = builder.start().await;
    let reset = "reset;desc=\"lately\"";
    for (mode, expected) in [
        ("cold", &["queue", "lease;desc=\"cold\"", "guest", "total"][..]),
        ("cached", &["queue", "lease;desc=\"made\"", "guest", "total"]),
        ("pooled", &["queue", "lease;desc=\"pool\"", "guest", reset, "total"]),
        ("kept", &["queue", "lease;desc=\"pool\"", "guest", "total"]),
    ] {
        let answer = host.get(&format!("/{mode}")).await;
        assert_eq!(names(&answer), expected, "{mode}");
    }
    let nowhere = host.get("/nowhere").await;
    assert_eq!((nowhere.status.as_u16(), names(&nowhere)), (404, vec!["total".to_owned()]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_told_unless_asked() {
    let host = TestHost::with(&["hello"]).await;
    assert_eq!(host.get("/hello").await.header("server-timing"), "");
}
