//! Orders to the deployer, and what came of them.
//!
//! - *restart*: the app's present files are built anew, or what it was rolled back to. The new release has a pool of its
//!   own, so whatever the old one's instances had come to is over: above all the pause after failures.
//! - *roll back*: a release that is kept goes live again, see `rollback`.
//! - *deployed*: nothing is ordered but to look now: who has just put a file in place waits for what comes of it.
//!
//! The release before serves until the new one is ready, as at any deploy.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::Deployer;
use super::rollback::Rollback;
use crate::deploy::name::AppName;
use crate::deploy::plan::{Anew, Outcome};
use crate::deploy::read::Digests;
use crate::deploy::store::record::NoTarget;

/// How long an order may take, compiling and the app's first instances included.
const PATIENCE: Duration = Duration::from_secs(300);

/// Orders that wait to be taken.
const MOST_WAITING: usize = 16;

/// What is ordered of an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Restart,
    /// To this release, or else to the one before the live one.
    RollBack(Option<u64>),
    /// To say what comes of these bytes, which are in its files now.
    Deployed(Digests),
}

/// What an order has led to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obeyed {
    pub app: String,
    /// The number of the release that is live now.
    pub release: u64,
    /// That of the one before, which drains.
    pub replaced: Option<u64>,
    pub url: String,
    /// It was so before: nothing has changed.
    pub already: bool,
    /// How long it is on probation from now on, in milliseconds.
    pub probation: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    #[error("there is no such app")]
    Unknown,
    #[error("its files can't be taken for an app as they are, see the status")]
    Held,
    #[error("the apps folder can't be looked at just now; what is live stays so")]
    FolderLost,
    #[error("{problem}{}", if *.serves_on { "; the release before serves on" } else { "" })]
    Failed { problem: String, serves_on: bool },
    #[error(
        "its files were changed again meanwhile, so these bytes are not live; what is there now is deployed instead"
    )]
    Overtaken,
    #[error("its file has gone again, so it is not live")]
    Gone,
    #[error(
        "the app was rolled back from these very bytes ({why}) and stays so until its file has others; \
         `hostler rollback` with the number of the release makes them live all the same"
    )]
    RolledBack { why: String },
    #[error("{0}")]
    NoTarget(#[from] NoTarget),
    #[error(
        "no releases are kept, see the log of the host: name a folder for them with state_dir under [apps]"
    )]
    NoStore,
    #[error(
        "another release has gone live meanwhile, so it is not rolled back: look at the releases and order it again"
    )]
    Changed,
    #[error("another rollback of it, to release {0}, is under way")]
    Busy(u64),
    #[error("it is not ready after {} seconds, see the status for what will come of it", PATIENCE.as_secs())]
    TooLong,
    #[error("the host is stopping")]
    Stopping,
}

pub type Answer = Result<Obeyed, OrderError>;

/// Gives orders (a cheap handle).
#[derive(Clone)]
pub struct Orders(mpsc::Sender<Given>);

/// Where orders come in.
pub struct Incoming(mpsc::Receiver<Given>);

pub(super) struct Given {
    app: AppName,
    order: Order,
    answer: Sender,
}

pub(super) type Sender = oneshot::Sender<Answer>;

/// Who waits for what comes of an app.
pub(super) type Waiting = Vec<Sender>;

/// Who waits for what comes of these bytes.
pub(super) struct Awaited {
    digests: Digests,
    /// What was read at that look or later was read after the order.
    since: u64,
    answer: Sender,
}

pub fn channel() -> (Orders, Incoming) {
    let (sender, receiver) = mpsc::channel(MOST_WAITING);
    (Orders(sender), Incoming(receiver))
}

impl Orders {
    /// Gives an order and waits for what comes of it.
    ///
    /// Cancellation safety: an order that was taken is carried out all the same.
    pub async fn give(&self, app: AppName, order: Order) -> Answer {
        let (answer, answered) = oneshot::channel();
        let ordered = async {
            // Either fails only when the deployer has ended.
            let sent = self.0.send(Given { app, order, answer }).await;
            sent.map_err(|_| OrderError::Stopping)?;
            answered.await.unwrap_or(Err(OrderError::Stopping))
        };
        tokio::time::timeout(PATIENCE, ordered).await.unwrap_or(Err(OrderError::TooLong))
    }
}

impl Incoming {
    /// Cancellation safety: no order is lost.
    pub(super) async fn next(&mut self) -> Given {
        match self.0.recv().await {
            Some(given) => given,
            // Nobody is left to give any.
            None => std::future::pending().await,
        }
    }
}

