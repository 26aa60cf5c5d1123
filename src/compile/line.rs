//! A line of those who wait for one of a few places, in the order of [`Queue`].

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::queue::{Asked, Queue, Standing, Ticket};

pub struct Line(Mutex<State>);

struct State {
    queue: Queue,
    /// As many as wait: who calls them in.
    calls: HashMap<Ticket, oneshot::Sender<()>>,
    is_closed: bool,
}

/// A place, or the wait for one. Dropping it leaves both.
pub struct Place {
    line: Arc<Line>,
    ticket: Ticket,
}

/// No place is given any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the host is stopping")]
pub struct Closed;

impl Line {
    pub fn new(places: usize) -> Arc<Line> {
        let (queue, calls) = (Queue::new(places), HashMap::new());
        Arc::new(Line(Mutex::new(State { queue, calls, is_closed: false })))
    }

    /// Waits for a place.
    ///
    /// Cancellation safety: who stops waiting leaves the line.
    pub async fn place(self: &Arc<Line>, standing: Standing, asked: Asked) -> Result<Place, Closed> {
        let (call, called) = oneshot::channel();
        let place = {
            let mut state = self.0.lock();
            if state.is_closed {
                return Err(Closed);
            }
            let ticket = state.queue.join(standing, asked);
            state.calls.insert(ticket, call);
            state.call_in();
            Place { line: self.clone(), ticket }
        };
        called.await.map_err(|_| Closed)?;
        Ok(place)
    }

    /// Sends all home who wait, and who comes from now on. Who has a place keeps it.
    pub fn close(&self) {
        let mut state = self.0.lock();
        state.is_closed = true;
        state.calls.clear();
    }

    pub fn waiting(&self) -> usize {
        self.0.lock().queue.waiting()
    }
}

impl State {
    fn call_in(&mut self) {
        while let Some(ticket) = self.queue.admit() {
            // One that has just stopped waiting is about to leave, which calls in the next.
            if let Some(call) = self.calls.remove(&ticket) {
                let _ = call.send(());
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.line.0.lock();
        state.queue.leave(self.ticket);
        state.calls.remove(&self.ticket);
        state.call_in();
    }
}

#[cfg(test)]
mod tests;
