use super::*;

pub fn row(name: &str, rate: f64, noise: f64) -> Row {
    let spread = |median: f64| Spread { median, min: median * (1.0 - noise), max: median * (1.0 + noise) };
    Row {
        name: name.to_owned(),
        connections: 32,
        rounds: 7,
        requests_per_second: Some(spread(rate)),
        ratio_to_native: Some(spread(rate / 100_000.0)),
        p50_us: Some(32e6 / rate),
        p99_us: Some(64e6 / rate),
        p999_us: None,
        alone_p50_us: Some(43.21),
        alone_p99_us: None,
        cpu_us_per_request: Some(spread(1e6 / rate)),
        load_cpu_us_per_request: Some(3.0),
        memory: Some(Memory { rss: 20 << 20, pss: 10 << 20 }),
        first_answer_from_nothing_ms: 3.3,
        first_answer_from_cache_ms: None,
        counts: Counts { right: 100_000, ..Counts::default() },
    }
}

fn report() -> Report {
    Report {
        app: AppFacts {
            name: "hello".to_owned(),
            file: "apps/hello.wasm".to_owned(),
            bytes: 84_000,
            request: "GET /hello".to_owned(),
            status: 200,
            response_bytes: 13,
            varies: false,
        },
        conditions: Conditions {
            connections: 32,
            rounds: 7,
            slice_seconds: 1.0,
            server_cores: Some("0".to_owned()),
            load_cores: Some("1".to_owned()),
            server_threads: 1,
            versions: vec!["hostler 0.1.0".to_owned(), "hyper 1.12.0".to_owned()],
            machine: "Linux 6".to_owned(),
            seconds: 44.0,
        },
        servers: vec![row("native", 100_000.0, 0.02), row("pooled", 23_456.0, 0.04), row("cold", 12.3, 0.0)],
        skipped: vec![Skipped { mode: "kept".to_owned(), reason: "no such thing yet".to_owned() }],
        notes: vec!["a note".to_owned()],
    }
}

#[test]
fn the_table_is_aligned_and_every_figure_has_its_unit() {
    let expected = "\
hello (apps/hello.wasm, 82.0 KiB)
GET /hello -> 200, 13 bytes
32 connections, 7 rounds of 1.00 s for each server, interleaved; servers on core 0, load on core 1; 1 server thread
hostler 0.1.0, hyper 1.12.0; Linux 6

                         native  latency:                    p50 at 1  CPU per  memory  first answer:
mode    requests/s          = 1       p50      p99  p99.9  connection  request     MiB   from nothing  code cached
native     100,000  ±2%    1.00    320 us   640 us      -     43.2 us  10.0 us    10.0        3.30 ms            -
pooled      23,456  ±4%    0.23   1.36 ms  2.73 ms      -     43.2 us  42.6 us    10.0        3.30 ms            -
cold          12.3  ±0%  0.0001    2.60 s   5.20 s      -     43.2 us  81.3 ms    10.0        3.30 ms            -

kept not measured: no such thing yet
a note
";
    assert_eq!(report().to_string(), expected);
}

#[test]
fn the_data_has_the_same_figures() {
    let json = serde_json::to_value(report()).unwrap();
    assert_eq!(json["app"]["name"], "hello");
    assert_eq!(json["servers"][1]["requests_per_second"]["median"], 23_456.0);
    assert_eq!(json["servers"][1]["p999_us"], serde_json::Value::Null);
    assert_eq!(json["servers"][0]["memory"]["pss"], 10 << 20);
    assert_eq!(json["servers"][0]["counts"]["right"], 100_000);
    assert_eq!(json["skipped"][0]["mode"], "kept");
    assert_eq!(json["notes"][0], "a note");
}

#[test]
fn figures_are_short_and_keep_three_digits() {
    let shown = [0.0123, 0.123, 9.994, 9.996, 99.94, 99.96, 123.4, 999.4].map(time);
    assert_eq!(shown, ["0.012 us", "0.12 us", "9.99 us", "10.0 us", "99.9 us", "100 us", "123 us", "999 us"]);
    assert_eq!(
        [999.6, 12_345.0, 999_600.0, 62_000_000.0].map(time),
        ["1.00 ms", "12.3 ms", "1.00 s", "62.0 s"]
    );
    assert_eq!([1.5, 999.0, 1_000.0, 1_234_567.0].map(count), ["1.50", "999", "1,000", "1,234,567"]);
    assert_eq!([13.0, 2_048.0, 20_000_000.0].map(size), ["13 bytes", "2.00 KiB", "19.1 MiB"]);
}
