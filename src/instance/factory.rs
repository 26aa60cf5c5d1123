//! Makes instances of one release and resets them.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};
use wasmtime::Store;
use wasmtime::component::{HasData, Linker, ResourceTable};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi_http::{WasiHttpView, p2, p3};
use wasmtime_wasi_io::bindings::wasi::io::{error, poll, streams};

use super::clock::CpuClock;
use super::linked::LinkedCode;
use super::measured::Measured;
use super::resident::Resident;
use super::rewound::{RewindStatus, Rewinds, Rewound, RewoundCode};
use super::state::{Abi, HostState, InstancePolicy};
use super::{Entry, Instance, Runner};
use crate::config::{AppConfig, Mode};
use crate::engine::{Code, CodeKind, EngineKind, Engines, Reset, compile_once};
use crate::metrics::AppCounters;
use crate::pool::{self, AtOnce, Cores};
use crate::prepare::Kind;

/// How long an app's start functions may take, whatever its `request_timeout`.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Why an instance could not be made.
#[derive(Debug, Clone, thiserror::Error)]
pub enum MakeError {
    #[error("the app can't be instantiated: {0}")]
    Instantiate(Arc<str>),
    #[error("the app's start took longer than {0:?}")]
    TooSlow(Duration),
    #[error("the app can't be compiled: {0}")]
    Compile(Arc<str>),
}

/// An app's code, linked to the host: all that is needed to instantiate it, prepared once.
pub enum AppCode {
    Http02(p2::bindings::ProxyPre<HostState>),
    Http03(p3::bindings::ServicePre<HostState>),
    CommandModule(wasmtime::InstancePre<HostState>),
    CommandComponent(CommandPre<HostState>),
    /// A wasi:http 0.2 app whose instances are rewound.
    Rewound(RewoundCode),
}

impl AppCode {
    /// Links compiled code to the host.
    ///
    /// # Errors
    /// An import that the host doesn't provide, or one of another type.
    pub fn link(kind: Kind, code: &Code) -> wasmtime::Result<AppCode> {
        match (kind, code) {
            (Kind::Http02, Code::Component(component)) => {
                let linker = component_linker(component.engine())?;
                Ok(AppCode::Http02(p2::bindings::ProxyPre::new(linker.instantiate_pre(component)?)?))
            }
            (Kind::Http03, Code::Component(component)) => {
                let mut linker = component_linker(component.engine())?;
                wasmtime_wasi::p3::add_to_linker(&mut linker)?;
                wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
                Ok(AppCode::Http03(p3::bindings::ServicePre::new(linker.instantiate_pre(component)?)?))
            }
            (Kind::CommandComponent, Code::Component(component)) => {
                let linker = component_linker(component.engine())?;
                Ok(AppCode::CommandComponent(CommandPre::new(linker.instantiate_pre(component)?)?))
            }
            (Kind::Http02, Code::Instrumented(component, manifest)) => {
                Ok(AppCode::Rewound(RewoundCode::link(component, *manifest)?))
            }
            (Kind::CommandModule, Code::Module(module)) => {
                let mut linker = wasmtime::Linker::new(module.engine());
                wasmtime_wasi::p1::add_to_linker_async(&mut linker, HostState::p1)?;
                Ok(AppCode::CommandModule(linker.instantiate_pre(module)?))
            }
            (kind, _) => Err(wasmtime::format_err!("the compiled code is not that of a {kind} app")),
        }
    }

    fn abi(&self) -> Abi {
        match self {
            AppCode::CommandModule(_) => Abi::Module,
            _ => Abi::Component,
        }
    }

    pub(super) fn kind(&self) -> Kind {
        match self {
            AppCode::Http02(_) | AppCode::Rewound(_) => Kind::Http02,
            AppCode::Http03(_) => Kind::Http03,
            AppCode::CommandModule(_) => Kind::CommandModule,
            AppCode::CommandComponent(_) => Kind::CommandComponent,
        }
    }

    pub(super) fn reset(&self) -> Reset {
        match self {
            AppCode::Rewound(_) => Reset::Rewind,
            _ => Reset::Replace,
        }
    }

    /// What was linked.
    pub(super) fn code(&self) -> Code {
        match self {
            AppCode::Http02(pre) => Code::Component(pre.instance_pre().component().clone()),
            AppCode::Http03(pre) => Code::Component(pre.instance_pre().component().clone()),
            AppCode::CommandModule(pre) => Code::Module(pre.module().clone()),
            AppCode::CommandComponent(pre) => Code::Component(pre.instance_pre().component().clone()),
            AppCode::Rewound(code) => Code::Instrumented(code.pre.component().clone(), code.manifest),
        }
    }

