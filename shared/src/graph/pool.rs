//! Adaptive average pooling: to a map of a given side, whatever the size of the map.

use crate::ImageShape;
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
        let window =
            |index: usize, parts: usize, size: usize| (index * size / parts)..((index + 1) * size).div_ceil(parts);
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
}
