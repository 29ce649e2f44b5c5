//! Spans of what a coordinator does, from submit to commit. Nothing is decided from them.
//!
//! A run is a trace: its root is the run from its submission to its end, below it are its blocks, and below a block
//! each attempt at a task from grant to end. Ids follow from the run's id, and of attempts from their lease, so a
//! coordinator that takes over goes on with the same trace: begins of runs and blocks are durable, and only the
//! attempts that a killed coordinator saw begin and did not see end have no span. A span is sent once what it tells of
//! is durable.

use crate::run::durable::Run;
use crate::run::record::Record;
use crate::schedule::{Attempt, Effect, Event, State};
use bloctrain_shared::Digest;
use bloctrain_shared::task::{Failure, Output, Report, TaskId, Work};
use bloctrain_shared::view::RunState;
use bloctrain_tracking::otlp::Sink;
use bloctrain_tracking::otlp::message::{KeyValue, Span, Status};
use std::collections::{BTreeMap, BTreeSet};

/// `SPAN_KIND_INTERNAL`.
const INTERNAL: i32 = 1;

/// `STATUS_CODE_OK`.
const OK: i32 = 1;

/// `STATUS_CODE_ERROR`.
const ERROR: i32 = 2;

/// What an event has to do with spans; taken before the rules take the event.
pub(super) enum Cause {
    /// It ends no attempt.
    Quiet,
    /// A worker reports the end of its attempt.
    Report(Box<Told>),
    /// It may end any.
    Other,
}

/// What a report tells of an attempt.
pub(super) struct Told {
    lease_epoch: u64,
    outcome: &'static str,
    problem: Option<String>,
    attributes: Vec<KeyValue>,
}

impl Cause {
    pub(super) fn of(event: &Event) -> Self {
        match event {
            Event::Heartbeat { .. } | Event::Asked { .. } | Event::Waits { .. } => Self::Quiet,
            Event::Reported { report, .. } => Self::Report(Box::new(Told::new(report))),
            _ => Self::Other,
        }
    }
}

impl Told {
    fn new(report: &Report) -> Self {
        let mut attributes = vec![KeyValue::new("bloctrain.work_seconds", report.seconds)];
        let (outcome, problem) = match &report.result {
            Ok(output) => {
                attributes.extend(made(output));
                ("committed", None)
            }
            Err(failure) => {
                let outcome = match failure {
                    Failure::Unable { .. } => "unable",
                    Failure::InputLost { .. } => "input-lost",
                    Failure::Fatal { .. } | Failure::Transient { .. } => "failed",
                };
                (outcome, Some(failure.clone().shortened(500).to_string()))
            }
        };
        Self { lease_epoch: report.lease_epoch, outcome, problem, attributes }
    }
}

/// What is known of an output.
fn made(output: &Output) -> Vec<KeyValue> {
    let bytes: u64 = output.objects().iter().map(|object| object.bytes).sum();
    let mut attributes = vec![KeyValue::new("bloctrain.bytes", bytes)];
    let metrics = match output {
        Output::Train(output) => Some(&output.metrics),
        Output::Replica(part) => Some(&part.metrics),
        _ => None,
    };
    if let Some(metrics) = metrics {
        attributes.push(KeyValue::new("bloctrain.samples", metrics.samples));
        attributes.push(KeyValue::new("bloctrain.epochs", metrics.epochs));
        attributes.push(KeyValue::new("bloctrain.loss", metrics.loss));
        attributes.push(KeyValue::new("bloctrain.accuracy", metrics.accuracy));
    }
    attributes
}

/// An attempt that lives.
struct Open {
    run: String,
    task: TaskId,
    worker: String,
    begun_ms: u64,
    attributes: Vec<KeyValue>,
}

/// Makes spans of what happens.
pub(super) struct Tracer {
    sink: Sink,
    /// Attempts by lease.
    open: BTreeMap<u64, Open>,
    /// Runs that go on, with their blocks that are over.
    over: BTreeMap<String, BTreeSet<usize>>,
    /// Spans of what may not be durable yet.
    spans: Vec<Span>,
}

impl Tracer {
    /// What is over already was told by whoever saw it end.
    pub(super) fn new(sink: Sink, state: &State) -> Self {
        let blocks = |run: &Run| (0..run.blocks.len()).filter(|index| run.is_over(*index)).collect();
        let live = state.durable.runs.values().filter(|run| run.is_live());
        let over = live.map(|run| (run.plan.run.clone(), blocks(run))).collect();
        Self { sink, open: BTreeMap::new(), over, spans: Vec::new() }
    }