    pub(super) fn engine(&self) -> &wasmtime::Engine {
        match self {
            AppCode::Http02(pre) => pre.engine(),
            AppCode::Http03(pre) => pre.engine(),
            AppCode::CommandModule(pre) => pre.module().engine(),
            AppCode::CommandComponent(pre) => pre.engine(),
            AppCode::Rewound(code) => code.pre.engine(),
        }
    }

    /// Handles of resources that a guest may have at once.
    fn handles(&self, policy: &InstancePolicy) -> usize {
        match self {
            AppCode::Rewound(code) => code.handles(policy.config.resource_limit),
            _ => policy.config.resource_limit,
        }
    }

    async fn instantiate(&self, policy: &Arc<InstancePolicy>) -> wasmtime::Result<Instance> {
        let begun = Instant::now();
        let mut store = new_store(self.engine(), policy, self.abi());
        store.set_max_component_handles(self.handles(policy));
        let clock = store.data().clock.clone();
        policy.counters.add_upkeep(begun.elapsed());
        let _cost = StartCost { clock: clock.clone(), counters: &policy.counters };
        // Start functions are guest code: they have the same clock and the same limit as a request's.
        let entry = Measured::new(pin!(self.enter(&mut store)), clock, None).await?;
        Ok(Instance::new(store, entry, policy.clone()))
    }

    async fn enter(
        &self,
        mut store: &mut Store<HostState>,
    ) -> wasmtime::Result<(Entry, Option<Box<Rewound>>)> {
        let entry = match self {
            AppCode::Rewound(code) => {
                let (entry, rewound) = code.enter(store).await?;
                return Ok((entry, rewound.map(Box::new)));
            }
            AppCode::Http02(pre) => Entry::Http02(pre.instantiate_async(store).await?),
            AppCode::Http03(pre) => Entry::Http03(pre.instantiate_async(store).await?),
            AppCode::CommandComponent(pre) => Entry::CommandComponent(pre.instantiate_async(store).await?),
            AppCode::CommandModule(pre) => {
                let instance = pre.instantiate_async(&mut store).await?;
                Entry::CommandModule(instance.get_typed_func(&mut store, "_start")?)
            }
        };
        Ok((entry, None))
    }
}

/// Counts what an instance's start has cost, however it ends, and puts its clock to zero for the first request.
struct StartCost<'a> {
    clock: Arc<CpuClock>,
    counters: &'a AppCounters,
}

impl Drop for StartCost<'_> {
    fn drop(&mut self) {
        self.counters.add_upkeep(self.clock.take());
    }
}

/// What `cold` keeps of an app: its bytes, to be compiled for each request.
#[derive(Clone)]
pub struct ColdCode {
    pub kind: Kind,
    pub wasm: Bytes,
    /// Compilations under way in all, of all cold apps.
    pub compiling: Arc<Semaphore>,
    pub cores: Arc<Cores>,
}

impl ColdCode {
    async fn compile(&self, engines: &Arc<Engines>) -> Result<AppCode, MakeError> {
        let failed = |error: &dyn std::fmt::Display| MakeError::Compile(error.to_string().into());
        let _permit = self.compiling.acquire().await.map_err(|error| failed(&error))?;
        let (engines, kind, wasm) = (engines.clone(), self.kind, self.wasm.clone());
        // It takes a request's time and not a deploy's: it must not keep others from theirs.
        let presence = self.cores.lane().enter();
        let urgent = self.cores.lane().is_starved();
        let compiled = tokio::task::spawn_blocking(move || {
            let _presence = presence;
            let engine =
                engines.get(EngineKind::of(kind, Reset::Replace)).map_err(|error| error.to_string())?;
            let link = |code| AppCode::link(kind, &code).map_err(|error| format!("{error:#}"));
            compile_once(engine, &wasm, CodeKind::of(kind, Reset::Replace), urgent, link)
                .map_err(|error| error.to_string())?
        });
        match compiled.await {
            Ok(code) => code.map_err(|error| failed(&error)),
            Err(error) => Err(failed(&error)),
        }
    }
}

/// Makes and resets the instances of one release.
pub struct Factory {
    /// Kept for as long as there may be an instance: their thread interrupts its guest.
    engines: Arc<Engines>,
    source: CodeSource,
    policy: Arc<InstancePolicy>,
    /// Mode `resident`: the instances that requests share.
    resident: Option<Arc<Resident>>,
    rewinds: Rewinds,
}

#[derive(Clone)]
enum CodeSource {
    Linked(Arc<LinkedCode>),
    Cold(ColdCode),
}

