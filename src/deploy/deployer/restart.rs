//! An order to build an app's present files anew, and what came of it.
//!
//! The new release has a pool of its own, so whatever the old one's instances had come to is over: above all the pause
//! after failures. The old one serves until the new one is ready, as at any deploy.

use std::time::Duration;

use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use super::Deployer;
use crate::deploy::name::AppName;
use crate::deploy::plan::Anew;

/// How long an order may take, compiling and the app's first instances included.
const PATIENCE: Duration = Duration::from_secs(300);

/// Orders that wait to be taken.
const MOST_WAITING: usize = 16;

/// What an order has led to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Restarted {
    pub app: String,
    /// The number of the release that is live now.
    pub release: u64,
    /// That of the one before, which drains.
    pub replaced: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestartError {
    #[error("there is no such app")]
    Unknown,
    #[error("its files can't be taken for an app as they are, see the status")]
    Held,
    #[error("the apps folder can't be looked at just now; what is live stays so")]
    FolderLost,
    #[error("{problem}{}", if *.serves_on { "; the release before serves on" } else { "" })]
    Failed { problem: String, serves_on: bool },
    #[error("it is not ready after {} seconds, see the status for what will come of it", PATIENCE.as_secs())]
    TooLong,
    #[error("the host is stopping")]
    Stopping,
}

pub type Answer = Result<Restarted, RestartError>;

/// Gives orders (a cheap handle).
#[derive(Clone)]
pub struct Restarts(mpsc::Sender<Order>);

/// Where orders come in.
pub struct Orders(mpsc::Receiver<Order>);

struct Order {
    app: AppName,
    answer: oneshot::Sender<Answer>,
}

/// Who waits for what comes of an app.
pub(super) type Waiting = Vec<oneshot::Sender<Answer>>;

pub fn channel() -> (Restarts, Orders) {
    let (sender, receiver) = mpsc::channel(MOST_WAITING);
    (Restarts(sender), Orders(receiver))
}

impl Restarts {
    /// Has an app built anew and waits for what comes of it.
    ///
    /// Cancellation safety: an order that was taken is carried out all the same.
    pub async fn restart(&self, app: AppName) -> Answer {
        let (answer, answered) = oneshot::channel();
        let ordered = async {
            // Either fails only when the deployer has ended.
            let sent = self.0.send(Order { app, answer }).await;
            sent.map_err(|_| RestartError::Stopping)?;
            answered.await.unwrap_or(Err(RestartError::Stopping))
        };
        tokio::time::timeout(PATIENCE, ordered).await.unwrap_or(Err(RestartError::TooLong))
    }
}

impl Orders {
    /// Cancellation safety: no order is lost.
    pub(super) async fn next(&mut self) -> TakenOrder {
        match self.0.recv().await {
            Some(order) => TakenOrder(order),
            // Nobody is left to give any.
            None => std::future::pending().await,
        }
    }
}

pub(super) struct TakenOrder(Order);

impl Deployer {
    pub(super) fn take_order(&mut self, TakenOrder(Order { app, answer }): TakenOrder) {
        tracing::info!(app = app.as_str(), "restart: its present files are to be built anew");
        self.ordered.entry(app).or_default().push(answer);
        self.review_orders();
    }

    /// Has what was ordered built at the next occasion, and answers where there is nothing to build.
    pub(super) fn review_orders(&mut self) {
        let (planner, is_blind) = (&mut self.planner, self.is_blind);
        self.ordered.retain(|app, waiting| {
            let error = match planner.deploy_anew(app) {
                Anew::Due if is_blind => {
                    // Not when the folder comes back, which may be much later, either.
                    planner.not_anew(app);
                    RestartError::FolderLost
                }
                Anew::Due => return true,
                Anew::Unknown => RestartError::Unknown,
                Anew::Held => RestartError::Held,
            };
            answer(std::mem::take(waiting), &Err(error));
            false
        });
    }

    /// Those who wait for this app, from now on for what is under way.
    pub(super) fn orders_of(&mut self, app: &AppName) -> Waiting {
        self.ordered.remove(app).unwrap_or_default()
    }

    pub(super) fn failure(&self, app: &AppName, problem: String) -> RestartError {
        let view = self.registry.apps().into_iter().find(|view| *view.app == *app.as_str());
        RestartError::Failed { problem, serves_on: view.is_some_and(|view| view.live.is_some()) }
    }
}

pub(super) fn restarted(app: &AppName, release: u64, replaced: Option<u64>) -> Restarted {
    Restarted { app: app.to_string(), release, replaced }
}

pub(super) fn answer(waiting: Waiting, answer: &Answer) {
    for sender in waiting {
        // Who has left is not told.
        drop(sender.send(answer.clone()));
    }
}
