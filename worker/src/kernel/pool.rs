//! Adaptive average pooling: to a map of a given side, whatever the size of the map.

use bloctrain_shared::ImageShape;
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use std::sync::Arc;

/// Adaptive average pooling of maps of one shape.
#[derive(Debug, Clone, PartialEq)]
pub struct AdaptivePool {
    input: ImageShape,
    output: ImageShape,
    /// Positions `[H * W]` of every window of a channel, row by row.
    windows: Arc<[Vec<usize>]>,
}

impl AdaptivePool {
    /// Pooling of `input` to at most `side` x `side`; a side of 0 keeps the map as it is.
    ///
    /// Window i of n covers `floor(i size / n) .. ceil((i + 1) size / n)`, as in PyTorch: windows may overlap.
    pub fn new(input: ImageShape, side: usize) -> Self {
        let limit = |size: usize| if side == 0 { size } else { size.min(side) };
        let output = ImageShape::new(input.channels, limit(input.height), limit(input.width));
        let window = |index: usize, parts: usize, size: usize| (index * size / parts)..((index + 1) * size).div_ceil(parts);
        let mut windows = Vec::with_capacity(output.area());
        for row in 0..output.height {
            for column in 0..output.width {
                let at = |y: usize| window(column, output.width, input.width).map(move |x| y * input.width + x);
                windows.push(window(row, output.height, input.height).flat_map(at).collect());
            }
        }
        Self { input, output, windows: windows.into() }
    }

    /// Whether pooling changes nothing.
    pub fn is_identity(&self) -> bool {
        self.input == self.output
    }

    /// What is pooled.
    pub fn input(&self) -> ImageShape {
        self.input
    }

    /// What comes out.
    pub fn output(&self) -> ImageShape {
        self.output
    }

    /// Number of values that come out.
    pub fn features(&self) -> usize {
        self.output.len()
    }

    /// Positions of every window of a channel, row by row.
    pub fn windows(&self) -> &[Vec<usize>] {
        &self.windows
    }

    /// Weights `[H * W, h * w]`.
    pub(crate) fn matrix<B: Backend>(&self, device: &B::Device) -> Tensor<B, 2> {
        let parts = self.windows.len();
        let mut matrix = vec![0.0; self.input.area() * parts];
        for (part, positions) in self.windows.iter().enumerate() {
            positions.iter().for_each(|position| matrix[position * parts + part] = 1.0 / positions.len() as f32);
        }
        Tensor::from_data(TensorData::new(matrix, [self.input.area(), parts]), device)
    }

    /// Pools `x [N, C, H, W]` to `[N, C, h, w]`.
    pub fn forward<B: Backend>(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        if self.is_identity() {
            return x;
        }
        let ([frames, channels, ..], ImageShape { height, width, .. }) = (x.dims(), self.output);
        let matrix = self.matrix(&x.device());
        x.reshape([frames * channels, self.input.area()]).matmul(matrix).reshape([frames, channels, height, width])
    }

    /// Gradient `[N, C, H, W]` of what is pooled from that of what comes out.
    pub fn backward<B: Backend>(&self, grad: Tensor<B, 4>) -> Tensor<B, 4> {
        if self.is_identity() {
            return grad;
        }
        let ([frames, channels, ..], ImageShape { height, width, .. }) = (grad.dims(), self.input);
        let matrix = self.matrix(&grad.device()).transpose();
        grad.reshape([frames * channels, self.windows.len()]).matmul(matrix).reshape([frames, channels, height, width])
    }

    /// Pools one map `[C, H, W]` to `[C, h, w]`.
    pub fn map(&self, map: Vec<f32>) -> Vec<f32> {
        if self.is_identity() {
            return map;
        }
        let mean = |plane: &[f32], positions: &Vec<usize>| {
            positions.iter().map(|&position| plane[position]).sum::<f32>() / positions.len() as f32
        };
        map.chunks(self.input.area()).flat_map(|plane| self.windows.iter().map(move |window| mean(plane, window))).collect()
    }
}
