//! The one loop around the state machine: receive, apply, persist, perform, reply.

use crate::environment::Rules;
use crate::journal::{Counters, Journal};
use crate::run::{Effect, Event, Rejected, State};
use crate::store::{Log, StateError};
use bloctrain_shared::task::Task;
use bloctrain_shared::view::{RunView, WorkerView};
use bloctrain_store::Artefacts;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;

/// The time in Unix milliseconds, given by whoever builds the coordinator.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Pause between looks at leases.
const TICK: Duration = Duration::from_millis(250);

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

type Reply<T> = oneshot::Sender<Result<T, DriverError>>;

enum Command {
    Event(Box<Event>, Reply<Answer>),
    Ask { worker: u64, wait: Duration, reply: Reply<Answer> },
    View { run: String, reply: Reply<Option<RunView>> },
    Views { reply: Reply<Vec<RunView>> },
    Workers { reply: Reply<Vec<WorkerView>> },
    Close,
}

/// Access to a running driver. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    changes: watch::Receiver<u64>,
    stopped: watch::Receiver<Option<String>>,
    journal: Journal,
    counters: Arc<Counters>,
}

impl Handle {
    async fn send<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, DriverError> {
        let (reply, answer) = oneshot::channel();
        let gone = || DriverError::Stopped(self.stopped.borrow().clone().unwrap_or_else(|| "the coordinator has stopped".into()));
        self.commands.send(command(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
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

    /// All runs.
    ///
    /// # Errors
    /// When the coordinator has stopped.
    pub async fn views(&self) -> Result<Vec<RunView>, DriverError> {
        self.send(|reply| Command::Views { reply }).await
    }

    /// The workers of the fleet.
    ///
    /// # Errors
    /// When the coordinator has stopped.
    pub async fn workers(&self) -> Result<Vec<WorkerView>, DriverError> {
        self.send(|reply| Command::Workers { reply }).await
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

struct Waiting {
    worker: u64,
    until: tokio::time::Instant,
    why: Option<String>,
    reply: Reply<Answer>,
}

struct Driver {
    state: State,
    rules: Rules,
    log: Log,
    artefacts: Artefacts,
    clock: Clock,
    waiting: Vec<Waiting>,
    changes: watch::Sender<u64>,
    /// Whether something changed that may give a waiting worker a task.
    changed: bool,
    journal: Journal,
    counters: Arc<Counters>,
}

/// Makes the loop; it ends when every handle is gone or the state cannot be kept.
pub fn start(
    state: State,
    rules: Rules,
    log: Log,
    artefacts: Artefacts,
    clock: Clock,
    counters: Arc<Counters>,
) -> (Handle, impl Future<Output = ()> + Send + 'static) {
    let (commands, receiver) = mpsc::channel(1024);
    let (changes, changed) = watch::channel(0);
    let (stop, stopped) = watch::channel(None);
    let journal = Journal::default();
    let handle = Handle { commands, changes: changed, stopped, journal: journal.clone(), counters: Arc::clone(&counters) };
    let waiting = Vec::new();
    let driver = Driver { state, rules, log, artefacts, clock, waiting, changes, changed: false, journal, counters };
    let task = async move {
        if let Err(error) = Box::pin(driver.run(receiver)).await {
            tracing::error!(%error, "the coordinator stops");
            stop.send_replace(Some(error.to_string()));
        }
    };
    (handle, task)
}

impl Driver {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) -> Result<(), StateError> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // Time first: however many commands wait, leases end.
                biased;
                now = tick.tick() => {
                    self.apply(Event::Tick).await?.ok();
                    self.expire(now);
                    // A lease that nobody renewed, or a trainer that nobody heard of, may give others a task.
                    self.changed = true;
                }
                command = commands.recv() => match command {
                    Some(Command::Close) | None => break,
                    Some(command) => self.handle(command).await?,
                },
            }
            if std::mem::take(&mut self.changed) {
                self.serve_waiting().await?;
            }
        }
        self.log.close().await
    }

    async fn handle(&mut self, command: Command) -> Result<(), StateError> {
        match command {
            Command::Event(event, reply) => {
                let answer = self.apply(*event).await?;
                // A sender that went away does not want its answer.
                let _ = reply.send(answer.map_err(DriverError::from));
            }
            Command::Ask { worker, wait, reply } => {
                let until = tokio::time::Instant::now() + wait;
                self.waiting.retain(|waiting| waiting.worker != worker);
                self.serve(Waiting { worker, until, why: None, reply }).await?;
            }
            Command::View { run, reply } => {
                let _ = reply.send(Ok(self.state.view(&run)));
            }
            Command::Views { reply } => {
                let views = self.state.durable.runs.keys().filter_map(|run| self.state.view(run)).collect();
                let _ = reply.send(Ok(views));
            }
            Command::Workers { reply } => {
                let _ = reply.send(Ok(self.state.worker_views((self.clock)())));
            }
            // Dealt with before.
            Command::Close => {}
        }
        Ok(())
    }

    /// Applies an event and performs its effects in order. The outer error ends the driver.
    async fn apply(&mut self, event: Event) -> Result<Result<Answer, Rejected>, StateError> {
        let now = (self.clock)();
        let effects = match (self.rules)(&mut self.state, now, event) {
            Ok(effects) => effects,
            Err(rejected) => {
                Counters::count(&self.counters.rejected);
                return Ok(Err(rejected));
            }
        };
        // One write for all of an event: a snapshot never has half of it.
        let record = |effect: &Effect| if let Effect::Persist(record) = effect { Some(record.clone()) } else { None };
        let records: Vec<_> = effects.iter().filter_map(record).collect();
        records.iter().for_each(|_| Counters::count(&self.counters.persisted));
        self.log.append_all(now, records, &self.state.durable).await?;
        let mut answer = Answer::default();
        for effect in effects {
            match effect {
                Effect::Persist(_) => {}
                Effect::Grant { lease_epoch, task, .. } => {
                    answer.grant = Some((*task, lease_epoch));
                    Counters::count(&self.counters.granted);
                }
                Effect::Welcome { worker, adopted } => {
                    (answer.worker, answer.adopted) = (Some(worker), adopted);
                    Counters::count(&self.counters.registered);
                    adopted.iter().for_each(|_| Counters::count(&self.counters.adopted));
                }
                Effect::Refuse { why, .. } => answer.why = Some(why),
                Effect::HandBack { .. } => answer.hand_back = true,
                Effect::Log(entry) => self.journal.write(now, &entry),
                Effect::Delete(keys) => self.delete(keys),
                Effect::Changed { .. } => {
                    self.changed = true;
                    self.changes.send_modify(|version| *version += 1);
                }
                Effect::Progressed { .. } => self.changes.send_modify(|version| *version += 1),
            }
        }
        Ok(Ok(answer))
    }

    fn delete(&self, keys: Vec<String>) {
        let artefacts = self.artefacts.clone();
        tokio::spawn(async move {
            for key in keys {
                if let Err(error) = artefacts.delete(&key).await {
                    tracing::warn!(key, %error, "an old checkpoint could not be removed");
                }
            }
        });
    }

    fn expire(&mut self, now: tokio::time::Instant) {
        let (late, still): (Vec<Waiting>, Vec<Waiting>) =
            std::mem::take(&mut self.waiting).into_iter().partition(|waiting| waiting.until <= now);
        self.waiting = still;
        for waiting in late {
            let _ = waiting.reply.send(Ok(Answer { why: waiting.why, ..Answer::default() }));
        }
    }

    async fn serve_waiting(&mut self) -> Result<(), StateError> {
        for waiting in std::mem::take(&mut self.waiting) {
            self.serve(waiting).await?;
        }
        Ok(())
    }

    /// Gives a waiting worker a task, or lets it wait on.
    async fn serve(&mut self, mut waiting: Waiting) -> Result<(), StateError> {
        if waiting.reply.is_closed() {
            return Ok(());
        }
        match self.apply(Event::Asked { worker: waiting.worker }).await? {
            Ok(Answer { grant: None, why, .. }) => {
                waiting.why = why;
                self.waiting.push(waiting);
            }
            answer => {
                let _ = waiting.reply.send(answer.map_err(DriverError::from));
            }
        }
        Ok(())
    }
}
