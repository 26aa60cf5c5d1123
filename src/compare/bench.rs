//! The seam for the load benches, which start servers and ask them as a comparison does.

pub use super::cores::{Cores, Split};
pub use super::http::{Asked, Event, Framer};
pub use super::load::{Ask, Counts, Expected, Load, Outcome, Pace, histogram};
pub use super::machine::describe as machine;
pub use super::native::{Answer, write as write_answers};
pub use super::process::{Launch, ProcessError, Server};
pub use super::table::Table;
pub use super::usage::CpuReading;