impl Factory {
    /// `engines`: those that the code was loaded into.
    pub fn new(engines: Arc<Engines>, code: Arc<LinkedCode>, policy: Arc<InstancePolicy>) -> Factory {
        Factory::of(engines, CodeSource::Linked(code), policy)
    }

    pub fn cold(engines: Arc<Engines>, code: ColdCode, policy: Arc<InstancePolicy>) -> Factory {
        Factory::of(engines, CodeSource::Cold(code), policy)
    }

    /// Another one that makes the same instances.
    pub fn twin(&self) -> Factory {
        Factory::of(self.engines.clone(), self.source.clone(), self.policy.clone())
    }

    /// The same, for requests that share its instances, which run on that runtime.
    pub fn resident(self, serving: Handle) -> Factory {
        let resident = Resident::new(self.twin(), serving);
        Factory { resident: Some(resident), ..self }
    }

    /// Instances at work that requests share; `None` if each has its own.
    pub fn resident_instances(&self) -> Option<usize> {
        self.resident.as_ref().map(|resident| resident.at_work())
    }

    pub(super) fn config(&self) -> &AppConfig {
        &self.policy.config
    }

    pub(super) fn app(&self) -> &str {
        &self.policy.app
    }

    /// Makes an instance.
    ///
    /// # Errors
    /// See [`MakeError`].
    pub(super) async fn instance(&self) -> Result<Instance, MakeError> {
        match &self.source {
            CodeSource::Linked(code) => {
                let code = code.get(&self.engines).await.map_err(|error| MakeError::Compile(error.into()))?;
                self.instantiate(&code).await
            }
            CodeSource::Cold(code) => self.instantiate(&code.compile(&self.engines).await?).await,
        }
    }

    /// The engines that its instances are in.
    pub fn engines(&self) -> &Arc<Engines> {
        &self.engines
    }

    /// Who is told when it [is outdated](Self::is_outdated) or [better replaced](Self::is_better_replaced).
    pub fn telling(mut self, moves: Arc<Notify>) -> Factory {
        self.rewinds.moves = moves;
        self
    }

    /// Its instances are rewound, and must not be any more: they have to be made again as others are.
    pub fn is_outdated(&self) -> bool {
        self.way_of_reset() == Reset::Rewind && !self.engines.may_rewind()
    }

    /// Its instances are rewound, and others would cost less: that is no reason to be without any.
    pub fn is_better_replaced(&self) -> bool {
        self.way_of_reset() == Reset::Rewind && self.rewinds.are_given_up()
    }

    /// How its instances are brought back.
    pub fn way_of_reset(&self) -> Reset {
        match &self.source {
            CodeSource::Linked(code) => code.reset(),
            CodeSource::Cold(_) => Reset::Replace,
        }
    }

    /// How its instances have been rewound, if they are.
    pub fn rewinds(&self) -> Option<RewindStatus> {
        (self.way_of_reset() == Reset::Rewind).then(|| self.rewinds.snapshot())
    }

    /// Is there code in memory to make instances of?
    pub fn has_code(&self) -> bool {
        match &self.source {
            CodeSource::Linked(code) => code.is_here(),
            CodeSource::Cold(_) => false,
        }
    }

    /// Makes the same instances in other engines, whose code `load` gets from what was linked here.
    ///
    /// # Errors
    /// The engines can't have the code.
    pub fn moved(
        &self,
        engines: &Arc<Engines>,
        load: impl FnOnce(&wasmtime::Engine, &Code) -> wasmtime::Result<Code>,
    ) -> wasmtime::Result<Factory> {
        let source = match &self.source {
            CodeSource::Cold(code) => CodeSource::Cold(code.clone()),
            CodeSource::Linked(code)
                if self.is_better_replaced() || code.reset() == Reset::Rewind && !engines.may_rewind() =>
            {
                CodeSource::Linked(code.replaced()?)
            }
            CodeSource::Linked(code) => CodeSource::Linked(code.moved(engines, load)?),
        };
        let moved = Factory::of(engines.clone(), source, self.policy.clone());
        Ok(match &self.resident {
            Some(resident) => moved.resident(resident.serving().clone()),
            None => moved,
        })
    }

    /// Puts an instance back, or makes another one in its place.
    ///
    /// # Errors
    /// See [`MakeError`].
    pub(super) async fn reset_instance(&self, used: Instance) -> Result<Instance, MakeError> {
        match self.reset_instance_at_once(used) {
            AtOnce::Done(reset) => Ok(reset),
            AtOnce::Later(used) => {
                drop(used);
                self.instance().await
            }
        }
    }

    /// The same if that is done by putting it back.
    pub(super) fn reset_instance_at_once(&self, mut used: Instance) -> AtOnce<Instance> {
        if used.can_be_put_back() && self.rewinds.put_back(&mut used, &self.engines) {
            AtOnce::Done(used)
        } else {
            AtOnce::Later(used)
        }
    }

