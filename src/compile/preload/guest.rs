//! An instance that is preloaded, or compared with others, and all that it has of a host.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{HOST, USER_AGENT};
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use tokio::sync::oneshot;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Instance, InstancePre, Linker, ResourceTable};
use wasmtime::{Engine, Store, StoreContextMut};
use wasmtime_wasi::p2::pipe::{MemoryOutputPipe, SinkOutputStream};
use wasmtime_wasi::random::Deterministic;
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::p2::bindings::Proxy;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::{
    Error as HttpError, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};
use wasmtime_wizer::{ComponentContext, Wizer};

use super::state::{Reader, State};
use super::time::{Late, Time};
use crate::instance::limits::Limits;
use crate::instance::{HOSTCALL_FUEL, component_linker};
use crate::prepare::preload::{INIT, Preload, Source, Start};

/// Bytes of an answer that are looked at.
const LONGEST_ANSWER: usize = 16 << 20;

/// Bytes of output that are kept to be shown; no more is accepted.
const LONGEST_OUTPUT: usize = 4096;

/// Under which instances are started.
#[derive(Clone)]
pub struct Conditions<'p> {
    preload: &'p Preload,
    seed: u64,
    now: Duration,
    /// Sources that give other things than usual.
    other: Vec<Source>,
}

impl<'p> Conditions<'p> {
    pub fn new(preload: &'p Preload) -> Conditions<'p> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // What is frozen must not be what anybody can know.
        Conditions { preload, seed: fastrand::u64(..), now, other: Vec::new() }
    }

    pub fn with_other(&self, sources: &[Source]) -> Conditions<'p> {
        Conditions { other: sources.to_vec(), ..self.clone() }
    }

    pub fn preload(&self) -> &'p Preload {
        self.preload
    }

    fn wasi(&self, output: &MemoryOutputPipe, is_shown: bool) -> WasiCtx {
        const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
        let differs = |source| self.other.contains(&source);
        let mut random = fastrand::Rng::with_seed(self.seed.wrapping_add(differs(Source::Random).into()));
        let mut bytes = || Deterministic::new((0..4096).map(|_| random.u8(..)).collect());
        let mut builder = WasiCtxBuilder::new();
        builder.secure_random(bytes()).insecure_random(bytes()).insecure_random_seed(random.u128(..));
        let now = self.now + if differs(Source::Clocks) { YEAR } else { Duration::ZERO };
        builder.wall_clock(Clock::new(now)).monotonic_clock(Clock::new(now));
        for (name, value) in &self.preload.env {
            let other = if differs(Source::Environment) { "~" } else { "" };
            builder.env(name, format!("{value}{other}"));
        }
        if differs(Source::Environment) {
            builder.env("HOSTLER_OTHER", "1");
        }
        builder.allow_tcp(false).allow_udp(false).allow_ip_name_lookup(false);
        match is_shown {
            true => builder.stdout(output.clone()).stderr(output.clone()),
            false => builder.stdout(SinkOutputStream).stderr(SinkOutputStream),
        };
        builder.build()
    }
}

/// A clock that goes on whenever it is looked at.
struct Clock {
    start: Duration,
    looks: AtomicU64,
}

impl Clock {
    fn new(start: Duration) -> Clock {
        Clock { start, looks: AtomicU64::new(0) }
    }

    fn time(&self) -> Duration {
        self.start + Duration::from_millis(self.looks.fetch_add(1, Relaxed))
    }
}

impl HostWallClock for Clock {
    fn resolution(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn now(&self) -> Duration {
        self.time()
    }
}

impl HostMonotonicClock for Clock {
    fn resolution(&self) -> u64 {
        1_000_000
    }

