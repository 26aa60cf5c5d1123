use super::*;
use bytes::Bytes;
use http::Method;

use crate::compare::cores::Cores;
use crate::compare::load::Expected;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Answers in the same order in which it was asked, and writes its name down for each connection.
async fn server(name: &'static str, order: std::sync::Arc<parking_lot::Mutex<Vec<&'static str>>>) -> Target {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let order = order.clone();
            tokio::spawn(async move {
                order.lock().push(name);
                let mut request = [0; 1_000];
                while stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                    if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    Target {
        pid: Some(std::process::id()),
        admin: None,
        address,
        asks: [Ask {
            method: Method::GET,
            request: Bytes::from_static(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"),
            expected: Expected { status: 200, body: Some(Bytes::from_static(b"ok")) },
        }]
        .into(),
        one_request: Duration::from_micros(50),
    }
}

fn plan() -> Plan {
    let short = Duration::from_millis(10);
    Plan {
        connections: 2,
        schedule: Schedule {
            warm_up: short,
            rounds: 3,
            slice: short,
            alone_rounds: 2,
            alone: short,
            paced_rounds: 0,
        },
        rate: None,
        split: Split::of(&Cores::allowed().unwrap(), None).unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_server_has_a_slice_in_every_round_and_another_begins_each() {
    let order = std::sync::Arc::new(parking_lot::Mutex::new(Vec::new()));
    let targets = [server("a", order.clone()).await, server("b", order.clone()).await];
    let measured = measure(&targets, &plan()).await.unwrap();
    for found in &measured {
        assert_eq!(found.loaded.iter().map(|slice| slice.round).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(found.alone.len(), 2);
        for slice in found.loaded.iter().chain(&found.alone) {
            assert!(slice.outcome.counts.right > 0 && slice.outcome.counts.wrong == 0);
            assert!(slice.cpu.is_some());
        }
        assert!(found.memory.is_some());
    }
    // Two connections in the warm-up and each round, then one.
    let order = order.lock().join("");
    assert_eq!(order, "aabb".to_owned() + "aabb" + "bbaa" + "aabb" + "ab" + "ba");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_requests_take_long_has_fewer_rounds() {
    let order = std::sync::Arc::new(parking_lot::Mutex::new(Vec::new()));
    let mut target = server("slow", order).await;
    target.one_request = Duration::from_millis(14);
    let plan = plan();
    let found = measure(&[target], &plan).await.unwrap().remove(0);
    assert!(found.share.rounds < plan.schedule.rounds);
    assert_eq!(found.loaded.len(), found.share.rounds);
    assert!(found.alone.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_of_the_capacity_is_asked_after_the_capacity_is_known() {
    let order = std::sync::Arc::new(parking_lot::Mutex::new(Vec::new()));
    let mut elsewhere = server("b", order.clone()).await;
    elsewhere.pid = None;
    let targets = [server("a", order.clone()).await, elsewhere];
    let mut plan = Plan { rate: Some(Rate::Share(0.5)), ..plan() };
    plan.schedule.paced_rounds = 3;
    let measured = measure(&targets, &plan).await.unwrap();
    for found in &measured {
        let capacity = found.capacity().unwrap();
        assert_eq!(found.rate, Some(capacity / 2.0));
        assert_eq!(found.paced.len(), 3);
    }
    assert!(measured[1].memory.is_none() && measured[1].loaded.iter().all(|slice| slice.cpu.is_none()));
    let order = order.lock().join("");
    assert_eq!(order, "aabb".to_owned() + "aabb" + "bbaa" + "aabb" + "aabb" + "bbaa" + "aabb" + "ab" + "ba");
}
