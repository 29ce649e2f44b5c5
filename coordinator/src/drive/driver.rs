//! The one loop around the state machine: receive, apply, persist, perform, reply.
//!
//! Commands that wait are applied as a group, and their records persisted by one write (group commit, ADR 0015).
//! Nothing is answered or performed before all records of its group are durable: any of it may rest on any of them
//!

use super::counters::Counters;
use super::environment::{Clock, Rules};
use super::handle::{Answer, Command, DriverError, Handle, Reply};
use super::history::{Asked, Keeper, Told};
use super::journal::Journal;
use super::trace::{Cause, Tracer};
use super::verify;
use crate::durable::{Log, StateError};
use crate::run::durable::Run;
use crate::run::record::Record;
use crate::schedule::{Apart, Doubt, Effect, Event, Lost, Rejected, State};
use bloctrain_shared::task::{Failure, Output};
use bloctrain_store::Artefacts;
use bloctrain_tracking::otlp::Sink;
use futures::future::{Either, select};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, timeout};

/// Pause between looks at leases.
const TICK: Duration = Duration::from_millis(250);

/// Time that a look at leases may be late before that counts.
const LATE: Duration = Duration::from_millis(500);

/// Longest time that histories have to be written when the loop has ended.
const FLUSH: Duration = Duration::from_secs(3);

/// Time for which runs that have ended count as changed not long ago, milliseconds.
const RECENT_MS: u64 = 3_600_000;

/// Most commands of a group: a larger one would keep the first of it waiting.
const GROUP: usize = 256;

struct Waiting {
    worker: u64,
    until: Instant,
    why: Option<String>,
    reply: Reply<Answer>,
}

/// Kinds of workers for which there is nothing since the last change, and why.
struct InVain {
    apart: Apart,
    kinds: BTreeMap<String, Option<String>>,
}

/// What the loop takes up next.
enum Next {
    Tick(Instant),
    Command(Option<Command>),
    Found(Option<Found>),
    Asked(Option<Asked>),
}

/// What was looked for, and what came of it.
type Found = (Doubt, Result<Vec<Lost>, String>);

/// What is done once every record before it is durable.
enum Held {
    /// Effects in order, and whom to tell.
    Effects { at_ms: u64, effects: Vec<Effect>, reply: Option<Reply<Answer>> },
    /// An answer that only has to be sent.
    Say(Box<dyn FnOnce() + Send>),
}

/// The run whose history a record changes.
fn retells(record: &Record) -> Option<&str> {
    match record {
        Record::Committed { run, output, .. } if matches!(output.as_ref(), Output::Train(_) | Output::Finish(_)) => {
            Some(run)
        }
        Record::Failed { run, failure: Failure::InputLost { .. }, .. }
        | Record::Submitted { run, .. }
        | Record::Shared { run, .. }
        | Record::Deleted { run } => Some(run),
        _ => None,
    }
}

struct Driver {
    state: State,
    rules: Rules,
    log: Log,
    artefacts: Artefacts,
    clock: Clock,
    waiting: Vec<Waiting>,
    /// Who need not ask, until something changes.
    in_vain: Option<InVain>,
    /// Records of the group, with the time of each.
    records: Vec<(u64, Record)>,
    /// What waits for them.
    held: Vec<Held>,
    /// Takes what was found out about losses.
    found: mpsc::UnboundedSender<Found>,
    changes: watch::Sender<u64>,
    /// Whether something changed that may give a waiting worker a task.
    changed: bool,
    /// Takes the histories of runs.
    histories: mpsc::UnboundedSender<Told>,
    /// Whether somebody asks if this is still the coordinator.
    is_asked: bool,
    journal: Journal,
    counters: Arc<Counters>,
    tracer: Option<Tracer>,
}

