//! The exchange of one request with a leased instance: the guest runs, its response is taken while it runs.
//!
//! The guest is polled in the task of the client's connection, with nothing spawned, as long as it makes headway:
//! most answers are whole before it first waits. Only a response that is still being made when the guest waits, or
//! that is larger than `response_buffer`, is handed to a task of its own (the *pump*), which then owns the lease and
//! keeps the guest going at its own pace, not at the client's.
//!
//! The lease is held until the body has ended or is known to be broken: Wasmtime lets a body end as if it were whole
//! when its store is dropped, so a trap could not be told from an end.

mod failure;
mod pump;
mod taken;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{StatusCode, response};
use http_body::Body as _;
use http_body_util::{BodyExt, Full};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;
use wasmtime_wasi_http::WasiBody;

use super::clock::CpuClock;
use super::laned::Laned;
use super::measured::Measured;
use super::{Answer, Factory, GuestRequest};
use crate::config::AppConfig;
use crate::metrics::ReleaseCounters;
use crate::pool::{End, Lease};
use crate::server::body::{self, RequestError, ResponseBody, Upload};
pub use failure::Failure;
use taken::Taken;

/// For so long an answer is held back that was begun by a guest which has run without a break since.
const HELD: Duration = Duration::from_millis(20);

/// How an exchange ended that ended well.
pub enum Outcome {
    Response(http::Response<ResponseBody>),
    LocalRedirect(String),
}

/// Runs one request in the leased instance and ends the lease: cleanly if the guest did.
///
/// Cancellation safety: dropping this future, or the body it returned, drops the guest and discards the instance.
///
/// # Errors
/// See [`Failure`]: nothing has been sent to the client, and the instance was discarded.
pub async fn exchange(
    lease: Lease<Factory>,
    request: GuestRequest,
    config: &AppConfig,
    counters: &Arc<ReleaseCounters>,
    expired: &CancellationToken,
) -> Result<Outcome, Failure> {
    let mut exchange = Exchange::start(lease, request, config, counters.clone());
    let started = tokio::select! {
        biased;
        started = poll_fn(|cx| exchange.resting(cx, Exchange::poll_start)) => {
            started.map_err(|failure| exchange.blamed(failure))?
        }
        () = expired.cancelled() => return Err(Failure::Replaced(config.drain_timeout)),
    };
    let head = match started {
        Started::Whole(head) => return Ok(Outcome::Response(exchange.whole(head))),
        Started::Redirect(target) => return Ok(Outcome::LocalRedirect(target)),
        Started::Streaming(head) => head,
    };
    let (sender, receiver) = body::channel(config.response_buffer);
    let length = content_length(&head).filter(|_| !exchange.bodiless);
    exchange.declared = length;
    let expired = expired.clone();
    tokio::spawn(async move {
        tokio::select! {
            biased;
            () = exchange.pump(sender) => {}
            // The release was replaced long ago: the client sees a broken connection.
            () = expired.cancelled() => {}
        }
    });
    Ok(Outcome::Response(http::Response::from_parts(head, ResponseBody::stream(receiver, length))))
}

type Guest = Pin<Box<dyn Future<Output = (Lease<Factory>, wasmtime::Result<()>)> + Send>>;

struct Exchange {
    guest: GuestState,
    answer: Option<oneshot::Receiver<Answer>>,
    head: Option<response::Parts>,
    body: Body,
    /// What was taken from the guest of its body and not yet passed on.
    taken: Taken,
    trailers: Option<http::HeaderMap>,
    /// Bytes of the body in all, and how many there may be.
    total: u64,
    max_body: u64,
    /// Bytes that are taken ahead of the client.
    buffer: usize,
    /// Armed when the guest first waits: most never do.
    deadline: Option<Pin<Box<Sleep>>>,
    timeout: Duration,
    started: Instant,
    clock: Arc<CpuClock>,
    counters: Arc<ReleaseCounters>,
    upload: Option<Arc<Upload>>,
    request: u64,
    /// The request was for a head alone, or is answered by one: its length is that of a body that is not sent.
    bodiless: bool,
    /// Bytes that the client was told to expect.
    declared: Option<u64>,
    /// Why the body broke off, until what came before has been passed on.
    broken: Option<Failure>,
}

enum GuestState {
    Running(Laned<Guest>),
    /// The guest has returned. Its store is kept until its body is complete or known to be broken.
    Returned(Lease<Factory>),
    Failed(Option<wasmtime::Error>, Lease<Factory>),
    Ended,
}

impl GuestState {
    /// It runs in another thread: what it has given is looked at when it is back, all at once.
    fn is_away(&self) -> bool {
        matches!(self, GuestState::Running(guest) if guest.is_away())
    }
}

