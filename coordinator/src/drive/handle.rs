//! The way to the loop for everybody else.

use super::counters::Counters;
use super::journal::Journal;
use crate::run::detail::RunDetail;
use crate::schedule::{Event, Overview, Rejected};
use bloctrain_shared::history::HistoryLine;
use bloctrain_shared::task::Task;
use bloctrain_shared::view::{RunView, WorkerView};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// Why a request was not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DriverError {
    /// The event was refused.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// The coordinator stopped, and why.
    #[error("{0}")]
    Stopped(String),
}

/// What an event led to, as far as the sender wants to know.
#[derive(Debug, Default)]
pub struct Answer {
    /// A new worker's id.
    pub worker: Option<u64>,
    /// Epoch of the lease on what a new worker holds.
    pub adopted: Option<u64>,
    /// A task and its lease epoch.
    pub grant: Option<(Task, u64)>,
    /// Why there is no task, when that is the worker's own matter.
    pub why: Option<String>,
    /// Whether the worker is to come to an end with its task.
    pub hand_back: bool,
}

/// Where an answer goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, DriverError>>;

/// What is asked of the loop.
pub(super) enum Command {
    Event(Box<Event>, Reply<Answer>),
    Ask { worker: u64, wait: Duration, reply: Reply<Answer> },
    View { run: String, reply: Reply<Option<RunView>> },
    Detail { run: String, reply: Reply<Option<RunDetail>> },
    Views { after: String, most: usize, brief: bool, reply: Reply<Vec<RunView>> },
    History { run: String, reply: Reply<Option<Vec<HistoryLine>>> },
    Workers { reply: Reply<Vec<WorkerView>> },
    Overview { reply: Reply<Overview> },
    Close,
}

/// Access to a running driver. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) changes: watch::Receiver<u64>,
    pub(super) stopped: watch::Receiver<Option<String>>,
    pub(super) journal: Journal,
    pub(super) counters: Arc<Counters>,
}

impl Handle {
    async fn send<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, DriverError> {
        let (reply, answer) = oneshot::channel();
        if self.commands.send(command(reply)).await.is_err() {
            return Err(self.gone().await);
        }
        match answer.await {
            Ok(answer) => answer,
            Err(_) => Err(self.gone().await),
        }
    }

    /// Why there is no answer: the loop says why it ended after it let go of what was asked of it.
    async fn gone(&self) -> DriverError {
        let mut stopped = self.stopped.clone();
        let why = stopped.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
        DriverError::Stopped(why.unwrap_or_else(|| "the coordinator has stopped".into()))
    }

    /// Applies an event.
    ///
    /// # Errors
    /// When it is refused, or the coordinator has stopped.
    pub async fn apply(&self, event: Event) -> Result<Answer, DriverError> {
        self.send(|reply| Command::Event(Box::new(event), reply)).await
    }

    /// Asks for a task, waiting some time for one.
    ///
    /// # Errors
    /// When the worker is not known, or the coordinator has stopped.
    pub async fn ask(&self, worker: u64, wait: Duration) -> Result<Answer, DriverError> {
        self.send(|reply| Command::Ask { worker, wait, reply }).await
    }

    /// One run.
    ///
    /// # Errors
    /// When the coordinator has stopped.
    pub async fn view(&self, run: &str) -> Result<Option<RunView>, DriverError> {
        self.send(|reply| Command::View { run: run.to_owned(), reply }).await
    }

    /// What the view of one run leaves out.
    ///
    /// # Errors
    /// When the coordinator has stopped.
    pub async fn detail(&self, run: &str) -> Result<Option<RunDetail>, DriverError> {
        self.send(|reply| Command::Detail { run: run.to_owned(), reply }).await
    }

    /// Runs by id, after some id, at most so many.
    ///
    /// # Errors
    /// When the coordinator has stopped.
    pub async fn views(&self, after: &str, most: usize) -> Result<Vec<RunView>, DriverError> {
        self.send(|reply| Command::Views { after: after.to_owned(), most, brief: false, reply }).await
    }

    /// The same for lists: without the workers that get no tasks of a run.
    ///
    /// # Errors
    /// When the coordinator has stopped.
    pub async fn briefs(&self, after: &str, most: usize) -> Result<Vec<RunView>, DriverError> {
        self.send(|reply| Command::Views { after: after.to_owned(), most, brief: true, reply }).await
    }

    /// The course of a run's training, a line an epoch; `None` without the run.
    ///
    /// # Errors
    /// When the coordinator has stopped.
    pub async fn history(&self, run: &str) -> Result<Option<Vec<HistoryLine>>, DriverError> {
        self.send(|reply| Command::History { run: run.to_owned(), reply }).await
    }

    /// The workers of the fleet.
    ///
    /// # Errors
    /// When the coordinator has stopped.
    pub async fn workers(&self) -> Result<Vec<WorkerView>, DriverError> {
        self.send(|reply| Command::Workers { reply }).await
    }

    /// How the fleet stands, and how much work there is.
    ///
    /// # Errors
    /// When the coordinator has stopped.
    pub async fn overview(&self) -> Result<Overview, DriverError> {
        self.send(|reply| Command::Overview { reply }).await
    }

    /// Ends the driver in order: what is pending is written, later calls are refused.
    pub async fn close(&self) {
        // It may have ended already.
        let _ = self.commands.send(Command::Close).await;
    }

    /// The logs of all runs.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Counts since the start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// A counter that moves whenever some run changes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    /// Why the coordinator stopped by itself, once it has.
    pub fn stopped(&self) -> watch::Receiver<Option<String>> {
        self.stopped.clone()
    }
}
