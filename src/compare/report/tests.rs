use super::*;

pub fn row(name: &str, rate: f64, noise: f64) -> Row {
    let spread = |median: f64| Spread { median, min: median * (1.0 - noise), max: median * (1.0 + noise) };
    let (p50, p99) = (32e6 / rate, 64e6 / rate);
    Row {
        name: name.to_owned(),
        kind: Variant::ALL.into_iter().find(|mode| mode.as_str() == name).map_or(Kind::Native, Kind::Mode),
        connections: 32,
        rounds: 7,
        requests_per_second: Some(spread(rate)),
        ratio_to_native: Some(spread(rate / 100_000.0)),
        latency: Latency {
            p50_us: Some(p50),
            p90_us: Some(1.5 * p50),
            p99_us: Some(p99),
            p999_us: None,
            distribution: vec![Point { part: 0.5, us: p50 }, Point { part: 0.99, us: p99 }],
        },
        at_rate: None,
        alone_p50_us: Some(43.21),
        alone_p99_us: None,
        cpu_us_per_request: Some(spread(1e6 / rate)),
        load_cpu_us_per_request: Some(3.0),
        memory: Some(Memory { rss: 20 << 20, pss: 10 << 20 }),
        own: None,
        first_answer_from_nothing_ms: Some(3.3),
        first_answer_from_cache_ms: None,
        first_answer_when_up_ms: Some(0.12),
        counts: Counts { right: 100_000, ..Counts::default() },
    }
}

/// What a host says that has made an instance for each of a thousand requests.
fn own() -> Own {
    Own {
        requests: 1_000,
        instances_made: 1_000,
        instances_reset: 0,
        guest_us_per_request: Some(4.0),
        upkeep_us_per_request: Some(20.5),
        make_us: Some(15.0),
        instances: 8,
        instance_bytes: Some(200 << 10),
        instance_bytes_at_most: Some(300 << 10),
    }
}

pub fn at_rate() -> AtRate {
    AtRate {
        asked_per_second: 1_000.0,
        answered_per_second: Spread::of([1_000.0]),
        latency: row("cold", 12.3, 0.0).latency,
        cpu_us_per_request: None,
        counts: Counts::default(),
        load_late_p99_us: 1.0,
    }
}

pub fn report() -> Report {
    let mut pooled = row("pooled", 23_456.0, 0.04);
    pooled.own = Some(own());
    Report {
        app: AppFacts {
            name: "hello".to_owned(),
            file: "apps/hello.wasm".to_owned(),
            bytes: 84_000,
            requests: vec![RequestFacts {
                request: "GET /hello".to_owned(),
                status: 200,
                response_bytes: 13,
                varies: false,
            }],
        },
        conditions: Conditions {
            connections: 32,
            rate: None,
            rounds: 7,
            slice_seconds: 1.0,
            server_cores: Some("0".to_owned()),
            load_cores: Some("1".to_owned()),
            server_threads: 1,
            versions: vec!["hostler 0.1.0".to_owned(), "hyper 1.12.0".to_owned()],
            machine: "Linux 6".to_owned(),
            seconds: 44.0,
        },
        servers: vec![row("native", 100_000.0, 0.02), pooled, row("cold", 12.3, 0.0)],
        skipped: vec![Skipped { mode: "kept".to_owned(), reason: "no such thing yet".to_owned() }],
        notes: vec!["a note".to_owned()],
        advice: Advice {
            mode: Some("pooled".to_owned()),
            reason: "it is good".to_owned(),
            beyond: None,
            caution: None,
        },
    }
}

#[test]
fn the_tables_are_aligned_and_every_figure_has_its_unit() {
    let expected = "\
hello (apps/hello.wasm, 82.0 KiB)
GET /hello -> 200, 13 bytes
32 connections, 7 rounds of 1.00 s for each server, interleaved; servers on core 0, load on core 1; 1 server thread
hostler 0.1.0, hyper 1.12.0; Linux 6

                         native  latency:                             p50 at 1
mode    requests/s          = 1       p50      p90      p99  p99.9  connection
native     100,000  ±2%    1.00    320 us   480 us   640 us      -     43.2 us
pooled      23,456  ±4%    0.23   1.36 ms  2.05 ms  2.73 ms      -     43.2 us
cold          12.3  ±0%  0.0001    2.60 s   3.90 s   5.20 s      -     43.2 us

        CPU per   of it in    for its  instances  memory  of it each  first answer:
mode    request  the guest  instances       made     MiB    instance   from nothing  code cached  server up
native  10.0 us          -          -          -    10.0           -        3.30 ms            -     120 us
pooled  42.6 us    4.00 us    20.5 us      1,000    10.0     200 KiB        3.30 ms            -     120 us
cold    81.3 ms          -          -          -    10.0           -        3.30 ms            -     120 us

kept not measured: no such thing yet
a note
advice: pooled, since it is good
";
    assert_eq!(report().to_string(), expected);
}

#[test]
fn rounds_at_a_fixed_rate_have_a_table_of_their_own() {
    let mut report = report();
    report.conditions.rate = Some("5 requests/s".to_owned());
    report.servers[2].at_rate =
        Some(AtRate { asked_per_second: 5.0, answered_per_second: None, ..at_rate() });
    let shown = report.to_string();
    assert!(shown.contains("interleaved; as many at 5 requests/s; servers on core 0"), "{shown}");
    assert!(
        shown.contains("\ncold            5.00         -    2.60 s  3.90 s  5.20 s      -        -\n"),
        "{shown}"
    );
}

#[test]
fn the_data_has_the_same_figures() {
    let json = serde_json::to_value(report()).unwrap();
    assert_eq!(json["app"]["name"], "hello");
    assert_eq!(json["servers"][1]["requests_per_second"]["median"], 23_456.0);
    assert_eq!(json["servers"][1]["latency"]["p999_us"], serde_json::Value::Null);
    assert_eq!(json["servers"][0]["memory"]["pss"], 10 << 20);
    assert_eq!(json["servers"][0]["counts"]["right"], 100_000);
    assert_eq!(json["skipped"][0]["mode"], "kept");
    assert_eq!(json["notes"][0], "a note");
    assert_eq!(
        (&json["servers"][0]["kind"], &json["servers"][1]["kind"]),
        (&"native".into(), &"mode".into())
    );
    assert_eq!(json["servers"][1]["own"]["instances_made"], 1_000);
    assert_eq!(json["advice"]["mode"], "pooled");
}
