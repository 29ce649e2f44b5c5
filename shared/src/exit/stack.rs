//! Weights of [`Combine::Stack`](crate::spec::Combine::Stack): multinomial logistic regression on the logarithms of the
//! exits' probabilities, one weight for each.

use super::combine::log_total;
use super::said_at;
use crate::math::double as math;
use crate::record::Records;

/// Steps of Newton's method; the loss is convex and a handful is enough.
const STEPS: usize = 25;

/// Halvings of a step after which it is no step.
const HALVINGS: usize = 30;

/// Added to the loss for every sample: this times the squared distance from taking the deepest exit as it is.
const PULL: f64 = 1e-3;

/// For every depth the weights that make the given samples' labels most likely.
pub(super) fn fit(records: &Records, samples: &[usize], classes: usize) -> Vec<Vec<f32>> {
    (1..=records.blocks.len()).map(|depth| fit_depth(records, samples, depth, classes)).collect()
}

fn fit_depth(records: &Records, samples: &[usize], depth: usize, classes: usize) -> Vec<f32> {
    let features = |&sample: &usize| -> Vec<Vec<f32>> {
        let said = said_at(records, sample, depth - 1);
        (1..=depth).map(|ran| log_total(&said[..ran], classes)).collect()
    };
    let rows: Vec<Row> =
        samples.iter().map(|sample| (features(sample), usize::from(records.labels[*sample]))).collect();
    let rest: Vec<f64> = (0..depth).map(|at| f64::from(u8::from(at + 1 == depth))).collect();
    let mut weights = rest.clone();
    let mut least = loss(&rows, &weights, &rest, classes);
    for _ in 0..STEPS {
        let Some(step) = newton(&rows, &weights, &rest, classes) else { break };
        // Far from the minimum a whole step may lead further away.
        let halvings = std::iter::successors(Some(1.0), |share| Some(0.5 * share));
        let shorter = halvings.take(HALVINGS).find_map(|share| {
            let tried: Vec<f64> = weights.iter().zip(&step).map(|(weight, step)| weight - share * step).collect();
            let found = loss(&rows, &tried, &rest, classes);
            (found < least).then_some((tried, found))
        });
        let Some(better) = shorter else { break };
        (weights, least) = better;
    }
    weights.into_iter().map(|weight| weight as f32).collect()
}

/// Logarithms of the probabilities of every exit, and the label.
type Row = (Vec<Vec<f32>>, usize);

/// For each class the power of its score over the largest one's, and the logarithm of the label's probability.
fn powers((logs, label): &Row, weights: &[f64], classes: usize) -> (Vec<f64>, f64) {
    let score =
        |class: usize| logs.iter().zip(weights).map(|(log, weight)| weight * f64::from(log[class])).sum::<f64>();
    let scores: Vec<f64> = (0..classes).map(score).collect();
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = scores.iter().map(|score| math::exp(score - largest)).collect();
    let likely = scores[*label] - largest - math::ln(powers.iter().sum());
    (powers, likely)
}

/// The mean loss with what pulls the weights towards `rest`.
fn loss(rows: &[Row], weights: &[f64], rest: &[f64], classes: usize) -> f64 {
    let sum: f64 = rows.iter().map(|row| powers(row, weights, classes).1).sum();
    let pull: f64 = weights.iter().zip(rest).map(|(weight, rest)| (weight - rest) * (weight - rest)).sum();
    PULL * pull - sum / rows.len().max(1) as f64
}

/// The inverse Hessian of the mean loss times its gradient.
fn newton(rows: &[Row], weights: &[f64], rest: &[f64], classes: usize) -> Option<Vec<f64>> {
    let depth = weights.len();
    let (mut gradient, mut hessian) = (vec![0.0; depth], vec![vec![0.0; depth]; depth]);
    for row in rows {
        let ((logs, label), (powers, _)) = (row, powers(row, weights, classes));
        let all: f64 = powers.iter().sum();
        let mean: Vec<f64> = logs
            .iter()
            .map(|log| log.iter().zip(&powers).map(|(log, power)| f64::from(*log) * power).sum::<f64>() / all)
            .collect();
        for (a, log) in logs.iter().enumerate() {
            gradient[a] += mean[a] - f64::from(log[*label]);
            for (b, other) in logs.iter().enumerate() {
                let product: f64 = log
                    .iter()
                    .zip(other)
                    .zip(&powers)
                    .map(|((x, y), power)| f64::from(*x) * f64::from(*y) * power)
                    .sum();
                hessian[a][b] += product / all - mean[a] * mean[b];
            }
        }
    }
    let count = rows.len().max(1) as f64;
    for at in 0..depth {
        gradient[at] = gradient[at] / count + 2.0 * PULL * (weights[at] - rest[at]);
        hessian[at].iter_mut().for_each(|value| *value /= count);
        hessian[at][at] += 2.0 * PULL;
    }
    solve(hessian, gradient)
}

/// Solves a small symmetric positive definite system by elimination; `None` where it is none.
fn solve(mut matrix: Vec<Vec<f64>>, mut right: Vec<f64>) -> Option<Vec<f64>> {
    let size = right.len();
    for pivot in 0..size {
        if matrix[pivot][pivot].is_nan() || matrix[pivot][pivot] <= 1e-12 {
            return None;
        }
        let own = matrix[pivot].clone();
        for row in pivot + 1..size {
            let factor = matrix[row][pivot] / own[pivot];
            matrix[row].iter_mut().zip(&own).for_each(|(value, own)| *value -= factor * own);
            right[row] -= factor * right[pivot];
        }
    }
    for row in (0..size).rev() {
        let known: f64 = (row + 1..size).map(|column| matrix[row][column] * right[column]).sum();
        right[row] = (right[row] - known) / matrix[row][row];
    }
    right.iter().all(|value| value.is_finite()).then_some(right)
}

#[cfg(test)]
mod tests {
    use super::super::tests::answers;
    use super::*;

    #[test]
    fn a_system_by_hand() {
        let found = solve(vec![vec![4.0, 1.0], vec![1.0, 3.0]], vec![1.0, 2.0]).expect("positive definite");
        assert!((found[0] - 1.0 / 11.0).abs() < 1e-12 && (found[1] - 7.0 / 11.0).abs() < 1e-12, "{found:?}");
        assert_eq!(solve(vec![vec![0.0]], vec![1.0]), None);
    }

    #[test]
    fn an_exit_that_is_too_sure_is_cooled_and_noise_is_left_out() {
        // The answers of the first block are right in 3 of 4 and say 0.98, those of the second say nothing.
        let rows: Vec<(u16, [f32; 2], [f32; 2])> =
            (0..400).map(|at| (u16::from(at % 4 == 0), [0.98, 0.02], [0.5, 0.5])).collect();
        let records = answers(&rows);
        let samples: Vec<usize> = (0..rows.len()).collect();
        let weights = fit(&records, &samples, 2);
        let temperature = math::ln(0.75 / 0.25) as f32 / math::ln(0.98 / 0.02) as f32;
        assert!((weights[0][0] - temperature).abs() < 0.01, "{weights:?}, expected {temperature}");
        assert!((weights[1][0] - temperature).abs() < 0.01 && (weights[1][1] - 1.0).abs() < 1e-6, "{weights:?}");
    }
}
