//! `[train]`, `[hard_classes]`, `[detector]` and `[exit]`.

use serde::{Deserialize, Serialize};

/// Most logical replicas of a run.
pub const MAX_REPLICAS: u32 = 1024;

const OUTER_LEARNING_RATE: f64 = 0.7;
const OUTER_MOMENTUM: f64 = 0.8;

// Left out of a run's identity at their defaults: runs of before these fields keep their ids.
fn is_outer_learning_rate(value: &f64) -> bool {
    *value == OUTER_LEARNING_RATE
}

fn is_outer_momentum(value: &f64) -> bool {
    *value == OUTER_MOMENTUM
}

fn is_zero(value: &usize) -> bool {
    *value == 0
}

fn is_whole(value: &f64) -> bool {
    *value == 1.0
}

fn is_off(value: &f64) -> bool {
    *value == 0.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_false(value: &bool) -> bool {
    !*value
}

/// `[train]`: how a block is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainSpec {
    /// Passes over the block's training samples, at least 1.
    pub epochs: u32,
    /// Epochs of every block behind the first, as a share of `epochs`, rounded up; in (0, 1]. With
    /// `network.auxiliary.kind` `next` these blocks have been trained along with the one before.
    #[serde(skip_serializing_if = "is_whole")]
    pub later_fraction: f64,
    /// Time steps of the first epoch; they grow evenly to `encoding.steps` over the first half of the epochs. Only
    /// training takes fewer; 0 takes all throughout.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_steps: usize,
    /// Samples per optimiser step.
    pub batch: usize,
    /// Leave out the samples of an epoch that fill no batch; those are others in every epoch.
    #[serde(skip_serializing_if = "is_false")]
    pub drop_last: bool,
    /// Samples per forward and backward pass; gradients accumulate up to `batch`. 0 means `batch`.
    pub micro_batch: usize,
    /// Numbers in which convolutions are computed.
    pub precision: Precision,
    /// The optimiser.
    pub optimizer: OptimizerKind,
    /// Peak learning rate, > 0.
    pub learning_rate: f64,
    /// Course of the learning rate over the epochs.
    pub schedule: Schedule,
    /// Epochs of linear warm-up before the schedule.
    pub warmup_epochs: u32,
    /// Momentum of `sgd`, in [0, 1).
    pub momentum: f64,
    /// Weight decay; norms, biases and learned leaks are exempt.
    pub weight_decay: f64,
    /// Probability spread evenly over all classes, in [0, 1).
    pub label_smoothing: f64,
    /// Largest global norm of the gradient; 0 switches clipping off.
    pub gradient_clip: f64,
    /// The loss.
    pub loss: Loss,
    /// Epochs without a better validation accuracy before training stops; 0 trains all epochs.
    pub patience: u32,
    /// Training samples over which the statistics of norms are counted anew when training has ended; 0 keeps the
    /// running ones, in which the last batches weigh most.
    #[serde(skip_serializing_if = "is_zero")]
    pub recount: usize,
    /// Decay of the exponential moving average of the parameters that is evaluated and exported, in [0, 1); at the
    /// beginning it is smaller, `(1 + t) / (10 + t)` after step t. 0 exports the parameters of the last step.
    #[serde(skip_serializing_if = "is_off")]
    pub ema: f64,
    /// Logical data-parallel copies within a round, in 1..=[`MAX_REPLICAS`]; 1 is plain training.
    pub replicas: u32,
    /// Optimiser steps per round, of each replica. 0 makes a round of every epoch; with replicas it means
    /// [`DEFAULT_STEPS`](crate::rounds::DEFAULT_STEPS).
    pub round_steps: u32,
    /// Learning rate of the outer optimiser that moves the parameters by the replicas' mean change, > 0.
    #[serde(skip_serializing_if = "is_outer_learning_rate")]
    pub outer_learning_rate: f64,
    /// Nesterov momentum of the outer optimiser, in [0, 1).
    #[serde(skip_serializing_if = "is_outer_momentum")]
    pub outer_momentum: f64,
}

