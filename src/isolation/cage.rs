//! A canary in its cage: the pool of its instances, driven as a request drives an app, without a socket.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use tokio_util::sync::CancellationToken;

use super::canary::{Canary, Sighting};
use super::{CheckError, Finding};
use crate::config::{AppConfig, Mode, Policy};
use crate::engine::{self, CodeKind, EngineKind, Engines};
use crate::instance::{
    AppCode, ColdCode, Factory, Failure, GuestBody, GuestRequest, InstancePolicy, LinkedCode, Outcome,
    exchange,
};
use crate::metrics::ReleaseCounters;
use crate::pool::{Budget, Pool};
use crate::prepare;
use crate::release::pool_policy;
use crate::router::Mount;
use crate::server::body::ResponseError;

/// The name that the log has for them: no app can have it.
const NAME: &str = "(canary)";

/// What a canary may use of the processor before it is ended, and the same for each MiB of its memory. Its own work
/// takes a hundredth, but a machine under load makes it wait in the midst of it.
const CPU_TIME: Duration = Duration::from_millis(200);
const CPU_TIME_PER_MIB: Duration = Duration::from_millis(40);

/// How long one that waits for ever is waited for.
const WAIT: Duration = Duration::from_millis(40);

/// How long a request waits for an instance.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of memory that one can take before it is refused more.
const TO_TAKE: usize = 512 << 10;

/// Bytes of a body of which a canary reads one.
const MUCH: usize = 128 << 10;

/// The ways in which a request ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ending {
    Answer,
    BodyUnread,
    MemoryRefused,
    Trap,
    TrapInAnswer,
    CpuTime,
    CpuTimeInAnswer,
    Deadline,
    DeadlineInAnswer,
    Cancelled,
    CancelledInAnswer,
}

impl Ending {
    pub const ALL: [Ending; 11] = [
        Ending::Answer,
        Ending::BodyUnread,
        Ending::MemoryRefused,
        Ending::Trap,
        Ending::TrapInAnswer,
        Ending::CpuTime,
        Ending::CpuTimeInAnswer,
        Ending::Deadline,
        Ending::DeadlineInAnswer,
        Ending::Cancelled,
        Ending::CancelledInAnswer,
    ];

    /// Those that take no time.
    pub const QUICK: [Ending; 6] = [
        Ending::Answer,
        Ending::Trap,
        Ending::BodyUnread,
        Ending::Cancelled,
        Ending::MemoryRefused,
        Ending::TrapInAnswer,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Ending::Answer => "answered",
            Ending::BodyUnread => "answered and left its body unread",
            Ending::MemoryRefused => "was refused memory",
            Ending::Trap => "trapped",
            Ending::TrapInAnswer => "trapped in the midst of its answer",
            Ending::CpuTime => "used up its cpu_time",
            Ending::CpuTimeInAnswer => "used up its cpu_time in the midst of its answer",
            Ending::Deadline => "was ended at its deadline",
            Ending::DeadlineInAnswer => "was ended at its deadline in the midst of its answer",
            Ending::Cancelled => "was cancelled",
            Ending::CancelledInAnswer => "was cancelled in the midst of its answer",
        }
    }

    /// The letter by which a canary is told.
    pub fn order(self) -> u8 {
        match self {
            Ending::Answer | Ending::BodyUnread => b'a',
            Ending::MemoryRefused => b'm',
            Ending::Trap => b't',
            Ending::TrapInAnswer => b'T',
            Ending::CpuTime => b's',
            Ending::CpuTimeInAnswer => b'S',
            Ending::Deadline | Ending::Cancelled => b'w',
            Ending::DeadlineInAnswer | Ending::CancelledInAnswer => b'W',
        }
    }
}

/// A canary in engines of its kind, with its instances.
pub struct Cage {
    canary: Canary,
    pool: Pool<Factory>,
    config: Arc<AppConfig>,
    counters: Arc<ReleaseCounters>,
    never: CancellationToken,
    /// What the first one said.
    first: OnceLock<Sighting>,
}

/// What came of one request.
#[derive(Debug)]
pub enum Seen {
    /// What an instance said.
    Sighting(Sighting),
    /// It ended as it was told, before it had said all.
    Ended,
}

