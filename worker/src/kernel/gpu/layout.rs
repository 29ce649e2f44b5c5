//! How tensors lie in memory: convolutions give and take channels-last, so `[F, C, H, W]` is mostly rows of channels.

use bloctrain_shared::ImageShape;
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::zspace::metadata::Metadata;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use burn_tensor::DType;
use burn_tensor::Shape;

/// `[F, C, H, W]` as `F H W` rows of C values, `pitch` apart.
#[derive(Debug, Clone)]
pub(super) struct Rows<R: CubeRuntime> {
    tensor: CubeTensor<R>,
    count: usize,
    channels: usize,
    pitch: usize,
}

impl<R: CubeRuntime> Rows<R> {
    /// The rows of a tensor `[F, C, H, W]`, copied only where they do not lie in order.
    pub(super) fn of(mut tensor: CubeTensor<R>) -> Self {
        tensor.meta.permute(&[0, 2, 3, 1]).expect("a map has four axes");
        let shape = tensor.meta.shape();
        let (channels, count) = (shape[3], shape[0] * shape[1] * shape[2]);
        if let Some(pitch) = pitch(&tensor) {
            return Self { tensor, count, channels, pitch };
        }
        Self { tensor: into_contiguous(tensor), count, channels, pitch: channels }
    }

    /// A matrix `[rows, C]`.
    pub(super) fn of_matrix(tensor: CubeTensor<R>, count: usize, channels: usize) -> Self {
        Self { tensor: into_contiguous(tensor), count, channels, pitch: channels }
    }

    /// Number of rows.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Number of channels.
    pub(super) fn channels(&self) -> usize {
        self.channels
    }

    /// As `[T, rows / T, C]`.
    pub(super) fn over_time(&self, steps: usize) -> CubeTensor<R> {
        let sites = self.count / steps;
        self.view([steps, sites, self.channels], sites * self.pitch)
    }

    /// As `[T, rows, C]`, the same at every step.
    pub(super) fn repeated(&self, steps: usize) -> CubeTensor<R> {
        self.view([steps, self.count, self.channels], 0)
    }

    fn view(&self, shape: [usize; 3], outer: usize) -> CubeTensor<R> {
        let mut tensor = self.tensor.clone();
        *tensor.meta = Metadata::new(Shape::from(shape), [outer, self.pitch, 1]);
        tensor
    }
}

/// Distance between the rows of `[F, H, W, C]`, where there is one.
fn pitch<R: CubeRuntime>(tensor: &CubeTensor<R>) -> Option<usize> {
    let (shape, strides) = (tensor.meta.shape(), tensor.meta.strides());
    if shape[3] > 1 && strides[3] != 1 {
        return None;
    }
    let (mut rows, mut found) = (1, None);
    for axis in [2, 1, 0] {
        if shape[axis] > 1 {
            let pitch = *found.get_or_insert(strides[axis] / rows);
            if strides[axis] != pitch * rows {
                return None;
            }
        }
        rows *= shape[axis];
    }
    Some(found.unwrap_or(shape[3])).filter(|&pitch| pitch >= shape[3])
}

/// An empty tensor `[F, C, H, W]`, channels last in memory.
pub(super) fn empty_map<R: CubeRuntime>(
    near: &CubeTensor<R>,
    frames: usize,
    shape: ImageShape,
    dtype: DType,
) -> CubeTensor<R> {
    let mut tensor = empty(near, &[frames, shape.height, shape.width, shape.channels], dtype);
    tensor.meta.permute(&[0, 3, 1, 2]).expect("a map has four axes");
    tensor
}

/// An empty tensor on the device of another one, in order.
pub(super) fn empty<R: CubeRuntime>(near: &CubeTensor<R>, shape: &[usize], dtype: DType) -> CubeTensor<R> {
    empty_device_contiguous_dtype(near.client.clone(), near.device.clone(), Shape::from(shape.to_vec()), dtype)
}
