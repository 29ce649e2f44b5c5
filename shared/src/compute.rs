//! How computation is counted.
//!
//! A weight applied to an analogue value is one multiply-accumulate (MAC); a weight added because of a spike is one
//! synaptic operation (synop). A layer on spikes therefore costs as much as it was spoken to, sample by sample.
//! Averaging over windows is linear, so a layer on averages adds its weights, divided by the window's size, once for
//! every spike that the averages hold, and costs that much. Layers on images cost their dense MACs, and so do
//! classifiers on averages: their windows hold so many spikes that hardly one is empty. A direct-encoded image is the
//! same at every step, so its first layer is computed, and counted, once. Norms, neurons, pooling and biases are not
//! counted.

use serde::{Deserialize, Serialize};
use std::ops::{Add, AddAssign};

/// An amount of computation.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Operations {
    /// Multiply-accumulates on analogue values.
    pub macs: f64,
    /// Additions of a weight caused by a spike.
    pub synops: f64,
}

impl Operations {
    /// Both kinds added, each counted as one operation.
    pub fn total(&self) -> f64 {
        self.macs + self.synops
    }
}

impl Add for Operations {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { macs: self.macs + other.macs, synops: self.synops + other.synops }
    }
}

impl AddAssign for Operations {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

/// Number of outputs along one axis that see each of `size` input positions, of `positions` outputs.
pub fn axis_fan_out(size: usize, kernel: usize, stride: usize, padding: usize, positions: usize) -> Vec<usize> {
    let sees = |output: usize, input: usize| {
        let first = output * stride;
        (first..first + kernel).contains(&(input + padding))
    };
    (0..size).map(|input| (0..positions).filter(|&output| sees(output, input)).count()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fan_out_by_hand() {
        assert_eq!(axis_fan_out(3, 3, 1, 1, 3), [2, 3, 2]);
        assert_eq!(axis_fan_out(4, 3, 2, 1, 2), [1, 2, 1, 1]);
        assert_eq!(axis_fan_out(3, 1, 2, 0, 2), [1, 0, 1], "a strided 1x1 convolution skips positions");
        assert_eq!(axis_fan_out(3, 3, 1, 0, 1), [1, 1, 1], "a kernel that covers everything");
    }
}
