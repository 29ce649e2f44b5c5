//! One spiking layer, forward and backward, for `bench layer`.
//!
//! The gradient of the input is what a layer costs more behind another one than at the front of a block, so it is the
//! difference of backward passes: of the layer behind one that lets every spike through unchanged, less that of each of
//! them alone, and less once what every backward pass begins with, the gradient put in the order of the kernels.
//! Every time is that of the fastest pass, since differences of medians are noise on a machine that does other things.

use super::{Clock, GIGA, SEED, fastest};
use crate::kernel::{self, BodyCall, BodyInput, Call, ConvPrecision, Mode, SpikingBackend, reference};
use bloctrain_kernel::count::{Count, Counted};
use bloctrain_kernel::spikes::Spikes;
use bloctrain_shared::graph::{
    AdaptivePool, Body, Branch, BranchNorm, Conv, Node, Parameter, Pool, PoolKind, Running, Spiking,
};
use bloctrain_shared::neuron::{Leak, NeuronRule, NeuronSpec};
use bloctrain_shared::{ImageShape, seed};
use burn_autodiff::Autodiff;
use burn_flex::Flex;
use burn_tensor::{Tensor, TensorData};
use rand::RngExt;
use serde::Serialize;
use std::sync::Arc;

/// The layer and how it is measured.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// What enters.
    pub input: ImageShape,
    /// Output channels.
    pub outputs: usize,
    /// Side of the kernel, odd.
    pub kernel: usize,
    /// Step between output positions.
    pub stride: usize,
    /// Time steps.
    pub steps: usize,
    /// Samples.
    pub batch: usize,
    /// Share of ones in the input.
    pub rate: f64,
    /// Timed passes.
    pub iters: u32,
}

/// Figures of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Figures {
    /// Measured share of ones in the input.
    pub rate: f64,
    /// Share of neurons that fire.
    pub firing_rate: f64,
    /// Seconds of the forward pass.
    pub forward_s: f64,
    /// Seconds of the backward pass, without the gradient of the input.
    pub backward_s: f64,
    /// Seconds of the gradient of the input; `null` where it is lost in noise.
    pub input_gradient_s: Option<f64>,
    /// Samples per second, forward and backward with the gradient of the input.
    pub images_per_s: f64,
    /// Additions of a weight per second, in the forward pass, in 10^9.
    pub forward_gadd_per_s: f64,
    /// Multiply-accumulates of the dense gradient of the input per second, in 10^9.
    pub input_gradient_gmac_per_s: Option<f64>,
    /// Seconds of the plain reference, forward and backward without the gradient of the input.
    pub reference_s: f64,
    /// Those over ours.
    pub reference_ratio: f64,
}

/// Times one layer.
pub fn layer(options: Options, clock: Clock<'_>) -> Figures {
    let Options { input, steps, batch, iters, .. } = options;
    let conv = Conv::square(input, options.outputs, options.kernel, options.stride);
    let mut rng = seed::rng(SEED, "bench-layer", &[]);
    let values: Vec<f32> =
        (0..steps * batch * input.len()).map(|_| f32::from(u8::from(rng.random::<f64>() < options.rate))).collect();
    let spikes = Spikes::from_values(&values, batch, steps, input);
    let alone = Timed::new(vec![normalised(conv)], steps, input);
    let before = Timed::new(vec![through(input)], steps, input);
    let behind = Timed::new(vec![through(input), normalised(conv)], steps, input);
    let begins = Timed::beginning(steps, input);
    let [first, through, second, begin] = [&alone, &before, &behind, &begins].map(|timed| Tracked::new(timed, &spikes));
    let [forward_s, backward_s, before_s, behind_s, begin_s] = fastest(
        clock,
        iters,
        [
            &|| drop(first.forward(&spikes)),
            &|| first.backward(),
            &|| through.backward(),
            &|| second.backward(),
            &|| begin.backward(),
        ],
    );
    let input_gradient_s = Some(behind_s - before_s - backward_s + begin_s).filter(|seconds| *seconds > 0.0);
    let whole_s = forward_s + backward_s + input_gradient_s.unwrap_or(0.0);
    let mut count = Count::new(batch);
    count.add(conv, Counted::Spikes(std::slice::from_ref(&spikes)));
    let grad = alone.grad::<Autodiff<Flex>>(batch);
    let [reference_s] = fastest(clock, iters.min(3), [&|| alone.reference(&spikes, &grad)]);
    let macs = conv.macs() * (steps * batch) as f64;
    Figures {
        rate: spikes.rate(),
        firing_rate: first.firing_rate,
        forward_s,
        backward_s,
        input_gradient_s,
        images_per_s: batch as f64 / whole_s,
        forward_gadd_per_s: count.synops.iter().sum::<f64>() / forward_s / GIGA,
        input_gradient_gmac_per_s: input_gradient_s.map(|seconds| macs / seconds / GIGA),
        reference_s,
        reference_ratio: reference_s / (forward_s + backward_s),
    }
}

/// A layer without its places: convolution, whether it is normalised, leak.
struct Layer {
    conv: Conv,
    normalised: bool,
    leak: f32,
    weights: Vec<f32>,
}

fn normalised(conv: Conv) -> Layer {
    let bound = (6.0 / (conv.input.channels * conv.kernel[0] * conv.kernel[1]) as f32).sqrt();
    let mut rng = seed::rng(SEED, "bench-weights", &[]);
    let weights = (0..conv.weights()).map(|_| rng.random_range(-bound..bound)).collect();
    Layer { conv, normalised: true, leak: NeuronSpec::default().leak, weights }
}

