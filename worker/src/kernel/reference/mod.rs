//! Bodies in plain tensor operations: for backends without their own, and as the measure of those that have.
//!
//! The T steps are folded into the batch for convolutions and norms: tensors are `[T * B, C, H, W]`, step-major, and a
//! neuron sees `[T, B * C * H * W]`. Only the neuron has its own backward pass, which keeps nothing but its input.

mod frozen;
mod neuron;
mod optimize;

pub use frozen::FrozenBody;
pub use neuron::{membranes, neuron, neuron_grad};
pub use optimize::optimize;

use super::{
    BodyCall, BodyInput, BodyOutput, BodyRecord, Call, Emitted, Mode, SpikingBackend, Statistic, mean_over_time,
    planes_to_host, pool, pool2d, to_host,
};
use bloctrain_kernel::call::dropout_mask;
use bloctrain_kernel::count::{Count, Counted};
use bloctrain_shared::graph::{AdaptivePool, Body, Branch, BranchNorm, Content, EPSILON, Node, Spiking};
use bloctrain_shared::neuron::Leak;
use burn_tensor::activation::sigmoid;
use burn_tensor::module::conv2d;
use burn_tensor::ops::ConvOptions;
use burn_tensor::{Tensor, TensorData};

/// See [`SpikingBackend::body`].
pub fn body<B: SpikingBackend>(call: &BodyCall<'_>, params: Tensor<B, 1>, input: BodyInput<B>) -> BodyOutput<B> {
    let call = &call.call;
    let (batch, device) = (input.batch(), params.device());
    let (start, enters) = match input {
        BodyInput::Image(x) => (x, Content::Fractions),
        BodyInput::Spikes(spikes) => (B::spikes_from_host(&spikes, &device), Content::Spikes),
    };
    let record = BodyRecord { count: Count::new(batch), ..BodyRecord::default() };
    let contents = call.body.contents(enters, call.mode.trains());
    let mut state = Forward { call, params, batch, contents, record };
    let mut values = vec![start];
    for node in &call.body.nodes {
        let value = state.node(node, &values);
        values.push(value);
    }
    let emit = |value: usize, average: Option<&AdaptivePool>| {
        let x = values[value].clone();
        match average {
            Some(windows) => Emitted::Average(pool::forward(windows, mean_over_time(x, call.body.steps))),
            None => Emitted::Tensor(x),
        }
    };
    let tapped = call.tap.map(|tap| emit(tap.value, tap.average));
    BodyOutput { emitted: emit(call.body.output(), call.average), tapped, record: state.record }
}

struct Forward<'a, B: SpikingBackend> {
    call: &'a Call<'a>,
    params: Tensor<B, 1>,
    batch: usize,
    /// What the numbers of each value are.
    contents: Vec<Content>,
    record: BodyRecord,
}

