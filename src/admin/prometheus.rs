//! The status in the text format of Prometheus.

use std::fmt::Write;

use super::{AppStatus, Status};
use crate::isolation::record::State;

type Read = fn(&AppStatus) -> u64;

/// The counters and gauges of each app: name, type, help, and how it is read.
const APP_METRICS: [(&str, &str, &str, Read); 15] = [
    ("requests_total", "counter", "Requests routed to the app", |app| app.requests.requests),
    ("responses_2xx_total", "counter", "Responses of that class", |app| app.requests.responses_2xx),
    ("responses_3xx_total", "counter", "Responses of that class", |app| app.requests.responses_3xx),
    ("responses_4xx_total", "counter", "Responses of that class", |app| app.requests.responses_4xx),
    ("responses_5xx_total", "counter", "Responses of that class", |app| app.requests.responses_5xx),
    ("trapped_total", "counter", "Guests that trapped", |app| app.requests.trapped),
    ("cpu_time_exceeded_total", "counter", "Guests ended at cpu_time", |app| app.requests.cpu_time_exceeded),
    ("deadline_passed_total", "counter", "Guests ended at request_timeout", |app| {
        app.requests.deadline_passed
    }),
    ("bad_answers_total", "counter", "Answers that were none", |app| app.requests.bad_answers),
    ("client_gone_total", "counter", "Clients that left a stream", |app| app.requests.client_gone),
    ("guest_cpu_nanoseconds_total", "counter", "Time inside the guest", |app| app.requests.cpu_nanos),
    ("instances_idle", "gauge", "Ready instances", |app| instances(app, |stats| stats.idle as u64)),
    ("instances_leased", "gauge", "Instances at work", |app| instances(app, |stats| stats.leased as u64)),
    ("requests_waiting", "gauge", "Requests that wait for one", |app| {
        instances(app, |stats| stats.waiting as u64)
    }),
    ("instances_discarded_total", "counter", "Instances dropped for good", |app| {
        instances(app, |stats| stats.discarded)
    }),
];

pub fn text(status: &Status) -> String {
    let mut text = String::new();
    for (name, kind, help, read) in APP_METRICS {
        let _ = writeln!(text, "# HELP hostler_{name} {help}\n# TYPE hostler_{name} {kind}");
        for app in &status.apps {
            let _ = writeln!(text, "hostler_{name}{{app=\"{}\"}} {}", app.app.escape_default(), read(app));
        }
    }
    let isolation = &status.isolation;
    for (name, kind, help, value) in [
        ("checked_total", "counter", "Canary instances that were looked at", isolation.checked),
        ("skipped_total", "counter", "Looks that came to nothing", isolation.skipped),
        ("findings_total", "counter", "Canary instances that were not as new", isolation.findings),
        ("verified", "gauge", "1 if isolation is verified and nothing was found", verified(status)),
    ] {
        let name = format!("hostler_isolation_{name}");
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
    }
    let _ = writeln!(text, "# HELP hostler_budget_used Units of the instance budget in use");
    let _ = writeln!(text, "# TYPE hostler_budget_used gauge\nhostler_budget_used {}", status.budget.used);
    let _ = writeln!(text, "# HELP hostler_budget_total Units of the instance budget");
    let _ = writeln!(text, "# TYPE hostler_budget_total gauge\nhostler_budget_total {}", status.budget.total);
    text
}

fn verified(status: &Status) -> u64 {
    u64::from(status.isolation.state == State::Verified)
}

fn instances(app: &AppStatus, read: fn(&crate::pool::Stats) -> u64) -> u64 {
    app.release.as_ref().map_or(0, |release| read(&release.instances))
}