/// Neurons that fire exactly where a spike comes in: one strong synapse each, and no memory.
fn through(input: ImageShape) -> Layer {
    let conv = Conv::square(input, input.channels, 1, 1);
    let strong = 2.0 * NeuronSpec::default().threshold;
    let weights =
        (0..conv.weights()).map(|at| if at / input.channels == at % input.channels { strong } else { 0.0 }).collect();
    Layer { conv, normalised: false, leak: 0.0, weights }
}

struct Timed {
    body: Body,
    params: Vec<f32>,
    /// Averages over time alone are what leaves.
    pool: AdaptivePool,
}

impl Timed {
    fn new(layers: Vec<Layer>, steps: usize, input: ImageShape) -> Self {
        let rule = NeuronRule::new(&NeuronSpec::default());
        let mut body = Body::new(input, steps);
        let mut params = Vec::new();
        for (source, layer) in layers.into_iter().enumerate() {
            let (name, outputs) = (format!("layer{source}"), layer.conv.outputs);
            let weight = body.add(Parameter::weight(name.clone(), vec![outputs, layer.conv.inputs()]));
            params.extend(layer.weights);
            let mut vector = |value: f32| {
                params.extend(vec![value; outputs]);
                body.add(Parameter::vector(name.clone(), outputs, value))
            };
            let norm = if layer.normalised {
                let (gamma, beta) = (vector(1.0), vector(0.0));
                let statistic = body.running.len();
                body.running.push(Running { name, channels: outputs });
                BranchNorm::Batch { gamma, beta, statistic }
            } else {
                BranchNorm::Bias(vector(0.0))
            };
            let branches = vec![Branch { source, conv: layer.conv, weight, norm }];
            let output = layer.conv.output();
            body.nodes.push(Node::Spiking(Spiking { branches, rule, leak: Leak::Fixed(layer.leak), output }));
        }
        let pool = AdaptivePool::new(body.shape(body.output()), 0);
        Self { body, params, pool }
    }

    /// A body whose backward pass ends where it begins: pooling over single positions, which learns nothing.
    fn beginning(steps: usize, input: ImageShape) -> Self {
        let mut body = Body::new(input, steps);
        body.nodes.push(Node::Pool(Pool { kind: PoolKind::Average, source: 0, size: 1, input }));
        body.add(Parameter::vector("nothing".into(), 1, 0.0));
        Self { body, params: vec![0.0], pool: AdaptivePool::new(input, 0) }
    }

    fn call(&self) -> BodyCall<'_> {
        BodyCall {
            call: Call {
                body: &self.body,
                mode: Mode::Train { seed: SEED },
                running: &[],
                measure: true,
                count: false,
                average: Some(&self.pool),
                tap: None,
            },
            precision: ConvPrecision::F32,
        }
    }

    fn params<B: SpikingBackend>(&self) -> Tensor<B, 1> {
        Tensor::from_data(TensorData::new(self.params.clone(), [self.params.len()]), &Default::default())
    }

    /// Gradient of the average over time that leaves.
    fn grad<B: SpikingBackend>(&self, batch: usize) -> Tensor<B, 4> {
        let ImageShape { channels, height, width } = self.body.shape(self.body.output());
        let mut rng = seed::rng(SEED, "bench-gradient", &[]);
        let values = (0..batch * channels * height * width).map(|_| rng.random_range(-1.0..1.0)).collect();
        Tensor::from_data(TensorData::new(values, [batch, channels, height, width]), &Default::default())
    }

    /// Both directions in plain tensor operations.
    fn reference(&self, spikes: &Spikes, grad: &Tensor<Autodiff<Flex>, 4>) {
        let params = self.params::<Autodiff<Flex>>().require_grad();
        let output = reference::body(&self.call(), params, BodyInput::Spikes(spikes.clone())).emitted;
        let averages = output.average(&self.pool, self.body.steps, &Default::default());
        drop((averages * grad.clone()).sum().backward());
    }
}

/// What a forward pass keeps.
type Tape = <Flex as SpikingBackend>::Tape;

/// A body with what its backward pass needs.
struct Tracked<'a> {
    timed: &'a Timed,
    params: Tensor<Flex, 1>,
    grad: Tensor<Flex, 4>,
    tape: Arc<Tape>,
    /// Of the last layer.
    firing_rate: f64,
}

impl<'a> Tracked<'a> {
    fn new(timed: &'a Timed, spikes: &Spikes) -> Self {
        let params = timed.params::<Flex>();
        let kernel::Tracked { record, tape, .. } =
            Flex::body_tracked(&timed.call(), params.clone(), BodyInput::Spikes(spikes.clone()));
        let firing_rate = record.rates.last().copied().unwrap_or(0.0);
        Self { timed, params, grad: timed.grad(spikes.batch()), tape, firing_rate }
    }

    fn forward(&self, spikes: &Spikes) -> Arc<Tape> {
        Flex::body_tracked(&self.timed.call(), self.params.clone(), BodyInput::Spikes(spikes.clone())).tape
    }

    fn backward(&self) {
        drop(Flex::body_grad(&self.tape, self.params.clone(), vec![self.grad.clone()]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layer_before_lets_every_spike_through() {
        let shape = ImageShape::new(70, 3, 2);
        let values: Vec<f32> = (0..3 * 2 * shape.len()).map(|index| f32::from(u8::from(index % 3 == 0))).collect();
        let spikes = Spikes::from_values(&values, 2, 3, shape);
        let timed = Timed::new(vec![through(shape)], 3, shape);
        let BodyCall { call, precision } = timed.call();
        let call = BodyCall { call: Call { mode: Mode::Eval, average: None, ..call }, precision };
        let emitted = Flex::body(&call, timed.params(), BodyInput::Spikes(spikes.clone())).emitted;
        assert_eq!(emitted.into_spikes(2), spikes);
    }
}
