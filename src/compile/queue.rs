//! Who is next for one of a few places: pure, without a clock, a lock or a task.
//!
//! ```text
//! join ──> waiting ──admit──> placed ──leave──> (gone)
//!             └───────────────leave──────────────^
//! ```
//!
//! Apps that were live before come first, then those that a request has asked for, then those that are to have instances
//! ready, then the rest; within each of the four, who came first. Whether an app was asked for is looked at when a place is
//! free, so a request moves its app to the front however long that waits already.
//!
//! There is one place more than there are, for what was live before alone: what is new may have all others for minutes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Whether a request has come for an app that is not live yet. Clones share the mark, which is never taken back.
#[derive(Debug, Clone, Default)]
pub struct Asked(Arc<AtomicBool>);

/// What is known of an app whatever its requests are; the first come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It was live before, and is to be again in place of what is worse, or for who waits for it.
    Back,
    /// It is to have instances before its first request.
    Ready,
    Other,
}

/// A number of who waits or has a place: later ones are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(u64);

#[derive(Debug)]
pub struct Queue {
    places: usize,
    placed: Vec<Ticket>,
    /// In the order of their coming.
    waiting: Vec<Waiting>,
    next: u64,
}

#[derive(Debug)]
struct Waiting {
    ticket: Ticket,
    standing: Standing,
    asked: Asked,
}

impl Asked {
    pub fn note(&self) {
        self.0.store(true, Relaxed);
    }

    /// Whether both are the same mark.
    pub fn is(&self, other: &Asked) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub fn is_noted(&self) -> bool {
        self.0.load(Relaxed)
    }
}

impl Queue {
    pub fn new(places: usize) -> Queue {
        Queue { places, placed: Vec::new(), waiting: Vec::new(), next: 0 }
    }

    pub fn join(&mut self, standing: Standing, asked: Asked) -> Ticket {
        let ticket = Ticket(self.next);
        self.next += 1;
        self.waiting.push(Waiting { ticket, standing, asked });
        ticket
    }

    /// Gives a free place to who is next, if there is one and somebody waits.
    pub fn admit(&mut self) -> Option<Ticket> {
        let rank = |waiting: &Waiting| {
            let is_new = waiting.standing != Standing::Back;
            (is_new, !waiting.asked.is_noted(), waiting.standing, waiting.ticket)
        };
        let (at, first) = self.waiting.iter().enumerate().min_by_key(|(_, waiting)| rank(waiting))?;
        let places = if first.standing == Standing::Back { self.places + 1 } else { self.places };
        if self.placed.len() >= places {
            return None;
        }
        let ticket = self.waiting.remove(at).ticket;
        self.placed.push(ticket);
        Some(ticket)
    }

    /// Who waited waits no more, and who had a place leaves it free.
    pub fn leave(&mut self, ticket: Ticket) {
        self.placed.retain(|placed| *placed != ticket);
        self.waiting.retain(|waiting| waiting.ticket != ticket);
    }

    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests;
