//! What a host does when instances are found not to be as new: its engines are told not to reset them.

use std::sync::Arc;
use std::time::Instant;

use hostler::engine::{Allocation, EngineSettings};
use hostler::isolation::record::State;

use super::verified::VERIFY;
use crate::program::get;
use crate::support::TestHost;

/// From the finding on no dirty instance answers, and soon all apps answer again, in other engines. What is deployed
/// later is made in those, too. When they are no better, nothing is served any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finding_moves_all_apps_to_the_safest_settings_and_one_with_those_ends_it_all() {
    let host = TestHost::builder()
        .config(VERIFY)
        .config("[defaults]\nmax_instances = 4")
        .admin()
        .app("counter", "counter")
        .app("cold", "counter")
        .app_config("cold", "mode = \"cold\"")
        .app("tool", "canary-c")
        .app("p3", "canary-p3")
        .start()
        .await;
    let apps = ["counter", "cold", "tool", "p3"];
    let numbers = apps.map(|app| host.release(app));
    let all_moved = || apps.into_iter().zip(numbers).all(|(app, number)| host.release(app) > number);
    break_reset(&host);
    // The host is really broken.
    host.get_until("/counter", "an instance is dirty", |answer| !answer.text().contains("count=1 ")).await;
    host.until("it is found", || host.host().status().isolation.state == State::Safest).await;
    let found = Instant::now();
    let status = host.host().status();
    assert_eq!(status.isolation.findings, 1);
    let finding = status.isolation.last_finding.clone().expect("what was found");
    assert!(finding.contains("was not as new: "), "{finding}");
    assert_eq!(status.engine.allocation, Allocation::OnDemand);
    host.until("all apps are live again", all_moved).await;
    println!("all apps are live again {:?} after the finding", found.elapsed());
    for (app, first) in
        [("counter", "count=1 "), ("cold", "count=1 "), ("tool", "zeroed=0 "), ("p3", "count=1 ")]
    {
        let path = format!("/{app}");
        host.get_until(&path, "it answers again", |answer| {
            let clean = answer.status == 200 && answer.text().contains(first);
            let later = answer.status == 503 && !answer.header("retry-after").is_empty();
            assert!(clean || later, "{app}: {answer:?}");
            clean
        })
        .await;
        for _ in 0..20 {
            let answer = host.get(&path).await;
            assert!(answer.text().contains(first), "{app}: {answer:?}");
        }
        host.settled(app).await;
    }
    assert!(apps.iter().all(|app| host.problem(app).is_empty()));
    host.put_app("later", "counter");
    host.get_until("/later", "it is live", |answer| answer.status == 200).await;
    assert!(host.get("/later").await.text().contains("count=1 "));
    let metrics = metrics(&host).await;
    for line in ["hostler_isolation_findings_total 1", "hostler_isolation_verified 0"] {
        assert!(metrics.lines().any(|found| found == line), "no {line} in {metrics}");
    }

    break_reset(&host);
    host.until("it is found", || host.host().status().isolation.state == State::Withdrawn).await;
    for app in apps {
        let answer = host.get(&format!("/{app}")).await;
        assert_eq!(answer.status, 503, "{app}");
        assert!(!answer.header("retry-after").is_empty(), "{app}");
        host.until("status says why", || host.problem(app).contains("can't be kept apart")).await;
    }
    host.put_app("latest", "hello");
    host.until("it is refused", || host.problem("latest").contains("can't be kept apart")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finding_before_the_apps_are_served_starts_the_host_with_the_safest_settings() {
    let broken = |settings: &mut EngineSettings| settings.reset_is_broken = true;
    let host = TestHost::builder().config(VERIFY).settings(broken).app("counter", "counter").start().await;
    let status = host.host().status();
    assert_eq!((status.isolation.state, status.engine.allocation), (State::Safest, Allocation::OnDemand));
    assert!(status.isolation.findings > 0, "{:?}", status.isolation);
    for _ in 0..20 {
        assert!(host.get("/counter").await.text().contains("count=1 "));
    }
    host.settled("counter").await;
}

/// The requests that are under way at a finding go on: their instances were leased before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finding_cuts_no_request_off_and_loses_no_instance() {
    let host =
        TestHost::builder().config(VERIFY).app("sleeper", "sleeper").app("hello", "hello").start().await;
    let host = Arc::new(host);
    let slow = tokio::spawn({
        let host = host.clone();
        async move { host.get("/sleeper?ms=4000").await.status }
    });
    let leased = || host.app("sleeper").release.expect("a release").instances.leased == 1;
    host.until("it is under way", leased).await;
    break_reset(&host);
    host.until("it is found", || host.host().status().isolation.state == State::Safest).await;
    assert_eq!(slow.await.expect("no panic"), 200);
    host.get_until("/sleeper?ms=1", "it answers again", |answer| answer.status == 200).await;
    host.until("the asking task has let go of the host", || Arc::strong_count(&host) == 1).await;
    host.settled("sleeper").await;
    // All units are back but those of idle instances.
    let idle = || ["sleeper", "hello"].map(|app| host.app(app).release.expect("one").instances.idle);
    let whole = || idle().iter().sum::<u32>() == host.host().status().budget.used;
    host.until("no unit is lost", whole).await;
}

fn break_reset(host: &TestHost) {
    for app in host.host().registry().apps() {
        app.live.expect("a live release").pool.manager().engines().break_reset();
    }
}

async fn metrics(host: &TestHost) -> String {
    let admin = host.host().admin_address().expect("an admin listener");
    String::from_utf8(get(admin, "/metrics").await.1).expect("text")
}
