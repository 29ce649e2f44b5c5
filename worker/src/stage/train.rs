//! One round of training.
//!
//! A round starts from the committed one before (or from the seed), takes its slice of the sample order, and ends at
//! the end of the epoch, or after `round_steps` steps. A replica's part of a round takes the replica's slice of the
//! same batches. Everything random in a step derives from (seed, block, batch), with the batches of all epochs counted
//! through. Reading, unpacking, augmenting and encoding the next micro-batches goes on beside the step, two of them
//! ahead at most.

use super::input::{Reader, view};
use super::io::{fatal, lost};
use super::prefetch;
use super::round::{Input, Round};
use super::{Context, Control, Executor, Stop, validate};
use crate::kernel::SpikingBackend;
use crate::snn::block::{BlockConfig, BlockNet};
use crate::snn::trainer::{MicroBatch, Trainer, TrainingBackend};
use bloctrain_infer::{NamedTensor, NamedTensors};
use bloctrain_shared::Digest;
use bloctrain_shared::key::{self, CheckpointPart};
use bloctrain_shared::label::LabelMap;
use bloctrain_shared::plan::Submission;
use bloctrain_shared::schedule::time_steps;
use bloctrain_shared::stage::train::{self, Checkpoint, Part, Work};
use bloctrain_shared::task::{Failure, ObjectRef, Output, Source, Split};
use bytes::Bytes;
use std::collections::BTreeMap;

/// A block kept in memory between rounds.
pub(super) struct Resident<B: TrainingBackend> {
    run: String,
    block: u32,
    weights: Digest,
    optimizer: Digest,
    trainer: Trainer<B>,
}

pub(super) fn run<B: TrainingBackend>(
    executor: &mut Executor<B>,
    context: &Context,
    work: &Work,
    control: &Control,
) -> Result<Output, Stop> {
    let Work { classes, among, source, .. } = work;
    let mut trainer = take_trainer(executor, context, work)?;
    let (spec, io, device) = (&context.submission.spec, executor.io.clone(), executor.device.clone());
    let chain = executor.chain(context, source)?;
    let reader = Reader::new(&context.prepared, spec, &io, Split::Train, classes, source);
    let reader = reader.through(chain.as_ref()).among(&io, among.as_ref())?;
    let round = Round::new(context, work, reader.sizes(), trainer.optimizer.steps())?;
    let micro_batches = round.positions().map(|(epoch, positions)| {
        let batch = reader.batch::<B>(&positions, view(spec, source, context.block, epoch), &device)?;
        let input = batch.input.first(time_steps(&round.train, spec.encoding.steps, epoch));
        Ok::<_, Failure>(MicroBatch { input, labels: batch.labels, mixed: batch.mixed })
    });
    let stopwatch = executor.stopwatch.clone();
    let begun = executor.seconds();
    let steps = |input: &mut Input<'_, B>| round.train(&mut trainer, input, || stopwatch() - begun, control);
    let (sums, last) = prefetch::ahead(micro_batches, &stopwatch, steps).map_err(fatal)??;
    trainer.net.set_steps(spec.encoding.steps);
    let finished = round.course.epochs(last) >= round.train.epochs;
    if finished && work.replica == 0 && spec.train.recount > 0 {
        let epoch = round.train.epochs;
        let inputs = round.first_of_epoch(epoch, spec.train.recount).into_iter().map(|positions| {
            control.check()?;
            let batch = reader.batch::<B>(&positions, view(spec, source, context.block, epoch), &device)?;
            Ok::<_, Stop>(batch.input)
        });
        if let Some(average) = &trainer.average {
            // Nothing is trained any more: the statistics are those of what is exported.
            average.put(&mut trainer.net.store.params);
        }
        trainer.net.recount(inputs, spec.run.seed)?;
    }
    let seconds = executor.seconds() - begun;

    let (weights, moments) = tensors(&trainer, last);
    let checkpoint = save(executor, context, &weights, &moments)?;
    let complete = last == round.course.planned;
    let mut metrics = round.metrics(&trainer, &sums, last, seconds);
    if complete && work.replica == 0 {
        // Only whole rounds are compared with each other, and of replicas what was merged.
        metrics.validation_accuracy = validation_accuracy(executor, context, classes, &weights, source, control)?;
    }
    if !finished {
        let (weights, optimizer) = (checkpoint.weights.digest, checkpoint.optimizer.digest);
        executor.resident =
            Some(Resident { run: context.run.clone(), block: context.block, weights, optimizer, trainer });
    }
    Ok(match work.replica {
        0 => Output::Train(train::Output { checkpoint, finished, metrics }),
        _ => Output::Replica(Part { checkpoint, complete, metrics }),
    })
}

/// What the parameters that are trained are called beside the optimiser's state, where those of the block are averages.
const TRAINED: &str = "trained.";

/// Parameters, and the optimiser's state after its last step. Where parameters are averaged, those of the block are the
/// averages, which are evaluated and exported, and what training goes on from is in the state.
fn tensors<B: TrainingBackend>(trainer: &Trainer<B>, last: u64) -> (NamedTensors, NamedTensors) {
    let mut weights = NamedTensors { tensors: trainer.net.store.export(), metadata: BTreeMap::new() };
    let mut moments = trainer.optimizer.export(&trainer.net.store.params);
    if let Some(average) = &trainer.average {
        let trained = weights
            .tensors
            .iter()
            .map(|tensor| NamedTensor { name: format!("{TRAINED}{}", tensor.name), ..tensor.clone() });
        moments.extend(trained);
        average.replace(&mut weights.tensors);
    }
    let metadata = BTreeMap::from([("step".to_owned(), last.to_string())]);
    (weights, NamedTensors { tensors: moments, metadata })
}

