//! A whole body on the device: forward over a batch, and backward from the gradient of what left it.
//!
//! Between the two only bits are kept: the spikes of every spiking node, dropout masks, and the coefficients of the
//! norms. Poolings are worked out from their sources when they are read. The backward pass computes convolutions and
//! membranes again, node by node from the last, so that dense values of one layer live at a time.
//!
//! Convolutions are those of [`convolution`](super::convolution): on matrix units their inputs, weights and outputs are
//! bf16, with sums in f32. Norms, membranes and sums of gradients are f32 in any case.

mod backward;
mod forward;

pub(super) use backward::backward;
pub(super) use forward::forward;

use super::Cube;
use super::convolution::{self, Input};
use super::launch::{self, Driving};
use super::layout::Rows;
use super::packed::Packed;
use crate::kernel::{lift, lower, pool2d};
use bloctrain_kernel::call::Left;
use bloctrain_shared::graph::{Body, Branch, Node};
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use burn_tensor::backend::Backend;
use burn_tensor::{DType, FloatDType, Tensor};

/// What the backward pass needs.
#[derive(Debug)]
pub struct Tape<R: CubeRuntime> {
    body: Body,
    batch: usize,
    /// What left, in order.
    left: Vec<Left>,
    dtype: FloatDType,
    /// Whether the memory in use is to be looked at.
    measure: bool,
    values: Vec<Value<R>>,
    /// Coefficients of the norms of every spiking node, `[branches, 4, C]`.
    norms: Vec<Option<CubeTensor<R>>>,
}

/// A value as it is kept.
#[derive(Debug)]
enum Value<R: CubeRuntime> {
    /// The same at every step, `[B, C, H, W]`.
    Image(CubeTensor<R>),
    /// Bits.
    Spikes(Packed<R>),
    /// Worked out from its source when it is read; of a dropout, with the mask `[B, 1, ..]` of what stays.
    Derived(Option<Packed<R>>),
}

/// A value or a gradient, dense.
#[derive(Debug, Clone)]
struct Dense<B: Backend> {
    /// `[T * B, C, H, W]`, or `[B, C, H, W]` of one that is the same at every step.
    x: Tensor<B, 4>,
    constant: bool,
}

impl<B: Backend> Dense<B> {
    fn map(self, change: impl FnOnce(Tensor<B, 4>) -> Tensor<B, 4>) -> Self {
        Self { x: change(self.x), constant: self.constant }
    }

    fn driving<R: CubeRuntime>(self) -> Driving<R>
    where
        B: Cube<R>,
    {
        Driving { rows: Rows::of(lower(self.x)), constant: self.constant }
    }
}

/// A body with what has been computed of it.
struct Computed<'a, R: CubeRuntime, B: Cube<R>> {
    body: &'a Body,
    params: Tensor<B, 1>,
    /// Element of convolutions.
    dtype: FloatDType,
    values: &'a [Value<R>],
}

impl<R: CubeRuntime, B: Cube<R>> Computed<'_, R, B> {
    fn param(&self, at: usize, length: usize) -> Tensor<B, 1> {
        self.params.clone().slice(at..at + length)
    }

    /// The node that makes a value.
    fn maker(&self, value: usize) -> &Node {
        &self.body.nodes[value - 1]
    }

    /// A value in full.
    fn dense(&self, value: usize, dtype: FloatDType) -> Dense<B> {
        match &self.values[value] {
            Value::Image(x) => Dense { x: lift::<B, 4>(x.clone()).cast(dtype), constant: true },
            Value::Spikes(spikes) => Dense { x: lift(launch::unpack(spikes, DType::from(dtype))), constant: false },
            Value::Derived(mask) => match self.maker(value) {
                Node::Pool(pool) => self.dense(pool.source, dtype).map(|x| pool2d(x, *pool)),
                Node::Dropout { source, p, .. } => match mask {
                    Some(mask) => self.dense(*source, dtype).map(|x| masked(x, mask, *p)),
                    None => self.dense(*source, dtype),
                },
                Node::Spiking(_) => unreachable!("spikes are kept"),
            },
        }
    }

    /// The weights of a branch, `[O, C, kh, kw]`.
    fn weight(&self, branch: &Branch) -> Tensor<B, 4> {
        let conv = branch.conv;
        let weight = self.param(branch.weight, conv.weights()).cast(self.dtype);
        weight.reshape([conv.outputs, conv.input.channels, conv.kernel[0], conv.kernel[1]])
    }

    /// What the convolution of a branch reads, and whether it is the same at every step.
    fn input(&self, branch: &Branch) -> (Input<R>, bool) {
        match &self.values[branch.source] {
            Value::Spikes(spikes) => (Input::Spikes(spikes.clone(), self.dtype.into()), false),
            _ => {
                let Dense { x, constant } = self.dense(branch.source, self.dtype);
                (Input::Map(lower(x)), constant)
            }
        }
    }

    /// The convolution of a branch, without its norm.
    fn convolve(&self, branch: &Branch) -> Dense<B> {
        let (input, constant) = self.input(branch);
        Dense { x: lift(convolution::forward(input, lower(self.weight(branch)), branch.conv)), constant }
    }
}

/// What a dropout leaves of a value or of a gradient.
fn masked<R: CubeRuntime, B: Cube<R>>(x: Tensor<B, 4>, mask: &Packed<R>, p: f32) -> Tensor<B, 4> {
    let [frames, channels, height, width] = x.dims();
    let mask = lift::<B, 4>(launch::unpack(mask, x.dtype())).mul_scalar(1.0 / (1.0 - p));
    let steps = frames / mask.dims()[0].max(1);
    let by_step = x.reshape([steps, frames / steps.max(1), channels, height, width]);
    (by_step * mask.unsqueeze_dim::<5>(0)).reshape([frames, channels, height, width])
}