/// What a look has shown.
#[derive(Debug)]
pub enum Look {
    Clean(Sighting),
    Found(Finding),
    /// The instance ended before it had said all.
    Untold,
}

/// How a cage is set up.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    pub mode: Mode,
    pub engine: EngineKind,
    /// Instances at once.
    pub instances: u32,
}

impl Cage {
    /// Puts compiled code of a canary (see [`compile`]) to use. Each call loads it anew, so that the allocator does not
    /// know it and has no favourite slots for it.
    ///
    /// # Errors
    /// See [`CheckError`].
    pub fn new(
        canary: Canary,
        payload: &Bytes,
        setup: Setup,
        engines: &Arc<Engines>,
        budget: &Budget,
    ) -> Result<Cage, CheckError> {
        let (kind, code_kind) = (canary.kind(), CodeKind::of(canary.kind(), setup.engine.reset()));
        let config = Arc::new(config(&canary, setup)?);
        let policy = InstancePolicy::alone(NAME, config.clone());
        let counters = policy.counters.clone();
        let wasm = canary.wasm().map_err(CheckError::of)?;
        let checked = prepare::check(&wasm).map_err(CheckError::of)?;
        let factory = if setup.mode == Mode::Cold {
            let (compiling, cores) = (Arc::new(tokio::sync::Semaphore::new(1)), budget.cores().clone());
            Factory::cold(engines.clone(), ColdCode { kind, wasm: wasm.into(), compiling, cores }, policy)
        } else {
            let engine = engines.get(setup.engine).map_err(CheckError::of)?;
            let code = engine::load_bytes(engine, payload, code_kind).map_err(CheckError::of)?;
            let code = AppCode::link(kind, &code).map_err(CheckError::of)?;
            Factory::new(engines.clone(), LinkedCode::new(code, None), policy)
        };
        let units = engine::units(&checked.facts);
        let policy = pool_policy(&config, setup.instances);
        let pool = Pool::new(NAME, factory, policy, units, budget).map_err(CheckError::of)?;
        let counters = ReleaseCounters::new(counters);
        Ok(Cage { canary, pool, config, counters, never: CancellationToken::new(), first: OnceLock::new() })
    }

    pub fn canary(&self) -> &Canary {
        &self.canary
    }

    pub fn pool(&self) -> &Pool<Factory> {
        &self.pool
    }

    /// Has one instance look, leave its marks, and end in this way.
    ///
    /// # Errors
    /// There is no instance for it, or it did not end as it was told.
    pub async fn ask(&self, ending: Ending) -> Result<Seen, CheckError> {
        let lease = match self.pool.lease().await {
            Ok(lease) => lease,
            Err(error) => return Err(CheckError::NoRoom(error.to_string())),
        };
        let mut config = (*self.config).clone();
        if matches!(ending, Ending::Deadline | Ending::DeadlineInAnswer) {
            config.request_timeout = WAIT;
        }
        let exchanged = exchange(lease, request(ending)?, &config, &self.counters, &self.never);
        if ending == Ending::Cancelled {
            // The guest waits by then, and goes with what is dropped here.
            return match tokio::time::timeout(WAIT / 8, exchanged).await {
                Err(_) => Ok(Seen::Ended),
                Ok(Err(failure)) => Err(failed(&failure)),
                Ok(Ok(_)) => Err(CheckError::Disobeyed(ending)),
            };
        }
        let body = match (exchanged.await, ending) {
            (Ok(Outcome::Response(response)), _) => response.into_body(),
            (Err(Failure::Trapped(_)), Ending::Trap | Ending::TrapInAnswer)
            | (Err(Failure::CpuTime(_)), Ending::CpuTime | Ending::CpuTimeInAnswer)
            | (Err(Failure::Deadline(_)), Ending::Deadline | Ending::DeadlineInAnswer) => {
                return Ok(Seen::Ended);
            }
            (Err(failure), _) => return Err(failed(&failure)),
            (Ok(Outcome::LocalRedirect(_)), _) => return Err(CheckError::Disobeyed(ending)),
        };
        if ending == Ending::CancelledInAnswer {
            drop(body);
            return Ok(Seen::Ended);
        }
        match (body.collect().await, ending) {
            (Ok(body), Ending::Answer | Ending::BodyUnread | Ending::MemoryRefused) => {
                Ok(Seen::Sighting(Sighting::parse(&String::from_utf8_lossy(&body.to_bytes()))))
            }
            (Err(_), Ending::TrapInAnswer | Ending::CpuTimeInAnswer | Ending::DeadlineInAnswer) => {
                Ok(Seen::Ended)
            }
            (Ok(_), _) => Err(CheckError::Disobeyed(ending)),
            (Err(ResponseError::Aborted(why)), _) => Err(match why.downcast_ref::<Failure>() {
                Some(failure) => failed(failure),
                None => CheckError::Failed(why.to_string()),
            }),
            (Err(broken), _) => Err(CheckError::Failed(broken.to_string())),
        }
    }