/// Makes the loop; it ends when every handle is gone or the state cannot be kept.
pub fn start(
    state: State,
    rules: Rules,
    log: Log,
    artefacts: Artefacts,
    clock: Clock,
    counters: Arc<Counters>,
    traces: Option<Sink>,
) -> (Handle, impl Future<Output = ()> + Send + 'static) {
    let (commands, receiver) = mpsc::channel(1024);
    let (changes, changed) = watch::channel(0);
    let (stop, stopped) = watch::channel(None);
    let journal = Journal::default();
    let handle =
        Handle { commands, changes: changed, stopped, journal: journal.clone(), counters: Arc::clone(&counters) };
    let (waiting, in_vain, records, held, changed) = (Vec::new(), None, Vec::new(), Vec::new(), false);
    let (found, finds) = mpsc::unbounded_channel();
    let ((histories, told), (asks, asked), is_asked) = (mpsc::unbounded_channel(), mpsc::unbounded_channel(), false);
    let keeper = Keeper::new(artefacts.clone(), told, asks);
    let tracer = traces.map(|sink| Tracer::new(sink, &state));
    let driver = Driver {
        state,
        rules,
        log,
        artefacts,
        clock,
        waiting,
        in_vain,
        records,
        held,
        found,
        changes,
        changed,
        histories,
        is_asked,
        journal,
        counters,
        tracer,
    };
    let driving = async move {
        if let Err(error) = Box::pin(driver.run(receiver, finds, asked)).await {
            // Whoever started it is told, and says so.
            tracing::debug!(%error, "the coordinator stops");
            stop.send_replace(Some(error.to_string()));
        }
    };
    let task = async move {
        match select(Box::pin(driving), Box::pin(keeper.run())).await {
            // What it could not write in time, the next coordinator writes.
            Either::Left(((), keeping)) => drop(timeout(FLUSH, keeping).await),
            Either::Right(((), driving)) => driving.await,
        }
    };
    (handle, task)
}