    /// Notes what an event led to.
    pub(super) fn note(&mut self, state: &State, now: u64, cause: Cause, effects: &[Effect]) {
        match cause {
            Cause::Quiet => {}
            Cause::Report(told) => self.reported(state, now, *told),
            Cause::Other => self.look(state, now, effects, |_| true),
        }
        for effect in effects {
            match effect {
                Effect::Grant { lease_epoch, task, .. } => {
                    let round = match &task.work {
                        Work::Train(work) => Some(work.round),
                        Work::Merge(work) => Some(work.round),
                        _ => None,
                    };
                    let round = round.map(|round| KeyValue::new("bloctrain.round", round));
                    self.begun(state, *lease_epoch, round.into_iter().collect());
                }
                Effect::Welcome { adopted: Some(lease_epoch), .. } => {
                    self.begun(state, *lease_epoch, vec![KeyValue::new("bloctrain.adopted", true)]);
                }
                Effect::Persist(record) => record.run().iter().for_each(|run| self.changed(state, now, run, effects)),
                _ => {}
            }
        }
    }

    /// Sends what is durable by now.
    pub(super) fn flush(&mut self) {
        self.spans.drain(..).for_each(|span| self.sink.send(span));
    }

    fn begun(&mut self, state: &State, lease_epoch: u64, mut attributes: Vec<KeyValue>) {
        let Some(Attempt { run, task, worker, begun_ms, backup, .. }) = state.attempts.get(lease_epoch) else { return };
        let worker = state.workers.get(worker).map_or_else(|| worker.to_string(), |known| known.about.name.clone());
        if *backup {
            attributes.push(KeyValue::new("bloctrain.backup", true));
        }
        self.open.insert(lease_epoch, Open { run: run.clone(), task: *task, worker, begun_ms: *begun_ms, attributes });
    }

    /// Ends the attempt of a report that was taken.
    fn reported(&mut self, state: &State, now: u64, told: Told) {
        if state.attempts.get(told.lease_epoch).is_none() {
            self.end(now, told);
        }
    }

    /// Ends attempts that live no more and whose workers did not say why.
    fn look(&mut self, state: &State, now: u64, effects: &[Effect], of: impl Fn(&Open) -> bool) {
        let is_ended = |lease_epoch: u64, open: &Open| of(open) && state.attempts.get(lease_epoch).is_none();
        let ended = self.open.iter().filter(|(lease_epoch, open)| is_ended(**lease_epoch, open));
        let ended: Vec<_> = ended.map(|(lease_epoch, open)| (*lease_epoch, why(state, open, effects))).collect();
        for (lease_epoch, (outcome, problem)) in ended {
            self.end(now, Told { lease_epoch, outcome, problem, attributes: Vec::new() });
        }
    }

    fn end(&mut self, now: u64, told: Told) {
        let Told { lease_epoch, outcome, problem, attributes } = told;
        let Some(open) = self.open.remove(&lease_epoch) else { return };
        let Open { run, task, worker, begun_ms, attributes: known } = open;
        let mut all = vec![
            KeyValue::new("bloctrain.run", run.as_str()),
            KeyValue::new("bloctrain.stage", task.stage.name()),
            KeyValue::new("bloctrain.part", task.part),
            KeyValue::new("bloctrain.worker", worker),
            KeyValue::new("bloctrain.lease_epoch", lease_epoch),
            KeyValue::new("bloctrain.outcome", outcome),
        ];
        let place = [("bloctrain.block", task.block), ("bloctrain.replica", task.replica)];
        all.extend(
            place.into_iter().filter(|(_, number)| *number > 0).map(|(name, number)| KeyValue::new(name, number)),
        );
        all.extend(known.into_iter().chain(attributes));
        let parent = if task.block > 0 { block_id(&run, task.block) } else { root_id(&run) };
        let id = id(&[b"attempt", run.as_bytes(), &lease_epoch.to_le_bytes()]);
        let status = status(problem, outcome == "committed");
        self.spans.push(span(&run, id, Some(parent), task.stage.name(), (begun_ms, now), all, status));
    }

    /// Tells of blocks and of the run that ended by a record.
    fn changed(&mut self, state: &State, now: u64, name: &str, effects: &[Effect]) {
        let Some(run) = state.durable.runs.get(name) else {
            self.over.remove(name);
            return;
        };
        let known =
            if run.is_live() { Some(self.over.entry(name.to_owned()).or_default()) } else { self.over.get_mut(name) };
        let Some(over) = known else { return };
        let mut ended = Vec::new();
        for index in 0..run.blocks.len() {
            match (run.is_over(index), over.contains(&index)) {
                (true, false) => ended.push((index, "done")),
                // What was lost is made again: it ends anew.
                (false, true) => drop(over.remove(&index)),
                (false, false) if !run.is_live() => ended.push((index, run.state.name())),
                _ => {}
            }
        }
        over.extend(ended.iter().map(|(index, _)| *index));
        self.spans.extend(ended.into_iter().map(|(index, outcome)| block(run, index, now, outcome)));
        if !run.is_live() {
            self.over.remove(name);
            self.look(state, now, effects, |open| open.run == name);
            self.spans.push(root(run, now));
        }
    }
}

