//! Runs as people see them.

use super::block::Block;
use super::durable::{Durable, Run};
use super::stage::{self, Scope};
use bloctrain_shared::metric::Confusion;
use bloctrain_shared::task::Stage;
use bloctrain_shared::view::{BlockView, LostView, RunView, StageView};

fn count(items: usize) -> u32 {
    u32::try_from(items).unwrap_or(u32::MAX)
}

impl Run {
    fn stage_views(&self, scope: Scope) -> Vec<StageView> {
        let view = |stage: &Stage| {
            let (done, total) = stage::of(*stage).done(self, scope)?;
            Some(StageView { stage: *stage, done: count(done), total: count(total) })
        };
        Stage::ALL.iter().filter_map(view).collect()
    }

    /// Whether everything of a block is done.
    pub(crate) fn is_over(&self, index: usize) -> bool {
        let is_done = |stage: &Stage| {
            let done = stage::of(*stage).done(self, Scope::Block(index));
            stage.is_training() || done.is_none_or(|(done, total)| done >= total)
        };
        let is_decided = |block: &Block| block.frozen.is_some() && block.hard.is_some();
        self.blocks.get(index).is_some_and(is_decided) && Stage::ALL.iter().all(is_done)
    }

    fn block_view(&self, index: usize, block: &Block) -> BlockView {
        BlockView {
            block: count(index + 1),
            classes: block.classes.clone(),
            hard: block.hard.clone(),
            rounds: count(block.rounds.len()),
            last_round: block.rounds.last().map(|round| round.metrics.clone()),
            accuracy: block.confusion.as_ref().map(Confusion::accuracy),
            stages: self.stage_views(Scope::Block(index)),
        }
    }

    /// The run without its attempts.
    pub fn view(&self) -> RunView {
        let spec = &self.submission.spec;
        RunView {
            run: self.plan.run.clone(),
            name: spec.run.name.clone(),
            dataset: self.submission.dataset.name.clone(),
            end_to_end: spec.run.end_to_end,
            state: self.state.clone(),
            created_ms: self.created_ms,
            updated_ms: self.updated_ms,
            blocks: self.blocks.iter().enumerate().map(|(index, block)| self.block_view(index, block)).collect(),
            stages: self.stage_views(Scope::Network),
            attempts: Vec::new(),
            notes: self.notes.clone(),
            summary: self.summary.clone(),
            refused: Vec::new(),
            lost: self.lost_views(),
            missing: None,
            planned_blocks: self.plan.blocks,
            planned_epochs: spec.train.epochs,
            later_epochs: spec.train.epochs_of(2),
        }
    }

    fn lost_views(&self) -> Vec<LostView> {
        let mut views: Vec<LostView> = Vec::new();
        for lost in &self.lost_on {
            match views.iter_mut().find(|view| view.task == lost.task) {
                Some(view) => view.workers.push(lost.about.clone()),
                None => views.push(LostView { task: lost.task, workers: vec![lost.about.clone()] }),
            }
        }
        views
    }
}

impl Durable {
    /// All runs without their attempts.
    pub fn views(&self) -> Vec<RunView> {
        self.runs.values().map(Run::view).collect()
    }
}