    fn of(engines: Arc<Engines>, source: CodeSource, policy: Arc<InstancePolicy>) -> Factory {
        Factory { engines, source, policy, resident: None, rewinds: Rewinds::default() }
    }

    async fn instantiate(&self, code: &AppCode) -> Result<Instance, MakeError> {
        // Start functions are guest code: they have their own deadline.
        let instantiate = Box::pin(code.instantiate(&self.policy));
        match tokio::time::timeout(START_TIMEOUT, instantiate).await {
            Ok(Ok(instance)) => {
                if code.reset() == Reset::Rewind && !instance.can_be_put_back() {
                    self.rewinds.note_other_begin(&instance, &self.engines);
                }
                Ok(instance)
            }
            Ok(Err(error)) => Err(MakeError::Instantiate(format!("{error:#}").into())),
            Err(_) => Err(MakeError::TooSlow(START_TIMEOUT)),
        }
    }
}

impl pool::Manager for Factory {
    type Instance = Runner;
    type Error = MakeError;

    async fn make(&self) -> Result<Runner, MakeError> {
        match &self.resident {
            Some(resident) => resident.seat().await.map(Runner::Seat),
            None => self.instance().await.map(Runner::Instance),
        }
    }

    /// By `rewind` where the release has that and the instance can be put back. Else by `replace`: the used store goes,
    /// with all that the guest left in it, and a new one comes into the warm slots of the allocator. Nothing is erased, so
    /// nothing can be forgotten.
    async fn reset(&self, used: Runner) -> Result<Runner, MakeError> {
        #[cfg(debug_assertions)]
        if self.engines.reset_is_broken() {
            return Ok(used);
        }
        match used {
            Runner::Instance(instance) => self.reset_instance(instance).await.map(Runner::Instance),
            // Nothing is reset in its mode.
            seat @ Runner::Seat(_) => Ok(seat),
        }
    }

    fn is_soon_reset(&self, used: &Runner) -> bool {
        #[cfg(debug_assertions)]
        if self.engines.reset_is_broken() {
            return false;
        }
        match used {
            Runner::Instance(instance) => instance.is_soon_put_back(),
            Runner::Seat(_) => false,
        }
    }

    fn reset_at_once(&self, used: Runner) -> AtOnce<Runner> {
        match used {
            Runner::Instance(instance) => match self.reset_instance_at_once(instance) {
                AtOnce::Done(instance) => AtOnce::Done(Runner::Instance(instance)),
                AtOnce::Later(instance) => AtOnce::Later(Runner::Instance(instance)),
            },
            seat @ Runner::Seat(_) => AtOnce::Later(seat),
        }
    }

    /// Instances that are made anew or reset can't grow over their requests.
    fn is_worn(&self, runner: &mut Runner) -> bool {
        match runner {
            Runner::Instance(instance) if self.config().mode == Mode::Kept => instance.is_worn(),
            // Those that requests share are looked at where they run.
            Runner::Instance(_) | Runner::Seat(_) => false,
        }
    }

    fn rest(&self) {
        match &self.source {
            CodeSource::Linked(code) => code.leave(),
            CodeSource::Cold(_) => {}
        }
    }
}

/// What every component has of the host: WASI 0.2 and its HTTP.
pub(crate) fn component_linker<T: WasiView + WasiHttpView + 'static>(
    engine: &wasmtime::Engine,
) -> wasmtime::Result<Linker<T>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    add_io(&mut linker)?;
    Ok(linker)
}

/// Streams need the table of resources alone: so a guest that does nothing but answer never needs the rest of WASI's state.
fn add_io<T: WasiHttpView + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    struct Table;

    impl HasData for Table {
        type Data<'a> = &'a mut ResourceTable;
    }

    linker.allow_shadowing(true);
    error::add_to_linker::<T, Table>(linker, |state| state.http().table)?;
    poll::add_to_linker::<T, Table>(linker, |state| state.http().table)?;
    streams::add_to_linker::<T, Table>(linker, |state| state.http().table)?;
    linker.allow_shadowing(false);
    Ok(())
}

fn new_store(engine: &wasmtime::Engine, policy: &Arc<InstancePolicy>, abi: Abi) -> Store<HostState> {
    let mut store = Store::new(engine, HostState::new(policy, abi));
    store.limiter(|state| &mut state.limits);
    store.set_hostcall_fuel(HOSTCALL_FUEL);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|store| store.data().clock.interrupted());
    store
}

/// Bytes that one call of a guest may make the host allocate.
pub(crate) const HOSTCALL_FUEL: usize = 16 << 20;
