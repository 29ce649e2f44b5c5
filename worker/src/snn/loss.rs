//! Training losses on logits over time.

use crate::kernel::SpikingBackend;
use bloctrain_shared::spec::Loss;
use burn_tensor::backend::Backend;
use burn_tensor::{Tensor, TensorData};

/// What was mixed into a sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mixed {
    /// Dense label of the other sample.
    pub class: usize,
    /// Its share of the target, in [0, 1].
    pub share: f32,
}

/// Target distribution `[B, classes]`: `1 - e` on the label, or on the label and what was mixed into the sample by
/// their shares, and `e` spread evenly over all classes.
fn targets<B: Backend>(
    labels: &[usize],
    mixed: &[Option<Mixed>],
    classes: usize,
    smoothing: f64,
    device: &B::Device,
) -> Tensor<B, 2> {
    let even = smoothing / classes.max(1) as f64;
    let mut values = vec![even as f32; labels.len() * classes];
    for (row, &label) in labels.iter().enumerate() {
        match mixed.get(row).copied().flatten().filter(|other| other.class != label) {
            None => values[row * classes + label] = (even + 1.0 - smoothing) as f32,
            Some(other) => {
                let share = f64::from(other.share);
                values[row * classes + label] = (even + (1.0 - smoothing) * (1.0 - share)) as f32;
                values[row * classes + other.class] = (even + (1.0 - smoothing) * share) as f32;
            }
        }
    }
    Tensor::from_data(TensorData::new(values, [labels.len(), classes]), device)
}

/// The average `[B, classes]` of logits `[R, B, classes]`, added in the order of the steps.
pub fn mean_logits<B: Backend>(logits: Tensor<B, 3>) -> Tensor<B, 2> {
    let [repeats, batch, classes] = logits.dims();
    let step = |at: usize| logits.clone().slice([at..at + 1, 0..batch, 0..classes]).reshape([batch, classes]);
    (1..repeats).map(step).fold(step(0), |sum, step| sum + step).div_scalar(repeats as f64)
}

/// Cross-entropy of logits `[R, B, classes]` against dense labels, averaged over samples.
///
/// `ce` averages the logits over R first; `tet` takes the cross-entropy of each step and averages those.
pub fn loss<B: SpikingBackend>(kind: Loss, logits: Tensor<B, 3>, labels: &[usize], smoothing: f64) -> Tensor<B, 1> {
    mixed_loss(kind, logits, labels, &[], smoothing)
}

/// The same of samples into which others may be mixed: the target has both labels, by their shares (Yun et al. 2019).
pub fn mixed_loss<B: SpikingBackend>(
    kind: Loss,
    logits: Tensor<B, 3>,
    labels: &[usize],
    mixed: &[Option<Mixed>],
    smoothing: f64,
) -> Tensor<B, 1> {
    let [repeats, batch, classes] = logits.dims();
    let target = targets::<B>(labels, mixed, classes, smoothing, &logits.device());
    match kind {
        Loss::Ce => B::cross_entropy(mean_logits(logits), target).div_scalar(batch as f64),
        Loss::Tet => {
            let every_step = target.repeat_dim(0, repeats);
            B::cross_entropy(logits.reshape([repeats * batch, classes]), every_step)
                .div_scalar((repeats * batch) as f64)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bloctrain_shared::math::ln;
    use burn_flex::Flex;

    fn value(mixed: &[Option<Mixed>], smoothing: f64) -> f32 {
        // Probabilities 0.5, 0.25 and 0.25 of the first sample, a third of each of the second.
        let logits = vec![ln(2.0), 0.0, 0.0, 0.0, 0.0, 0.0];
        let logits = Tensor::<Flex, 3>::from_data(TensorData::new(logits, [1, 2, 3]), &Default::default());
        crate::snn::param::to_host(mixed_loss(Loss::Ce, logits, &[0, 1], mixed, smoothing))[0]
    }

    #[test]
    fn a_mixed_loss_by_hand() {
        let (half, quarter, third) = (ln(0.5), ln(0.25), ln(1.0 / 3.0));
        let is = |found: f32, expected: f32| assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
        is(value(&[], 0.0), -(half + third) / 2.0);
        is(value(&[None, None], 0.0), -(half + third) / 2.0);
        let other = |class, share| Some(Mixed { class, share });
        is(value(&[other(2, 0.3), None], 0.0), -(0.7 * half + 0.3 * quarter + third) / 2.0);
        is(value(&[other(0, 0.3), None], 0.0), -(half + third) / 2.0);
        // With 0.3 spread evenly: 0.1 on each, and 0.7 by the shares.
        let smooth = 0.59 * half + 0.1 * quarter + 0.31 * quarter;
        is(value(&[other(2, 0.3), other(2, 1.0)], 0.3), -(smooth + third) / 2.0);
    }
}
