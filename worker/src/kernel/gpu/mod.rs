//! Bodies on GPUs (burn's CubeCL backends: CUDA, and wgpu for tests without one).
//!
//! Convolutions are cubek's (`convolution`). What is between them is here, written in CubeCL: norm and neuron over all
//! T steps in one kernel forward and one backward, statistics by channel, spikes packed one bit each. `kernels` holds
//! them, `launch` starts them, `layout` says how tensors lie in memory, `packed` is what is kept between forward and
//! backward, `body` puts a block together. Nothing in a training pass waits for the device, except where firing rates
//! or operations are asked for.

mod body;
pub mod convolution;
mod kernels;
mod launch;
mod layout;
mod packed;

use super::{
    BodyCall, BodyInput, BodyOutput, ConvPrecision, Count, Emitted, Moments, SpikingBackend, Statistic, StepRule,
    Stepped, Tracked, lift, lower, memory, reference,
};
use bloctrain_kernel::spikes::Spikes;
use bloctrain_shared::ImageShape;
use bloctrain_shared::graph::Body;
use bloctrain_shared::neuron::{Leak, NeuronRule};
pub use body::Tape;
use burn_cubecl::element::BoolElement;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, CubeRuntime, FloatElement, IntElement};
use burn_tensor::activation::sigmoid;
use burn_tensor::backend::Backend;
use burn_tensor::ops::FloatTensor;
use burn_tensor::{DType, FloatDType, Tensor, TensorData};
use cubecl::client::ComputeClient;
use launch::{Driving, Layer};
use layout::Rows;
use packed::Packed;
use std::sync::Arc;

/// A backend whose float tensors are CubeCL's on runtime `R`.
trait Cube<R: CubeRuntime>: Backend<Device = R::Device, FloatTensorPrimitive = CubeTensor<R>> {}

impl<R: CubeRuntime, B: Backend<Device = R::Device, FloatTensorPrimitive = CubeTensor<R>>> Cube<R> for B {}

/// Element of a body's convolutions on this device.
fn element<R: CubeRuntime>(client: &ComputeClient<R>, precision: ConvPrecision) -> FloatDType {
    match precision {
        ConvPrecision::Auto if convolution::has_units(client, DType::BF16) => FloatDType::BF16,
        ConvPrecision::Auto | ConvPrecision::F32 => FloatDType::F32,
        ConvPrecision::F16 => FloatDType::F16,
    }
}

/// The leak of a layer, `[1]`.
fn leak<R: CubeRuntime, B: Cube<R>>(leak: Leak, params: &Tensor<B, 1>) -> CubeTensor<R> {
    let leak: Tensor<B, 1> = match leak {
        Leak::Fixed(leak) => Tensor::from_data(TensorData::new(vec![leak], [1]), &params.device()),
        Leak::Learned(at) => sigmoid(params.clone().slice(at..at + 1)),
    };
    lower(leak)
}

/// Takes note of the device memory that is in use now.
fn observe<R: CubeRuntime>(client: &ComputeClient<R>) {
    if let Ok(usage) = client.memory_usage() {
        memory::saw_device(usage.bytes_in_use as usize);
    }
}

/// Sites and channels as which the neurons of `[T, M]` are worked on.
fn matrix(sites: usize) -> ImageShape {
    if sites.is_multiple_of(32) { ImageShape::new(32, sites / 32, 1) } else { ImageShape::new(sites, 1, 1) }
}

impl<R: CubeRuntime, F: FloatElement, I: IntElement, BT: BoolElement> SpikingBackend for CubeBackend<R, F, I, BT> {
    type Tape = Tape<R>;
    type Frozen = reference::FrozenBody<Self>;

    const FUSED: bool = true;
    const QUEUES: bool = true;

    fn body(call: &BodyCall<'_>, params: Tensor<Self, 1>, input: BodyInput<Self>) -> BodyOutput<Self> {
        let dtype = element(&R::client(&params.device()), call.precision);
        let found = body::forward(&call.call, params, input, dtype);
        BodyOutput { emitted: found.emitted, tapped: found.tapped, record: found.record }
    }

    fn body_tracked(call: &BodyCall<'_>, params: Tensor<Self, 1>, input: BodyInput<Self>) -> Tracked<Self> {
        let dtype = element(&R::client(&params.device()), call.precision);
        let found = body::forward(&call.call, params, input, dtype);
        let leaves = |emitted: Emitted<Self>| match emitted {
            Emitted::Tensor(x) | Emitted::Average(x) => x,
            Emitted::Spikes(_) => unreachable!("spikes stay on the device"),
        };
        let left = found.tapped.into_iter().chain([found.emitted]).map(leaves).collect();
        Tracked { left, record: found.record, tape: Arc::new(found.tape) }
    }

