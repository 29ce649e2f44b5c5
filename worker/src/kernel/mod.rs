//! What computes the layers of a block, one implementation per backend.
//!
//! The layers of a block are a [`Body`] of the network's graph. [`SpikingBackend::body`] runs one over all T steps of a
//! batch, and is one operation for burn's autodiff ([`autodiff`]). [`mod@reference`] has it in plain tensor operations,
//! by which the others are measured; `cpu` hands it to the crate of CPU kernels, for the Flex backend; `gpu` has its
//! own for CubeCL's (features `cuda` and `wgpu`). Nothing above this folder knows which one runs. Results do not depend
//! on the number of threads.

pub mod autodiff;
mod cpu;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
pub mod gpu;
pub mod later;
pub mod memory;
pub mod pool;
pub mod reference;

pub use bloctrain_kernel::call::{Call, Mode, Statistic, Tap};
pub use bloctrain_kernel::step::StepRule;

use bloctrain_kernel::call::Record;
use bloctrain_kernel::count::Count;
use bloctrain_kernel::spikes::Spikes;
use bloctrain_shared::ImageShape;
use bloctrain_shared::graph::{AdaptivePool, Body, Pool, PoolKind};
use bloctrain_shared::neuron::NeuronRule;
use bloctrain_shared::spec;
use burn_tensor::activation::{log_softmax, sigmoid, softmax};
use burn_tensor::backend::Backend;
use burn_tensor::module::{avg_pool2d, max_pool2d};
use burn_tensor::ops::FloatTensor;
use burn_tensor::{Tensor, TensorData, TensorPrimitive};
use later::Later;
use std::sync::Arc;

/// Numbers in which a GPU computes convolutions: their inputs, weights and outputs. Sums, norms and membranes are f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ConvPrecision {
    /// bf16 on CUDA devices whose matrix units have it, else f32.
    #[default]
    Auto,
    /// f32.
    F32,
    /// f16, whose range is too small for gradients in general: for tests of the path in half precision.
    F16,
}

impl From<spec::Precision> for ConvPrecision {
    fn from(asked: spec::Precision) -> Self {
        match asked {
            spec::Precision::Auto => Self::Auto,
            spec::Precision::F32 => Self::F32,
        }
    }
}

/// One pass over a body on a backend.
#[derive(Debug, Clone, Copy)]
pub struct BodyCall<'a> {
    /// What is asked of every backend.
    pub call: Call<'a>,
    /// Numbers in which a GPU computes convolutions.
    pub precision: ConvPrecision,
}

/// What enters a body.
#[derive(Debug, Clone)]
pub enum BodyInput<B: Backend> {
    /// Images presented at every step, `[B, C, H, W]`.
    Image(Tensor<B, 4>),
    /// Spikes over time.
    Spikes(Spikes),
}

impl<B: Backend> BodyInput<B> {
    /// Number of samples.
    pub fn batch(&self) -> usize {
        match self {
            Self::Image(x) => x.dims()[0],
            Self::Spikes(spikes) => spikes.batch(),
        }
    }

    /// The same for the first time steps only; images are there at every step.
    #[must_use]
    pub fn first(self, steps: usize) -> Self {
        match self {
            Self::Spikes(spikes) if steps < spikes.steps() => Self::Spikes(spikes.first(steps)),
            whole => whole,
        }
    }
}

impl<B: Backend> From<Spikes> for BodyInput<B> {
    fn from(spikes: Spikes) -> Self {
        Self::Spikes(spikes)
    }
}

/// What a pass saw on its way.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BodyRecord {
    /// Batch statistics of every norm, in [`Mode::Train`].
    pub statistics: Vec<Statistic>,
    /// The same where the device may still be working on them: means and variances of all norms, one after another.
    pub queued: Option<Later>,
    /// Firing rates of the spiking layers, where they were wanted.
    pub rates: Vec<f64>,
    /// Operations, where they were wanted.
    pub count: Count,
}

impl From<Record> for BodyRecord {
    fn from(record: Record) -> Self {
        let Record { statistics, rates, count } = record;
        Self { statistics, queued: None, rates, count }
    }
}

/// Spikes that leave a body, in the form in which the backend has them.
#[derive(Debug, Clone)]
pub enum Emitted<B: Backend> {
    /// `[T * B, C, H, W]`.
    Tensor(Tensor<B, 4>),
    /// Bits.
    Spikes(Spikes),
    /// Their averages over time and the windows of a pooling, `[B, C, h, w]`.
    Average(Tensor<B, 4>),
}

