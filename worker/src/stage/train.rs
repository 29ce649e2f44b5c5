//! One round of training.
//!
//! A round starts from the committed one before (or from the seed), takes its slice of the sample order, and ends at the
//! end of the epoch, or after `round_steps` steps. A replica's part of a round takes the replica's slice of the same batches.
//! Everything random in a step derives from (seed, block, batch), with the batches of all epochs counted through.
//! Reading, unpacking, augmenting and encoding the next micro-batches goes on beside the step, two of them ahead at most.

use super::input::Reader;
use super::io::fatal;
use super::prefetch::{self, Ahead};
use super::{Context, Control, Executor, Stop, validate};
use crate::snn::block::BlockConfig;
use crate::snn::trainer::{Batch, StepMetrics, Trainer, TrainingBackend};
use bloctrain_shared::course::Course;
use bloctrain_shared::key::{self, CheckpointPart};
use bloctrain_shared::label::LabelMap;
use bloctrain_shared::order::{batches, epoch_order};
use bloctrain_shared::schedule::learning_rate;
use bloctrain_shared::task::{Checkpoint, Failure, ObjectRef, Output, Progress, RoundMetrics, Source, Split};
use bloctrain_shared::{Digest, seed};
use bloctrain_store::safetensor::NamedTensors;
use bytes::Bytes;
use rand::Rng;
use std::collections::BTreeMap;

/// Steps between measurements of the firing rate.
const RATE_EVERY: u64 = 16;

/// A block kept in memory between rounds.
pub(super) struct Resident<B: TrainingBackend> {
    run: String,
    block: u32,
    weights: Digest,
    optimizer: Digest,
    trainer: Trainer<B>,
}

/// Inputs of the task.
pub(super) struct Inputs<'a> {
    pub(super) round: u32,
    pub(super) replica: u32,
    pub(super) classes: &'a LabelMap,
    pub(super) from: Option<&'a Checkpoint>,
    pub(super) source: &'a Source,
}

/// Sums over the steps of a round.
#[derive(Default)]
struct Sums {
    loss: f64,
    right: u64,
    samples: u64,
    rates: Vec<f64>,
    peak: usize,
    /// Seconds of waiting for input.
    waited: f64,
}

impl Sums {
    fn add(&mut self, step: &StepMetrics, waited: f64) {
        self.waited = waited;
        self.loss += step.loss_sum;
        self.right += step.right;
        self.samples += step.samples;
        self.rates.extend(step.firing_rate);
        self.peak = self.peak.max(step.working_bytes);
    }

    fn mean(&self, sum: f64) -> f64 {
        sum / self.samples.max(1) as f64
    }

    fn firing_rate(&self) -> f64 {
        self.rates.iter().sum::<f64>() / self.rates.len().max(1) as f64
    }
}