    fn body_grad(tape: &Tape<R>, params: Tensor<Self, 1>, grads: Vec<Tensor<Self, 4>>) -> Tensor<Self, 1> {
        body::backward(tape, params, grads)
    }

    fn freeze(body: &Body, params: Tensor<Self, 1>, running: Vec<Statistic>, precision: ConvPrecision) -> Self::Frozen {
        reference::FrozenBody::new(body, params, running, precision)
    }

    fn run_frozen(frozen: &Self::Frozen, input: BodyInput<Self>, count: bool) -> (Emitted<Self>, Count) {
        frozen.run(input, count)
    }

    fn neuron(x: FloatTensor<Self>, leak: FloatTensor<Self>, rule: NeuronRule) -> FloatTensor<Self> {
        let [steps, sites] = lift::<Self, 2>(x.clone()).dims();
        let shape = matrix(sites);
        let rows = Rows::of_matrix(x, steps * shape.area(), shape.channels);
        let dtype = rows.over_time(steps).dtype;
        let branches = [Driving { rows, constant: false }];
        let spikes = Layer { branches: &branches, norms: None, leak: &leak, rule, steps, batch: 1, shape }.spikes();
        let spikes = lift::<Self, 4>(launch::unpack(&spikes, dtype)).permute([0, 2, 3, 1]);
        lower(spikes.reshape([steps, sites]))
    }

    fn neuron_grad(
        x: FloatTensor<Self>,
        leak: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        rule: NeuronRule,
    ) -> [FloatTensor<Self>; 2] {
        let [steps, sites] = lift::<Self, 2>(x.clone()).dims();
        let shape = matrix(sites);
        let matrix = |x| Driving { rows: Rows::of_matrix(x, steps * shape.area(), shape.channels), constant: false };
        let branches = [matrix(x)];
        let layer = Layer { branches: &branches, norms: None, leak: &leak, rule, steps, batch: 1, shape };
        let (x_grad, sums) = layer.backward(&matrix(grad));
        let x_grad = lift::<Self, 4>(x_grad).permute([0, 2, 3, 1]).reshape([steps, sites]);
        let parts = lift::<Self, 3>(sums);
        let [count, _, channels] = parts.dims();
        let leaks = parts.slice([0..count, 1..2, 0..channels]).reshape([count * channels]);
        [lower(x_grad), launch::sum(into_contiguous(lower(leaks)), false)]
    }

    fn fully_connected(x: Tensor<Self, 2>, weight: Tensor<Self, 2>) -> Tensor<Self, 2> {
        convolution::matmul(x, weight.transpose())
    }

    fn fully_connected_weight_grad(x: Tensor<Self, 2>, grad: Tensor<Self, 2>) -> Tensor<Self, 2> {
        convolution::matmul(grad.transpose(), x)
    }

    fn fully_connected_input_grad(grad: Tensor<Self, 2>, weight: Tensor<Self, 2>) -> Tensor<Self, 2> {
        convolution::matmul(grad, weight)
    }

    fn squared_norm(x: Tensor<Self, 1>) -> Tensor<Self, 1> {
        lift(launch::sum(into_contiguous(lower(x)), true))
    }

    fn optimize(
        rule: &StepRule,
        parameter: Tensor<Self, 1>,
        grad: Tensor<Self, 1>,
        moments: Moments<Self>,
    ) -> Stepped<Self> {
        let Moments { first, second } = moments;
        let second = match rule {
            StepRule::Sgd { .. } => None,
            StepRule::Adamw { .. } => Some(second.unwrap_or_else(|| grad.zeros_like())),
        };
        let in_order = |x| into_contiguous(lower(x));
        let ([parameter, first], second) =
            launch::step(rule, [parameter, grad, first].map(in_order), second.map(in_order));
        Stepped { parameter: lift(parameter), moments: Moments { first: lift(first), second: second.map(lift) } }
    }

    fn spikes_to_host(x: Tensor<Self, 4>, batch: usize) -> Spikes {
        let [frames, channels, height, width] = x.dims();
        let shape = ImageShape::new(channels, height, width);
        launch::pack(&Rows::of(lower(x)), batch, frames / batch.max(1), shape).download()
    }

    fn spikes_from_host(spikes: &Spikes, device: &Self::Device) -> Tensor<Self, 4> {
        lift(launch::unpack(&Packed::<R>::upload(spikes, device), F::dtype()))
    }

    fn memory_in_use(device: &Self::Device) -> Option<usize> {
        R::client(device).memory_usage().ok().map(|usage| usage.bytes_in_use as usize)
    }
}