impl<B: SpikingBackend> Emitted<B> {
    /// As a tensor `[T * B, C, H, W]`.
    ///
    /// # Panics
    /// When only averages are there.
    pub fn tensor(&self, device: &B::Device) -> Tensor<B, 4> {
        match self {
            Self::Tensor(tensor) => tensor.clone(),
            Self::Spikes(spikes) => B::spikes_from_host(spikes, device),
            Self::Average(_) => unreachable!("only averages were asked for"),
        }
    }

    /// Their averages over `steps` steps and the windows of a pooling, `[B, C, h, w]`; the pooling is that of the call
    /// where it had one.
    pub fn average(&self, pool: &AdaptivePool, steps: usize, device: &B::Device) -> Tensor<B, 4> {
        match self {
            Self::Tensor(tensor) => pool::forward(pool, mean_over_time(tensor.clone(), steps)),
            Self::Spikes(spikes) => B::average(spikes, pool, device),
            Self::Average(average) => average.clone(),
        }
    }

    /// The same with a gradient that is `factor` times as large on its way back; bits have none.
    #[must_use]
    pub fn with_gradient_scaled(self, factor: f64) -> Self {
        // Exactly the same values: what is added is zero.
        let scaled = |x: Tensor<B, 4>| {
            let still = x.clone().detach();
            still.clone() + (x - still).mul_scalar(factor)
        };
        match self {
            Self::Tensor(x) if factor != 1.0 => Self::Tensor(scaled(x)),
            Self::Average(x) if factor != 1.0 => Self::Average(scaled(x)),
            Self::Tensor(_) | Self::Average(_) | Self::Spikes(_) => self,
        }
    }

    /// As bits, of `batch` samples.
    ///
    /// # Panics
    /// When only averages are there.
    pub fn into_spikes(self, batch: usize) -> Spikes {
        match self {
            Self::Average(_) => unreachable!("only averages were asked for"),
            Self::Tensor(tensor) => B::spikes_to_host(tensor, batch),
            Self::Spikes(spikes) => spikes,
        }
    }
}

/// What comes out of a pass.
#[derive(Debug, Clone)]
pub struct BodyOutput<B: Backend> {
    /// The spikes that leave.
    pub emitted: Emitted<B>,
    /// Those of the tapped value.
    pub tapped: Option<Emitted<B>>,
    /// What was seen on the way.
    pub record: BodyRecord,
}

/// What comes out of a pass whose gradients will be asked for.
#[derive(Debug)]
pub struct Tracked<B: SpikingBackend> {
    /// What leaves: of the tapped value where there is one, then of the last. Spikes `[T * B, C, H, W]`, or averages
    /// `[B, C, h, w]` where the call asks for them.
    pub left: Vec<Tensor<B, 4>>,
    /// What was seen on the way.
    pub record: BodyRecord,
    /// What the backward pass needs.
    pub tape: Arc<B::Tape>,
}

/// Moments of one parameter: velocity or first moment, and the second moment of AdamW.
#[derive(Debug, Clone)]
pub struct Moments<B: Backend> {
    /// Velocity (SGD) or first moment (AdamW).
    pub first: Tensor<B, 1>,
    /// Second moment (AdamW).
    pub second: Option<Tensor<B, 1>>,
}

/// What a step of an optimiser gives.
#[derive(Debug, Clone)]
pub struct Stepped<B: Backend> {
    /// The new values.
    pub parameter: Tensor<B, 1>,
    /// The new moments.
    pub moments: Moments<B>,
}

/// A backend that runs bodies. Methods have defaults in plain tensor operations, but for those about frozen bodies,
/// which [`reference::FrozenBody`] serves.
pub trait SpikingBackend: Backend {
    /// What its own operation for bodies keeps between forward and backward.
    type Tape: std::fmt::Debug + Send + Sync + 'static;

    /// A body whose parameters do not change any more, with what calls share.
    type Frozen: std::fmt::Debug + Send + Sync + 'static;

    /// Whether bodies have their own operation with its own backward pass.
    const FUSED: bool = false;

    /// Whether work is queued for a device, so that reading a value waits for all work before it.
    const QUEUES: bool = false;

    /// Runs a body on flat parameters `[parameters]`.
    fn body(call: &BodyCall<'_>, params: Tensor<Self, 1>, input: BodyInput<Self>) -> BodyOutput<Self> {
        reference::body(call, params, input)
    }

