//! How computation is counted.
//!
//! A weight applied to an analogue value is one multiply-accumulate (MAC); a weight added because of a spike is one
//! synaptic operation (synop). A layer on spikes therefore costs as much as it was spoken to, sample by sample. Layers
//! on values that are not binary (images, averages of spikes) cost their dense MACs. A direct-encoded image is the same
//! at every step, so its first layer is computed, and counted, once. Norms, neurons, pooling and biases are not counted.

use crate::geometry::{ImageShape, conv_positions};
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

/// Number of outputs along one axis that see each input position, for a convolution with padding `kernel / 2`.
pub fn axis_fan_out(size: usize, kernel: usize, stride: usize) -> Vec<usize> {
    let padding = kernel / 2;
    let positions = conv_positions(size, kernel, stride);
    let sees = |output: usize, input: usize| {
        let first = output * stride;
        (first..first + kernel).contains(&(input + padding))
    };
    (0..size).map(|input| (0..positions).filter(|&output| sees(output, input)).count()).collect()
}

/// Synapses that leave each input position (y, x) of a convolution: fan-out along both axes times output channels.
/// Row-major `[height * width]`.
pub fn conv_fan_out(input: ImageShape, channels: usize, kernel: usize, stride: usize) -> Vec<f32> {
    let rows = axis_fan_out(input.height, kernel, stride);
    let columns = axis_fan_out(input.width, kernel, stride);
    rows.iter().flat_map(|row| columns.iter().map(move |column| (row * column * channels) as f32)).collect()
}

/// Dense MACs of a convolution for one time step, without those that fall on padding.
pub fn conv_macs(input: ImageShape, channels: usize, kernel: usize, stride: usize) -> f64 {
    conv_fan_out(input, channels, kernel, stride).iter().map(|&fan_out| f64::from(fan_out)).sum::<f64>() * input.channels as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_three_by_three_map_by_hand() {
        assert_eq!(axis_fan_out(3, 3, 1), [2, 3, 2]);
        assert_eq!(axis_fan_out(4, 3, 2), [1, 2, 1, 1]);
        assert_eq!(axis_fan_out(3, 1, 2), [1, 0, 1], "a strided 1x1 convolution skips positions");
        let fan_out = conv_fan_out(ImageShape::new(2, 3, 3), 5, 3, 1);
        assert_eq!(fan_out, [20.0, 30.0, 20.0, 30.0, 45.0, 30.0, 20.0, 30.0, 20.0]);
        // 49 pairs of positions within the map, 2 input and 5 output channels
        assert_eq!(conv_macs(ImageShape::new(2, 3, 3), 5, 3, 1), 490.0);
    }
}
