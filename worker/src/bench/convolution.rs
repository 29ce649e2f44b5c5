//! The convolutions of a network on a GPU: every direction by every algorithm.

use super::{Clock, Images, median};
use crate::device::{Device, failure};
use crate::kernel::gpu::convolution::{self, Algorithm, Direction};
use crate::kernel::{lift, lower, to_host};
use crate::snn::block::{BlockConfig, BlockNet};
use bloctrain_shared::RunSpec;
use bloctrain_shared::graph::{Body, Conv, Node};
use burn_cubecl::{CubeBackend, CubeRuntime};
use burn_flex::Flex;
use burn_tensor::backend::Backend;
use burn_tensor::{DType, Distribution, Tensor};
use serde::Serialize;

/// One direction of one convolution by one algorithm.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// Shape of the input, outputs, kernel and stride.
    pub layer: String,
    /// Direction.
    pub direction: &'static str,
    /// Algorithm.
    pub algorithm: String,
    /// Milliseconds of the median call; `null` where the algorithm does not take the shape.
    pub ms: Option<f64>,
    /// Multiplications and additions a second, in units of 10^12.
    pub tflops: Option<f64>,
    /// Largest difference from the same in f32 over some frames, relative to the largest value.
    pub error: Option<f32>,
}

/// Times all algorithms on the convolutions of a network, in bf16 over all steps of a batch, on a GPU (after
/// [`Device::resolve`]).
///
/// # Errors
/// Where the network does not fit the images, on the processor, where there is no choice, and where the device fails.
pub fn convolutions(
    spec: &RunSpec,
    images: &Images,
    device: Device,
    (batch, iters): (usize, usize),
    clock: Clock<'_>,
    mut found: impl FnMut(Figures),
) -> Result<(), String> {
    let config = BlockConfig::new(spec, images.shape(), 1, images.classes()).map_err(|error| error.to_string())?;
    let net = BlockNet::<Flex>::new(&config, &Default::default());
    match device {
        Device::Cuda(number) => {
            let device = burn_cuda::CudaDevice::new(number);
            let frames = batch * net.steps();
            all::<cubecl::cuda::CudaRuntime>(net.layers(), frames, &device, iters, clock, &mut found)
        }
        _ => Err("algorithms of convolutions are compared on CUDA devices only (--device cuda:0)".into()),
    }
}

/// The convolutions of a body, each once.
fn distinct(body: &Body) -> Vec<Conv> {
    let mut convs: Vec<Conv> = Vec::new();
    for node in &body.nodes {
        let Node::Spiking(spiking) = node else { continue };
        for branch in &spiking.branches {
            if !convs.contains(&branch.conv) {
                convs.push(branch.conv);
            }
        }
    }
    convs
}

type Gpu<R> = CubeBackend<R, f32, i32, u8>;

/// Frames over which results are compared.
const COMPARED: usize = 16;

fn all<R: CubeRuntime>(
    body: &Body,
    frames: usize,
    device: &R::Device,
    iters: usize,
    clock: Clock<'_>,
    found: &mut dyn FnMut(Figures),
) -> Result<(), String> {
    let wait = || {
        let synced = Gpu::<R>::sync(device).map_err(|error| failure::brief(&format!("the device failed: {error:?}")));
        failure::take().map_or(synced, Err)
    };
    for conv in distinct(body) {
        let (input, output) = (conv.input, conv.output());
        let layer = format!(
            "{}x{}x{} -> {}, {}x{}/{}",
            input.channels, input.height, input.width, conv.outputs, conv.kernel[0], conv.kernel[1], conv.stride
        );
        let operations = 2.0 * (frames * output.area() * conv.weights()) as f64;
        let (full, few) = (operands::<R>(conv, frames, device), operands::<R>(conv, COMPARED.min(frames), device));
        for (direction, name) in [
            (Direction::Forward, "forward"),
            (Direction::InputGrad, "input grad"),
            (Direction::WeightGrad, "weight grad"),
        ] {
            let values = |algorithm, dtype| {
                let operands = few.each_ref().map(|x| lower(x.clone().cast(dtype)));
                let found = convolution::by((direction, algorithm), operands.each_ref(), conv)?;
                Some(to_host(lift::<Gpu<R>, 4>(found).cast(DType::F32)))
            };
            let exact = values(Algorithm::Unit, DType::F32).ok_or("products in registers take all shapes")?;
            let largest = exact.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
            let full = full.each_ref().map(|x| lower(x.clone()));
            for algorithm in Algorithm::ALL {
                let call = || convolution::by((direction, algorithm), full.each_ref(), conv).is_some();
                let mut times = Vec::new();
                let taken = call();
                wait()?;
                for _ in 0..if taken { iters } else { 0 } {
                    let begun = clock();
                    call();
                    wait()?;
                    times.push(clock() - begun);
                }
                let seconds = taken.then(|| median(times));
                let error = values(algorithm, DType::BF16).map(|values| {
                    values.iter().zip(&exact).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
                        / largest.max(f32::MIN_POSITIVE)
                });
                found(Figures {
                    layer: layer.clone(),
                    direction: name,
                    algorithm: format!("{algorithm:?}"),
                    ms: seconds.map(|seconds| 1e3 * seconds),
                    tflops: seconds.map(|seconds| operations / seconds / 1e12),
                    error,
                });
            }
        }
    }
    Ok(())
}

/// Input, weights and gradient of the outputs in bf16, channels last in memory.
fn operands<R: CubeRuntime>(conv: Conv, frames: usize, device: &R::Device) -> [Tensor<Gpu<R>, 4>; 3] {
    let (input, output) = (conv.input, conv.output());
    let random = |[count, channels, height, width]: [usize; 4]| {
        let values = Distribution::Uniform(-1.0, 1.0);
        Tensor::<Gpu<R>, 4>::random([count, height, width, channels], values, device)
            .cast(DType::BF16)
            .permute([0, 3, 1, 2])
    };
    [
        random([frames, input.channels, input.height, input.width]),
        random([conv.outputs, input.channels, conv.kernel[0], conv.kernel[1]]),
        random([frames, conv.outputs, output.height, output.width]),
    ]
}
