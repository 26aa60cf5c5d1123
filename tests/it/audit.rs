//! `hostler audit`: in which modes an app is safe.

use serde_json::Value;

use crate::program::Place;
use crate::support::TestHost;
use crate::versions::admin;

/// What is said of each mode, in the order of the continuum.
fn verdicts(report: &Value) -> Vec<String> {
    let modes = report["modes"].as_array().expect("modes");
    modes.iter().map(|judged| judged["verdict"].as_str().unwrap_or("?").to_owned()).collect()
}

async fn audit(guest: &str, config: &str, args: &[&str], code: i32) -> Value {
    let place = Place::new();
    place.app("app", guest);
    place.write("apps/app.toml", config);
    let run = place.run(&[&["audit", "app", "--json"], args].concat(), &[]).await.ended_with(code);
    serde_json::from_str(&run.stdout).expect("JSON")
}

const CLEAN: [&str; 3] = ["clean"; 3];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_counts_is_found_out_with_the_first_answer_that_differs() {
    let report = audit("counter", "", &[], 0).await;
    assert_eq!(verdicts(&report), [&CLEAN[..], &["unsafe", "impossible"]].concat());
    let finding = &report["modes"][3]["finding"];
    assert_eq!((&finding["after"], &finding["order"]), (&1.into(), &"given".into()), "{finding}");
    let body = &finding["difference"]["body"];
    assert_eq!(body["at"], "count=".len(), "{finding}");
    assert!(body["used"].as_str().is_some_and(|used| used.starts_with("count=2 ")), "{finding}");
    // It is not fit for the mode that its own configuration chooses.
    audit("counter", "mode = \"kept\"", &[], 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_whose_instances_answer_once_is_found_out() {
    let report = audit("hello-js", "", &[], 0).await;
    assert_eq!(verdicts(&report), [&CLEAN[..], &["unsafe", "impossible"]].concat());
    let difference = &report["modes"][3]["finding"]["difference"];
    assert_eq!(difference["failed"]["why"], "the guest returned without an answer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_found_where_there_is_nothing_and_growth_is_told() {
    let report = audit("hello", "mode = \"kept\"", &["--path", "/", "--path", "/x?y=1"], 0).await;
    assert_eq!(verdicts(&report), [&CLEAN[..], &["nothing-found", "impossible"]].concat());
    assert_eq!(report["modes"][3]["growth"], serde_json::json!({ "memory": 0.0, "handles": 0.0 }));
    let place = Place::new();
    place.app("echo", "echo");
    place.write("asked.toml", "[[request]]\n[[request]]\npath = \"/a\"\nbody = \"b\"\n");
    let run = place.run(&["audit", "echo", "--requests", "asked.toml"], &[]).await.ended_with(0);
    assert!(run.stdout.starts_with("echo (wasi:http 0.2): 2 requests, "), "{run:?}");
    let report = audit("leaker", "", &["--path", "/?n=7", "--rounds", "2"], 0).await;
    assert_eq!(report["modes"][3]["growth"]["handles"], 7.0);
    let report = audit("cgi-c", "", &[], 0).await;
    assert_eq!(verdicts(&report), [&CLEAN[..], &["impossible", "impossible"]].concat());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_answers_nothing_right_is_not_tested() {
    let report = audit("trapper", "mode = \"kept\"", &[], 1).await;
    assert_eq!(verdicts(&report), [&CLEAN[..], &["untested", "impossible"]].concat());
    // A clean instance for each request is safe whatever it does.
    audit("trapper", "", &[], 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_random_is_not_held_against_an_app_and_its_count_is() {
    let report = audit("canary-p3", "", &[], 0).await;
    assert_eq!(report["varying"], serde_json::json!([0]), "it draws a random number");
    assert_eq!(verdicts(&report), [&CLEAN[..], &["unsafe", "unsafe"]].concat());
    let report =
        audit("hello-p3", "mode = \"resident\"", &["--path", "/", "--path", "/?stream=2&ms=1"], 0).await;
    assert_eq!(verdicts(&report), [&CLEAN[..], &["nothing-found"; 2]].concat());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_clients_ask_of_a_running_host_is_recorded_and_replayed() {
    let host = TestHost::builder().admin().app("echo", "echo").start().await;
    let place = Place::new();
    place.app("echo", "echo");
    let listener = admin(&host).to_string();
    let args = ["audit", "echo", "--record", "2s", "--admin", &listener, "--json", "--rounds", "1"];
    let (run, ()) = tokio::join!(place.run(&args, &[]), async {
        let until = tokio::time::Instant::now() + std::time::Duration::from_secs(2);
        while tokio::time::Instant::now() < until {
            assert_eq!(host.post("/echo/some/where?q=1", "a body").await.text(), "a body");
        }
    });
    let report: Value = serde_json::from_str(&run.ended_with(0).stdout).expect("JSON");
    assert_eq!(report["requests"][0], "POST /some/where?q=1", "{report}");
    assert_eq!(verdicts(&report), [&CLEAN[..], &["nothing-found", "impossible"]].concat());
    let nobody =
        place.run(&["audit", "none", "--record", "1s", "--admin", &listener], &[]).await.ended_with(1);
    assert!(nobody.stderr.contains("there is no app"), "{nobody:?}");
    let silent =
        place.run(&["audit", "echo", "--record", "1ms", "--admin", &listener], &[]).await.ended_with(1);
    assert!(silent.stderr.contains("no request came"), "{silent:?}");
}
