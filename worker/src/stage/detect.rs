//! Training of a block's detector, on features that are computed once.

use super::input::{Reader, selection, unseen_view, view};
use super::io::fatal;
use super::train::finite;
use super::{Context, Control, EVAL_BATCH, Executor, Stop};
use crate::kernel::{Mode, SpikingBackend};
use crate::snn::detector::{DetectorNet, balanced_loss};
use crate::snn::optim::{self, Optimizer};
use crate::snn::param::to_host;
use crate::snn::pass::Pass;
use crate::snn::trainer::TrainingBackend;
use bloctrain_infer::NamedTensors;
use bloctrain_shared::schedule::learning_rate;
use bloctrain_shared::spec::{DetectorPolicy, OptimizerKind, Schedule, TrainSpec};
use bloctrain_shared::stage::detect::{self, Work};
use bloctrain_shared::task::{Output, Progress, Split};
use bloctrain_shared::{Digest, key, seed};
use burn_tensor::{Tensor, TensorData};
use bytes::Bytes;
use rand::seq::SliceRandom;
use std::collections::BTreeSet;

const BATCH: usize = 128;
const LEARNING_RATE: f64 = 1e-3;

/// Most memory for features; beyond it samples are thinned out evenly.
const FEATURE_BYTES: usize = 256 << 20;

struct Features {
    width: usize,
    values: Vec<f32>,
    hard: Vec<bool>,
}

pub(super) fn run<B: TrainingBackend>(
    executor: &Executor<B>,
    context: &Context,
    work: &Work,
    control: &Control,
) -> Result<Output, Stop> {
    let Work { classes, hard, weights, among, selection: selected, source } = work;
    let spec = &context.submission.spec;
    if spec.detector.policy != DetectorPolicy::Learned {
        return Ok(Output::Detect(detect::Output { detector: None }));
    }
    let block = executor.frozen(context, classes.len(), weights)?;
    let new = DetectorNet::<B>::new(block.detector(), spec.run.seed, context.block, &executor.device);
    let pooling = DetectorNet::<B::InnerBackend>::new(block.detector(), spec.run.seed, context.block, &executor.device);
    let chain = executor.chain(context, source)?;
    let reader = Reader::new(&context.prepared, spec, &executor.io, Split::Train, classes, source);
    let reader = reader.through(chain.as_ref()).among(&executor.io, among.as_ref())?.unmixed();
    let selected = selected.as_ref().map(|object| selection(&executor.io, object, reader.shards())).transpose()?;
    let selected: Option<BTreeSet<u32>> = selected.map(|selected| selected.shards.into_iter().flatten().collect());
    // A view that the block has not trained on where there is one; of the cached ones the first.
    let seen = match spec.data.views {
        _ if spec.judges_unseen() => unseen_view(context.block),
        0 => view(spec, source, context.block + 1, 0),
        _ => 0,
    };
    let sizes = reader.sizes();
    let positions: Vec<(usize, usize)> =
        sizes.iter().enumerate().flat_map(|(shard, &size)| (0..size).map(move |index| (shard, index))).collect();
    let thin = (positions.len() * pooling.width() * size_of::<f32>()).div_ceil(FEATURE_BYTES).max(1);
    let positions: Vec<(usize, usize)> = positions.into_iter().step_by(thin).collect();
    let samples = context.prepared.samples(Split::Train);
    let is_hard = |id: u32| match &selected {
        Some(selected) => selected.contains(&id),
        None => hard.contains(samples.label(id as usize)),
    };
    let body = block.frozen_body();
    let mut features = Features { width: pooling.width(), values: Vec::new(), hard: Vec::new() };
    for (number, chunk) in positions.chunks(EVAL_BATCH).enumerate() {
        super::passed(control, number * EVAL_BATCH, positions.len())?;
        let batch = reader.batch::<B::InnerBackend>(chunk, seen, &executor.device)?;
        let (spikes, _) = B::InnerBackend::run_frozen(&body, batch.input, false);
        features.values.extend(to_host(pooling.features(&spikes, block.steps())));
        features.hard.extend(batch.ids.iter().map(|&id| is_hard(id)));
    }
    let detector = train(new, &features, spec.detector.epochs, (spec.run.seed, context.block), control)?;
    let tensors = NamedTensors { tensors: detector.store.export(), metadata: Default::default() };
    finite(context.block, &[&tensors])?;
    let bytes = Bytes::from(tensors.encode().map_err(fatal)?);
    let object = executor.io.put(&key::detector(&context.run, context.block, Digest::of(&bytes)), bytes)?;
    Ok(Output::Detect(detect::Output { detector: Some(object) }))
}

/// Trains by AdamW with both kinds of samples weighing the same in sum.
fn train<B: TrainingBackend>(
    mut net: DetectorNet<B>,
    features: &Features,
    epochs: u32,
    (seed, block): (u64, u32),
    control: &Control,
) -> Result<DetectorNet<B>, Stop> {
    let spec = TrainSpec {
        epochs,
        batch: BATCH,
        optimizer: OptimizerKind::Adamw,
        learning_rate: LEARNING_RATE,
        schedule: Schedule::Cosine,
        warmup_epochs: 0,
        weight_decay: 1e-2,
        ..TrainSpec::default()
    };
    optim::track(&mut net.store.params);
    let lengths: Vec<usize> = net.store.params.iter().map(|param| param.value.dims()[0]).collect();
    let device = net.store.device().clone();
    let mut optimizer = Optimizer::<B::InnerBackend>::new(&spec, &lengths, &device);
    let count = |hard: bool| features.hard.iter().filter(|&&is| is == hard).count().max(1) as f32;
    let weights = [count(false), count(true)].map(|count| features.hard.len() as f32 / (2.0 * count));
    let steps = features.hard.len().div_ceil(BATCH) as u64;
    for epoch in 0..epochs {
        let mut order: Vec<usize> = (0..features.hard.len()).collect();
        order.shuffle(&mut seed::rng(seed, "detector-order", &[block.into(), epoch.into()]));
        for (number, rows) in order.chunks(BATCH).enumerate() {
            control.check()?;
            let step = u64::from(epoch) * steps + number as u64;
            let loss = loss(&net, features, rows, weights, &device);
            let value = to_host(loss.clone().detach()).first().copied().unwrap_or_default();
            let grads = optim::gradients(&net.store.params, &loss.backward());
            let grads = optim::clip(grads, 5.0);
            optim::apply(&mut net.store.params, &mut optimizer, grads, learning_rate(&spec, step, steps));
            let total = u64::from(epochs) * steps;
            control.set(Progress { done: step + 1, total, epoch, epochs, loss: value.into(), ..Progress::default() });
        }
    }
    Ok(net)
}

fn loss<B: SpikingBackend>(
    net: &DetectorNet<B>,
    features: &Features,
    rows: &[usize],
    weights: [f32; 2],
    device: &B::Device,
) -> Tensor<B, 1> {
    let width = features.width;
    let values: Vec<f32> =
        rows.iter().flat_map(|&row| features.values[row * width..(row + 1) * width].iter().copied()).collect();
    let hard: Vec<bool> = rows.iter().map(|&row| features.hard[row]).collect();
    let x = Tensor::from_data(TensorData::new(values, [rows.len(), width]), device);
    let mut pass = Pass::new(1, rows.len(), Mode::Eval);
    balanced_loss(net.logits(x, &mut pass), &hard, weights)
}
