//! An instance: a Wasmtime store, the instantiated app in it, and its host state; the unit of pooling.
//!
//! In reading order: [`factory`] makes instances of the code in [`linked`] and resets them, [`rewound`] puts those back in
//! place that can be, [`call`] runs one request's guest code in an instance, [`resident`] runs many in one, [`exchange`]
//! drives that call and takes its response while it runs. [`state`], [`limits`], [`clock`]
//! and [`output`] are what an instance's store holds; [`cgi`] and [`outbound`] are the two protocols that
//! Wasmtime's WASI crates don't bring.

mod call;
mod clock;
mod exchange;
mod factory;
mod laned;
pub(crate) mod limits;
mod linked;
mod measured;
mod output;
mod pipe;
mod resident;
mod rewound;
mod state;

#[doc(hidden)]
pub mod bench;
pub mod cgi;
pub mod outbound;

pub use call::{Answer, Client, GuestBody, GuestRequest};
pub use clock::CpuTimeExceeded;
pub use exchange::{Failure, Outcome, exchange};
pub use factory::{AppCode, ColdCode, Factory, MakeError};
pub(crate) use factory::{HOSTCALL_FUEL, component_linker};
pub use linked::{LinkedCode, Shelf};
pub use resident::Seat;
pub use rewound::RewindStatus;
pub use state::{Figures, InstancePolicy};

use std::sync::Arc;

use wasmtime::Store;
use wasmtime_wasi::p2::bindings::Command;
use wasmtime_wasi_http::{p2, p3};

use crate::metrics::AppCounters;
use rewound::Rewound;
use state::{Abi, HostState};

/// A live instance of an app.
pub struct Instance {
    // Fields are dropped in this order: the time between the first one's drop and the last one's is the others'.
    _drop_begins: DropBegins,
    store: Store<HostState>,
    entry: Entry,
    /// None if it is replaced after a request, or could not be put back.
    rewound: Option<Box<Rewound>>,
    policy: Arc<InstancePolicy>,
    _drop_ends: DropEnds,
}

/// What a request leases: an instance of its own, or a seat at those that many requests share.
pub enum Runner {
    Instance(Instance),
    Seat(Seat),
}

/// Dropping a store takes as long as a small request, so it is counted as the app's upkeep.
struct DropBegins(Arc<clock::CpuClock>);

struct DropEnds(Arc<clock::CpuClock>, Arc<AppCounters>);

/// How the guest is entered, for each kind of app.
enum Entry {
    Http02(p2::bindings::Proxy),
    Http03(p3::bindings::Service),
    CommandModule(wasmtime::TypedFunc<(), ()>),
    CommandComponent(Command),
}

impl Instance {
    fn new(
        store: Store<HostState>,
        (entry, rewound): (Entry, Option<Box<Rewound>>),
        policy: Arc<InstancePolicy>,
    ) -> Instance {
        let clock = store.data().clock.clone();
        let drop_ends = DropEnds(clock.clone(), policy.counters.clone());
        Instance { _drop_begins: DropBegins(clock), store, entry, rewound, policy, _drop_ends: drop_ends }
    }

    fn is_worn(&mut self) -> bool {
        self.store.data_mut().is_worn(&self.policy.config)
    }

    fn clock(&self) -> Arc<clock::CpuClock> {
        self.store.data().clock.clone()
    }

    fn abi(&self) -> Abi {
        match self.entry {
            Entry::CommandModule(_) => Abi::Module,
            _ => Abi::Component,
        }
    }
}

impl Runner {
    /// What the guest has of the host now; nothing of instances that are shared.
    pub fn figures(&mut self) -> Figures {
        match self {
            Runner::Instance(instance) => instance.store.data_mut().figures(),
            Runner::Seat(_) => Figures::default(),
        }
    }

    async fn call(&mut self, request: GuestRequest, answer: call::Sender) -> wasmtime::Result<()> {
        match self {
            Runner::Instance(instance) => instance.call(request, answer).await,
            Runner::Seat(seat) => seat.call(request, answer).await,
        }
    }

    fn clock(&self) -> Arc<clock::CpuClock> {
        match self {
            Runner::Instance(instance) => instance.clock(),
            Runner::Seat(seat) => seat.clock(),
        }
    }
}

impl Drop for DropBegins {
    fn drop(&mut self) {
        self.0.enter();
    }
}

impl Drop for DropEnds {
    fn drop(&mut self) {
        self.1.add_upkeep(self.0.inside());
    }
}
