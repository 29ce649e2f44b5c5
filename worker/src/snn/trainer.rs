//! One block in training: its network, its optimiser, and one step of both.

use super::average::Average;
use super::block::{BlockConfig, BlockNet, BlockOutput};
use super::loss::{Mixed, mean_logits, mixed_loss};
use super::optim::{self, Optimizer};
use super::pass::Pass;
use crate::kernel::later::Later;
use crate::kernel::{BodyInput, Mode, SpikingBackend, memory};
use bloctrain_shared::schedule::average_share;
use bloctrain_shared::spec::{Loss, TrainSpec};
use burn_tensor::Tensor;
use burn_tensor::backend::AutodiffBackend;

/// A backend that can train: autodiff over a backend with the spiking operations.
pub trait TrainingBackend: AutodiffBackend<InnerBackend: SpikingBackend> + SpikingBackend {}

impl<B> TrainingBackend for B where B: AutodiffBackend<InnerBackend: SpikingBackend> + SpikingBackend {}

/// Samples for one forward and backward pass.
#[derive(Debug)]
pub struct MicroBatch<B: SpikingBackend> {
    /// Input of the block.
    pub input: BodyInput<B>,
    /// Dense labels, one per sample.
    pub labels: Vec<usize>,
    /// For every sample what was mixed into it; empty where nothing is mixed at all.
    pub mixed: Vec<Option<Mixed>>,
}

/// What optimiser steps saw: one step, or where figures arrive later ([`SpikingBackend::QUEUES`]) those that have
/// arrived.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StepMetrics {
    /// Sum of the samples' losses.
    pub loss_sum: f64,
    /// Samples answered rightly.
    pub right: u64,
    /// Samples.
    pub samples: u64,
    /// Mean firing rate, where it was measured.
    pub firing_rate: Option<f64>,
    /// That of every spiking layer, likewise; else empty.
    pub firing_rates: Vec<f64>,
    /// Most live memory of the step beyond what was there when it began, in bytes.
    pub working_bytes: usize,
}

/// A block in training.
#[derive(Debug)]
pub struct Trainer<B: TrainingBackend> {
    /// The block.
    pub net: BlockNet<B>,
    /// Its optimiser.
    pub optimizer: Optimizer<B::InnerBackend>,
    /// The average of its parameters, where `train.ema` asks for one.
    pub average: Option<Average<B::InnerBackend>>,
    spec: TrainSpec,
    /// Bytes of parameters and optimiser state.
    state_bytes: usize,
    /// Micro-batches whose figures were not read yet.
    queued: Vec<Queued>,
}

/// Steps whose figures may wait on a device before they are read.
const WAITING: usize = 32;

/// Loss and mean logits `[1 + B classes]` of a micro-batch.
#[derive(Debug)]
struct Queued {
    values: Later,
    labels: Vec<usize>,
}

impl<B: TrainingBackend> Trainer<B> {
    /// A block with its initial values.
    pub fn new(config: &BlockConfig, spec: &TrainSpec, device: &B::Device) -> Self {
        Self::of(BlockNet::new(config, device), spec)
    }

    /// A block with the values that it has.
    pub fn of(mut net: BlockNet<B>, spec: &TrainSpec) -> Self {
        let device = net.store.device().clone();
        optim::track(&mut net.store.params);
        let lengths: Vec<usize> = net.store.params.iter().map(|param| param.value.dims()[0]).collect();
        let optimizer = Optimizer::new(spec, &lengths, &device);
        let average = spec.averages().then(|| Average::new(&net.store.params));
        let state_bytes = spec.parameter_copies() * size_of::<f32>() * net.store.parameters();
        Self { net, optimizer, average, spec: spec.clone(), state_bytes, queued: Vec::new() }
    }

    /// Bytes of parameters and optimiser state, which live through every step.
    pub fn state_bytes(&self) -> usize {
        self.state_bytes
    }

