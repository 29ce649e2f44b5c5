//! Adaptive average pooling of tensors.

use super::SpikingBackend;
use bloctrain_shared::ImageShape;
use bloctrain_shared::graph::AdaptivePool;
use burn_tensor::backend::Backend;
use burn_tensor::{Tensor, TensorData};

/// Weights `[H * W, h * w]`.
pub(crate) fn matrix<B: Backend>(pool: &AdaptivePool, device: &B::Device) -> Tensor<B, 2> {
    let (area, parts) = (pool.input().area(), pool.windows().len());
    let mut matrix = vec![0.0; area * parts];
    for (part, positions) in pool.windows().iter().enumerate() {
        positions.iter().for_each(|position| matrix[position * parts + part] = 1.0 / positions.len() as f32);
    }
    Tensor::from_data(TensorData::new(matrix, [area, parts]), device)
}

/// Pools `x [N, C, H, W]` to `[N, C, h, w]`.
pub fn forward<B: SpikingBackend>(pool: &AdaptivePool, x: Tensor<B, 4>) -> Tensor<B, 4> {
    if pool.is_identity() {
        return x;
    }
    let ([frames, channels, ..], ImageShape { height, width, .. }) = (x.dims(), pool.output());
    let matrix = matrix(pool, &x.device());
    let planes = x.reshape([frames * channels, pool.input().area()]);
    B::fully_connected(planes, matrix.transpose()).reshape([frames, channels, height, width])
}
