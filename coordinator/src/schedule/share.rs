//! Frozen blocks that runs share: what another run trained from the same inputs is not trained again.
//!
//! Of the runs of one chain one trains, the others wait, and get the frozen block by a record that says all of it
//! ([`Record::Shared`]).

use super::chain::Leaders;
use super::event::{Effect, Entry};
use super::state::State;
use super::worker::{Worker, fits};
use crate::run::durable::Run;
use crate::run::record::Record;
use crate::run::round::Round;
use bloctrain_shared::Digest;
use bloctrain_shared::task::TaskId;
use bloctrain_shared::view::RunState;
use std::cmp::Reverse;

impl State {
    /// Whether another run trains this block already, or will first, and a worker may take part in that.
    pub(super) fn is_led(&self, worker: &Worker, run: &Run, task: TaskId, leaders: &mut Leaders) -> bool {
        let index = (task.block as usize).wrapping_sub(1);
        let Some(&chain) = self.chains.of(&run.plan.run).get(index).filter(|_| task.stage.is_training()) else {
            return false;
        };
        let leader = leaders.entry(chain).or_insert_with(|| self.leader(worker, chain, index));
        leader.as_ref().is_some_and(|leader| *leader != run.plan.run)
    }

    /// The run that trains a chain: by priority, rounds that are done, age.
    fn leader(&self, worker: &Worker, chain: Digest, index: usize) -> Option<String> {
        let runs = self.chains.runs(chain).filter_map(|run| self.durable.runs.get(run));
        let order = |run: &Run| {
            let block = run.blocks.get(index).filter(|block| block.frozen.is_none())?;
            let may = run.state == RunState::Running && fits(worker, run).is_ok();
            let order = (Reverse(run.submission.spec.run.priority), Reverse(block.rounds.len()), run.created_ms);
            may.then(|| (order, run.plan.run.clone()))
        };
        runs.filter_map(order).min().map(|(_, run)| run)
    }

    /// Gives frozen blocks to the runs that can use them, after a run changed.
    pub(super) fn share(&mut self, now: u64, run: &str) -> Vec<Effect> {
        let Some(known) = self.durable.runs.get(run) else { return Vec::new() };
        if !self.chains.note(known) {
            return Vec::new();
        }
        let of_chain = |(index, &chain): (usize, &Digest)| {
            let runs = || self.chains.runs(chain).filter_map(|run| self.durable.runs.get(run));
            let made: Vec<&Run> =
                runs().filter(|run| run.blocks.get(index).is_some_and(|block| block.frozen.is_some())).collect();
            let wanting = runs().filter(|_| !made.is_empty());
            wanting.filter_map(|run| shared(run, index, &made)).collect::<Vec<Record>>()
        };
        let records: Vec<Record> = self.chains.of(run).iter().enumerate().flat_map(of_chain).collect();
        records.into_iter().flat_map(|record| self.take_over(now, record)).collect()
    }

    fn take_over(&mut self, now: u64, record: Record) -> Vec<Effect> {
        let Record::Shared { run, block, from, .. } = &record else { return Vec::new() };
        let (run, block, text) = (run.clone(), *block, format!("block {block} is taken over from run {from}"));
        // Whoever trains it for this run may stop.
        let ended = self
            .attempts
            .end_where(|attempt| attempt.run == run && attempt.task.block == block && attempt.task.stage.is_training());
        let makes_again = self.makes_again(&run);
        let mut effects = self.persist(now, record);
        if makes_again {
            effects.extend(self.end_outdated(&run));
        }
        if let Some(known) = self.durable.runs.get(&run) {
            self.chains.note(known);
        }
        effects
            .extend(ended.iter().map(|attempt| Effect::Log(self.line(attempt, "dropped: another run made the block"))));
        effects.extend([Effect::Log(Entry { run: run.clone(), text, ..Entry::default() }), Effect::Changed { run }]);
        effects
    }
}

/// The frozen block of a chain, for a run that is still to train it; not one that this run found lost.
fn shared(run: &Run, index: usize, made: &[&Run]) -> Option<Record> {
    let wants = run.is_live() && run.is_resolved();
    run.blocks.get(index).filter(|block| wants && block.frozen.is_none())?;
    let usable = |owner: &&&Run| {
        let weights = owner.blocks[index].weights();
        let is_alike = owner.backend() == run.backend() && owner.precision() == run.precision();
        is_alike && weights.is_some_and(|weights| !run.losses.contains_key(&weights.key))
    };
    let owner = made.iter().find(usable)?;
    let (block, frozen) = (&owner.blocks[index], owner.blocks[index].frozen?);
    let round =
        |(number, round): (usize, &Round)| Round { kept: number == frozen, replicas: Vec::new(), ..round.clone() };
    Some(Record::Shared {
        run: run.plan.run.clone(),
        block: u32::try_from(index + 1).ok()?,
        from: owner.plan.run.clone(),
        rounds: block.rounds.iter().enumerate().map(round).collect(),
        frozen,
    })
}