pub(super) fn run<B: TrainingBackend>(
    executor: &mut Executor<B>,
    context: &Context,
    inputs: &Inputs<'_>,
    control: &Control,
) -> Result<Output, Stop> {
    let Inputs { classes, source, .. } = *inputs;
    let mut trainer = take_trainer(executor, context, classes, inputs.from)?;
    let spec = &context.submission.spec;
    let io = executor.io.clone();
    let reader = Reader::new(&context.prepared, spec, &io, Split::Train, classes, source);
    let sizes = reader.sizes();
    let samples: usize = sizes.iter().sum();
    if samples == 0 {
        return Err(fatal(format!("block {} has no training samples", context.block)).into());
    }
    let views = if spec.data.augment.is_empty() { 1 } else { spec.data.views.max(1) };
    let order = |epoch: u32| epoch_order(&sizes, spec.run.seed, context.block, epoch);
    // The order differs between epochs, the sizes of their batches do not.
    let batch_sizes: Vec<usize> = batches(&order(0), spec.train.batch).iter().map(|batch| batch.len()).collect();
    let per_epoch = batch_sizes.len() as u64;
    let course = Course::new(&spec.train, batch_sizes.len(), trainer.optimizer.steps(), inputs.round, inputs.replica);
    let course = course.map_err(fatal)?;
    let (first, planned) = (course.first, course.planned);
    let total = per_epoch * u64::from(spec.train.epochs);
    let micro = if spec.train.micro_batch == 0 { spec.train.batch } else { spec.train.micro_batch }.max(1);
    let device = executor.device.clone();
    let mut current: Option<(u32, Vec<(usize, usize)>)> = None;
    let positions = (first..planned).flat_map(|step| {
        let (epoch, number) = course.place(step);
        let (_, order) = match current.take() {
            Some(same) if same.0 == epoch => current.insert(same),
            _ => current.insert((epoch, order(epoch))),
        };
        let batch = batches(order, spec.train.batch)[number];
        batch.chunks(micro).map(|chunk| (epoch, chunk.to_vec())).collect::<Vec<_>>()
    });
    let micro_batches = positions.map(|(epoch, positions)| {
        // A cache holds some views and cycles them; images are augmented anew in every epoch.
        let view = if *source == Source::Images { epoch } else { epoch % views };
        let batch = reader.batch::<B>(&positions, view, &device)?;
        Ok::<_, Failure>(Batch { input: batch.input, labels: batch.labels })
    });
    let stopwatch = executor.stopwatch.clone();
    let begun = executor.seconds();
    let steps = |input: &mut Ahead<'_, Result<Batch<B>, Failure>>| -> Result<(Sums, u64), Stop> {
        let mut sums = Sums::default();
        for step in first..planned {
            control.check()?;
            // A round that is handed back ends after this step; the next one goes on there, so the weights come out the same.
            let ends = step + 1 == planned || control.hands_back();
            let (epoch, number) = course.place(step);
            let size = batch_sizes[number];
            let step_seed = seed::rng(spec.run.seed, "step", &[context.block.into(), course.batch(step)]).next_u64();
            let rate = learning_rate(&spec.train, course.position(step), per_epoch);
            let measure = step % RATE_EVERY == 0 || ends;
            let (parts, mut taken) = (size.div_ceil(micro), 0);
            let batches = input.by_ref().take(parts).inspect(|_| taken += 1);
            let mut metrics = trainer.step(batches, size, rate, step_seed, measure)?;
            if ends {
                trainer.settle(&mut metrics);
            }
            if taken != parts {
                return Err(fatal("the input of training ended early").into());
            }
            sums.add(&metrics, input.waited());
            if !sums.loss.is_finite() {
                let message = format!(
                    "training of block {} diverged in epoch {}: the loss is not a number; lower train.learning_rate or set train.gradient_clip",
                    context.block,
                    epoch + 1
                );
                return Err(fatal(message).into());
            }
            let seconds = (stopwatch() - begun).max(1e-9);
            control.set(Progress {
                done: course.position(step) + 1,
                total,
                epoch,
                epochs: spec.train.epochs,
                loss: sums.mean(sums.loss),
                accuracy: sums.mean(sums.right as f64),
                images_per_second: sums.samples as f64 / seconds,
                firing_rate: sums.firing_rate(),
                waiting_fraction: sums.waited / seconds,
            });
            if ends {
                return Ok((sums, step + 1));
            }
        }
        Ok((sums, planned))
    };
    let (sums, last) = prefetch::ahead(micro_batches, &stopwatch, steps).map_err(fatal)??;
    let seconds = executor.seconds() - begun;
    let weights = NamedTensors { tensors: trainer.net.store.export(), metadata: BTreeMap::new() };
    let moments = trainer.optimizer.export(&trainer.net.store.params);
    let moments = NamedTensors { tensors: moments, metadata: BTreeMap::from([("step".to_owned(), last.to_string())]) };
    let checkpoint = save(executor, context, &weights, &moments)?;
    let metrics = RoundMetrics {
        epochs: course.epochs(last),
        epoch_samples: samples,
        loss: sums.mean(sums.loss),
        accuracy: sums.mean(sums.right as f64),
        // Only whole rounds are compared with each other, and of replicas what was merged.
        validation_accuracy: if last == planned && inputs.replica == 0 {
            validation_accuracy(executor, context, classes, &weights, source, control)?
        } else {
            None
        },
        firing_rate: sums.firing_rate(),
        samples: sums.samples,
        seconds,
        waiting_seconds: sums.waited,
        peak_memory_bytes: (sums.peak + trainer.state_bytes()) as u64,
        parameters: trainer.net.store.parameters(),
    };
    let finished = course.epochs(last) >= spec.train.epochs;
    if !finished {
        let (weights, optimizer) = (checkpoint.weights.digest, checkpoint.optimizer.digest);
        executor.resident = Some(Resident { run: context.run.clone(), block: context.block, weights, optimizer, trainer });
    }
    Ok(match inputs.replica {
        0 => Output::Train { checkpoint, finished, metrics },
        _ => Output::Replica { checkpoint, complete: last == planned, metrics },
    })
}