impl Driver {
    async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut finds: mpsc::UnboundedReceiver<Found>,
        mut asked: mpsc::UnboundedReceiver<Asked>,
    ) -> Result<(), StateError> {
        self.tell_all();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut open, mut ticked) = (true, Instant::now());
        while open {
            let next = tokio::select! {
                // Time first: however many commands wait, leases end.
                biased;
                now = tick.tick() => Next::Tick(now),
                found = finds.recv() => Next::Found(found),
                asked = asked.recv(), if !asked.is_closed() => Next::Asked(asked),
                command = commands.recv() => Next::Command(command),
            };
            let begun = Instant::now();
            match next {
                Next::Tick(now) => {
                    // Whatever kept the loop from its ticks kept it from hearing anybody, too.
                    let late = begun.duration_since(std::mem::replace(&mut ticked, begun)).saturating_sub(TICK);
                    if late > LATE {
                        tracing::warn!(
                            ms = late.as_millis(),
                            "this coordinator stood still; leases get that time back"
                        );
                        self.apply(Event::Late { by_ms: u64::try_from(late.as_millis()).unwrap_or(u64::MAX) }, None);
                    }
                    // A tick is never refused.
                    self.apply(Event::Tick, None);
                    self.expire(now);
                    self.counters.look(&self.state, self.waiting.len());
                    // A lease that nobody renewed, or a trainer that nobody heard of, may give others a task.
                    self.changed = true;
                }
                // The sender lives as long as this does.
                Next::Found(None) => {}
                Next::Found(Some((doubt, found))) => {
                    self.apply(Event::Verified { doubt: Box::new(doubt), found }, None)
                }
                Next::Asked(None) => {}
                Next::Asked(Some(reply)) => {
                    self.is_asked = true;
                    // Whoever asked may have given up.
                    self.held.push(Held::Say(Box::new(move || {
                        let _ = reply.send(());
                    })));
                }
                Next::Command(command) => open = self.take_up(command, &mut commands),
            }
            if std::mem::take(&mut self.changed) {
                self.serve_waiting();
            }
            let persisted = self.persist().await?;
            self.perform_held();
            Counters::time(&self.counters.busy_us, begun.elapsed().saturating_sub(persisted));
        }
        // All of it is durable: what closing would tidy up waits for the next opening.
        if let Err(error) = self.log.close().await {
            tracing::info!(%error, "the state was not closed in order; nothing is lost");
        }
        Ok(())
    }

    /// Applies a command and those that wait behind it; false when it is time to close.
    fn take_up(&mut self, first: Option<Command>, commands: &mut mpsc::Receiver<Command>) -> bool {
        let mut next = first;
        for left in (0..GROUP).rev() {
            match next.take() {
                None | Some(Command::Close) => return false,
                Some(command) => self.handle(command),
            }
            // Whether the channel is at its end, the next `recv` tells.
            match (left > 0).then(|| commands.try_recv().ok()).flatten() {
                Some(command) => next = Some(command),
                None => return true,
            }
        }
        true
    }

    /// Makes the records of the group durable; gives the time that it took. The error ends the driver, and nothing that
    /// waits for them is performed.
    async fn persist(&mut self) -> Result<Duration, StateError> {
        let records = std::mem::take(&mut self.records);
        let is_asked = std::mem::take(&mut self.is_asked);
        if records.is_empty() {
            if is_asked {
                self.log.confirm().await?;
            }
            return Ok(Duration::ZERO);
        }
        let (persisted, begun) = (records.len() as u64, Instant::now());
        let retold: BTreeSet<String> =
            records.iter().filter_map(|(_, record)| retells(record)).map(str::to_owned).collect();
        if self.log.append_all(records, &self.state.durable).await? {
            self.state.durable.let_go();
        }
        retold.iter().for_each(|run| self.tell(run));
        self.counters.records_persisted.fetch_add(persisted, Ordering::Relaxed);
        Counters::count(&self.counters.groups_persisted);
        let took = begun.elapsed();
        Counters::time(&self.counters.persist_us, took);
        Ok(took)
    }

    /// Has the histories of all runs written that goes on, or that changed not long before the last change of any: the
    /// coordinator before may not have come to that.
    fn tell_all(&self) {
        let runs = || self.state.durable.runs.values();
        let last = runs().map(|run| run.updated_ms).max().unwrap_or(0);
        let is_due = |run: &&Run| run.is_live() || run.updated_ms + RECENT_MS >= last;
        runs().filter(is_due).for_each(|run| self.tell(&run.plan.run));
    }

    /// Has a run's history written, or removed with the run. All that it follows from is durable.
    fn tell(&self, run: &str) {
        let lines = self.state.durable.runs.get(run).map(Run::history);
        if lines.as_ref().is_some_and(Vec::is_empty) {
            return;
        }
        // It listens as long as this loop lives.
        let _ = self.histories.send((run.to_owned(), lines));
    }

    /// Performs what waited for the records of the group.
    fn perform_held(&mut self) {
        self.tracer.iter_mut().for_each(Tracer::flush);
        for held in std::mem::take(&mut self.held) {
            match held {
                Held::Effects { at_ms, effects, reply } => self.perform(at_ms, effects, reply),
                Held::Say(say) => say(),
            }
        }
    }

    fn handle(&mut self, command: Command) {
        match command {
            Command::Event(event, reply) => self.apply(*event, Some(reply)),
            Command::Ask { worker, wait, reply } => {
                let until = Instant::now() + wait;
                self.waiting.retain(|waiting| waiting.worker != worker);
                self.serve_or_wait(Waiting { worker, until, why: None, reply });
            }
            Command::View { run, reply } => {
                let view = self.state.view(&run);
                self.say(reply, Ok(view));
            }
            Command::Detail { run, reply } => {
                let detail = self.state.durable.runs.get(&run).map(Run::detail);
                self.say(reply, Ok(detail));
            }
            Command::Views { after, most, brief, reply } => {
                let runs = self.state.durable.runs.range::<String, _>((Bound::Excluded(after), Bound::Unbounded));
                let view = |run: &String| if brief { self.state.brief(run) } else { self.state.view(run) };
                let views = runs.take(most).filter_map(|(run, _)| view(run)).collect();
                self.say(reply, Ok(views));
            }
            Command::History { run, reply } => {
                let lines = self.state.durable.runs.get(&run).map(Run::history);
                self.say(reply, Ok(lines));
            }
            Command::Workers { reply } => {
                let views = self.state.worker_views((self.clock)());
                self.say(reply, Ok(views));
            }
            Command::Overview { reply } => {
                let overview = self.state.overview();
                self.say(reply, Ok(overview));
            }
            // Dealt with before.
            Command::Close => {}
        }
    }

    /// Answers once the group is durable.
    fn say<T: Send + 'static>(&mut self, reply: Reply<T>, what: Result<T, DriverError>) {
        self.held.push(Held::Say(Box::new(move || {
            // A sender that went away does not want its answer.
            let _ = reply.send(what);
        })));
    }

    /// Applies an event; its effects and its answer wait for the group.
    fn apply(&mut self, event: Event, reply: Option<Reply<Answer>>) {
        let now = (self.clock)();
        match self.transition(now, event) {
            Ok(effects) => self.held.push(Held::Effects { at_ms: now, effects, reply }),
            Err(rejected) => {
                if let Some(reply) = reply {
                    self.say(reply, Err(rejected.into()));
                }
            }
        }
    }

    /// Applies an event and takes its records into the group; gives the other effects.
    fn transition(&mut self, now: u64, event: Event) -> Result<Vec<Effect>, Rejected> {
        let cause = self.tracer.as_ref().map(|_| Cause::of(&event));
        let effects = (self.rules)(&mut self.state, now, event)
            .inspect_err(|_| Counters::count(&self.counters.events_rejected))?;
        if let (Some(tracer), Some(cause)) = (&mut self.tracer, cause) {
            tracer.note(&self.state, now, cause, &effects);
        }
        let mut others = Vec::with_capacity(effects.len());
        for effect in effects {
            self.changed |= matches!(effect, Effect::Changed { .. });
            match effect {
                Effect::Persist(record) => self.records.push((now, record)),
                effect => others.push(effect),
            }
        }
        Ok(others)
    }

    fn perform(&self, at_ms: u64, effects: Vec<Effect>, reply: Option<Reply<Answer>>) {
        let mut answer = Answer::default();
        for effect in effects {
            match effect {
                // Taken into the group.
                Effect::Persist(_) => {}
                Effect::Grant { lease_epoch, task, .. } => {
                    answer.grant = Some((*task, lease_epoch));
                    Counters::count(&self.counters.leases_granted);
                }
                Effect::Welcome { worker, adopted } => {
                    (answer.worker, answer.adopted) = (Some(worker), adopted);
                    Counters::count(&self.counters.workers_registered);
                    adopted.iter().for_each(|_| Counters::count(&self.counters.leases_adopted));
                }
                Effect::Refuse { why, .. } => answer.why = Some(why),
                Effect::HandBack { .. } => answer.hand_back = true,
                Effect::Verify(doubt) => self.verify(*doubt),
                Effect::Log(entry) => self.journal.write(at_ms, &entry),
                Effect::Delete(keys) => self.delete(keys),
                Effect::Changed { .. } | Effect::Progressed { .. } => self.changes.send_modify(|version| *version += 1),
            }
        }
        if let Some(reply) = reply {
            // A sender that went away does not want its answer.
            let _ = reply.send(Ok(answer));
        }
    }

    /// Looks for the inputs of a task beside the loop; what is found comes back as an event.
    fn verify(&self, doubt: Doubt) {
        let (artefacts, found) = (self.artefacts.clone(), self.found.clone());
        tokio::spawn(async move {
            let lost = verify::lost(&artefacts, &doubt).await.map_err(|error| error.to_string());
            // The loop may have ended meanwhile.
            let _ = found.send((doubt, lost));
        });
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

    fn expire(&mut self, now: Instant) {
        let (late, still): (Vec<Waiting>, Vec<Waiting>) =
            std::mem::take(&mut self.waiting).into_iter().partition(|waiting| waiting.until <= now);
        self.waiting = still;
        for waiting in late {
            self.say(waiting.reply, Ok(Answer { why: waiting.why, ..Answer::default() }));
        }
    }

    /// Gives those who wait a task, in the order in which they asked.
    fn serve_waiting(&mut self) {
        self.in_vain = None;
        for waiting in std::mem::take(&mut self.waiting) {
            self.serve_or_wait(waiting);
        }
    }

    /// Gives a worker a task, or lets it wait. Where one got nothing, others of its kind only wait until something
    /// changes, so that a thousand idle workers cost no more than one.
    fn serve_or_wait(&mut self, mut waiting: Waiting) {
        if waiting.reply.is_closed() {
            return;
        }
        if self.changed {
            self.in_vain = None;
        }
        let (now, worker) = ((self.clock)(), waiting.worker);
        let why =
            self.in_vain.as_ref().and_then(|known| known.kinds.get(self.state.kind(&known.apart, worker)?)).cloned();
        if let Some(why) = why
            && self.transition(now, Event::Waits { worker }).is_ok()
        {
            waiting.why = why;
            self.waiting.push(waiting);
        } else if let Some(waits) = self.serve(now, waiting) {
            let why = waits.why.clone();
            let state = &self.state;
            let known = self.in_vain.get_or_insert_with(|| InVain { apart: state.apart(), kinds: BTreeMap::new() });
            known.kinds.extend(state.kind(&known.apart, worker).map(|kind| (kind.to_owned(), why)));
        }
    }

    /// Gives a worker a task; where there is none, it waits, and what waits is given.
    fn serve(&mut self, now: u64, mut waiting: Waiting) -> Option<&Waiting> {
        let effects = match self.transition(now, Event::Asked { worker: waiting.worker }) {
            Ok(effects) => effects,
            Err(rejected) => {
                self.say(waiting.reply, Err(rejected.into()));
                return None;
            }
        };
        if effects.iter().any(|effect| matches!(effect, Effect::Grant { .. })) {
            self.held.push(Held::Effects { at_ms: now, effects, reply: Some(waiting.reply) });
            return None;
        }
        waiting.why = effects.iter().find_map(|effect| match effect {
            Effect::Refuse { why, .. } => Some(why.clone()),
            _ => None,
        });
        self.held.push(Held::Effects { at_ms: now, effects, reply: None });
        self.waiting.push(waiting);
        self.waiting.last()
    }
}