enum Body {
    Awaited,
    Open(WasiBody),
    Complete,
}

enum Started {
    Whole(response::Parts),
    Streaming(response::Parts),
    Redirect(String),
}

impl Exchange {
    fn start(
        mut lease: Lease<Factory>,
        request: GuestRequest,
        config: &AppConfig,
        counters: Arc<ReleaseCounters>,
    ) -> Exchange {
        let (sender, answer) = oneshot::channel();
        let clock = lease.clock();
        let turn = lease.take_turn();
        let (id, upload) = (request.id, request.upload.clone());
        let bodiless = request.parts.method == http::Method::HEAD;
        let guest: Guest = Box::pin(async move {
            let returned = lease.call(request, sender).await;
            (lease, returned)
        });
        Exchange {
            guest: GuestState::Running(Laned::new(Measured::new(guest, clock.clone(), turn))),
            answer: Some(answer),
            head: None,
            body: Body::Awaited,
            taken: Taken::default(),
            trailers: None,
            total: 0,
            max_body: config.max_response_body,
            buffer: config.response_buffer,
            deadline: None,
            timeout: config.request_timeout,
            started: Instant::now(),
            clock,
            counters,
            upload,
            request: id,
            bodiless,
            declared: None,
            broken: None,
        }
    }

    /// Runs the guest until its answer is whole, or until it waits with an answer begun.
    fn poll_start(&mut self, cx: &mut Context<'_>) -> Poll<Result<Started, Failure>> {
        loop {
            let mut headway = self.poll_guest(cx);
            if self.guest.is_away() && !self.poll_deadline(cx) {
                return Poll::Pending;
            }
            match self.poll_answer(cx) {
                Some(Answer::Response(response)) => {
                    let (head, body) = response.into_parts();
                    if head.status.is_informational() {
                        return Poll::Ready(Err(Failure::BadStatus(head.status.as_u16())));
                    }
                    self.bodiless |= matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
                    self.head = Some(head);
                    self.body = Body::Open(body);
                    headway = true;
                }
                Some(Answer::LocalRedirect(target)) => return Poll::Ready(Ok(Started::Redirect(target))),
                Some(Answer::Error(code)) => return Poll::Ready(Err(Failure::ErrorAnswer(code))),
                Some(Answer::Bad(bad)) => return Poll::Ready(Err(Failure::BadAnswer(bad))),
                None => {}
            }
            headway |= self.poll_body(cx)?;
            let ended = !matches!(self.guest, GuestState::Running(_));
            if ended && matches!(self.body, Body::Complete) {
                return Poll::Ready(self.whole_head().map(Started::Whole));
            }
            if headway && self.taken.bytes() < self.buffer {
                continue;
            }
            if ended && self.taken.bytes() < self.buffer {
                return if has_more_to_take(cx) { Poll::Pending } else { Poll::Ready(Err(self.failure())) };
            }
            if self.poll_deadline(cx) {
                return Poll::Ready(Err(Failure::Deadline(self.timeout)));
            }
            // A guest that was interrupted goes on at once: its answer may soon be whole, or come to nothing.
            let goes_on = !ended && self.clock.gave_way() && self.started.elapsed() < HELD;
            return match self.head.take_if(|_| !goes_on || self.taken.bytes() >= self.buffer) {
                Some(head) => Poll::Ready(Ok(Started::Streaming(head))),
                None => Poll::Pending,
            };
        }
    }

    /// The head of a response whose body is complete, if the two agree.
    fn whole_head(&mut self) -> Result<response::Parts, Failure> {
        let head = self.head.take().ok_or(Failure::NoAnswer)?;
        match content_length(&head) {
            Some(length) if length != self.total && !self.bodiless => Err(Failure::BrokenBody),
            _ => Ok(head),
        }
    }

    /// Polls, and lets others run if there is nothing to be done for this guest until it or the client does something.
    fn resting<T>(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut Self, &mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let polled = poll(self, cx);
        if let (Poll::Pending, GuestState::Running(guest)) = (&polled, &self.guest) {
            guest.rest();
        }
        polled
    }