    /// Runs a body and keeps what [`body_grad`](Self::body_grad) needs; only where [`FUSED`](Self::FUSED).
    fn body_tracked(_call: &BodyCall<'_>, _params: Tensor<Self, 1>, _input: BodyInput<Self>) -> Tracked<Self> {
        unreachable!("this backend has no operation of its own for bodies")
    }

    /// Gradients of the parameters from those of what left; only where [`FUSED`](Self::FUSED).
    fn body_grad(_tape: &Self::Tape, _params: Tensor<Self, 1>, _grads: Vec<Tensor<Self, 4>>) -> Tensor<Self, 1> {
        unreachable!("this backend has no operation of its own for bodies")
    }

    /// Keeps a body at inference, with its flat parameters and the running statistics of its norms.
    fn freeze(body: &Body, params: Tensor<Self, 1>, running: Vec<Statistic>, precision: ConvPrecision) -> Self::Frozen;

    /// Runs a frozen body, and counts operations where they are wanted.
    fn run_frozen(frozen: &Self::Frozen, input: BodyInput<Self>, count: bool) -> (Emitted<Self>, Count);

    /// One step of an optimiser on one parameter.
    fn optimize(
        rule: &StepRule,
        parameter: Tensor<Self, 1>,
        grad: Tensor<Self, 1>,
        moments: Moments<Self>,
    ) -> Stepped<Self> {
        reference::optimize(rule, parameter, grad, moments)
    }

    /// `x [N, inputs]` times the transposed `weight [outputs, inputs]`: `[N, outputs]`.
    fn fully_connected(x: Tensor<Self, 2>, weight: Tensor<Self, 2>) -> Tensor<Self, 2> {
        x.matmul(weight.transpose())
    }

    /// Gradient `[outputs, inputs]` of the weights of [`fully_connected`](Self::fully_connected) from `grad [N,
    /// outputs]`.
    fn fully_connected_weight_grad(x: Tensor<Self, 2>, grad: Tensor<Self, 2>) -> Tensor<Self, 2> {
        grad.transpose().matmul(x)
    }

    /// Gradient `[N, inputs]` of the input of [`fully_connected`](Self::fully_connected) from `grad [N, outputs]`.
    fn fully_connected_input_grad(grad: Tensor<Self, 2>, weight: Tensor<Self, 2>) -> Tensor<Self, 2> {
        grad.matmul(weight)
    }

    /// `x [N, outputs]` plus `bias [outputs]` in every row.
    fn biased(x: Tensor<Self, 2>, bias: Tensor<Self, 1>) -> Tensor<Self, 2> {
        x + bias.unsqueeze_dim::<2>(0)
    }

    /// Gradient `[outputs]` of the bias of [`biased`](Self::biased) from `grad [N, outputs]`.
    fn bias_grad(grad: Tensor<Self, 2>) -> Tensor<Self, 1> {
        let outputs = grad.dims()[1];
        grad.sum_dim(0).reshape([outputs])
    }

    /// `1 / (1 + e^-x)`.
    fn logistic(x: Tensor<Self, 1>) -> Tensor<Self, 1> {
        sigmoid(x)
    }

    /// `-sum over n and c of target[n, c] ln softmax(logits[n])[c]`, `[1]`, both `[N, classes]`.
    fn cross_entropy(logits: Tensor<Self, 2>, target: Tensor<Self, 2>) -> Tensor<Self, 1> {
        (log_softmax(logits, 1) * target).sum().neg()
    }

    /// Gradient `[N, classes]` of the logits of [`cross_entropy`](Self::cross_entropy).
    fn cross_entropy_grad(logits: Tensor<Self, 2>, target: Tensor<Self, 2>) -> Tensor<Self, 2> {
        softmax(logits, 1) * target.clone().sum_dim(1) - target
    }

    /// Sum of the squares of a vector, left where it is.
    fn squared_norm(x: Tensor<Self, 1>) -> Tensor<Self, 1> {
        (x.clone() * x).sum()
    }

    /// Sum of the squares of a vector.
    fn sum_of_squares(x: Tensor<Self, 1>) -> f64 {
        to_host((x.clone() * x).sum()).first().copied().map_or(0.0, f64::from)
    }

