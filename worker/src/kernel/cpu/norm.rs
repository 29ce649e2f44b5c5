//! Batch normalisation: statistics by channel in f64, then one pass over the values.

use rayon::prelude::*;

/// Batch statistics by channel.
pub(super) struct Statistics<'a> {
    pub(super) mean: &'a [f32],
    pub(super) variance: &'a [f32],
    pub(super) epsilon: f32,
}

/// Sums over one plane in eight lanes, so that the order of additions is fixed and the loop can be vectorised.
fn lanes(values: &[f32], term: impl Fn(usize, f32) -> f32) -> f64 {
    let mut sums = [0.0_f32; 16];
    let whole = values.len() / 16 * 16;
    for (number, chunk) in values[..whole].chunks_exact(16).enumerate() {
        for (lane, (&value, sum)) in chunk.iter().zip(&mut sums).enumerate() {
            *sum += term(16 * number + lane, value);
        }
    }
    let rest: f32 = values[whole..].iter().enumerate().map(|(index, &value)| term(whole + index, value)).sum();
    sums.iter().map(|&sum| f64::from(sum)).sum::<f64>() + f64::from(rest)
}

fn plane(values: &[f32], index: usize, area: usize) -> &[f32] {
    &values[index * area..(index + 1) * area]
}

/// Normalised values, means and biased variances of `x [N, C, H, W]`.
pub(super) fn forward(
    [n, c, h, w]: [usize; 4],
    x: &[f32],
    gamma: &[f32],
    beta: &[f32],
    epsilon: f32,
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let area = h * w;
    let count = (n * area) as f64;
    let statistics: Vec<(f32, f32)> = (0..c)
        .into_par_iter()
        .map(|channel| {
            let planes = || (0..n).map(|frame| plane(x, frame * c + channel, area));
            let mean = planes().map(|plane| lanes(plane, |_, value| value)).sum::<f64>() / count;
            let centre = mean as f32;
            let variance =
                planes().map(|plane| lanes(plane, |_, value| (value - centre) * (value - centre))).sum::<f64>() / count;
            (centre, variance as f32)
        })
        .collect();
    let mut y = vec![0.0; x.len()];
    y.par_chunks_mut(area.max(1)).zip(x.par_chunks(area.max(1))).enumerate().for_each(|(index, (y, x))| {
        let channel = index % c;
        let (mean, variance) = statistics[channel];
        let scale = gamma[channel] / (variance + epsilon).sqrt();
        let shift = beta[channel] - mean * scale;
        y.iter_mut().zip(x).for_each(|(y, &x)| *y = x * scale + shift);
    });
    let (mean, variance) = statistics.into_iter().unzip();
    (y, mean, variance)
}

/// Gradients for x, gamma and beta.
pub(super) fn backward(
    [n, c, h, w]: [usize; 4],
    x: &[f32],
    gamma: &[f32],
    saved: &Statistics<'_>,
    grad: &[f32],
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let area = h * w;
    let count = (n * area) as f64;
    let inverse = |channel: usize| 1.0 / (saved.variance[channel] + saved.epsilon).sqrt();
    let sums: Vec<(f32, f32)> = (0..c)
        .into_par_iter()
        .map(|channel| {
            let (mean, inverse) = (saved.mean[channel], inverse(channel));
            let (mut gamma_grad, mut beta_grad) = (0.0_f64, 0.0_f64);
            for frame in 0..n {
                let (x, grad) = (plane(x, frame * c + channel, area), plane(grad, frame * c + channel, area));
                beta_grad += lanes(grad, |_, grad| grad);
                gamma_grad += lanes(grad, |index, grad| grad * (x[index] - mean) * inverse);
            }
            (gamma_grad as f32, beta_grad as f32)
        })
        .collect();
    let mut x_grad = vec![0.0; x.len()];
    x_grad.par_chunks_mut(area.max(1)).zip(x.par_chunks(area.max(1)).zip(grad.par_chunks(area.max(1)))).enumerate().for_each(
        |(index, (x_grad, (x, grad)))| {
            let channel = index % c;
            let (mean, inverse) = (saved.mean[channel], inverse(channel));
            let scale = gamma[channel] * inverse;
            let (gamma_mean, beta_mean) =
                ((f64::from(sums[channel].0) / count) as f32, (f64::from(sums[channel].1) / count) as f32);
            for ((x_grad, &x), &grad) in x_grad.iter_mut().zip(x).zip(grad) {
                *x_grad = scale * (grad - beta_mean - (x - mean) * inverse * gamma_mean);
            }
        },
    );
    let (gamma_grad, beta_grad) = sums.into_iter().unzip();
    (x_grad, gamma_grad, beta_grad)
}
