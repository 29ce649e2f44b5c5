//! The steps of a round: which batches they take, and what they add up to.

use super::io::fatal;
use super::prefetch::Ahead;
use super::{Context, Control, Stop};
use crate::snn::trainer::{MicroBatch, StepMetrics, Trainer, TrainingBackend};
use bloctrain_shared::course::Course;
use bloctrain_shared::order::{batches, epoch_order};
use bloctrain_shared::schedule::{learning_rate, time_steps};
use bloctrain_shared::seed;
use bloctrain_shared::spec::{RunSpec, TrainSpec};
use bloctrain_shared::stage::train::{RoundMetrics, Work};
use bloctrain_shared::task::{Failure, Progress};
use rand::Rng;

/// Steps between measurements of the firing rate.
const RATE_EVERY: u64 = 16;

/// Micro-batches, made ahead of the steps.
pub(super) type Input<'a, B> = Ahead<'a, Result<MicroBatch<B>, Failure>>;

/// Sums over the steps of a round.
#[derive(Default)]
pub(super) struct Sums {
    loss: f64,
    right: u64,
    samples: u64,
    rates: Vec<f64>,
    /// Sums of the layers' firing rates over the steps in `rates`.
    layer_rates: Vec<f64>,
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
        if self.layer_rates.is_empty() {
            self.layer_rates.clone_from(&step.firing_rates);
        } else {
            self.layer_rates.iter_mut().zip(&step.firing_rates).for_each(|(sum, rate)| *sum += rate);
        }
        self.peak = self.peak.max(step.working_bytes);
    }

    fn mean(&self, sum: f64) -> f64 {
        sum / self.samples.max(1) as f64
    }

    fn firing_rate(&self) -> f64 {
        self.rates.iter().sum::<f64>() / self.rates.len().max(1) as f64
    }

    fn firing_rates(&self) -> Vec<f64> {
        self.layer_rates.iter().map(|sum| sum / self.rates.len().max(1) as f64).collect()
    }
}

/// What the steps of a round are, which is known before the first of them.
pub(super) struct Round<'a> {
    context: &'a Context,
    /// How the block is trained.
    pub(super) train: TrainSpec,
    pub(super) course: Course,
    /// Samples of each shard.
    sizes: Vec<usize>,
    /// Samples of each batch. The order differs between epochs, these do not.
    batch_sizes: Vec<usize>,
    /// Samples of a micro-batch.
    micro: usize,
}

impl<'a> Round<'a> {
    /// The round that a task asks for, over shards of these sizes, for an optimiser that has made some steps.
    pub(super) fn new(context: &'a Context, work: &Work, sizes: Vec<usize>, steps: u64) -> Result<Self, Failure> {
        let spec = &context.submission.spec;
        if sizes.iter().sum::<usize>() == 0 {
            return Err(fatal(format!("block {} has no training samples", context.block)));
        }
        let order = epoch_order(&sizes, spec.run.seed, context.block, 0);
        let batch_sizes: Vec<usize> =
            batches(&order, spec.train.batch, spec.train.drop_last).iter().map(|batch| batch.len()).collect();
        let train = spec.train.of_block(context.block);
        let course = Course::new(&train, batch_sizes.len(), steps, work.round, work.replica).map_err(fatal)?;
        let micro = if spec.train.micro_batch == 0 { spec.train.batch } else { spec.train.micro_batch }.max(1);
        Ok(Self { context, train, course, sizes, batch_sizes, micro })
    }

