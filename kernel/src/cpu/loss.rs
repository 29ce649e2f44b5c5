//! Cross-entropy, with sums in the order of the samples.

use bloctrain_shared::math::{ln_sum_exp, powers};

/// `-sum over n and c of target[n, c] ln softmax(logits[n])[c]`, both `[N, classes]`.
pub fn cross_entropy(logits: &[f32], target: &[f32], classes: usize) -> f32 {
    let of_sample = |(logits, target): (&[f32], &[f32])| -> f64 {
        let all = ln_sum_exp(logits);
        logits.iter().zip(target).map(|(logit, share)| f64::from(share * (all - logit))).sum()
    };
    rows(logits, target, classes).map(of_sample).sum::<f64>() as f32
}

/// Its gradient `[N, classes]`: `softmax(logits[n])[c] (sum of target[n]) - target[n, c]`.
pub fn cross_entropy_grad(logits: &[f32], target: &[f32], classes: usize) -> Vec<f32> {
    let of_sample = |(logits, target): (&[f32], &[f32])| {
        let ((powers, sum), weight) = (powers(logits), target.iter().sum::<f32>());
        powers.into_iter().zip(target).map(|(power, share)| power / sum * weight - share).collect::<Vec<f32>>()
    };
    rows(logits, target, classes).flat_map(of_sample).collect()
}

fn rows<'a>(logits: &'a [f32], target: &'a [f32], classes: usize) -> impl Iterator<Item = (&'a [f32], &'a [f32])> {
    assert!(logits.len() == target.len() && logits.len().is_multiple_of(classes), "targets of another shape");
    logits.chunks(classes).zip(target.chunks(classes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bloctrain_shared::math::ln;

    #[test]
    fn losses_by_hand() {
        // Probabilities 3/4 and 1/4, then 1/2 and 1/2; the second sample weighs twice.
        let (logits, target) = ([ln(3.0), 0.0, 5.0, 5.0], [1.0, 0.0, 0.5, 1.5]);
        let expected = -(ln(0.75) + 2.0 * ln(0.5));
        assert!((cross_entropy(&logits, &target, 2) - expected).abs() < 1e-6);
        let grad = cross_entropy_grad(&logits, &target, 2);
        let expected = [-0.25, 0.25, 0.5, -0.5];
        assert!(grad.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-6), "{grad:?}");
        assert_eq!(cross_entropy(&[-200.0, 200.0], &[1.0, 0.0], 2), 400.0, "no infinity");
    }
}
