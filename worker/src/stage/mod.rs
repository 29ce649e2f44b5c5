//! What a worker does for each kind of task: pure functions of named inputs, whatever thread or machine they run on.
//!
//! An [`Executor`] runs tasks on its own thread. It may keep the block that it trains in memory between rounds; a
//! task's output never depends on whether it did.

mod detect;
mod evaluate;
mod export;
mod finish;
mod input;
pub mod io;
mod merge;
mod picture;
mod prefetch;
pub mod prepared;
mod round;
mod score;
mod select;
mod train;
mod validate;

use crate::model::network::load_block;
use crate::snn::block::BlockNet;
use crate::snn::trainer::TrainingBackend;
use bloctrain_infer::{LoadError, NamedTensors};
use bloctrain_session::control::{Control, Stop};
use bloctrain_shared::plan::Submission;
use bloctrain_shared::task::{Failure, Frozen, ObjectRef, Output, Progress, Source, Task, Work};
use input::Chain;
use io::{Io, fatal, lost};
use prepared::{Datasets, Prepared};
use std::sync::Arc;

/// Samples in one forward pass outside training. Fixed, so that results do not depend on how work is cut.
const EVAL_BATCH: usize = 64;

/// Seconds from some start, given by whoever builds the worker; used for figures only, never for results.
pub type Stopwatch = Arc<dyn Fn() -> f64 + Send + Sync>;

/// What every stage needs to know about its task.
struct Context {
    submission: Submission,
    prepared: Arc<Prepared>,
    run: String,
    block: u32,
}

/// Runs tasks on one backend.
pub struct Executor<B: TrainingBackend> {
    io: Io,
    device: B::Device,
    datasets: Datasets,
    stopwatch: Stopwatch,
    backend: &'static str,
    resident: Option<train::Resident<B>>,
}

impl<B: TrainingBackend> Executor<B> {
    /// An executor with access to the store, on a device of a backend.
    pub fn new(io: Io, device: B::Device, datasets: Datasets, stopwatch: Stopwatch, backend: &'static str) -> Self {
        Self { io, device, datasets, stopwatch, backend, resident: None }
    }

    /// Seconds on the worker's stopwatch.
    pub fn seconds(&self) -> f64 {
        (self.stopwatch)()
    }

    /// Runs a task to its end.
    ///
    /// # Errors
    /// When it fails or is interrupted; nothing it wrote counts then.
    pub fn run(&mut self, task: &Task, control: &Control) -> Result<Output, Stop> {
        let bytes = self.io.get(&task.submission)?;
        let mut submission: Submission = serde_json::from_slice(&bytes).map_err(fatal)?;
        // Where the submission leaves the backend open, the coordinator gives tasks to workers of one only.
        submission.backend = self.backend.to_owned();
        let prepared = self.datasets.prepare(&submission, &self.io)?;
        let context = Context { submission, prepared, run: task.run.clone(), block: task.id.block };
        match &task.work {
            Work::Train(work) => train::run(self, &context, work, control),
            Work::Merge(work) => merge::run(self, &context, work, control),
            Work::Validate(work) => validate::run(self, &context, work, control),
            Work::Score(work) => score::run(self, &context, work, control),
            Work::Select(work) => select::run(self, &context, work, control),
            Work::Detect(work) => detect::run(self, &context, work, control),
            Work::Export(work) => export::run(self, &context, work, control),
            Work::Evaluate(work) => evaluate::run(self, &context, work, control),
            Work::Finish(work) => finish::run(self, &context, work),
        }
    }

    /// The tensors of a stored object.
    fn tensors(&self, object: &ObjectRef) -> Result<NamedTensors, Failure> {
        let bytes = self.io.get(object)?;
        NamedTensors::decode(&bytes).map_err(|error| lost(object, error.to_string()))
    }

    /// The frozen blocks that compute the input of a task, where its source says so.
    fn chain(&self, context: &Context, source: &Source) -> Result<Option<Chain<B::InnerBackend>>, Failure> {
        let Source::Fresh(fresh) = source else { return Ok(None) };
        let (spec, shape) = (&context.submission.spec, context.submission.dataset.shape);
        let frozen = |(number, block): (u32, &Frozen)| {
            let tensors = self.tensors(&block.weights)?;
            load_block::<B::InnerBackend>(spec, shape, number, block.classes, &tensors, &self.device)
                .map(|net| net.frozen_body())
                .map_err(|error| misfit(&error, |_| Some(&block.weights)))
        };
        let blocks = (1..).zip(&fresh.blocks).map(frozen).collect::<Result<_, Failure>>()?;
        Ok(Some(Chain::new(blocks, self.device.clone())))
    }

    /// A frozen block, without autodiff.
    fn frozen(
        &self,
        context: &Context,
        classes: usize,
        weights: &ObjectRef,
    ) -> Result<BlockNet<B::InnerBackend>, Failure> {
        let tensors = self.tensors(weights)?;
        let spec = &context.submission.spec;
        load_block(spec, context.submission.dataset.shape, context.block, classes, &tensors, &self.device)
            .map_err(|error| misfit(&error, |_| Some(weights)))
    }
}

/// Stored parameters that do not fit their block are as good as damaged: whatever made them is done again.
fn misfit<'a>(error: &LoadError, object: impl Fn(&LoadError) -> Option<&'a ObjectRef>) -> Failure {
    match (error, object(error)) {
        (LoadError::Network(_), _) | (_, None) => fatal(error),
        (_, Some(object)) => lost(object, error.to_string()),
    }
}

/// Progress of a stage that passes over samples once.
fn passed(control: &Control, done: usize, total: usize) -> Result<(), Stop> {
    control.set(Progress { done: done as u64, total: total as u64, ..Progress::default() });
    control.check()
}
