//! `verify_isolation` and `hostler check --isolation`: what they say, what they find, and what a host does then.

use hostler::isolation::record::State;

use crate::program::{Place, get};
use crate::support::TestHost;

pub const VERIFY: &str = "verify_isolation = true\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_isolation_says_what_it_verified() {
    let place = Place::new();
    let run = place.run(&["check", "--isolation", "--time", "1s"], &[]).await.ended_with(0);
    for part in ["isolation verified: ", " instances", "in 11 ways", "pooling allocator", "pagemap_scan off"]
    {
        assert!(run.stdout.contains(part), "no {part:?} in {run:?}");
    }
    assert!(run.stdout.contains("memory was compacted") || run.stdout.contains("could not be"), "{run:?}");
    place.run(&["check", "--time", "1s"], &[]).await.ended_with(2).says("--isolation");
    place.run(&["check", "--force-pagemap-scan"], &[]).await.ended_with(2).says("--isolation");
    // In less nothing would be looked at.
    place.run(&["check", "--isolation", "--time", "0s"], &[]).await.ended_with(2).says("a second at least");
    place.run(&["check", "--isolation", "--time", "soon"], &[]).await.ended_with(2).says("not a duration");
}

/// Why no host asks the kernel which pages a guest has touched, and that the check would notice if one did.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes and a machine where memory can be compacted: make isolation"]
async fn check_isolation_finds_that_a_scan_for_touched_pages_misses_moved_ones() {
    let place = Place::new();
    let args = ["check", "--isolation", "--time", "40s"];
    let run = place.run(&args, &[]).await.ended_with(0);
    println!("{}", run.stdout);
    // Pages are moved by chance.
    for _ in 0..5 {
        let run = place.run(&[&args[..], &["--force-pagemap-scan"]].concat(), &[]).await;
        println!("{}{}", run.stdout, run.stderr);
        if run.code == Some(1) {
            run.says("NOT isolated: of ").says("pagemap_scan ON");
            return;
        }
    }
    panic!("all was clean: bad luck, or the setting has become safe");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_verifies_isolation_says_so_and_looks_on() {
    let place = Place::new();
    place.app("shop", "hello");
    let env = [("HOSTLER_VERIFY_ISOLATION", "true"), ("HOSTLER_ADMIN", "127.0.0.1:0")];
    let server = place.serve(&[], &env).await;
    server.logs("isolation verified: ").await;
    assert_eq!(server.get("/shop").await.0, 200);
    let (code, log) = server.stop().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("ERROR"), "{log}");

    let host = TestHost::builder().config(VERIFY).admin().app("shop", "hello").start().await;
    let isolation = host.host().status().isolation;
    assert_eq!((isolation.state, isolation.findings, &isolation.last_finding), (State::Verified, 0, &None));
    let before = isolation.checked;
    assert!(before > 0, "{isolation:?}");
    host.until("it looks on", || host.host().status().isolation.checked > before + 3).await;
    let admin = host.host().admin_address().expect("an admin listener");
    let metrics = String::from_utf8(get(admin, "/metrics").await.1).expect("text");
    for line in ["hostler_isolation_findings_total 0", "hostler_isolation_verified 1"] {
        assert!(metrics.lines().any(|found| found == line), "no {line} in {metrics}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_does_not_verify_says_so() {
    let host = TestHost::with(&["hello"]).await;
    assert_eq!(host.host().status().isolation.state, State::Unverified);
    assert_eq!(host.host().status().isolation.checked, 0);
}
