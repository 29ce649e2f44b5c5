//! The oracle: what has happened, seen from outside, and whether it may.
//!
//! It keeps its own books (what became durable, who has which lease, which samples a round covered) and never asks the
//! code under test whether it is right, except for how records change a state.

use crate::coverage::{Coverage, Covered};
use crate::lease::Leases;
use crate::lineage::Lineage;
use crate::sample::sizes;
use bloctrain_coordinator::run::durable::{Durable, Run};
use bloctrain_coordinator::run::record::Record;
use bloctrain_coordinator::schedule::{Effect, Event, Rejected, State};
use bloctrain_shared::Digest;
use bloctrain_shared::label::LabelMap;
use bloctrain_shared::stage::train;
use bloctrain_shared::task::{ObjectRef, Output, Report, Split, Task, TaskId};
use bloctrain_shared::view::RunState;
use std::collections::{BTreeMap, BTreeSet};

/// What happened in a simulation, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Events that coordinators applied.
    pub events: u64,
    /// Those of them that were refused.
    pub rejected: u64,
    /// Tasks handed out.
    pub granted: u64,
    /// Work that a later coordinator let go on.
    pub adopted: u64,
    /// Records that became durable.
    pub records: u64,
    /// Openings of the log.
    pub openings: u64,
    /// Rounds of training that ran, committed or not.
    pub rounds: u64,
    /// Objects that were found missing.
    pub lost: u64,
    /// Frozen blocks that a run took over from another.
    pub shared: u64,
}

/// The books.
#[derive(Default)]
pub(crate) struct Oracle {
    /// The first thing that may not be.
    violation: Option<String>,
    pub(crate) counts: Counts,
    /// Everything that became durable, replayed.
    pub(crate) durable: Durable,
    /// Tasks with a committed output.
    committed: BTreeSet<(String, TaskId)>,
    /// Tasks that were ever committed.
    ever: BTreeSet<(String, TaskId)>,
    /// Objects that committed outputs named.
    outputs: BTreeSet<(String, Digest)>,
    hard: BTreeMap<(String, usize), LabelMap>,
    coverage: Coverage,
    lineage: Lineage,
    /// The run with a task that ends its workers.
    pub(crate) poisoned: Option<String>,
    /// Whether what is made again comes out differently.
    pub(crate) is_differing: bool,
    /// What the undisturbed runs came to.
    pub(crate) expected: BTreeMap<String, Digest>,
    leases: Leases,
}

/// What a run comes to: everything that its package is made of. Cached shards are not: views that no epoch reads may be
/// missing when a run completes, and those that are read show in the weights.
pub(crate) fn result(run: &Run) -> Digest {
    let block = |block: &bloctrain_coordinator::run::block::Block| {
        let detector = block.detector.as_ref().map(|detected| detected.object.as_ref().map(|object| object.digest));
        let weights = block.weights().map(|weights| weights.digest);
        Digest::of_json(&(&block.classes, &block.hard, weights, detector))
    };
    let blocks: Vec<Digest> = run.blocks.iter().map(block).collect();
    let records: Vec<Digest> = run.evaluated.values().map(|records| records.digest).collect();
    Digest::of_json(&(blocks, records, run.summary.as_ref().map(|summary| &summary.model)))
}

impl Oracle {
    /// What may not be, if anything.
    pub(crate) fn violation(&self) -> Option<&String> {
        self.violation.as_ref()
    }

    pub(crate) fn fail(&mut self, problem: String) {
        self.violation.get_or_insert(problem);
    }

    fn expect(&mut self, holds: bool, problem: impl FnOnce() -> String) {
        if !holds {
            self.fail(problem());
        }
    }

    /// Whether some run is not completed, nor failed for a reason that there is.
    pub(crate) fn is_unfinished(&self) -> bool {
        let is_over = |id: &String| match self.durable.runs.get(id).map(|run| &run.state) {
            Some(RunState::Completed) => true,
            Some(RunState::Failed { .. }) => self.poisoned.as_ref() == Some(id),
            _ => false,
        };
        !self.expected.keys().all(is_over)
    }