impl Default for TrainSpec {
    fn default() -> Self {
        Self {
            epochs: 15,
            later_fraction: 1.0,
            start_steps: 0,
            batch: 64,
            drop_last: false,
            micro_batch: 0,
            precision: Precision::Auto,
            optimizer: OptimizerKind::Adamw,
            learning_rate: 4e-3,
            schedule: Schedule::Cosine,
            warmup_epochs: 1,
            momentum: 0.9,
            weight_decay: 5e-4,
            label_smoothing: 0.0,
            gradient_clip: 5.0,
            loss: Loss::Ce,
            patience: 0,
            recount: 0,
            ema: 0.0,
            replicas: 1,
            round_steps: 0,
            outer_learning_rate: OUTER_LEARNING_RATE,
            outer_momentum: OUTER_MOMENTUM,
        }
    }
}

impl TrainSpec {
    /// Epochs of a block, from 1.
    pub fn epochs_of(&self, block: u32) -> u32 {
        if block <= 1 { self.epochs } else { (f64::from(self.epochs) * self.later_fraction).ceil().max(1.0) as u32 }
    }

    /// How a block, from 1, is trained: with its own epochs, and no more of warm-up.
    #[must_use]
    pub fn of_block(&self, block: u32) -> Self {
        let epochs = self.epochs_of(block);
        Self { epochs, later_fraction: 1.0, warmup_epochs: self.warmup_epochs.min(epochs), ..self.clone() }
    }

    /// Whether an average of the parameters is kept; replicas are averaged already.
    pub fn averages(&self) -> bool {
        self.ema > 0.0 && self.replicas == 1
    }

    /// Copies of all parameters that live throughout training: their values, the optimiser's moments, their averages.
    pub fn parameter_copies(&self) -> usize {
        let moments = match self.optimizer {
            OptimizerKind::Sgd => 1,
            OptimizerKind::Adamw => 2,
        };
        1 + moments + usize::from(self.averages())
    }
}

/// Numbers in which convolutions are computed; everything else is f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Precision {
    /// bf16 with sums in f32 on CUDA devices whose matrix units have it, else f32.
    #[serde(rename = "auto")]
    Auto,
    /// f32.
    #[serde(rename = "f32")]
    F32,
}

/// An optimiser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OptimizerKind {
    /// Stochastic gradient descent with momentum; weight decay is added to the gradient.
    #[serde(rename = "sgd")]
    Sgd,
    /// Adam with decoupled weight decay (Loshchilov and Hutter 2019), betas 0.9 and 0.999.
    #[serde(rename = "adamw")]
    Adamw,
}

/// Course of the learning rate after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Schedule {
    /// The peak rate throughout.
    #[serde(rename = "constant")]
    Constant,
    /// A tenth after one half of the epochs, a hundredth after three quarters.
    #[serde(rename = "step")]
    Step,
    /// Half a cosine wave down to zero.
    #[serde(rename = "cosine")]
    Cosine,
}

/// A training loss on the classifier's logits over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Loss {
    /// Cross-entropy of the time-averaged logits.
    #[serde(rename = "ce")]
    Ce,
    /// Cross-entropy of each step's logits, averaged over steps (temporal efficient training, Deng et al. 2022).
    #[serde(rename = "tet")]
    Tet,
}

/// `[hard_classes]`: which classes the next block learns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HardClassSpec {
    /// The rule.
    pub policy: HardClassPolicy,
    /// `threshold`: a class is hard when its validation accuracy is below this, in [0, 1].
    pub threshold: f64,
    /// `bottom-k`: number of hard classes.
    pub k: usize,
    /// `bottom-fraction`: share of the block's classes that are hard, rounded up, in (0, 1].
    pub fraction: f64,
}

