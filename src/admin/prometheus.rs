//! The status in the text format of Prometheus.

use std::fmt::Write;

use super::{AppStatus, ReleaseStatus, Status};
use crate::isolation::record::State;

type Read = fn(&AppStatus) -> u64;

/// The counters and gauges of each app: name, type, help, and how it is read.
const APP_METRICS: [(&str, &str, &str, Read); 33] = [
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
    ("client_gone_total", "counter", "Clients that left a stream, or were too slow with it", |app| {
        app.requests.client_gone
    }),
    ("guest_cpu_nanoseconds_total", "counter", "Time inside the guest", |app| app.requests.cpu_nanos),
    ("upkeep_cpu_nanoseconds_total", "counter", "Time for making and dropping instances", |app| {
        app.requests.upkeep_nanos
    }),
    ("static_requests_total", "counter", "Requests answered from static files", |app| {
        app.requests.static_requests
    }),
    ("static_not_modified_total", "counter", "Of them, those whose client had the file", |app| {
        app.requests.static_not_modified
    }),
    ("static_failed_total", "counter", "Of them, those whose file the host could not read", |app| {
        app.requests.static_failed
    }),
    ("rollbacks_total", "counter", "Releases that were undone", |app| app.requests.rollbacks),
    ("rolled_back", "gauge", "1 while the app is held back from what its files have", |app| {
        u64::from(app.rolled_back)
    }),
    ("instances_idle", "gauge", "Ready instances", |app| instances(app, |stats| stats.idle as u64)),
    ("instances_leased", "gauge", "Instances at work", |app| instances(app, |stats| stats.leased as u64)),
    ("requests_waiting", "gauge", "Requests that wait for one", |app| {
        instances(app, |stats| stats.waiting as u64)
    }),
    ("requests_running", "gauge", "Requests whose guest runs or could run", |app| {
        instances(app, |stats| stats.running as u64)
    }),
    ("requests_refused_total", "counter", "Requests for which there was no room", |app| {
        instances(app, |stats| stats.refused)
    }),
    ("requests_timed_out_total", "counter", "Requests that waited for one for queue_timeout", |app| {
        instances(app, |stats| stats.timed_out)
    }),
    ("requests_shed_total", "counter", "Requests refused in an overload, after a short wait", |app| {
        instances(app, |stats| stats.shed)
    }),
    ("overloaded", "gauge", "1 while more requests come than can be answered", |app| {
        instances(app, |stats| u64::from(stats.is_overloaded))
    }),
    ("instances_target", "gauge", "Idle instances that are worth keeping", |app| {
        instances(app, |stats| stats.target as u64)
    }),
    ("weight", "gauge", "Share of the budget beside other apps", |app| {
        release(app, |release| u64::from(release.weight))
    }),
    ("max_instances", "gauge", "Instances that the app may have at most", |app| {
        release(app, |release| u64::from(release.max_instances))
    }),
    ("instances_failed_total", "counter", "Attempts to make one that failed", |app| {
        instances(app, |stats| stats.failed)
    }),
    ("instances_rewound_total", "counter", "Instances put back in place", |app| {
        release(app, |release| release.rewinds.map_or(0, |rewinds| rewinds.rewound))
    }),
    ("instances_not_rewound_total", "counter", "Instances that could not be, and were replaced", |app| {
        release(app, |release| release.rewinds.map_or(0, |rewinds| rewinds.failed))
    }),
    ("rewinds_differing_total", "counter", "Instances that were not as at first after a rewind", |app| {
        release(app, |release| release.rewinds.map_or(0, |rewinds| rewinds.differing))
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
    for (name, help, value) in host_gauges(status) {
        let _ = writeln!(
            text,
            "# HELP hostler_{name} {help}\n# TYPE hostler_{name} gauge\nhostler_{name} {value}"
        );
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
    text
}

/// The gauges of the whole host. What is not known is left out.
fn host_gauges(status: &Status) -> Vec<(&'static str, &'static str, f64)> {
    let (budget, sizing) = (&status.budget, &status.sizing);
    let count = |number: u32| Some(f64::from(number));
    let bytes = |number: u64| Some(number as f64);
    let gauges = [
        ("budget_used", "Units of the instance budget in use", count(budget.used)),
        ("budget_total", "Units of the instance budget", count(budget.total)),
        ("budget_limit", "Units that may be in use now", count(budget.limit)),
        ("static_files", "Different static files that are kept", bytes(status.static_files.files)),
        ("static_memory_bytes", "What they take in memory", bytes(status.static_files.memory_bytes)),
        ("static_disk_bytes", "What they take on disk", bytes(status.static_files.disk_bytes)),
        ("folder_problems", "Paths that are not taken as apps", bytes(folder_problems(status))),
        ("cpus", "Processors that the host may use", count(sizing.cpus)),
        ("memory_limit_bytes", "Memory of the machine or control group", sizing.memory_limit.and_then(bytes)),
        ("resident_bytes", "Memory of the host and its instances in RAM", sizing.resident.and_then(bytes)),
        ("host_resident_bytes", "How much of that is the host's own", bytes(sizing.host_resident)),
        ("instance_resident_bytes", "What an instance takes of RAM", bytes(sizing.instance_resident)),
        ("pressure", "Memory pressure: 0 none, 1 growth, 2 spares, 3 shed", count(sizing.pressure as u32)),
        ("memory_stall_percent", "Ten seconds' stall of the control group for memory", sizing.stall.group),
        ("machine_memory_stall_percent", "The same of the whole machine", sizing.stall.machine),
    ];
    gauges.into_iter().filter_map(|(name, help, value)| Some((name, help, value?))).collect()
}

fn release(app: &AppStatus, read: fn(&ReleaseStatus) -> u64) -> u64 {
    app.release.as_ref().map_or(0, read)
}

fn folder_problems(status: &Status) -> u64 {
    (status.folder.paths.len() + status.folder.further_paths) as u64
}

fn verified(status: &Status) -> u64 {
    u64::from(status.isolation.state == State::Verified)
}

fn instances(app: &AppStatus, read: fn(&crate::pool::Stats) -> u64) -> u64 {
    app.release.as_ref().map_or(0, |release| read(&release.instances))
}
