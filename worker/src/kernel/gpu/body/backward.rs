//! Backward over the nodes, last to first.

use super::super::launch::{self, Driving, Layer};
use super::super::{leak, observe};
use super::{Cube, Dense, Network, Tape, Value, masked, options};
use crate::kernel::plan::{Branch, Leak, Node, Norm, Pool, Spiking};
use crate::kernel::{lift, lower};
use burn::tensor::module::conv_transpose2d;
use burn::tensor::ops::ConvTransposeOptions;
use burn::tensor::{DType, Shape, Tensor};
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;

/// Gradients of all parameters from the gradient of what left: spikes `[T * B, C, H, W]`, or averages `[B, C, h, w]`.
pub(in super::super) fn backward<R: CubeRuntime, B: Cube<R>>(
    tape: &Tape<R>,
    params: Tensor<B, 1>,
    grad: Tensor<B, 4>,
) -> Tensor<B, 1> {
    let body = &tape.body;
    let mut learns = vec![false; body.nodes.len() + 1];
    for (index, node) in body.nodes.iter().enumerate() {
        learns[index + 1] = matches!(node, Node::Spiking(_)) || node.sources().into_iter().any(|source| learns[source]);
    }
    let mut grads: Vec<Option<Dense<B>>> = (0..=body.nodes.len()).map(|_| None).collect();
    // An average over time hands every step the same share of its gradient.
    let (grad, constant) = match &tape.average {
        Some(pool) => (pool.backward(grad).div_scalar(body.steps as f64), true),
        None => (grad, false),
    };
    grads[body.output()] = Some(Dense { x: grad, constant });
    let network = Network { body, params: params.clone(), dtype: tape.dtype, values: &tape.values };
    let mut back = Back { tape, network, learns, grads, found: Vec::new() };
    for index in (0..body.nodes.len()).rev() {
        if let Some(grad) = back.grads[index + 1].take() {
            back.node(index, grad);
        }
    }
    back.gather(&params)
}

struct Back<'a, R: CubeRuntime, B: Cube<R>> {
    tape: &'a Tape<R>,
    network: Network<'a, R, B>,
    learns: Vec<bool>,
    grads: Vec<Option<Dense<B>>>,
    /// Gradients of parameters, each with the place of its first.
    found: Vec<(usize, Tensor<B, 1>)>,
}

