//! Training losses on logits over time.

use bloctrain_shared::spec::Loss;
use burn_tensor::activation::log_softmax;
use burn_tensor::backend::Backend;
use burn_tensor::{Tensor, TensorData};

/// Target distribution `[B, classes]`: `1 - e` on the label, `e` spread evenly over all classes.
fn targets<B: Backend>(labels: &[usize], classes: usize, smoothing: f64, device: &B::Device) -> Tensor<B, 2> {
    let even = smoothing / classes.max(1) as f64;
    let mut values = vec![even as f32; labels.len() * classes];
    for (row, &label) in labels.iter().enumerate() {
        values[row * classes + label] = (even + 1.0 - smoothing) as f32;
    }
    Tensor::from_data(TensorData::new(values, [labels.len(), classes]), device)
}

/// Cross-entropy of logits `[R, B, classes]` against dense labels, averaged over samples.
///
/// `ce` averages the logits over R first; `tet` takes the cross-entropy of each step and averages those.
pub fn loss<B: Backend>(kind: Loss, logits: Tensor<B, 3>, labels: &[usize], smoothing: f64) -> Tensor<B, 1> {
    let [repeats, batch, classes] = logits.dims();
    let target = targets::<B>(labels, classes, smoothing, &logits.device());
    match kind {
        Loss::Ce => {
            let mean = logits.mean_dim(0).reshape([batch, classes]);
            (log_softmax(mean, 1) * target).sum().div_scalar(batch as f64).neg()
        }
        Loss::Tet => {
            let target = target.unsqueeze_dim::<3>(0);
            (log_softmax(logits, 2) * target).sum().div_scalar((repeats * batch) as f64).neg()
        }
    }
}
