//! Backward over the nodes, last to first.

use super::super::convolution;
use super::super::kernels::pool::Windows;
use super::super::launch::{self, Driving, Layer};
use super::super::{leak, observe};
use super::{Computed, Cube, Dense, Tape, Value, masked};
use crate::kernel::{lift, lower};
use bloctrain_shared::graph::{Branch, BranchNorm, Node, Pool, PoolKind, Spiking};
use bloctrain_shared::neuron::Leak;
use burn_cubecl::CubeRuntime;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use burn_tensor::Tensor;

/// Gradients of all parameters from those of what left, the tapped value first where there was one: spikes
/// `[T * B, C, H, W]`, or averages `[B, C, h, w]`.
pub(in super::super) fn backward<R: CubeRuntime, B: Cube<R>>(
    tape: &Tape<R>,
    params: Tensor<B, 1>,
    of_left: Vec<Tensor<B, 4>>,
) -> Tensor<B, 1> {
    let body = &tape.body;
    let mut learns = vec![false; body.nodes.len() + 1];
    for (index, node) in body.nodes.iter().enumerate() {
        learns[index + 1] = matches!(node, Node::Spiking(_)) || node.sources().into_iter().any(|source| learns[source]);
    }
    let mut grads: Vec<Option<Dense<B>>> = (0..=body.nodes.len()).map(|_| None).collect();
    for (left, grad) in tape.left.iter().zip(of_left) {
        // An average over time hands every step the same share of its gradient.
        let (x, constant) = match &left.average {
            Some(pool) => (convolution::unpool(pool, grad).div_scalar(body.steps as f64), true),
            None => (grad, false),
        };
        grads[left.value] = Some(Dense { x, constant });
    }
    let computed = Computed { body, params: params.clone(), dtype: tape.dtype, values: &tape.values };
    let mut state = Backward { tape, computed, learns, grads, found: Vec::new() };
    for index in (0..body.nodes.len()).rev() {
        if let Some(grad) = state.grads[index + 1].take() {
            state.node(index, grad);
        }
    }
    state.gather(&params)
}

struct Backward<'a, R: CubeRuntime, B: Cube<R>> {
    tape: &'a Tape<R>,
    computed: Computed<'a, R, B>,
    learns: Vec<bool>,
    grads: Vec<Option<Dense<B>>>,
    /// Gradients of parameters, each with the index of its first.
    found: Vec<(usize, Tensor<B, 1>)>,
}

