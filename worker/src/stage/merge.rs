//! The outer step over the replicas of a round: parameters by the outer optimiser, running statistics by their mean.

use super::io::lost;
use super::train::{first, save, validation_accuracy};
use super::{Context, Control, Executor, Stop, passed};
use crate::snn::block::BlockNet;
use crate::snn::outer::{Mean, Outer};
use crate::snn::trainer::TrainingBackend;
use bloctrain_infer::{NamedTensor, NamedTensors};
use bloctrain_shared::rounds::{Rounds, batch_count};
use bloctrain_shared::stage::merge::Work;
use bloctrain_shared::stage::train::{self, RoundMetrics};
use bloctrain_shared::task::Output;
use std::collections::BTreeMap;

pub(super) fn run<B: TrainingBackend>(
    executor: &Executor<B>,
    context: &Context,
    work: &Work,
    control: &Control,
) -> Result<Output, Stop> {
    let spec = &context.submission.spec;
    let mut net: BlockNet<B::InnerBackend> = first(executor, context, work.classes.len(), work.inherits.as_ref())?;
    let velocity = match &work.from {
        Some(from) => {
            let weights = executor.tensors(&from.weights)?;
            net.store.load(&weights).map_err(|error| lost(&from.weights, error.to_string()))?;
            Some((&from.optimizer, executor.tensors(&from.optimizer)?))
        }
        None => None,
    };
    let trainable = net.store.params.len();
    let mut merged = net.store.export();
    let mut means: Vec<Mean> = merged.iter().map(|tensor| Mean::new(tensor.values.len())).collect();
    for (number, replica) in work.replicas.iter().enumerate() {
        passed(control, number, work.replicas.len())?;
        let ends = executor.tensors(&replica.weights)?;
        for (index, (start, mean)) in merged.iter().zip(&mut means).enumerate() {
            let end = fitting(&ends, &start.name, start).map_err(|problem| lost(&replica.weights, problem))?;
            let change = start.values.iter().zip(&end.values);
            if index < trainable {
                mean.add(change.map(|(start, end)| start - end));
            } else {
                mean.add(change.map(|(_, end)| *end));
            }
        }
    }
    let outer = Outer { rate: spec.train.outer_learning_rate as f32, momentum: spec.train.outer_momentum as f32 };
    let mut velocities = Vec::with_capacity(trainable);
    for (index, (tensor, mean)) in merged.iter_mut().zip(means).enumerate() {
        let mean = mean.mean();
        if index >= trainable {
            tensor.values = mean;
            continue;
        }
        let name = format!("velocity.{}", tensor.name);
        let mut values = match &velocity {
            Some((object, found)) => {
                fitting(found, &name, tensor).map_err(|problem| lost(object, problem))?.values.clone()
            }
            None => vec![0.0; tensor.values.len()],
        };
        outer.step(&mut tensor.values, &mut values, &mean);
        velocities.push(NamedTensor { name, shape: tensor.shape.clone(), values });
    }
    let weights = NamedTensors { tensors: merged, metadata: BTreeMap::new() };
    let metadata = BTreeMap::from([("round".to_owned(), work.round.to_string())]);
    let checkpoint = save(executor, context, &weights, &NamedTensors { tensors: velocities, metadata })?;

    let joined = RoundMetrics::joined(work.replicas.iter().map(|replica| &replica.metrics));
    let rounds = Rounds::of(&spec.train, batch_count(joined.epoch_samples, &spec.train));
    let epochs = rounds.epochs(work.round);
    let validation_accuracy = if rounds.ends_epoch(work.round) {
        validation_accuracy(executor, context, &work.classes, &weights, &work.source, control)?
    } else {
        None
    };
    let metrics = RoundMetrics { epochs, validation_accuracy, ..joined };
    Ok(Output::Train(train::Output { checkpoint, finished: epochs >= spec.train.epochs_of(context.block), metrics }))
}

/// The tensor of a name, if it has as many values as another.
fn fitting<'a>(tensors: &'a NamedTensors, name: &str, like: &NamedTensor) -> Result<&'a NamedTensor, String> {
    let found = tensors.get(name).filter(|found| found.values.len() == like.values.len());
    found.ok_or_else(|| format!("it has no fitting `{name}`"))
}