/// Why an attempt lives no more.
fn why(state: &State, open: &Open, effects: &[Effect]) -> (&'static str, Option<String>) {
    let lost = effects.iter().find_map(|effect| match effect {
        Effect::Persist(Record::Lost { run, task, worker, about }) => {
            (*run == open.run && *task == open.task && *worker == open.worker).then(|| about.clone())
        }
        _ => None,
    });
    match state.durable.runs.get(&open.run) {
        _ if lost.is_some() => ("lost", lost),
        Some(run) if run.is_committed(open.task) => ("superseded", None),
        Some(run) if !run.is_live() => (run.state.name(), None),
        _ => ("released", None),
    }
}

fn block(run: &Run, index: usize, now: u64, outcome: &'static str) -> Span {
    let (name, block) = (run.plan.run.as_str(), &run.blocks[index]);
    let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
    let begun_ms = if block.begun_ms > 0 { block.begun_ms } else { run.created_ms };
    let mut attributes = vec![
        KeyValue::new("bloctrain.run", name),
        KeyValue::new("bloctrain.block", number),
        KeyValue::new("bloctrain.outcome", outcome),
        KeyValue::new("bloctrain.classes", block.classes.len() as u64),
        KeyValue::new("bloctrain.rounds", block.rounds.len() as u64),
    ];
    attributes
        .extend(block.confusion.as_ref().map(|found| KeyValue::new("bloctrain.validation_accuracy", found.accuracy())));
    attributes.extend(block.hard.as_ref().map(|hard| KeyValue::new("bloctrain.hard_classes", hard.len() as u64)));
    let status = status(None, outcome == "done");
    span(
        name,
        block_id(name, number),
        Some(root_id(name)),
        &format!("block {number}"),
        (begun_ms, now),
        attributes,
        status,
    )
}

fn root(run: &Run, now: u64) -> Span {
    let name = run.plan.run.as_str();
    let mut attributes = vec![
        KeyValue::new("bloctrain.run", name),
        KeyValue::new("bloctrain.dataset", run.submission.dataset.name.as_str()),
        KeyValue::new("bloctrain.blocks", run.blocks.len() as u64),
        KeyValue::new("bloctrain.outcome", run.state.name()),
    ];
    attributes.extend(run.submission.spec.run.name.as_ref().map(|name| KeyValue::new("bloctrain.name", name.as_str())));
    let test = run.summary.as_ref().map(|summary| KeyValue::new("bloctrain.test_accuracy", summary.accuracy.test));
    attributes.extend(test);
    let problem = match &run.state {
        RunState::Failed { message } => Some(message.clone()),
        _ => None,
    };
    let status = status(problem, run.state == RunState::Completed);
    span(name, root_id(name), None, "run", (run.created_ms, now), attributes, status)
}

fn status(problem: Option<String>, is_well: bool) -> Option<Status> {
    let error = problem.map(|message| Status { message, code: ERROR });
    error.or_else(|| is_well.then(|| Status { message: String::new(), code: OK }))
}

fn span(
    run: &str,
    id: Vec<u8>,
    parent: Option<Vec<u8>>,
    name: &str,
    (begun_ms, ended_ms): (u64, u64),
    attributes: Vec<KeyValue>,
    status: Option<Status>,
) -> Span {
    const NANOS: u64 = 1_000_000;
    Span {
        trace_id: Digest::of_parts(&[b"bloctrain trace", run.as_bytes()]).as_bytes()[..16].to_vec(),
        span_id: id,
        parent_span_id: parent.unwrap_or_default(),
        name: name.to_owned(),
        kind: INTERNAL,
        start_time_unix_nano: begun_ms.saturating_mul(NANOS),
        end_time_unix_nano: ended_ms.max(begun_ms).saturating_mul(NANOS),
        attributes,
        status,
    }
}

fn id(parts: &[&[u8]]) -> Vec<u8> {
    Digest::of_parts(parts).as_bytes()[..8].to_vec()
}

fn root_id(run: &str) -> Vec<u8> {
    id(&[b"run", run.as_bytes()])
}

fn block_id(run: &str, block: u32) -> Vec<u8> {
    id(&[b"block", run.as_bytes(), &block.to_le_bytes()])
}
