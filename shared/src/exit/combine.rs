//! Rules by which the answers of the blocks that ran become one.

use super::Said;
use crate::math;
use crate::spec::Combine;

/// Least probability whose logarithm is taken.
const LEAST: f32 = 1e-6;

/// Combines what the blocks that ran said, first to last, into probabilities over `classes` classes.
///
/// With `p_k` the answer of block k, `h_k` its P(hard), `H_k` its hard classes, which are the next block's:
/// - `last`: the deepest block alone.
/// - `mixture`: `(1 - h_k) p_k + h_k p_(k+1)`, from the deepest block upwards.
/// - `total`: the law of total probability: `h_k p_(k+1)(c)` for c in `H_k`, `(1 - h_k) p_k(c)` over their sum for the
///   others, from the deepest block upwards. Where every class is hard the next block answers.
/// - `stack`: softmax over c of `sum_k w_k ln t_k(c)`, where `t_k` is the `total` of blocks 1..k; `weights` are the w
///   of every depth, from 1.
pub fn combine(rule: Combine, weights: &[Vec<f32>], said: &[Said<'_>], classes: usize) -> Vec<f32> {
    match rule {
        Combine::Last => said.last().map(|deepest| deepest.spread(classes)).unwrap_or_default(),
        Combine::Mixture => mixture(said, classes),
        Combine::Total => total(said, classes),
        Combine::Stack => {
            let depths: Vec<Vec<f32>> = (1..=said.len()).map(|depth| log_total(&said[..depth], classes)).collect();
            match said.len().checked_sub(1).and_then(|deepest| weights.get(deepest)) {
                Some(weights) => pooled(&depths, weights),
                None => total(said, classes),
            }
        }
    }
}

fn mixture(said: &[Said<'_>], classes: usize) -> Vec<f32> {
    let Some((deepest, above)) = said.split_last() else { return Vec::new() };
    above.iter().rev().fold(deepest.spread(classes), |deeper, block| {
        let h = block.hard;
        block.spread(classes).iter().zip(&deeper).map(|(&own, &deeper)| (1.0 - h) * own + h * deeper).collect()
    })
}

fn total(said: &[Said<'_>], classes: usize) -> Vec<f32> {
    let Some((deepest, above)) = said.split_last() else { return Vec::new() };
    let (mut found, mut next) = (deepest.spread(classes), deepest.classes);
    for block in above.iter().rev() {
        let own = block.spread(classes);
        let is_easy = |class: usize| own[class] > 0.0 && !u16::try_from(class).is_ok_and(|class| next.contains(class));
        let easy: f32 = (0..classes).filter(|&class| is_easy(class)).map(|class| own[class]).sum();
        if easy > 0.0 {
            let h = block.hard.clamp(0.0, 1.0);
            let of = |class: usize| if is_easy(class) { (1.0 - h) * own[class] / easy } else { h * found[class] };
            found = (0..classes).map(of).collect();
        }
        next = block.classes;
    }
    found
}

/// Logarithms of the total probabilities of blocks that ran, each of at least [`LEAST`].
pub(super) fn log_total(said: &[Said<'_>], classes: usize) -> Vec<f32> {
    total(said, classes).into_iter().map(|p| math::ln(p.max(LEAST))).collect()
}

/// Softmax of a weighted sum of logarithms.
fn pooled(logs: &[Vec<f32>], weights: &[f32]) -> Vec<f32> {
    let classes = logs.first().map_or(0, Vec::len);
    let sum = |class: usize| logs.iter().zip(weights).map(|(log, weight)| weight * log[class]).sum::<f32>();
    let scores: Vec<f32> = (0..classes).map(sum).collect();
    math::softmax(&scores)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::label::LabelMap;

    fn said<'a>(classes: &'a LabelMap, probabilities: &'a [f32], hard: f32) -> Said<'a> {
        Said { classes, probabilities, hard }
    }

    fn is_close(found: &[f32], expected: &[f32]) -> bool {
        found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6)
    }

    #[test]
    fn the_mixture_by_hand() {
        let (all, hard) = (LabelMap::all(3), LabelMap::new(vec![1, 2]));
        let two = [said(&all, &[0.9, 0.1, 0.0], 0.25), said(&hard, &[0.6, 0.4], 0.0)];
        let mixed = combine(Combine::Mixture, &[], &two, 3);
        assert!(is_close(&mixed, &[0.675, 0.225, 0.1]), "0.75 * own + 0.25 * deeper: {mixed:?}");
        let both = LabelMap::all(2);
        let three = [said(&both, &[1.0, 0.0], 0.5), said(&both, &[0.0, 1.0], 0.5), said(&both, &[1.0, 0.0], 0.0)];
        assert_eq!(combine(Combine::Mixture, &[], &three, 2), [0.75, 0.25], "0.5 * 1 + 0.5 * (0.5 * 0 + 0.5 * 1)");
        assert_eq!(combine(Combine::Last, &[], &two, 3), [0.0, 0.6, 0.4]);
    }

    #[test]
    fn total_probability_by_hand() {
        let (all, hard) = (LabelMap::all(4), LabelMap::new(vec![1, 3]));
        let two = [said(&all, &[0.3, 0.4, 0.1, 0.2], 0.7), said(&hard, &[0.9, 0.1], 0.0)];
        // Easy: 0 and 2 with 0.3 and 0.1, so 0.3 * 3/4 and 0.3 * 1/4. Hard: 0.7 * 0.9 and 0.7 * 0.1.
        let found = combine(Combine::Total, &[], &two, 4);
        assert!(is_close(&found, &[0.225, 0.63, 0.075, 0.07]), "{found:?}");
        let whole = [said(&all, &[0.3, 0.4, 0.1, 0.2], 0.2), said(&all, &[0.1, 0.2, 0.3, 0.4], 0.0)];
        assert_eq!(
            combine(Combine::Total, &[], &whole, 4),
            [0.1, 0.2, 0.3, 0.4],
            "every class is hard: the next answers"
        );
    }

    #[test]
    fn stacking_by_hand() {
        let all = LabelMap::all(2);
        let two = [said(&all, &[0.8, 0.2], 0.0), said(&all, &[0.4, 0.6], 0.0)];
        let weights = [vec![2.0], vec![1.0, 0.5]];
        // Scores up to a constant: ln(0.8) + ln(0.4)/2 against ln(0.2) + ln(0.6)/2.
        let (a, b) = (0.8 * 0.4_f32.sqrt(), 0.2 * 0.6_f32.sqrt());
        assert!(is_close(&combine(Combine::Stack, &weights, &two, 2), &[a / (a + b), b / (a + b)]));
        let sharp = combine(Combine::Stack, &weights, &two[..1], 2);
        assert!(is_close(&sharp, &[0.64 / 0.68, 0.04 / 0.68]), "a weight of 2 is a temperature of 1/2: {sharp:?}");
    }
}
