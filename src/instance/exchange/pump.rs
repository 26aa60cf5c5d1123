//! The pump: a task of its own for a response that is still being made when its guest waits.

use std::future::poll_fn;
use std::task::{Context, Poll};

use super::taken::PIECE;
use super::{Body, Exchange, Failure, GuestState, has_more_to_take};
use crate::server::body;

impl Exchange {
    /// Passes the body on while it is made, until the guest has returned.
    pub(super) async fn pump(mut self, mut sender: body::Sender) {
        match self.pump_body(&mut sender).await {
            Ok(Pumped::Complete) => sender.finish(self.trailers.take()),
            Ok(Pumped::ClientGone) => {
                self.counters.app.client_gone();
                return;
            }
            Err(failure) => {
                let failure = self.blamed(failure);
                self.report(&failure);
                // The client sees a broken connection or stream, never an end.
                sender.abort(failure);
                return;
            }
        }
        // Work after the response: until the same deadline.
        let returned = poll_fn(|cx| self.resting(cx, Self::poll_end));
        if !returned.await {
            self.report(&self.blamed(Failure::Deadline(self.timeout)));
        }
        self.end();
    }

    /// True if the guest has returned, false if its deadline has passed.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        self.poll_guest(cx);
        let runs = matches!(self.guest, GuestState::Running(_));
        if runs && !self.poll_deadline(cx) { Poll::Pending } else { Poll::Ready(!runs) }
    }

    async fn pump_body(&mut self, sender: &mut body::Sender) -> Result<Pumped, Failure> {
        loop {
            while let Some(chunk) = self.taken.pop() {
                let deadline = self.started + self.timeout;
                if let GuestState::Running(guest) = &self.guest {
                    // A slow client must not keep another request from running.
                    guest.set_aside();
                }
                match tokio::time::timeout_at(deadline, sender.send(chunk)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return Ok(Pumped::ClientGone),
                    // The guest has not run meanwhile: it was the client's time.
                    Err(_) => return Err(Failure::SlowClient(self.timeout)),
                }
            }
            if matches!(self.body, Body::Complete) {
                return Ok(Pumped::Complete);
            }
            tokio::select! {
                biased;
                more = poll_fn(|cx| self.resting(cx, Self::poll_more)) => more?,
                // Who has all that was declared wants no more, and is not told the end that the guest is yet to make.
                () = sender.closed(), if !self.is_all_passed_on() => return Ok(Pumped::ClientGone),
            }
        }
    }

    fn is_all_passed_on(&self) -> bool {
        self.declared.is_some_and(|declared| self.total == declared && self.taken.bytes() == 0)
    }

    /// Runs the guest until there is a good piece more of its body, or all there is before it waits, or its end.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        if let Some(failure) = self.broken.take() {
            return Poll::Ready(Err(failure));
        }
        loop {
            self.poll_guest(cx);
            if self.guest.is_away() {
                return match self.poll_deadline(cx) {
                    true => Poll::Ready(Err(Failure::Deadline(self.timeout))),
                    false => Poll::Pending,
                };
            }
            match self.poll_body(cx) {
                Ok(true) if matches!(self.body, Body::Complete) => return Poll::Ready(Ok(())),
                Ok(true) if self.taken.bytes() < PIECE => continue,
                Ok(_) => {}
                Err(failure) => self.broken = Some(failure),
            }
            if self.taken.bytes() > 0 {
                return Poll::Ready(Ok(()));
            }
            if let Some(failure) = self.broken.take() {
                return Poll::Ready(Err(failure));
            }
            if !matches!(self.guest, GuestState::Running(_)) {
                if has_more_to_take(cx) {
                    return Poll::Pending;
                }
                return Poll::Ready(Err(self.failure()));
            }
            if self.poll_deadline(cx) {
                return Poll::Ready(Err(Failure::Deadline(self.timeout)));
            }
            return Poll::Pending;
        }
    }
}

enum Pumped {
    Complete,
    ClientGone,
}