    fn now(&self) -> u64 {
        u64::try_from(self.time().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// What an instance has of its host.
pub struct Host {
    wasi: WasiCtx,
    table: ResourceTable,
    http: WasiHttpCtx,
    hooks: NoNetwork,
    limits: Limits,
    /// What it asked for and is refused.
    asked: Option<Source>,
    output: MemoryOutputPipe,
}

struct NoNetwork;

impl WasiHttpHooks for NoNetwork {
    fn send_request(
        &mut self,
        _: http::Request<WasiBody>,
        _: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), HttpError>> + Send>,
    ) -> Box<
        dyn Future<
                Output = wasmtime_wasi_http::Result<(
                    http::Response<WasiBody>,
                    Box<dyn Future<Output = Result<(), HttpError>> + Send>,
                )>,
            > + Send,
    > {
        Box::new(async { Err(HttpError::Connect(std::io::ErrorKind::ConnectionRefused.into())) })
    }
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for Host {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.hooks, table: &mut self.table, ctx: &mut self.http }
    }
}

/// Makes instances of one component.
pub struct Guests {
    pre: InstancePre<Host>,
    is_output_refused: bool,
}

impl Guests {
    /// `is_refused`: the sources whose use ends an instance.
    pub fn new(
        engine: &Engine,
        component: &Component,
        is_refused: impl Fn(Source) -> bool,
    ) -> Result<Guests, String> {
        let pre = linker(engine, component, &is_refused).and_then(|linker| linker.instantiate_pre(component));
        let pre = pre.map_err(|error| format!("it can't be linked to the host: {error:#}"))?;
        Ok(Guests { pre, is_output_refused: is_refused(Source::Stdout) })
    }

    pub async fn start(&self, conditions: &Conditions<'_>) -> Result<Guest, String> {
        let preload = conditions.preload();
        let output = MemoryOutputPipe::new(LONGEST_OUTPUT);
        let mut table = ResourceTable::new();
        table.set_max_capacity(preload.resource_limit);
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(preload.header_limit);
        let host = Host {
            wasi: conditions.wasi(&output, self.is_output_refused),
            table,
            http,
            hooks: NoNetwork,
            limits: Limits::new(preload.memory_limit, preload.table_limit),
            asked: None,
            output,
        };
        let mut store = Store::new(self.pre.engine(), host);
        store.limiter(|host| &mut host.limits);
        store.set_hostcall_fuel(HOSTCALL_FUEL);
        store.set_max_component_handles(preload.resource_limit);
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        let mut time = Time::start();
        match time.limit(self.pre.instantiate_async(&mut store)).await {
            Ok(Ok(instance)) => Ok(Guest { store, instance, time }),
            Ok(Err(error)) => Err(told(store.data(), "it could not be started", &error)),
            Err(late) => Err(told_late(late, "it was started")),
        }
    }
}

fn linker(
    engine: &Engine,
    component: &Component,
    is_refused: &impl Fn(Source) -> bool,
) -> wasmtime::Result<Linker<Host>> {
    let mut linker = component_linker(engine)?;
    // Under the name that the component has for it, which is found before any other version's.
    linker.allow_shadowing(true);
    for (name, import) in component.component_type().imports(engine) {
        let Some(source) = Source::of_interface(name).filter(|source| is_refused(*source)) else { continue };
        let ComponentItem::ComponentInstance(interface) = import.ty else { continue };
        let mut refusing = linker.instance(name)?;
        for (function, export) in interface.exports(engine) {
            if let ComponentItem::ComponentFunc(_) = export.ty {
                refusing.func_new(function, move |mut store: StoreContextMut<'_, Host>, _, _, _| {
                    store.data_mut().asked.get_or_insert(source);
                    Err(wasmtime::format_err!("the app {source}"))
                })?;
            }
        }
    }
    Ok(linker)
}

/// An instance.
pub struct Guest {
    store: Store<Host>,
    instance: Instance,
    /// What it has for all that it does.
    time: Time,
}

/// What it answered.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Guest {
    /// Brings it to the state of which an image is to be made.
    pub async fn reach_state(&mut self, preload: &Preload) -> Result<(), String> {
        match &preload.start {
            Start::Init => self.init().await?,
            Start::Warmup(paths) => {
                for path in paths {
                    let answer = self.ask(path).await?;
                    if answer.status.is_server_error() {
                        return Err(format!("it answered {} to GET {path}", answer.status));
                    }
                }
            }
        }
        let output = self.store.data().output.contents();
        if !output.is_empty() {
            return Err(refused(Source::Stdout, Some(&output)));
        }
        match self.store.data_mut().table.iter_mut().count() {
            0 => Ok(()),
            held => Err(format!(
                "it holds {held} of the host's resources, such as streams, after it was started: no other instance would \
                 have them"
            )),
        }
    }