    fn spec(&self) -> &'a RunSpec {
        &self.context.submission.spec
    }

    fn per_epoch(&self) -> u64 {
        self.batch_sizes.len() as u64
    }

    /// Epoch and positions of every micro-batch, in order.
    pub(super) fn positions(&self) -> impl Iterator<Item = (u32, Vec<(usize, usize)>)> + Send {
        let mut current: Option<(u32, Vec<(usize, usize)>)> = None;
        let order = move |epoch: u32| epoch_order(&self.sizes, self.spec().run.seed, self.context.block, epoch);
        (self.course.first..self.course.planned).flat_map(move |step| {
            let (epoch, number) = self.course.place(step);
            let (_, order) = match current.take() {
                Some(same) if same.0 == epoch => current.insert(same),
                _ => current.insert((epoch, order(epoch))),
            };
            let train = &self.spec().train;
            let batch = batches(order, train.batch, train.drop_last)[number];
            batch.chunks(self.micro).map(|chunk| (epoch, chunk.to_vec())).collect::<Vec<_>>()
        })
    }

    /// Positions of the first samples of an epoch, by micro-batch.
    pub(super) fn first_of_epoch(&self, epoch: u32, samples: usize) -> Vec<Vec<(usize, usize)>> {
        let mut order = epoch_order(&self.sizes, self.spec().run.seed, self.context.block, epoch);
        order.truncate(samples);
        batches(&order, self.micro, false).into_iter().map(<[_]>::to_vec).collect()
    }

    /// Trains to the end of the round, or until it is handed back. Gives the sums, and the step after the last.
    pub(super) fn train<B: TrainingBackend>(
        &self,
        trainer: &mut Trainer<B>,
        input: &mut Input<'_, B>,
        elapsed: impl Fn() -> f64,
        control: &Control,
    ) -> Result<(Sums, u64), Stop> {
        let mut sums = Sums::default();
        for step in self.course.first..self.course.planned {
            control.check()?;
            // A round that is handed back ends after this step; the next one goes on there, so the weights come out the
            // same.
            let ends = step + 1 == self.course.planned || control.hands_back();
            let metrics = self.step(trainer, input, step, ends)?;
            sums.add(&metrics, input.waited());
            self.check(step, &sums)?;
            control.set(self.progress(step, &sums, elapsed().max(1e-9)));
            if ends {
                return Ok((sums, step + 1));
            }
        }
        Ok((sums, self.course.planned))
    }

    fn step<B: TrainingBackend>(
        &self,
        trainer: &mut Trainer<B>,
        input: &mut Input<'_, B>,
        step: u64,
        ends: bool,
    ) -> Result<StepMetrics, Failure> {
        let (spec, course) = (self.spec(), &self.course);
        let size = self.batch_sizes[course.place(step).1];
        let step_seed = seed::rng(spec.run.seed, "step", &[self.context.block.into(), course.batch(step)]).next_u64();
        let rate = learning_rate(&self.train, course.position(step), self.per_epoch());
        trainer.net.set_steps(time_steps(&self.train, spec.encoding.steps, course.place(step).0));
        let measure = step.is_multiple_of(RATE_EVERY) || ends;
        let (parts, mut taken) = (size.div_ceil(self.micro), 0);
        let batches = input.by_ref().take(parts).inspect(|_| taken += 1);
        let mut metrics = trainer.step(batches, size, rate, step_seed, measure)?;
        if ends {
            trainer.settle(&mut metrics);
        }
        if taken != parts {
            return Err(fatal("the input of training ended early"));
        }
        Ok(metrics)
    }

    /// Refuses a loss that is not a number.
    fn check(&self, step: u64, sums: &Sums) -> Result<(), Failure> {
        if sums.loss.is_finite() {
            return Ok(());
        }
        Err(fatal(format!(
            "training of block {} diverged in epoch {}: the loss is not a number; lower train.learning_rate or set \
            train.gradient_clip",
            self.context.block,
            self.course.place(step).0 + 1
        )))
    }

    fn progress(&self, step: u64, sums: &Sums, seconds: f64) -> Progress {
        let epochs = self.train.epochs;
        Progress {
            done: self.course.position(step) + 1,
            total: self.per_epoch() * u64::from(epochs),
            epoch: self.course.place(step).0,
            epochs,
            loss: sums.mean(sums.loss),
            accuracy: sums.mean(sums.right as f64),
            images_per_second: sums.samples as f64 / seconds,
            firing_rate: sums.firing_rate(),
            waiting_fraction: sums.waited / seconds,
            // Counted where progress is told.
            ticks: 0,
        }
    }

    /// Figures of the steps up to `last`.
    pub(super) fn metrics<B: TrainingBackend>(
        &self,
        trainer: &Trainer<B>,
        sums: &Sums,
        last: u64,
        seconds: f64,
    ) -> RoundMetrics {
        RoundMetrics {
            epochs: self.course.epochs(last),
            epoch_samples: self.sizes.iter().sum(),
            loss: sums.mean(sums.loss),
            accuracy: sums.mean(sums.right as f64),
            validation_accuracy: None,
            firing_rate: sums.firing_rate(),
            firing_rates: sums.firing_rates(),
            samples: sums.samples,
            seconds,
            waiting_seconds: sums.waited,
            peak_memory_bytes: (sums.peak + trainer.state_bytes()) as u64,
            parameters: trainer.net.parameters(),
        }
    }
}