    /// Keys of objects that the store may lose: what tasks made, but not what people asked for.
    pub(crate) fn losable(&self) -> Vec<String> {
        let keys = self.outputs.iter().map(|(key, _)| key);
        keys.filter(|key| !key.contains("/spec-")).cloned().collect()
    }

    /// Weights of every frozen block of every run, and the spikes that were made with them.
    pub(crate) fn made(&self) -> Vec<(String, Vec<String>)> {
        let blocks = self.durable.runs.values().flat_map(|run| &run.blocks);
        let weights = blocks.filter_map(|block| block.weights());
        let spikes =
            |made_with: Digest| self.outputs.iter().filter(move |(_, digest)| self.lineage.is_of(*digest, made_with));
        weights
            .map(|weights| (weights.key.clone(), spikes(weights.digest).map(|(key, _)| key.clone()).collect()))
            .collect()
    }

    /// A round of training ran.
    pub(crate) fn trained(&mut self, weights: Digest, covered: Covered, spikes: BTreeSet<Digest>) {
        self.counts.rounds += 1;
        self.lineage.trained(weights, spikes);
        self.coverage.trained(weights, covered);
    }

    /// Spikes of a block were made with some weights.
    pub(crate) fn exported(&mut self, spikes: Digest, weights: Digest) {
        self.lineage.exported(spikes, weights);
    }

    /// The replicas of a round were merged.
    pub(crate) fn merged(&mut self, weights: Digest, from: Option<Digest>, replicas: &[Digest]) {
        self.lineage.merged(weights, replicas);
        if let Err(problem) = self.coverage.merged(weights, from, replicas) {
            self.fail(format!("R-2: a merge: {problem}"));
        }
    }

    /// A coordinator opened the log and found this.
    pub(crate) fn opened(&mut self, found: &Durable) {
        self.counts.openings += 1;
        // Who opens the log reads no shards of completed runs.
        let (mut found, mut durable) = (found.clone(), self.durable.clone());
        found.let_go();
        durable.let_go();
        let same = found == durable;
        self.expect(same, || "R-5, R-7: what a coordinator found is not what became durable".into());
    }

    /// A cell of the log became durable.
    pub(crate) fn landed(&mut self, key: &[u8], value: &[u8], is_replaced: bool) {
        let Some(number) = key.strip_prefix(b"record/") else { return };
        let number = String::from_utf8_lossy(number);
        self.expect(!is_replaced, || {
            format!("R-3: record {number} was written twice: an older coordinator was not fenced")
        });
        let entry: Result<serde_json::Value, _> = serde_json::from_slice(value);
        let parts = entry.ok().and_then(|mut entry| Some((entry["at_ms"].as_u64()?, entry["record"].take())));
        let Some((at_ms, record)) =
            parts.and_then(|(at, record)| Some((at, serde_json::from_value::<Record>(record).ok()?)))
        else {
            return self.fail(format!("record {number} makes no sense"));
        };
        self.counts.records += 1;
        self.recorded(at_ms, record);
    }