impl<R: CubeRuntime, B: Cube<R>> Back<'_, R, B> {
    fn node(&mut self, index: usize, grad: Dense<B>) {
        let tape = self.tape;
        match &tape.body.nodes[index] {
            Node::Spiking(spiking) => self.spiking(index, spiking, grad),
            Node::AvgPool(pool) if self.learns[pool.source] => {
                let (shape, frames) = (pool.input, grad.x.dims()[0]);
                let before = Shape::from([frames, shape.channels, shape.height, shape.width]);
                let before = B::float_empty(before, &grad.x.device(), grad.x.dtype().into());
                let size = [pool.size; 2];
                let grad = grad.map(|grad| lift(B::avg_pool2d_backward(before, lower(grad), size, size, [0; 2], false, false)));
                self.add(pool.source, grad);
            }
            Node::MaxPool(pool) if self.learns[pool.source] => self.unpool_max(*pool, grad),
            Node::Dropout { source, p, .. } if self.learns[*source] => {
                let grad = match &tape.values[index + 1] {
                    Value::Derived(Some(mask)) => grad.map(|grad| masked(grad, mask, *p)),
                    _ => grad,
                };
                self.add(*source, grad);
            }
            _ => {}
        }
    }

    fn unpool_max(&mut self, pool: Pool, grad: Dense<B>) {
        let grad = self.at_every_step(grad);
        let size = [pool.size; 2];
        let before = lower(self.network.dense(pool.source, grad.x.dtype().into()).x);
        let pooled = B::max_pool2d_with_indices(before.clone(), size, size, [0; 2], [1; 2], false);
        let found = B::max_pool2d_with_indices_backward(before, size, size, [0; 2], [1; 2], false, lower(grad.x), pooled.indices);
        self.add(pool.source, Dense { x: lift(found.x_grad), constant: false });
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
        let params = self.network.params.clone();
        let branches: Vec<Driving<R>> = spiking.branches.iter().map(|branch| self.network.convolve(branch).driving()).collect();
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
        let (drive_grad, sums) = layer.unfire(&grad.driving());
        let batch: Vec<bool> = spiking.branches.iter().map(|branch| matches!(branch.norm, Norm::Batch { .. })).collect();
        let settled = launch::settle(&layer, norms, sums, &batch);
        let channels = spiking.output.channels;
        let grads: Tensor<B, 2> = lift(settled.grads.clone());
        let row = |row: usize| grads.clone().slice([row..row + 1, 0..channels]).reshape([channels]);
        for (at, branch) in spiking.branches.iter().enumerate() {
            match branch.norm {
                Norm::Batch { gamma, beta, .. } => self.found.extend([(gamma, row(2 * at)), (beta, row(2 * at + 1))]),
                Norm::Bias(bias) => self.found.push((bias, row(2 * at + 1))),
            }
            let grad = launch::unnorm(&layer, norms, &settled, &drive_grad, at);
            if self.tape.measure {
                observe(&grad.client);
            }
            self.convolution(branch, grad);
        }
        if let Leak::Learned(at) = spiking.leak {
            let leak: Tensor<B, 1> = lift(leak);
            let slope = leak.clone() * leak.neg().add_scalar(1.0);
            self.found.push((at, row(2 * branches.len()).sum() * slope));
        }
    }

    /// Gradients of a convolution's weights and of what it reads.
    fn convolution(&mut self, branch: &Branch, grad: CubeTensor<R>) {
        let conv = branch.conv;
        let Dense { x, constant } = self.network.dense(branch.source, self.tape.dtype);
        let weight = self.network.weight(branch);
        let learns = self.learns[branch.source];
        let (weight_grad, x_grad) = if conv.is_full() {
            let (rows, dims) = (x.dims()[0], x.dims());
            let x = x.reshape([rows, conv.input.len()]);
            let grad = lift::<B, 4>(grad).reshape([rows, conv.outputs]);
            let weight = weight.reshape([conv.outputs, conv.input.len()]);
            let x_grad = learns.then(|| grad.clone().matmul(weight).reshape(dims));
            (grad.transpose().matmul(x).reshape([conv.weights()]), x_grad)
        } else {
            let (x, weight) = (lower(x), lower(weight));
            let x_grad = learns.then(|| input_grad::<R, B>(&x, &weight, &grad, branch));
            let weight_grad: Tensor<B, 4> = lift(B::conv2d_weight_backward(x, weight, grad, options(branch)));
            (weight_grad.reshape([conv.weights()]), x_grad)
        };
        self.found.push((branch.weight, weight_grad.cast(DType::F32)));
        if let Some(x) = x_grad {
            self.add(branch.source, Dense { x, constant });
        }
    }

    /// One flat vector of all that was found; zero where nothing was.
    fn gather(mut self, params: &Tensor<B, 1>) -> Tensor<B, 1> {
        self.found.sort_by_key(|(at, _)| *at);
        let device = params.device();
        let mut pieces = Vec::with_capacity(self.found.len());
        let mut next = 0;
        let zeros = |count: usize| Tensor::<B, 1>::zeros([count], &device);
        for (at, piece) in self.found {
            if at > next {
                pieces.push(zeros(at - next));
            }
            next = at + piece.dims()[0];
            pieces.push(piece);
        }
        if next < self.tape.body.parameters {
            pieces.push(zeros(self.tape.body.parameters - next));
        }
        Tensor::cat(pieces, 0)
    }
}

/// Gradient of what a convolution reads.
fn input_grad<R: CubeRuntime, B: Cube<R>>(
    x: &CubeTensor<R>,
    weight: &CubeTensor<R>,
    grad: &CubeTensor<R>,
    branch: &Branch,
) -> Tensor<B, 4> {
    let (conv, stride) = (branch.conv, branch.conv.stride);
    if conv.kernel.iter().all(|&size| size >= stride) {
        return lift(B::conv2d_x_backward(x.clone(), weight.clone(), grad.clone(), options(branch)));
    }
    // burn 0.21's direct transposed convolution leaves everything out where the kernel is smaller than the stride, so the
    // kernel is filled up with zeros.
    let size = conv.kernel.map(|size| size.max(stride));
    let added = [0, 1].map(|axis| (0, size[axis] - conv.kernel[axis]));
    let weight = lift::<B, 4>(weight.clone()).pad(added, 0.0);
    let output = conv.output();
    let wanted = [conv.input.height, conv.input.width];
    let covered = [output.height, output.width];
    let covered = [0, 1].map(|axis| (covered[axis] - 1) * stride + size[axis] - 2 * conv.padding[axis]);
    let missing = [0, 1].map(|axis| wanted[axis].saturating_sub(covered[axis]));
    let options = ConvTransposeOptions::new([stride; 2], conv.padding, missing, [1, 1], 1);
    let found = conv_transpose2d(lift(grad.clone()), weight, None, options);
    let [frames, channels, ..] = found.dims();
    found.slice([0..frames, 0..channels, 0..wanted[0], 0..wanted[1]])
}

/// The sum of two maps, added in the order in which they lie in memory.
fn add<B: burn::tensor::backend::Backend>(a: Tensor<B, 4>, b: Tensor<B, 4>) -> Tensor<B, 4> {
    let last = [0, 2, 3, 1];
    let b = b.cast(a.dtype());
    (a.permute(last) + b.permute(last)).permute([0, 3, 1, 2])
}