    async fn init(&mut self) -> Result<(), String> {
        let func = self.instance.get_typed_func::<(), ()>(&mut self.store, INIT);
        let func = func.map_err(|_| {
            format!("it has no function {INIT} without parameters and result: export one, or use warmup")
        })?;
        match self.time.limit(func.call_async(&mut self.store, ())).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(told(self.store.data(), &format!("{INIT} failed"), &error)),
            Err(late) => Err(told_late(late, INIT)),
        }
    }

    /// Asks it for a path.
    pub async fn ask(&mut self, path: &str) -> Result<Answer, String> {
        let Guest { store, instance, time } = self;
        match time.limit(exchange(store, instance, path)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(told(store.data(), &format!("GET {path} failed"), &error)),
            Err(late) => Err(told_late(late, &format!("GET {path}"))),
        }
    }

    /// The app with the present state in it, and that state.
    pub async fn image(
        mut self,
        wizer: &Wizer,
        cx: &ComponentContext<'_>,
    ) -> Result<(Vec<u8>, State), String> {
        // To be read, each memory is made a little larger.
        self.store.data_mut().limits = Limits::new(usize::MAX, usize::MAX);
        self.store.set_hostcall_fuel(usize::MAX);
        let mut reader = Reader::new(self.store, self.instance);
        let image = wizer.snapshot_component(cx, &mut reader).await;
        let state = reader.finish()?;
        Ok((image.map_err(|error| format!("its state can't be kept: {error:#}"))?, state))
    }
}

async fn exchange(store: &mut Store<Host>, instance: &Instance, path: &str) -> wasmtime::Result<Answer> {
    let proxy = Proxy::new(&mut *store, instance)?;
    let request = http::Request::get(path).header(HOST, "localhost").header(USER_AGENT, "hostler-preload");
    let mut http = store.data_mut().http();
    let request = http.new_incoming_request(Scheme::Http, request.body(Full::new(Bytes::new()))?)?;
    let (answer, answered) = oneshot::channel();
    let out = http.new_response_outparam_from_callback(move |response| {
        let _ = answer.send(response);
    })?;
    let (over, is_over) = oneshot::channel::<()>();
    let call = async {
        proxy.wasi_http_incoming_handler().call_handle(&mut *store, request, out).await?;
        let _ = over.send(());
        Ok(())
    };
    // The body is made while the guest runs.
    let take = async {
        let response = tokio::select! {
            biased;
            response = answered => response.ok(),
            // What would tell is still in the store if the guest has only forgotten it.
            _ = is_over => None,
        };
        let response = response.ok_or_else(|| wasmtime::format_err!("it gave no answer"))?;
        let response =
            response.map_err(|code| wasmtime::format_err!("it answered with the error {code:?}"))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, LONGEST_ANSWER).collect().await;
        let body = body.map_err(|error| wasmtime::format_err!("its answer broke off: {error}"))?.to_bytes();
        Ok(Answer { status: head.status, headers: head.headers, body })
    };
    tokio::try_join!(call, take).map(|((), answer)| answer)
}

/// Why an instance ended; what it was refused comes first.
fn told(host: &Host, what: &str, error: &wasmtime::Error) -> String {
    if let Some(source) = host.asked {
        return refused(source, None);
    }
    let output = host.output.contents();
    if !output.is_empty() {
        return refused(Source::Stdout, Some(&output));
    }
    // Where it happened in the code comes before what happened.
    format!("{what} while it was preloaded: {}", error.root_cause())
}

fn refused(source: Source, output: Option<&[u8]>) -> String {
    const SHOWN: usize = 200;
    let why = match source {
        Source::Random => ": every instance would have the same ones",
        Source::Clocks | Source::Environment => ": every instance would have what it saw then",
        Source::Stdout => ": only the one that is preloaded would",
        Source::Outbound => ": there is no network",
        Source::Filesystem | Source::Stdin => "",
    };
    let said = output.map(|output| {
        let said = String::from_utf8_lossy(output);
        format!(" (\"{}\")", said.trim().chars().take(SHOWN).collect::<String>().escape_debug())
    });
    let hint = match source {
        Source::Outbound => String::new(),
        _ => format!("; allow \"{}\" in preload_allow if that does no harm", source.as_str()),
    };
    format!("the app {source}{} while it was preloaded{why}{hint}", said.unwrap_or_default())
}

fn told_late(late: Late, what: &str) -> String {
    format!("it took {late} while it was preloaded, when {what} was under way")
}