    /// True if the guest returned just now.
    fn poll_guest(&mut self, cx: &mut Context<'_>) -> bool {
        let GuestState::Running(guest) = &mut self.guest else { return false };
        let Poll::Ready((lease, returned)) = Pin::new(guest).poll(cx) else { return false };
        self.guest = match returned {
            Ok(()) => GuestState::Returned(lease),
            Err(error) => GuestState::Failed(Some(error), lease),
        };
        true
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Option<Answer> {
        let Poll::Ready(answer) = Pin::new(self.answer.as_mut()?).poll(cx) else { return None };
        self.answer = None;
        // A sender that was dropped without an answer: the guest's end says what that means.
        answer.ok()
    }

    /// Takes frames from the guest's body while there is room; true if any came, or the end.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Result<bool, Failure> {
        let mut headway = false;
        while let (Body::Open(body), true) = (&mut self.body, self.taken.bytes() < self.buffer) {
            let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) else { break };
            headway = true;
            match frame {
                None => self.body = Body::Complete,
                // wasi:http would have as many bytes as are declared.
                Some(Err(_)) if self.bodiless && self.total == 0 => self.body = Body::Complete,
                Some(Err(_)) => return Err(self.failure()),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.take(data)?,
                    Err(other) => self.trailers = other.into_trailers().ok(),
                },
            }
        }
        Ok(headway)
    }

    fn take(&mut self, data: Bytes) -> Result<(), Failure> {
        self.total += data.len() as u64;
        if self.total > self.max_body {
            return Err(Failure::BodyTooLarge(self.max_body));
        }
        self.taken.push(data);
        Ok(())
    }

    /// Why a guest that has ended, or broken its body off, failed.
    fn failure(&mut self) -> Failure {
        match &mut self.guest {
            GuestState::Failed(error, _) => error.take().map_or(Failure::BrokenBody, Failure::of),
            _ if self.head.is_none() && matches!(self.body, Body::Awaited) => Failure::NoAnswer,
            _ => Failure::BrokenBody,
        }
    }

    /// True when the deadline has passed; else the task is woken when it does.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> bool {
        let at = self.started + self.timeout;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        deadline.as_mut().poll(cx).is_ready()
    }

    /// The response of a guest that has returned, of one piece, and the end of its lease.
    fn whole(mut self, head: response::Parts) -> http::Response<ResponseBody> {
        self.end();
        let body = match (self.taken.bytes(), self.trailers.take()) {
            (_, Some(trailers)) => {
                let whole = Full::new(self.taken.whole());
                let trailers = futures_util::future::ready(Some(Ok(trailers)));
                ResponseBody::boxed(whole.with_trailers(trailers), None)
            }
            (0, None) => ResponseBody::empty(),
            (_, None) => ResponseBody::fixed(self.taken.whole()),
        };
        http::Response::from_parts(head, body)
    }

    /// Ends the lease of a guest that has ended.
    fn end(&mut self) {
        self.account();
        match std::mem::replace(&mut self.guest, GuestState::Ended) {
            GuestState::Returned(lease) => lease.end(End::Clean),
            GuestState::Failed(error, lease) => {
                lease.end(End::Spoiled);
                if let Some(error) = error {
                    self.report(&self.blamed(Failure::of(error)));
                }
            }
            GuestState::Running(_) | GuestState::Ended => {}
        }
    }

    /// Counts the guest's time: before its lease ends, since the clock may then be another request's.
    fn account(&self) {
        if !matches!(self.guest, GuestState::Ended) {
            self.counters.app.add_cpu_time(self.clock.take());
        }
    }

    /// The failure as the one of whoever caused it: without its request's body a guest can't but fail. What it does to
    /// its limits is its own doing all the same.
    fn blamed(&self, failure: Failure) -> Failure {
        let Some(upload) = &self.upload else { return failure };
        let fault = match &failure {
            Failure::CpuTime(_) | Failure::BodyTooLarge(_) => None,
            Failure::Deadline(_) if upload.is_awaited() => Some(RequestError::TooSlow),
            _ => upload.take_fault(),
        };
        fault.map_or(failure, Failure::Upload)
    }

    fn report(&self, failure: &Failure) {
        self.counters.broken_off(failure);
        let (app, request_id) = (self.counters.app.app(), format!("{:016x}", self.request));
        if failure.is_the_clients() {
            tracing::debug!(%app, request_id, "{failure}");
        } else {
            tracing::warn!(%app, request_id, "{failure}");
        }
    }
}

/// Whether what a guest left behind may be there though a poll gave nothing: when Tokio's budget for the task is used
/// up, its channels are not looked at. A task that another one has just spawned may begin with hardly any. The task is
/// woken, to go on with a new budget.
fn has_more_to_take(cx: &mut Context<'_>) -> bool {
    let starved = !tokio::task::coop::has_budget_remaining();
    if starved {
        cx.waker().wake_by_ref();
    }
    starved
}

fn content_length(head: &response::Parts) -> Option<u64> {
    head.headers.get(http::header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.account();
    }
}
