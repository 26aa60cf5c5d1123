//! What a resident instance runs in: one task of the serving runtime, from its making to its end.
//!
//! A guest that is busy holds its store, and nothing else of the instance moves meanwhile, not even what is meant to end
//! a request. So the time of its requests is watched from outside.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{SetOnce, mpsc, oneshot};
use tokio::time::Instant;
use wasmtime::component::Accessor;
use wasmtime_wasi_http::p3::bindings::Service;

use super::begun::begin;
use super::roster::{Id, Overdue};
use super::{Cause, Ended, Job, Resident};
use crate::instance::call::{Answer, Ending, Sender, answer_http03, request_http03};
use crate::instance::limits::name_limit;
use crate::instance::state::HostState;
use crate::instance::{Entry, Instance};

/// Runs an instance until it is retired and its requests have ended, or until it fails.
pub(super) async fn run(
    resident: Arc<Resident>,
    id: Id,
    mut instance: Instance,
    jobs: mpsc::UnboundedReceiver<Job>,
    ended: Arc<SetOnce<Ended>>,
) {
    let (keeps_store, mut kept) = mpsc::channel(1);
    let timeout = resident.factory.config().request_timeout;
    let mut end = End { resident, id, ended, keeps_store: Some(keeps_store), cause: Cause::Lost };
    end.cause = serve_until_end(&end.resident, id, &mut instance, jobs).await;
    drop(end);
    // An answer whose store is gone looks as if it had ended well: first all who had a place have to know better.
    let _ = tokio::time::timeout(timeout, kept.recv()).await;
}

/// Tells everybody, in whatever way the task ends.
struct End {
    resident: Arc<Resident>,
    id: Id,
    ended: Arc<SetOnce<Ended>>,
    keeps_store: Option<mpsc::Sender<Infallible>>,
    cause: Cause,
}

impl Drop for End {
    fn drop(&mut self) {
        if !matches!(self.cause, Cause::Retired) {
            tracing::warn!(app = %self.resident.factory.app(), "a resident instance ended: {}", self.cause);
        }
        let ended = Ended { cause: self.cause.clone(), keeps_store: self.keeps_store.take() };
        // It is set nowhere else.
        drop(self.ended.set(ended));
        self.resident.gone(self.id);
    }
}

async fn serve_until_end(
    resident: &Arc<Resident>,
    id: Id,
    instance: &mut Instance,
    jobs: mpsc::UnboundedReceiver<Job>,
) -> Cause {
    let clock = instance.clock();
    let Instance { store, entry, policy, .. } = instance;
    let Entry::Http03(service) = entry else { return Cause::Trapped("it takes one request at once".into()) };
    store.set_epoch_deadline(1);
    let mut serving =
        pin!(store.run_concurrent(async move |accessor| serve(accessor, service, jobs, resident).await));
    let mut timer = pin!(tokio::time::sleep(Duration::ZERO));
    poll_fn(|cx| {
        clock.enter();
        let polled = serving.as_mut().poll(cx);
        clock.leave();
        // What counts for `cpu_time` is how long it is busy without a pause.
        if polled.is_ready() || !clock.gave_way() {
            policy.counters.add_cpu_time(clock.take());
        }
        match polled {
            Poll::Ready(Ok(Ok(()))) => return Poll::Ready(Cause::Retired),
            Poll::Ready(Ok(Err(error)) | Err(error)) => {
                return Poll::Ready(Cause::of(&name_limit(error, &policy.config)));
            }
            Poll::Pending => {}
        }
        loop {
            let at = match resident.overdue(id) {
                Overdue::Never => return Poll::Pending,
                Overdue::All => return Poll::Ready(Cause::Overdue(policy.config.request_timeout)),
                Overdue::At(at) => Instant::from_std(at),
            };
            if timer.deadline() != at {
                timer.as_mut().reset(at);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    })
    .await
}

/// Takes requests until there are no more to come, and works on them all at once.
async fn serve(
    accessor: &Accessor<HostState>,
    service: &Service,
    mut jobs: mpsc::UnboundedReceiver<Job>,
    resident: &Arc<Resident>,
) -> wasmtime::Result<()> {
    let mut under_way = FuturesUnordered::new();
    let mut is_retired = false;
    while !is_retired || !under_way.is_empty() {
        tokio::select! {
            biased;
            Some(ended) = under_way.next(), if !under_way.is_empty() => ended?,
            job = jobs.recv(), if !is_retired => match job {
                Some(job) => under_way.push(work(accessor, service, job, resident, under_way.len())),
                None => is_retired = true,
            },
        }
    }
    // What the guest does beside requests has as long as one of them.
    let at_rest = poll_fn(|cx| accessor.poll_no_interesting_tasks(cx));
    let _ = tokio::time::timeout(resident.factory.config().request_timeout, at_rest).await;
    Ok(())
}

/// One request, until its answer's body has ended. `others`: requests that came before it and are still worked on.
async fn work(
    accessor: &Accessor<HostState>,
    service: &Service,
    job: Job,
    resident: &Arc<Resident>,
    others: usize,
) -> wasmtime::Result<()> {
    let Job { place, request, answer, done } = job;
    let request = accessor.with(|mut store| {
        let state = store.get();
        // Nobody can tell whose lines they are.
        state.log.begin(0);
        request_http03(state, request)
    });
    let worked = match request {
        Ok(request) => {
            give(answer_http03(accessor, service, request).await?, answer, others).await;
            Ok(())
        }
        Err(error) => Err(error),
    };
    let is_worn = accessor.with(|mut store| store.get().is_worn(resident.factory.config()));
    resident.ended(place, is_worn);
    let _ = done.send(worked);
    Ok(())
}

/// Gives an answer to its request, and waits until its body is through.
async fn give(answered: Answer, to: Sender, others: usize) {
    let response = match answered {
        Answer::Response(response) => response,
        other => return drop(to.send(other)),
    };
    let (head, body) = response.into_parts();
    let (begun, is_whole) = begin(body, others).await;
    let (ending, body_ended) = oneshot::channel();
    let body = begun.body(|rest| Ending::of(rest, ending));
    let _ = to.send(Answer::Response(http::Response::from_parts(head, body)));
    if !is_whole {
        let _ = body_ended.await;
    }
}