    fn recorded(&mut self, at_ms: u64, record: Record) {
        if let Record::Submitted { object, .. } = &record {
            self.outputs.insert((object.key.clone(), object.digest));
        }
        if let Record::Committed { run, task, output, .. } = &record {
            let at = (run.clone(), *task);
            let is_new = self.committed.insert(at.clone());
            self.expect(is_new, || format!("R-1: {task} of {run} was committed twice"));
            self.ever.insert(at);
            self.outputs.extend(output.objects().into_iter().map(|object| (object.key.clone(), object.digest)));
        }
        let before = record.clone();
        self.durable.replay(record, at_ms);
        let durable = &self.durable;
        if let Record::Failed { failure: bloctrain_shared::task::Failure::InputLost { .. }, .. } = &before {
            self.counts.lost += 1;
            // What was lost may be made, and committed, again.
            self.committed.retain(|(run, task)| durable.runs.get(run).is_some_and(|run| run.is_committed(*task)));
        }
        if self.is_differing {
            // Weights that came out differently, or were taken over, open all tasks that rest on the earlier ones
            // again.
            let runs = &self.durable.runs;
            self.committed.retain(|(id, task)| runs.get(id).is_some_and(|run| run.is_committed(*task)));
            let is_decided = |run: &Run, index: usize| run.blocks.get(index).is_some_and(|block| block.hard.is_some());
            self.hard.retain(|(id, index), _| runs.get(id).is_some_and(|run| is_decided(run, *index)));
        }
        if let Record::Committed { run, task, output, .. } = &before {
            let known = self.durable.runs.get(run).cloned();
            let Some(known) = known else { return self.fail(format!("{task} of the unknown run {run} was committed")) };
            self.committed_one(run, *task, output, &known);
        }
        if let Record::Shared { run, block, .. } = &before {
            self.counts.shared += 1;
            self.shared_one(run, *block);
        }
        if let Some((run, RunState::Failed { message })) = self
            .durable
            .runs
            .iter()
            .find_map(|(id, run)| matches!(run.state, RunState::Failed { .. }).then_some((id, &run.state)))
            .filter(|(id, _)| self.poisoned.as_ref() != Some(id))
        {
            let problem = format!("run {run} failed although nothing is beyond repair: {message}");
            self.fail(problem);
        }
    }

    /// A block that was taken over was trained on every sample of every epoch, as if by the run itself, and still
    /// has its object.
    fn shared_one(&mut self, id: &str, block: u32) {
        let run = self.durable.runs.get(id);
        let known = run.and_then(|run| Some((run, run.blocks.get((block as usize).checked_sub(1)?)?)));
        let Some((run, block_state)) = known else {
            return self.fail(format!("block {block} of the unknown run {id} was shared"));
        };
        let frozen = block_state.frozen.and_then(|frozen| block_state.rounds.get(frozen));
        let Some(frozen) = frozen else {
            return self.fail(format!("block {block} of {id} was shared and is not frozen"));
        };
        let (weights, epochs) = (frozen.checkpoint.weights.clone(), frozen.metrics.epochs);
        let samples = sizes(&run.submission, Split::Train, &block_state.classes);
        let was_lost = run.losses.contains_key(&weights.key);
        self.expect(!was_lost, || format!("R-4: {id} was given {}, which it found lost", weights.key));
        let known = self.outputs.contains(&(weights.key.clone(), weights.digest));
        self.expect(known, || format!("R-4: {id} was given {}, which nobody committed", weights.key));
        if let Err(problem) = self.coverage.check(weights.digest, epochs, &samples) {
            self.fail(format!("R-2: block {block} that {id} was given: {problem}"));
        }
    }

    /// What holds after a commit.
    fn committed_one(&mut self, id: &str, task: TaskId, output: &Output, run: &Run) {
        for (index, block) in run.blocks.iter().enumerate() {
            let Some(hard) = &block.hard else { continue };
            let complete = block.confusions.len() == run.plan.validation_shards as usize;
            let same = self.hard.entry((id.to_owned(), index)).or_insert_with(|| hard.clone()) == hard;
            self.expect(same, || format!("R-6: the hard classes of block {} of {id} were decided twice", index + 1));
            self.expect(complete, || {
                format!("R-6: those of block {} of {id} without a complete validation", index + 1)
            });
        }
        if let Output::Train(train::Output { checkpoint, .. }) = output
            && let Some(block) = (task.block as usize).checked_sub(1).and_then(|index| run.blocks.get(index))
        {
            let samples = sizes(&run.submission, Split::Train, &block.classes);
            if let Err(problem) = self.coverage.check(checkpoint.weights.digest, block.epochs(), &samples) {
                self.fail(format!("R-2: {task} of {id}: {problem}"));
            }
        }
        if let Err(problem) = self.lineage.check(run) {
            self.fail(format!("R-4: {task} of {id}: {problem}"));
        }
        if run.state == RunState::Completed && !self.is_differing {
            let expected = self.expected.get(id).copied();
            self.expect(expected == Some(result(run)), || format!("R-8: {id} came to something else than undisturbed"));
        }
    }