    /// Values `[T * B, C, H, W]` as bits on the host; anything but 0 is a spike.
    fn spikes_to_host(x: Tensor<Self, 4>, batch: usize) -> Spikes {
        let [frames, channels, height, width] = x.dims();
        Spikes::from_values(&to_host(x), batch, frames / batch.max(1), ImageShape::new(channels, height, width))
    }

    /// Bits on the host as values `[T * B, C, H, W]`.
    fn spikes_from_host(spikes: &Spikes, device: &Self::Device) -> Tensor<Self, 4> {
        spikes_tensor(spikes, device)
    }

    /// Averages of bits on the host over time and the windows of a pooling, `[B, C, h, w]`.
    fn average(spikes: &Spikes, pool: &AdaptivePool, device: &Self::Device) -> Tensor<Self, 4> {
        pool::forward(pool, mean_over_time(Self::spikes_from_host(spikes, device), spikes.steps()))
    }

    /// Bytes of the device's memory that are in use, where it has its own.
    fn memory_in_use(_device: &Self::Device) -> Option<usize> {
        None
    }

    /// Spikes `[T, M]` of neurons driven by `x [T, M]`, with membranes that start at 0 and the factor `leak [1]`.
    fn neuron(x: FloatTensor<Self>, leak: FloatTensor<Self>, rule: NeuronRule) -> FloatTensor<Self> {
        reference::neuron::<Self>(x, leak, rule)
    }

    /// Gradients of [`neuron`](Self::neuron) for `x` and `leak` by back-propagation through time with the surrogate.
    fn neuron_grad(
        x: FloatTensor<Self>,
        leak: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        rule: NeuronRule,
    ) -> [FloatTensor<Self>; 2] {
        reference::neuron_grad::<Self>(x, leak, grad, rule)
    }
}

pub(crate) fn lift<B: Backend, const D: usize>(primitive: FloatTensor<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

pub(crate) fn lower<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> FloatTensor<B> {
    tensor.into_primitive().tensor()
}

/// A tensor's values on the host, row-major.
///
/// # Panics
/// When the backend cannot give its data back as f32, which every backend of this crate can.
pub fn to_host<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().into_vec().expect("the data was converted to f32")
}

/// Multiples of a unit, `[T * B, C, H, W]`, as whole numbers on the host: bit planes, the lowest digit first.
fn planes_to_host<B: Backend>(x: Tensor<B, 4>, batch: usize, unit: f32, digits: usize) -> Vec<Spikes> {
    let [frames, channels, height, width] = x.dims();
    let numbers: Vec<u64> = to_host(x).into_iter().map(|value| (value / unit).round() as u64).collect();
    let plane = |digit: usize| {
        let ones: Vec<f32> = numbers.iter().map(|number| f32::from((number >> digit & 1) as u8)).collect();
        Spikes::from_values(&ones, batch, frames / batch.max(1), ImageShape::new(channels, height, width))
    };
    (0..digits).map(plane).collect()
}

/// Spikes as `[T * B, C, H, W]`.
fn spikes_tensor<B: Backend>(spikes: &Spikes, device: &B::Device) -> Tensor<B, 4> {
    let ImageShape { channels, height, width } = spikes.shape();
    let shape = [spikes.steps() * spikes.batch(), channels, height, width];
    Tensor::from_data(TensorData::new(spikes.to_values(), shape), device)
}

/// Average of `[T * B, C, H, W]` over time, `[B, C, H, W]`.
fn mean_over_time<B: Backend>(x: Tensor<B, 4>, steps: usize) -> Tensor<B, 4> {
    let [frames, channels, height, width] = x.dims();
    let batch = frames / steps;
    x.reshape([steps, batch * channels * height * width]).mean_dim(0).reshape([batch, channels, height, width])
}

/// A pooling of `[N, C, H, W]`.
pub(crate) fn pool2d<B: Backend>(x: Tensor<B, 4>, pool: Pool) -> Tensor<B, 4> {
    let size = [pool.size; 2];
    match pool.kind {
        PoolKind::Average => avg_pool2d(x, size, size, [0, 0], false, false),
        PoolKind::Maximum => max_pool2d(x, size, size, [0, 0], [1, 1], false),
    }
}

/// [`SpikingBackend::neuron`] on tensors.
pub fn neuron<B: SpikingBackend>(x: Tensor<B, 2>, leak: Tensor<B, 1>, rule: NeuronRule) -> Tensor<B, 2> {
    lift(B::neuron(lower(x), lower(leak), rule))
}