    /// One optimiser step over micro-batches, whose gradients are averaged by their numbers of samples.
    ///
    /// `seed` makes the step's dropout masks; `measure` also measures firing rates.
    ///
    /// # Errors
    /// Whatever `next` answers instead of a micro-batch.
    pub fn step<E>(
        &mut self,
        micro_batches: impl Iterator<Item = Result<MicroBatch<B>, E>>,
        samples: usize,
        rate: f64,
        seed: u64,
        measure: bool,
    ) -> Result<StepMetrics, E> {
        let device = self.net.store.device().clone();
        let before = if measure { B::memory_in_use(&device) } else { None };
        let heap_before = memory::live();
        memory::reset_peak();
        let mut metrics = StepMetrics::default();
        let mut sum: Option<Vec<Tensor<B::InnerBackend, 1>>> = None;
        for batch in micro_batches {
            let grads = self.backward(batch?, samples, seed, measure, &mut metrics);
            sum = Some(match sum {
                None => grads,
                Some(sum) => sum.into_iter().zip(grads).map(|(sum, grad)| sum + grad).collect(),
            });
        }
        if let Some(grads) = sum {
            let grads = optim::clip(grads, self.spec.gradient_clip);
            optim::apply(&mut self.net.store.params, &mut self.optimizer, grads, rate);
            if let Some(average) = &mut self.average {
                average.follow(&self.net.store.params, average_share(self.spec.ema, self.optimizer.steps()));
            }
        }
        metrics.working_bytes = match before {
            Some(before) => memory::device_peak().saturating_sub(before),
            None if B::QUEUES => 0,
            None => memory::peak().saturating_sub(heap_before),
        };
        if !B::QUEUES || self.queued.len() >= WAITING {
            self.settle(&mut metrics);
        }
        Ok(metrics)
    }

    /// Reads the figures and statistics that waited on the device, and adds the figures to `metrics`.
    pub fn settle(&mut self, metrics: &mut StepMetrics) {
        self.net.settle();
        for Queued { values, labels } in std::mem::take(&mut self.queued) {
            let values = values.read();
            let (loss, logits) = values.split_first().map_or((f32::NAN, &[][..]), |(loss, logits)| (*loss, logits));
            metrics.loss_sum += f64::from(loss) * labels.len() as f64;
            metrics.right += right_answers(logits, &labels);
            metrics.samples += labels.len() as u64;
        }
    }

    fn loss(&self, logits: Tensor<B, 3>, labels: &[usize], mixed: &[Option<Mixed>]) -> Tensor<B, 1> {
        mixed_loss(self.spec.loss, logits, labels, mixed, self.spec.label_smoothing)
    }

    fn backward(
        &mut self,
        batch: MicroBatch<B>,
        samples: usize,
        seed: u64,
        measure: bool,
        metrics: &mut StepMetrics,
    ) -> Vec<Tensor<B::InnerBackend, 1>> {
        let count = batch.labels.len();
        let mut pass = Pass::new(self.net.steps(), count, Mode::Train { seed }).with_rates(measure);
        // The spikes are of no use here, and go before the backward pass.
        let BlockOutput { logits, auxiliary, spikes: _ } =
            self.net.forward(batch.input, &mut pass, self.spec.loss == Loss::Tet);
        self.net.update_statistics(&pass);
        metrics.firing_rate = pass.firing_rate().or(metrics.firing_rate);
        if let Some(rates) = pass.rates.take() {
            metrics.firing_rates = rates;
        }
        let [_, _, classes] = logits.dims();
        let mean = mean_logits(logits.clone().inner()).reshape([count * classes]);
        let loss = self.loss(logits, &batch.labels, &batch.mixed);
        // What people see is the classifier's own loss: it can be compared with and without an auxiliary network.
        let values = Tensor::cat(vec![loss.clone().inner(), mean], 0);
        let total = match auxiliary {
            Some(logits) => loss + self.loss(logits, &batch.labels, &batch.mixed),
            None => loss,
        };
        self.queued.push(Queued { values: Later::new(values), labels: batch.labels });
        let share = count as f64 / samples as f64;
        let scaled = if count == samples { total } else { total.mul_scalar(share) };
        let grads = scaled.backward();
        optim::gradients(&self.net.store.params, &grads)
    }
}

/// Samples whose largest mean logit is their label; logits `[B, classes]`.
fn right_answers(logits: &[f32], labels: &[usize]) -> u64 {
    let classes = logits.len() / labels.len().max(1);
    let answers = logits.chunks(classes.max(1)).map(|row| usize::from(bloctrain_shared::exit::top(row).0));
    answers.zip(labels).map(|(answer, &label)| u64::from(answer == label)).sum()
}