    /// The same, and compares: a finding if the instance was not as a new one.
    ///
    /// # Errors
    /// As [`Cage::ask`]; a guest that traps where it should not is a finding, since a dropped segment makes it trap.
    pub async fn look(&self, ending: Ending) -> Result<Look, CheckError> {
        let found = |what| Look::Found(Finding { shape: self.canary.shape, what });
        let sighting = match self.ask(ending).await {
            Ok(Seen::Sighting(sighting)) => sighting,
            Ok(Seen::Ended) => return Ok(Look::Untold),
            Err(CheckError::Failed(failure)) => return Ok(found(failure)),
            Err(error) => return Err(error),
        };
        let first = self.first.get_or_init(|| sighting.clone());
        Ok(match sighting.difference(&self.canary, first) {
            Some(what) => found(what),
            None => Look::Clean(sighting),
        })
    }

    /// No more instances of it.
    pub async fn close(self) {
        self.pool.close();
        self.pool.drained().await;
    }
}

/// A canary's machine code for an engine of this kind.
///
/// # Errors
/// See [`CheckError`].
pub fn compile(canary: &Canary, engines: &Engines, kind: EngineKind) -> Result<Bytes, CheckError> {
    let engine = engines.get(kind).map_err(CheckError::of)?;
    let wasm = canary.wasm().map_err(CheckError::of)?;
    let payload =
        engine::compile(engine, &wasm, CodeKind::of(canary.kind(), kind.reset())).map_err(CheckError::of)?;
    Ok(payload.into())
}

/// A canary that did not end as it was told: one that was merely slow tells nothing about its instance.
fn failed(failure: &Failure) -> CheckError {
    match failure {
        Failure::CpuTime(_) | Failure::Deadline(_) => CheckError::Slow(failure.to_string()),
        _ => CheckError::Failed(failure.to_string()),
    }
}

fn config(canary: &Canary, setup: Setup) -> Result<AppConfig, CheckError> {
    let config = Policy::default().app_config("canary", None);
    let config = config.map_err(|problems| CheckError::of(format!("{problems:?}")))?;
    Ok(AppConfig {
        mode: setup.mode,
        min_instances: 0,
        max_instances: Some(setup.instances),
        weight: 1,
        memory_limit: canary.memory() + TO_TAKE,
        table_limit: 64,
        cpu_time: CPU_TIME + CPU_TIME_PER_MIB * u32::try_from(canary.memory() >> 20).unwrap_or(u32::MAX),
        request_timeout: Duration::from_secs(30),
        queue_timeout: QUEUE_TIMEOUT,
        ..config
    })
}

fn request(ending: Ending) -> Result<GuestRequest, CheckError> {
    let request = http::Request::post("/").header("host", "canary").body(());
    let (parts, ()) = request.map_err(CheckError::of)?.into_parts();
    let mut body = vec![ending.order()];
    if ending == Ending::BodyUnread {
        body.resize(MUCH, b'?');
    }
    let body = match ending {
        Ending::BodyUnread => {
            GuestBody::Streaming(Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed_unsync())
        }
        _ => GuestBody::Whole(body.into()),
    };
    Ok(GuestRequest::of_the_host(parts, body, None, Mount::root()))
}