impl Deployer {
    pub(super) async fn take_order(&mut self, Given { app, order, answer }: Given) {
        match order {
            Order::Restart => {
                tracing::info!(
                    app = app.as_str(),
                    "restart: its present files, or what it was rolled back to, are to be built anew"
                );
                self.ordered.entry(app).or_default().push(answer);
                self.review_orders();
            }
            Order::RollBack(to) => self.order_rollback(app, to, answer),
            Order::Deployed(digests) => {
                let since = self.looks;
                // Known or not: the look tells.
                self.planner.look_again(&app);
                self.awaited.entry(app).or_default().push(Awaited { digests, since, answer });
                self.look().await;
            }
        }
    }

    /// Has what was ordered built at the next occasion, and answers where there is nothing to build.
    pub(super) fn review_orders(&mut self) {
        let (planner, is_blind) = (&mut self.planner, self.is_blind);
        self.ordered.retain(|app, waiting| {
            let error = match planner.deploy_anew(app) {
                Anew::Due if is_blind => {
                    // Not when the folder comes back, which may be much later, either.
                    planner.not_anew(app);
                    OrderError::FolderLost
                }
                Anew::Due => return true,
                Anew::Unknown => OrderError::Unknown,
                Anew::Held => OrderError::Held,
            };
            answer(std::mem::take(waiting), &Err(error));
            false
        });
        self.awaited.retain(|app, awaited| {
            let error = match planner.presence(app) {
                _ if is_blind => OrderError::FolderLost,
                Anew::Due => return true,
                Anew::Unknown => OrderError::Gone,
                Anew::Held => OrderError::Held,
            };
            answer(awaited.drain(..).map(|awaited| awaited.answer).collect(), &Err(error));
            false
        });
    }

    /// Those who wait for this app, from now on for what is under way.
    pub(super) fn orders_of(&mut self, app: &AppName) -> Waiting {
        self.ordered.remove(app).unwrap_or_default()
    }

    /// What came of these bytes, for those who have put them in place.
    pub(super) fn tell(&mut self, app: &AppName, digests: Digests, came: &Answer) {
        self.tell_if(app, came, |awaited| awaited.digests.are_of_code(digests));
    }

    /// An app's files could not be read.
    pub(super) fn tell_all(&mut self, app: &AppName, came: &Answer) {
        self.tell_if(app, came, |_| true);
    }

    /// An app's files were read, at that look, and there is nothing to deploy in what they have.
    pub(super) fn tell_of_known(&mut self, app: &AppName, digests: Digests) {
        let live = self.live(app);
        let came = match (self.planner.outcome(app), live) {
            (Some(Outcome::Deployed(_)), Some(live)) => Ok(self.obeyed(app, &live, None, true)),
            (Some(Outcome::Held(_)), _) => Err(OrderError::RolledBack { why: self.why_held(app) }),
            (Some(Outcome::Failed(_, reason)), _) => Err(self.failure(app, reason.clone())),
            (Some(Outcome::Incomplete(_)), _) => Err(self.failure(app, "it is not whole".to_owned())),
            _ => return,
        };
        self.tell(app, digests, &came);
    }

    /// An app's files were read, at that look, and had these bytes: whoever waits for others has been overtaken.
    pub(super) fn tell_overtaken(&mut self, app: &AppName, digests: Digests, look: u64) {
        let overtaken = |awaited: &Awaited| !awaited.digests.are_of_code(digests) && look >= awaited.since;
        self.tell_if(app, &Err(OrderError::Overtaken), overtaken);
    }

    fn tell_if(&mut self, app: &AppName, came: &Answer, which: impl Fn(&Awaited) -> bool) {
        let Some(awaited) = self.awaited.get_mut(app) else { return };
        let (told, waiting): (Vec<_>, Vec<_>) = awaited.drain(..).partition(which);
        *awaited = waiting;
        if awaited.is_empty() {
            self.awaited.remove(app);
        }
        answer(told.into_iter().map(|awaited| awaited.answer).collect(), came);
    }

    pub(super) fn failure(&self, app: &AppName, problem: String) -> OrderError {
        OrderError::Failed { problem, serves_on: self.live(app).is_some() }
    }

    fn order_rollback(&mut self, app: AppName, to: Option<u64>, sender: Sender) {
        match self.rollback_to(&app, to) {
            Ok(rollback) => self.roll_back(app, rollback, Some(sender)),
            Err(error) => answer(vec![sender], &Err(error)),
        }
    }

    fn rollback_to(&self, app: &AppName, to: Option<u64>) -> Result<Rollback, OrderError> {
        let store = self.builder.store.as_ref().ok_or(OrderError::NoStore)?;
        let Some(live) = self.live(app) else { return Err(OrderError::Unknown) };
        let record = store.record(app.as_str()).ok_or(NoTarget::NoneBefore)?;
        let to = record.target(to)?.number;
        Ok(Rollback { from: live.number, to, why: "by order".to_owned(), waiting: Vec::new() })
    }
}

pub(super) fn answer(waiting: Waiting, answer: &Answer) {
    for sender in waiting {
        // Who has left is not told.
        drop(sender.send(answer.clone()));
    }
}
