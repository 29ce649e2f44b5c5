//! Runs as people see them.

use super::State;
use super::block::Block;
use super::record::{Durable, Run};
use bloctrain_shared::task::Stage;
use bloctrain_shared::view::{AttemptView, BlockView, RunView, StageView};

fn count(items: usize) -> u32 {
    u32::try_from(items).unwrap_or(u32::MAX)
}

impl Run {
    fn block_view(&self, index: usize, block: &Block) -> BlockView {
        let plan = &self.plan;
        let stage = |stage, done: usize, total: usize| StageView { stage, done: count(done), total: count(total) };
        let (done, rounds) = (block.rounds.len(), self.rounds_of(index));
        let mut stages = if self.is_replicated() {
            let replicas = self.submission.spec.train.replicas as usize;
            let parts = block.parts.values().filter(|part| part.complete).count();
            vec![stage(Stage::Train, done * replicas + parts, rounds * replicas), stage(Stage::Merge, done, rounds)]
        } else {
            vec![stage(Stage::Train, done, rounds)]
        };
        stages.push(stage(Stage::Validate, block.confusions.len(), plan.validation_shards as usize));
        if block.hard.is_some() && !self.is_last(index) {
            stages.push(stage(Stage::Detect, usize::from(block.detector.is_some()), 1));
            let shards = plan.export_count() as usize;
            stages.push(stage(Stage::Export, if self.shards_gone { shards } else { block.exports.len() }, shards));
        }
        BlockView {
            block: count(index + 1),
            classes: block.classes.clone(),
            hard: block.hard.clone(),
            rounds: count(block.rounds.len()),
            last_round: block.rounds.last().map(|round| round.metrics.clone()),
            accuracy: block.confusion.as_ref().map(bloctrain_shared::metric::Confusion::accuracy),
            stages,
        }
    }

    /// The run without its attempts.
    pub fn view(&self) -> RunView {
        let spec = &self.submission.spec;
        let parts = self.plan.evaluate_parts().len();
        RunView {
            run: self.plan.run.clone(),
            name: spec.run.name.clone(),
            dataset: self.submission.dataset.name.clone(),
            end_to_end: spec.run.end_to_end,
            state: self.state.clone(),
            created_ms: self.created_ms,
            updated_ms: self.updated_ms,
            blocks: self.blocks.iter().enumerate().map(|(index, block)| self.block_view(index, block)).collect(),
            stages: vec![
                StageView { stage: Stage::Evaluate, done: count(self.evaluated.len()), total: count(parts) },
                StageView { stage: Stage::Finish, done: u32::from(self.summary.is_some()), total: 1 },
            ],
            attempts: Vec::new(),
            notes: self.notes.clone(),
            summary: self.summary.clone(),
            refused: Vec::new(),
        }
    }
}

impl Durable {
    /// All runs without their attempts.
    pub fn views(&self) -> Vec<RunView> {
        self.runs.values().map(Run::view).collect()
    }
}

impl State {
    /// One run with its attempts.
    pub fn view(&self, run: &str) -> Option<RunView> {
        let known = self.durable.runs.get(run)?;
        let mut view = known.view();
        if known.state == bloctrain_shared::view::RunState::Running {
            view.refused = self.refused(known);
        }
        let own = self.attempts.of_run(run);
        view.attempts = own
            .map(|attempt| AttemptView {
                task: attempt.task,
                worker: self.name(attempt.worker).unwrap_or_default(),
                backup: attempt.backup,
                progress: attempt.progress.clone(),
            })
            .collect();
        Some(view)
    }
}
