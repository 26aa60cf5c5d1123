//! What a host under comparison says of itself, on its admin listener.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use super::http::Asked;
use super::sample::sample;

/// The counts of a host at one moment; the host has one app.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Snapshot {
    requests: u64,
    guest_nanos: u64,
    upkeep_nanos: u64,
    made: u64,
    reset: u64,
    /// Instances that are there now.
    instances: u32,
    /// Bytes of an instance, if they could be measured.
    instance_bytes: Option<u64>,
    /// Microseconds to make an instance ready.
    make_micros: u64,
}

/// What the host says about the rounds under load, the warm-up among them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Own {
    pub requests: u64,
    /// Instances that were made, and those that were reset instead.
    pub instances_made: u64,
    pub instances_reset: u64,
    /// Processor time in the guest, for one request.
    pub guest_us_per_request: Option<f64>,
    /// Processor time to make, reset and drop instances, for one request.
    pub upkeep_us_per_request: Option<f64>,
    /// How long it takes to make an instance ready.
    pub make_us: Option<f64>,
    /// Instances that were there at the end.
    pub instances: u32,
    /// What one of them takes of RAM; `None` if too few were at work at once for the host to tell.
    pub instance_bytes: Option<u64>,
    /// What one takes at most: the memory that came during the rounds, as if all of it were that of the instances that
    /// came. `None` if few came.
    pub instance_bytes_at_most: Option<u64>,
}

#[derive(Deserialize)]
struct Status {
    sizing: Sizing,
    apps: Vec<App>,
}

#[derive(Deserialize)]
struct Sizing {
    instance_resident: u64,
    is_measured: bool,
}

#[derive(Deserialize)]
struct App {
    release: Option<Release>,
    requests: Requests,
}

#[derive(Deserialize)]
struct Release {
    instances: Instances,
}

#[derive(Deserialize)]
struct Instances {
    idle: u32,
    leased: u32,
    resetting: u32,
    cost_micros: u64,
    made: u64,
    reset: u64,
}

#[derive(Deserialize)]
struct Requests {
    requests: u64,
    cpu_nanos: u64,
    upkeep_nanos: u64,
}

/// Instances that must have come so that what came with them is mostly theirs.
const MANY: u64 = 8;

/// The listener shares no thread with the serving, so it answers soon.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks the host; `None` if it gives no answer that is understood.
pub async fn snapshot(admin: SocketAddr) -> Option<Snapshot> {
    let asked =
        Asked { method: Method::GET, path: "/status".to_owned(), headers: Vec::new(), body: Bytes::new() };
    let answer = sample(admin, &asked, "/status", PATIENCE).await.ok()?;
    if answer.status == StatusCode::OK { parse(&answer.body) } else { None }
}

fn parse(body: &[u8]) -> Option<Snapshot> {
    let Status { sizing, apps } = serde_json::from_slice(body).ok()?;
    let App { release, requests } = apps.into_iter().next()?;
    let Instances { idle, leased, resetting, cost_micros, made, reset } = release?.instances;
    Some(Snapshot {
        requests: requests.requests,
        guest_nanos: requests.cpu_nanos,
        upkeep_nanos: requests.upkeep_nanos,
        made,
        reset,
        instances: idle + leased + resetting,
        instance_bytes: sizing.is_measured.then_some(sizing.instance_resident),
        make_micros: cost_micros,
    })
}

impl Own {
    /// What happened between two moments, between which the process's memory grew by so many bytes.
    pub fn between(before: &Snapshot, after: &Snapshot, grown: Option<u64>) -> Self {
        let came = u64::from(after.instances.saturating_sub(before.instances));
        let requests = after.requests.saturating_sub(before.requests);
        let each = |before: u64, after: u64| {
            (requests > 0).then(|| after.saturating_sub(before) as f64 / 1e3 / requests as f64)
        };
        Self {
            requests,
            instances_made: after.made.saturating_sub(before.made),
            instances_reset: after.reset.saturating_sub(before.reset),
            guest_us_per_request: each(before.guest_nanos, after.guest_nanos),
            upkeep_us_per_request: each(before.upkeep_nanos, after.upkeep_nanos),
            make_us: (after.make_micros > 0).then_some(after.make_micros as f64),
            instances: after.instances,
            instance_bytes: after.instance_bytes,
            instance_bytes_at_most: grown.filter(|_| came >= MANY).map(|grown| grown / came),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = r#"{"version":"x","sizing":{"instance_resident":7,"is_measured":true},"apps":[{"app":"a",
        "release":{"instances":{"idle":2,"leased":1,"resetting":3,"cost_micros":40,"made":9,"reset":8,"x":1}},
        "requests":{"requests":100,"cpu_nanos":5000,"upkeep_nanos":7000}}]}"#;

    #[test]
    fn a_status_is_understood_without_what_is_of_no_use_here() {
        let snapshot = parse(STATUS.as_bytes()).unwrap();
        assert_eq!((snapshot.requests, snapshot.instances, snapshot.instance_bytes), (100, 6, Some(7)));
        let assumed = parse(STATUS.replace("true", "false").as_bytes()).unwrap();
        assert_eq!(assumed.instance_bytes, None);
        assert_eq!(parse(STATUS.replace("\"made\"", "\"mode\"").as_bytes()), None);
        assert_eq!(parse(br#"{"sizing":{"instance_resident":7,"is_measured":true},"apps":[]}"#), None);
    }

    #[test]
    fn costs_are_of_the_requests_between_two_moments() {
        let before = parse(STATUS.as_bytes()).unwrap();
        let after = Snapshot {
            requests: 110,
            guest_nanos: 25_000,
            upkeep_nanos: 8_000,
            made: 19,
            reset: 8,
            ..before
        };
        let own = Own::between(&before, &after, Some(100));
        assert_eq!(own.instance_bytes_at_most, None);
        assert_eq!((own.requests, own.instances_made, own.instances_reset), (10, 10, 0));
        assert_eq!((own.guest_us_per_request, own.upkeep_us_per_request), (Some(2.0), Some(0.1)));
        assert_eq!(own.make_us, Some(40.0));
        let idle = Own::between(&after, &after, None);
        let more = Snapshot { instances: 16, ..after };
        assert_eq!(Own::between(&after, &more, Some(100)).instance_bytes_at_most, Some(10));
        assert_eq!((idle.guest_us_per_request, idle.upkeep_us_per_request), (None, None));
    }
}