    /// Content was written at a place, whatever was there.
    pub(crate) fn stored(&mut self, is_there: impl Fn(&str) -> bool, content: Digest) {
        let is_other = |object: &&ObjectRef| object.digest != content && is_there(&object.key);
        let other = self.durable.runs.values().flat_map(Run::names).find(is_other).map(|object| object.key.clone());
        if let Some(key) = other {
            self.fail(format!("R-3: {key}, which a record names, was written over with other content"));
        }
    }

    /// A worker heard that its report was taken.
    pub(crate) fn acknowledged(&mut self, run: &str, report: &Report) {
        let known = report.result.is_err() || self.ever.contains(&(run.to_owned(), report.task));
        self.expect(known, || format!("R-7: {} of {run} was acknowledged before it was durable", report.task));
    }

    /// A worker begins a task.
    pub(crate) fn started(&mut self, task: &Task) {
        for object in inputs(task) {
            let known = self.outputs.contains(&(object.key.clone(), object.digest));
            self.expect(known, || {
                format!("R-4: {} of {} reads {}, which nobody committed", task.id, task.run, object.key)
            });
        }
    }

    /// A coordinator applied an event.
    pub(crate) fn applied(
        &mut self,
        coordinator: u64,
        (now, true_now): (u64, u64),
        event: &Event,
        (before, after): (&State, &State),
        result: &Result<Vec<Effect>, Rejected>,
    ) {
        self.counts.events += 1;
        let Ok(effects) = result else {
            self.counts.rejected += 1;
            return self.expect(before == after, || format!("R-5: {event:?} was refused and changed the state"));
        };
        let persisted: Vec<&Record> = effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Persist(record) => Some(record),
                _ => None,
            })
            .collect();
        let mut replayed = before.durable.clone();
        persisted.iter().for_each(|record| drop(replayed.replay((*record).clone(), now)));
        self.expect(replayed == after.durable, || format!("R-5: {event:?} changed what lasts without a record"));
        let granted = |effect: &&Effect| matches!(effect, Effect::Grant { .. });
        self.counts.granted += effects.iter().filter(granted).count() as u64;
        let adopted = |effect: &&Effect| matches!(effect, Effect::Welcome { adopted: Some(_), .. });
        self.counts.adopted += effects.iter().filter(adopted).count() as u64;
        if let Err(problem) = self.leases.applied(coordinator, true_now, event, effects, &persisted) {
            self.fail(format!("R-3: {problem}"));
        }
        if *event == Event::Tick {
            let gone = before.attempts.iter().filter(|attempt| after.attempts.get(attempt.lease_epoch).is_none());
            // A run that failed takes all of its leases along.
            let goes_on = |run: &Run| run.state.is_live();
            let gone = gone.filter(|attempt| after.durable.runs.get(&attempt.run).is_some_and(goes_on));
            let silent = gone.filter(|attempt| !before.is_stalled(now, attempt)).map(|attempt| attempt.lease_epoch);
            if let Some(problem) = self.leases.ended(coordinator, true_now, silent) {
                self.fail(format!("leases: {problem}"));
            }
        }
    }

    /// A coordinator began, with leases of this length.
    pub(crate) fn begun(&mut self, coordinator: u64, opening: u64, lease_ms: u64) {
        self.leases.begun(coordinator, opening, lease_ms);
    }
}

/// The objects that a task reads.
fn inputs(task: &Task) -> impl Iterator<Item = &ObjectRef> {
    std::iter::once(&task.submission).chain(task.work.objects())
}