impl<B: SpikingBackend> Forward<'_, B> {
    fn body(&self) -> &Body {
        self.call.body
    }

    fn param(&self, at: usize, length: usize) -> Tensor<B, 1> {
        self.params.clone().slice(at..at + length)
    }

    /// A value is `[B, C, H, W]` where it is the same at every step, else `[T * B, C, H, W]`.
    fn node(&mut self, node: &Node, values: &[Tensor<B, 4>]) -> Tensor<B, 4> {
        match node {
            Node::Spiking(spiking) => self.spiking(spiking, values),
            Node::Pool(pool) => pool2d(values[pool.source].clone(), *pool),
            Node::Dropout { source, p, index, shape } => match self.call.mode {
                Mode::Train { seed } if *p > 0.0 => {
                    let sites = self.batch * shape.len();
                    let keep = 1.0 / (1.0 - p);
                    let mask =
                        dropout_mask(seed, *index, *p, sites).into_iter().map(|kept| if kept { keep } else { 0.0 });
                    let x = values[*source].clone();
                    let dims = x.dims();
                    let mask: Tensor<B, 2> =
                        Tensor::from_data(TensorData::new(mask.collect(), [1, sites]), &x.device());
                    (x.reshape([dims[0] / self.batch.max(1), sites]) * mask).reshape(dims)
                }
                _ => values[*source].clone(),
            },
        }
    }

    fn spiking(&mut self, spiking: &Spiking, values: &[Tensor<B, 4>]) -> Tensor<B, 4> {
        let drives: Vec<Tensor<B, 4>> =
            spiking.branches.iter().map(|branch| self.branch(branch, &values[branch.source])).collect();
        let drive =
            drives.into_iter().reduce(|sum, drive| sum + drive).expect("a spiking layer has at least one branch");
        let dims = drive.dims();
        let steps = self.body().steps;
        let sites = dims.iter().product::<usize>() / steps;
        let leak = match spiking.leak {
            Leak::Fixed(leak) => Tensor::from_data(TensorData::new(vec![leak], [1]), &self.params.device()),
            Leak::Learned(at) => sigmoid(self.param(at, 1)),
        };
        let spikes = super::neuron(drive.reshape([steps, sites]), leak, spiking.rule);
        if self.call.measure {
            self.record.rates.extend(to_host(spikes.clone().detach().mean()).into_iter().map(f64::from));
        }
        spikes.reshape(dims)
    }

    /// Normalised convolution of a value, `[T * B, O, H', W']`; a constant one is computed once.
    fn branch(&mut self, branch: &Branch, x: &Tensor<B, 4>) -> Tensor<B, 4> {
        self.count(branch, x);
        let conv = branch.conv;
        let [rows, channels, ..] = x.dims();
        let weight = self.param(branch.weight, conv.weights());
        let y = if conv.is_full() {
            let weight = weight.reshape([conv.outputs, conv.input.len()]);
            x.clone().reshape([rows, conv.input.len()]).matmul(weight.transpose()).reshape([rows, conv.outputs, 1, 1])
        } else {
            let weight = weight.reshape([conv.outputs, channels, conv.kernel[0], conv.kernel[1]]);
            conv2d(x.clone(), weight, None, ConvOptions::new([conv.stride; 2], conv.padding, [1, 1], 1))
        };
        let y = self.normalise(branch, y);
        if !self.contents[branch.source].is_constant() {
            return y;
        }
        let [batch, channels, height, width] = y.dims();
        let steps = self.body().steps;
        let repeated: Tensor<B, 5> = y.unsqueeze_dim::<5>(0).expand([steps, batch, channels, height, width]);
        repeated.reshape([steps * batch, channels, height, width])
    }

    fn count(&mut self, branch: &Branch, x: &Tensor<B, 4>) {
        if !self.call.count {
            return;
        }
        let x = || x.clone().detach();
        let planes = match self.contents[branch.source] {
            Content::Fractions => return self.record.count.add(branch.conv, Counted::Image),
            Content::Counts { digits, unit } => planes_to_host(x(), self.batch, unit, digits),
            Content::Spikes => vec![B::spikes_to_host(x(), self.batch)],
        };
        self.record.count.add(branch.conv, Counted::Spikes(&planes));
    }

    fn normalise(&mut self, branch: &Branch, y: Tensor<B, 4>) -> Tensor<B, 4> {
        let channels = branch.conv.outputs;
        let spread = |values: Tensor<B, 1>| values.reshape([1, channels, 1, 1]);
        match branch.norm {
            BranchNorm::Bias(at) => y + spread(self.param(at, channels)),
            BranchNorm::Batch { gamma, beta, statistic } if self.call.mode == Mode::Eval => {
                let running = &self.call.running[statistic];
                let given = |values: &[f32]| -> Tensor<B, 1> {
                    Tensor::from_data(TensorData::new(values.to_vec(), [channels]), &self.params.device())
                };
                let scale = self.param(gamma, channels) / given(&running.variance).add_scalar(EPSILON).sqrt();
                let shift = self.param(beta, channels) - given(&running.mean) * scale.clone();
                y * spread(scale) + spread(shift)
            }
            BranchNorm::Batch { gamma, beta, .. } => {
                let [frames, _, height, width] = y.dims();
                let count = (frames * height * width) as f64;
                let sum = |x: Tensor<B, 4>| x.sum_dim(0).sum_dim(2).sum_dim(3);
                let mean = sum(y.clone()).div_scalar(count);
                let centred = y - mean.clone();
                let variance = sum(centred.clone().powi_scalar(2)).div_scalar(count);
                let unbiased = (count / (count - 1.0).max(1.0)) as f32;
                let on_host = to_host(variance.clone().detach()).into_iter().map(|value| value * unbiased).collect();
                self.record.statistics.push(Statistic { mean: to_host(mean.detach()), variance: on_host });
                let scale = variance.add_scalar(EPSILON).sqrt().recip() * spread(self.param(gamma, channels));
                centred * scale + spread(self.param(beta, channels))
            }
        }
    }
}