impl<R: CubeRuntime, B: Cube<R>> Backward<'_, R, B> {
    fn node(&mut self, index: usize, grad: Dense<B>) {
        let tape = self.tape;
        match &tape.body.nodes[index] {
            Node::Spiking(spiking) => self.spiking(index, spiking, grad),
            Node::Pool(pool) if self.learns[pool.source] && pool.kind == PoolKind::Average => {
                let grad = grad.map(|grad| {
                    let grad = lower(grad);
                    lift(launch::unpool(&grad.clone(), grad, windows(pool, false)))
                });
                self.add(pool.source, grad);
            }
            Node::Pool(pool) if self.learns[pool.source] => {
                let grad = self.at_every_step(grad);
                let before = lower(self.computed.dense(pool.source, self.tape.dtype).x);
                let x = lift(launch::unpool(&before, lower(grad.x), windows(pool, true)));
                self.add(pool.source, Dense { x, constant: false });
            }
            Node::Dropout { source, p, .. } if self.learns[*source] => {
                let grad = match &tape.values[index + 1] {
                    Value::Derived(Some(mask)) => grad.map(|grad| masked(grad, mask, *p)),
                    _ => grad,
                };
                self.add(*source, grad);
            }
            // What no neuron made learns nothing.
            Node::Pool(_) | Node::Dropout { .. } => {}
        }
    }

    /// A gradient that is the same at every step, written out for each.
    fn at_every_step(&self, grad: Dense<B>) -> Dense<B> {
        if !grad.constant {
            return grad;
        }
        let [batch, channels, height, width] = grad.x.dims();
        let steps = self.tape.body.steps;
        let all = grad.x.unsqueeze_dim::<5>(0).expand([steps, batch, channels, height, width]);
        Dense { x: all.reshape([steps * batch, channels, height, width]), constant: false }
    }

    fn add(&mut self, value: usize, grad: Dense<B>) {
        let sum = match self.grads[value].take() {
            None => grad,
            Some(sum) if sum.constant == grad.constant => Dense { x: add(sum.x, grad.x), constant: sum.constant },
            Some(sum) => {
                let (sum, grad) = (self.at_every_step(sum), self.at_every_step(grad));
                Dense { x: add(sum.x, grad.x), constant: false }
            }
        };
        self.grads[value] = Some(sum);
    }

    fn spiking(&mut self, index: usize, spiking: &Spiking, grad: Dense<B>) {
        let Some(norms) = &self.tape.norms[index] else { return };
        let params = self.computed.params.clone();
        let branches: Vec<Driving<R>> =
            spiking.branches.iter().map(|branch| self.computed.convolve(branch).driving()).collect();
        let leak = leak(spiking.leak, &params);
        let layer = Layer {
            branches: &branches,
            norms: Some(norms),
            leak: &leak,
            rule: spiking.rule,
            steps: self.tape.body.steps,
            batch: self.tape.batch,
            shape: spiking.output,
        };
        let (drive_grad, sums) = layer.backward(&grad.driving());
        let batch: Vec<bool> =
            spiking.branches.iter().map(|branch| matches!(branch.norm, BranchNorm::Batch { .. })).collect();
        let norm_grads = launch::norm_param_grad(&layer, norms, sums, &batch);
        let channels = spiking.output.channels;
        let grads: Tensor<B, 2> = lift(norm_grads.grads.clone());
        let row = |row: usize| grads.clone().slice([row..row + 1, 0..channels]).reshape([channels]);
        for (at, branch) in spiking.branches.iter().enumerate() {
            match branch.norm {
                BranchNorm::Batch { gamma, beta, .. } => {
                    self.found.extend([(gamma, row(2 * at)), (beta, row(2 * at + 1))])
                }
                BranchNorm::Bias(bias) => self.found.push((bias, row(2 * at + 1))),
            }
            let grad = launch::norm_grad(&layer, norms, &norm_grads, &drive_grad, at);
            if self.tape.measure {
                observe(&grad.client);
            }
            self.convolution(branch, grad);
        }
        if let Leak::Learned(at) = spiking.leak {
            let leak: Tensor<B, 1> = lift(leak);
            let slope = leak.clone() * leak.neg().add_scalar(1.0);
            let sum: Tensor<B, 1> = lift(launch::sum(into_contiguous(lower(row(2 * branches.len()))), false));
            self.found.push((at, sum * slope));
        }
    }

    /// Gradients of a convolution's weights and of what it reads.
    fn convolution(&mut self, branch: &Branch, grad: CubeTensor<R>) {
        let (input, constant) = self.computed.input(branch);
        let x_grad = self.learns[branch.source].then(|| {
            let weight = lower(self.computed.weight(branch));
            lift(convolution::input_grad(grad.clone(), weight, branch.conv))
        });
        let weight_grad: Tensor<B, 4> = lift(convolution::weight_grad(input, grad, branch.conv));
        let weight_grad = weight_grad.reshape([branch.conv.weights()]);
        self.found.push((branch.weight, weight_grad));
        if let Some(x) = x_grad {
            self.add(branch.source, Dense { x, constant });
        }
    }

    /// One flat vector of all that was found; zero where nothing was.
    fn gather(mut self, params: &Tensor<B, 1>) -> Tensor<B, 1> {
        self.found.sort_by_key(|(at, _)| *at);
        let device = params.device();
        let mut pieces = Vec::with_capacity(self.found.len());
        let (length, mut next) = (self.tape.body.length(), 0);
        let zeros = |count: usize| Tensor::<B, 1>::zeros([count], &device);
        for (at, piece) in self.found {
            if at > next {
                pieces.push(zeros(at - next));
            }
            next = at + piece.dims()[0];
            pieces.push(piece);
        }
        if next < length {
            pieces.push(zeros(length - next));
        }
        Tensor::cat(pieces, 0)
    }
}

fn windows(pool: &Pool, largest: bool) -> Windows {
    let (input, size) = (pool.input, pool.size);
    let sides = [input.height, input.width];
    Windows {
        input: sides.map(|side| side as u32),
        output: sides.map(|side| (side / size) as u32),
        size: size as u32,
        largest,
    }
}

/// The sum of two maps, added in the order in which they lie in memory.
fn add<B: burn_tensor::backend::Backend>(a: Tensor<B, 4>, b: Tensor<B, 4>) -> Tensor<B, 4> {
    let last = [0, 2, 3, 1];
    let b = b.cast(a.dtype());
    (a.permute(last) + b.permute(last)).permute([0, 3, 1, 2])
}
