//! Optimiser steps in one pass over the memory of a parameter.

use crate::step::StepRule;
use rayon::prelude::*;

/// Values that one thread works on at a time.
const PIECE: usize = 1 << 14;

/// Steps `values` and their moments in place; `second` is empty for SGD.
pub fn step(rule: &StepRule, values: &mut [f32], grad: &[f32], first: &mut [f32], second: &mut [f32]) {
    assert!(grad.len() == values.len() && first.len() == values.len(), "a gradient of another length");
    assert!(second.is_empty() || second.len() == grad.len(), "moments of another length");
    if values.len() <= PIECE {
        return piece(rule, values, grad, first, second);
    }
    let pieces = values.par_chunks_mut(PIECE).zip(grad.par_chunks(PIECE)).zip(first.par_chunks_mut(PIECE));
    if second.is_empty() {
        pieces.for_each(|((values, grad), first)| piece(rule, values, grad, first, &mut []));
    } else {
        let pieces = pieces.zip(second.par_chunks_mut(PIECE));
        pieces.for_each(|(((values, grad), first), second)| piece(rule, values, grad, first, second));
    }
}

fn piece(rule: &StepRule, values: &mut [f32], grad: &[f32], first: &mut [f32], second: &mut [f32]) {
    match *rule {
        StepRule::Sgd { momentum, decay, rate } => {
            for ((value, grad), first) in values.iter_mut().zip(grad).zip(first) {
                *first = momentum * *first + (grad + decay * *value);
                *value -= rate * *first;
            }
        }
        StepRule::Adamw { betas, keep, rate, share, epsilon } => {
            for (((value, grad), first), second) in values.iter_mut().zip(grad).zip(first).zip(second) {
                *first = betas[0] * *first + (1.0 - betas[0]) * grad;
                *second = betas[1] * *second + (1.0 - betas[1]) * (grad * grad);
                *value = keep * *value - rate * (*first / ((share * *second).sqrt() + epsilon));
            }
        }
    }
}

/// Sum of squares, in pieces that do not depend on the number of threads.
pub fn sum_of_squares(values: &[f32]) -> f64 {
    let piece = |piece: &[f32]| -> f64 {
        let mut lanes = [0.0_f32; 16];
        for chunk in piece.chunks(16) {
            lanes.iter_mut().zip(chunk).for_each(|(sum, value)| *sum += value * value);
        }
        lanes.iter().map(|&sum| f64::from(sum)).sum()
    };
    if values.len() <= PIECE {
        return piece(values);
    }
    let pieces: Vec<f64> = values.par_chunks(PIECE).map(piece).collect();
    pieces.iter().sum()
}