impl Default for HardClassSpec {
    fn default() -> Self {
        Self { policy: HardClassPolicy::Threshold, threshold: 0.93, k: 5, fraction: 0.5 }
    }
}

/// Rule that decides the hard classes from class-wise validation accuracy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum HardClassPolicy {
    /// Accuracy below `threshold`.
    #[serde(rename = "threshold")]
    Threshold,
    /// The `k` classes of lowest accuracy.
    #[serde(rename = "bottom-k")]
    BottomK,
    /// The `fraction` of classes of lowest accuracy.
    #[serde(rename = "bottom-fraction")]
    BottomFraction,
    /// Every class (BlocTrain-base: no conditioning).
    #[serde(rename = "all")]
    All,
}

/// `[detector]`: how an input is judged easy or hard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DetectorSpec {
    /// The judge.
    pub policy: DetectorPolicy,
    /// Passes over the detector's training samples.
    pub epochs: u32,
}

impl Default for DetectorSpec {
    fn default() -> Self {
        Self { policy: DetectorPolicy::Learned, epochs: 8 }
    }
}

/// What estimates P(hard) for an input at a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DetectorPolicy {
    /// A small network trained on the block's spikes.
    #[serde(rename = "learned")]
    Learned,
    /// The classifier's probability mass on the hard classes, as 1 or 0 by its top class.
    #[serde(rename = "top1")]
    Top1,
    /// The entropy of the classifier's answer over its maximum.
    #[serde(rename = "entropy")]
    Entropy,
    /// The classifier's probability mass on the hard classes.
    #[serde(rename = "mass")]
    Mass,
    /// 1 less the classifier's largest probability.
    #[serde(rename = "confidence")]
    Confidence,
}

/// `[exit]`: how answers combine, and which point of the accuracy-against-compute curve is used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExitSpec {
    /// Rule that combines the answers of the blocks that ran.
    pub combine: Combine,
    /// Validation accuracy that may be given up for less compute, in [0, 1].
    pub max_accuracy_drop: f64,
    /// Largest mean compute as a fraction of the full network's; when set it is used instead of the accuracy drop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compute_budget: Option<f64>,
    /// Share of the validation samples that every block answers at least, where some exits (within the budget) allow
    /// it.
    pub min_share: f64,
}

impl Default for ExitSpec {
    fn default() -> Self {
        Self { combine: Combine::Mixture, max_accuracy_drop: 0.0, compute_budget: None, min_share: 0.0 }
    }
}

/// Rule that combines the answers of the blocks that ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Combine {
    /// The deepest block that ran answers alone.
    #[serde(rename = "last")]
    Last,
    /// `p = (1 - h) p_k + h p_(k+1)`, from the deepest block that ran upwards.
    #[serde(rename = "mixture")]
    Mixture,
    /// The law of total probability: `h p_(k+1)` on the hard classes, `(1 - h) p_k` over its sum on the others.
    #[serde(rename = "total")]
    Total,
    /// Log-probabilities of all exits that ran, weighted; the weights are fitted on the validation data, and the exits
    /// on answers by weights that other fifths of it gave.
    #[serde(rename = "stack")]
    Stack,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_of_blocks_by_hand() {
        let epochs = |epochs, later_fraction| {
            let train = TrainSpec { epochs, later_fraction, warmup_epochs: 3, ..TrainSpec::default() };
            (train.epochs_of(1), train.epochs_of(2), train.of_block(3).warmup_epochs)
        };
        assert_eq!(epochs(12, 1.0), (12, 12, 3));
        assert_eq!(epochs(12, 0.5), (12, 6, 3));
        assert_eq!(epochs(7, 0.25), (7, 2, 2), "1.75 of them, and no more of warm-up than that");
        assert_eq!(epochs(3, 1e-9), (3, 1, 1));
        assert_eq!(epochs(u32::MAX, 1.0), (u32::MAX, u32::MAX, 3));
    }
}