/// The block in the state of a checkpoint: from memory when it is there, else from the store, else from the seed.
fn take_trainer<B: TrainingBackend>(
    executor: &mut Executor<B>,
    context: &Context,
    classes: &LabelMap,
    from: Option<&Checkpoint>,
) -> Result<Trainer<B>, Failure> {
    let wanted = |resident: &Resident<B>| {
        resident.run == context.run
            && resident.block == context.block
            && from.is_some_and(|from| from.optimizer.digest == resident.optimizer)
    };
    if let (Some(mut resident), Some(from)) = (executor.resident.take().filter(wanted), from) {
        // A replica goes on from what was merged meanwhile.
        if resident.weights != from.weights.digest {
            load_weights(executor, &mut resident.trainer, &from.weights)?;
        }
        return Ok(resident.trainer);
    }
    let spec = &context.submission.spec;
    let config = BlockConfig::new(spec, context.submission.dataset.shape, context.block, classes.len()).map_err(fatal)?;
    let mut trainer = Trainer::new(&config, &spec.train, &executor.device).map_err(fatal)?;
    if let Some(from) = from {
        load_weights(executor, &mut trainer, &from.weights)?;
        let state = executor.tensors(&from.optimizer)?;
        let step = state.metadata.get("step").and_then(|step| step.parse().ok());
        let step = step.ok_or_else(|| lost(&from.optimizer, "it does not say its step".into()))?;
        trainer.optimizer.load(&trainer.net.store.params, &state, step).map_err(|problem| lost(&from.optimizer, problem))?;
    }
    Ok(trainer)
}

pub(super) fn lost(object: &ObjectRef, problem: String) -> Failure {
    Failure::InputLost { key: object.key.clone(), problem }
}

fn load_weights<B: TrainingBackend>(executor: &Executor<B>, trainer: &mut Trainer<B>, object: &ObjectRef) -> Result<(), Failure> {
    let weights = executor.tensors(object)?;
    trainer.net.store.load(&weights).map_err(|error| lost(object, error.to_string()))?;
    crate::snn::optim::track(&mut trainer.net.store.params);
    Ok(())
}

/// Writes a checkpoint.
pub(super) fn save<B: TrainingBackend>(
    executor: &Executor<B>,
    context: &Context,
    weights: &NamedTensors,
    optimizer: &NamedTensors,
) -> Result<Checkpoint, Failure> {
    let put = |part: CheckpointPart, tensors: &NamedTensors| {
        let bytes: Bytes = tensors.encode().map_err(fatal)?;
        executor.io.put(&key::checkpoint(&context.run, context.block, part, Digest::of(&bytes)), bytes)
    };
    Ok(Checkpoint { weights: put(CheckpointPart::Weights, weights)?, optimizer: put(CheckpointPart::Optimizer, optimizer)? })
}

/// Accuracy on the validation data, where early stopping asks for it.
pub(super) fn validation_accuracy<B: TrainingBackend>(
    executor: &Executor<B>,
    context: &Context,
    classes: &LabelMap,
    weights: &NamedTensors,
    source: &Source,
    control: &Control,
) -> Result<Option<f64>, Stop> {
    let spec = &context.submission.spec;
    if spec.train.patience == 0 {
        return Ok(None);
    }
    let net = crate::model::network::load_block(
        spec,
        context.submission.dataset.shape,
        context.block,
        classes.len(),
        weights,
        &executor.device,
    )
    .map_err(fatal)?;
    let mut sum = bloctrain_shared::metric::Confusion::new(classes.len());
    for shard in 0..context.prepared.shards(Split::Validation).len() {
        let shard = u32::try_from(shard).map_err(fatal)?;
        sum.merge(&validate::confusion(executor, context, &net, shard, classes, source, control)?);
    }
    Ok(Some(sum.accuracy()))
}