/// The block in the state of a checkpoint: from memory when it is there, else from the store, else as it begins.
fn take_trainer<B: TrainingBackend>(
    executor: &mut Executor<B>,
    context: &Context,
    work: &Work,
) -> Result<Trainer<B>, Failure> {
    let from = work.from.as_ref();
    let wanted = |resident: &Resident<B>| {
        resident.run == context.run
            && resident.block == context.block
            && from.is_some_and(|from| from.optimizer.digest == resident.optimizer)
    };
    if let (Some(mut resident), Some(from)) = (executor.resident.take().filter(wanted), from) {
        // A replica goes on from what was merged meanwhile.
        if resident.weights != from.weights.digest {
            load_weights(&mut resident.trainer, &from.weights, &executor.tensors(&from.weights)?)?;
        }
        return Ok(resident.trainer);
    }
    let spec = &context.submission.spec;
    let net = first(executor, context, work.classes.len(), work.inherits.as_ref())?;
    let mut trainer = Trainer::of(net, &spec.train);
    if let Some(from) = from {
        let weights = executor.tensors(&from.weights)?;
        load_weights(&mut trainer, &from.weights, &weights)?;
        let state = executor.tensors(&from.optimizer)?;
        let step = state.metadata.get("step").and_then(|step| step.parse().ok());
        let step = step.ok_or_else(|| lost(&from.optimizer, "it does not say its step".into()))?;
        trainer
            .optimizer
            .load(&trainer.net.store.params, &state, step)
            .map_err(|problem| lost(&from.optimizer, problem))?;
        load_average(&mut trainer, from, &weights, &state)?;
    }
    Ok(trainer)
}

/// The block as its training begins: from the seed, and what the block before was trained with in its place.
pub(super) fn first<B: TrainingBackend, A: SpikingBackend<Device = B::Device>>(
    executor: &Executor<B>,
    context: &Context,
    classes: usize,
    inherits: Option<&ObjectRef>,
) -> Result<BlockNet<A>, Failure> {
    let Submission { spec, dataset, .. } = &context.submission;
    let config = BlockConfig::new(spec, dataset.shape, context.block, classes).map_err(fatal)?;
    let mut net = BlockNet::new(&config, &executor.device);
    if let Some(before) = inherits {
        net.inherit(&executor.tensors(before)?).map_err(|error| lost(before, error.to_string()))?;
    }
    Ok(net)
}

/// Parameters from an object that holds `tensors`.
fn load_weights<B: TrainingBackend>(
    trainer: &mut Trainer<B>,
    object: &ObjectRef,
    tensors: &NamedTensors,
) -> Result<(), Failure> {
    trainer.net.store.load(tensors).map_err(|error| lost(object, error.to_string()))?;
    crate::snn::optim::track(&mut trainer.net.store.params);
    Ok(())
}

/// Where parameters are averaged: the average from the block's parameters, and those from the optimiser's state.
fn load_average<B: TrainingBackend>(
    trainer: &mut Trainer<B>,
    from: &Checkpoint,
    weights: &NamedTensors,
    state: &NamedTensors,
) -> Result<(), Failure> {
    let Some(average) = &mut trainer.average else { return Ok(()) };
    average.load(&trainer.net.store.params, weights).map_err(|problem| lost(&from.weights, problem))?;
    let trained = |tensor: &NamedTensor| {
        let name = tensor.name.strip_prefix(TRAINED)?.to_owned();
        Some(NamedTensor { name, ..tensor.clone() })
    };
    let trained =
        NamedTensors { tensors: state.tensors.iter().filter_map(trained).collect(), metadata: BTreeMap::new() };
    load_weights(trainer, &from.optimizer, &trained)
}

/// Refuses what training cannot go on from, where it is made: parameters and moments that are not numbers.
pub(super) fn finite(block: u32, of: &[&NamedTensors]) -> Result<(), Failure> {
    let mut tensors = of.iter().flat_map(|tensors| &tensors.tensors);
    match tensors.find(|tensor| !tensor.values.iter().all(|value| value.is_finite())) {
        None => Ok(()),
        Some(tensor) => Err(fatal(format!(
            "training of block {block} diverged: `{}` is not a number at the end of the round; lower \
            train.learning_rate or set train.gradient_clip",
            tensor.name
        ))),
    }
}

/// Writes a checkpoint, which is finite.
pub(super) fn save<B: TrainingBackend>(
    executor: &Executor<B>,
    context: &Context,
    weights: &NamedTensors,
    optimizer: &NamedTensors,
) -> Result<Checkpoint, Failure> {
    finite(context.block, &[weights, optimizer])?;
    let put = |part: CheckpointPart, tensors: &NamedTensors| {
        let bytes = Bytes::from(tensors.encode().map_err(fatal)?);
        executor.io.put(&key::checkpoint(&context.run, context.block, part, Digest::of(&bytes)), bytes)
    };
    Ok(Checkpoint {
        weights: put(CheckpointPart::Weights, weights)?,
        optimizer: put(CheckpointPart::Optimizer, optimizer)?,
    })
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
