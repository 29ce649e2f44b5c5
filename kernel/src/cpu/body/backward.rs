//! Backward over the nodes, last to first.

use super::super::averages;
use super::super::buffer::Buffer;
use super::super::in_pool;
use super::super::norm_neuron::{self, Coefficients, Sums};
use super::super::simd::PAD;
use super::super::value::{Grad, Value};
use super::Tape;
use super::branch::{BranchBack, TileBack};
use super::layer::{NormNeuron, Normal, PreparedBranch, convolve_all, lanes, prepare};
use super::pooling::{self, Unpooling};
use crate::spikes::WORD;
use bloctrain_memory::keep::tiles_together;
use bloctrain_shared::graph::{BranchNorm, Node, Pool, PoolKind, Spiking};
use bloctrain_shared::neuron::Leak;
use rayon::prelude::*;

/// Gradients of all parameters from the gradients of what left, the tapped value first where there was one: spikes
/// `[T, B, C, H, W]`, or averages `[B, C, h, w]`. Each is let go of as soon as it is in the order of the kernels.
///
/// # Panics
/// When there are not as many gradients as values that left.
pub fn backward<G: AsRef<[f32]> + Send>(tape: &Tape, params: &[f32], grads: Vec<G>) -> Vec<f32> {
    assert_eq!(grads.len(), tape.left.len(), "one gradient for every value that left");
    in_pool(|| walk(tape, params, grads))
}

fn walk<G: AsRef<[f32]>>(tape: &Tape, params: &[f32], of_left: Vec<G>) -> Vec<f32> {
    let (body, batch) = (&tape.body, tape.batch);
    let mut learns = vec![false; body.nodes.len() + 1];
    for (index, node) in body.nodes.iter().enumerate() {
        learns[index + 1] = matches!(node, Node::Spiking(_)) || node.sources().into_iter().any(|source| learns[source]);
    }
    let mut grads: Vec<Option<Grad>> = (0..=body.nodes.len()).map(|_| None).collect();
    for (left, grad) in tape.left.iter().zip(of_left) {
        grads[left.value] = Some(match &left.average {
            Some(pool) => averages::gradient(grad.as_ref(), pool, batch, body.steps),
            None => Grad::from_values(grad.as_ref(), batch, body.steps, body.shape(left.value)),
        });
    }
    let mut state = Backward { tape, params, learns, grads, out: vec![0.0; body.length()] };
    for index in (0..body.nodes.len()).rev() {
        if let Some(grad) = state.grads[index + 1].take() {
            state.node(index, grad);
        }
    }
    state.out
}

/// Writes one frame's gradient before a pooling from the one after it.
type UnpoolRule<'a> = dyn Fn(&Unpooling, &mut [f32], &[f32]) + Sync + 'a;

struct Backward<'a> {
    tape: &'a Tape,
    params: &'a [f32],
    learns: Vec<bool>,
    grads: Vec<Option<Grad>>,
    out: Vec<f32>,
}

/// A tile of a layer whose neurons are done.
struct TileDone {
    tile: usize,
    width: usize,
    /// Gradient of the drive.
    grad: Buffer,
    /// One per branch, as the rest.
    ys: Vec<Buffer>,
    coefficients: Vec<Coefficients>,
}

impl Backward<'_> {
    fn node(&mut self, index: usize, grad: Grad) {
        let tape = self.tape;
        match &tape.body.nodes[index] {
            Node::Spiking(spiking) => self.spiking(index, spiking, grad),
            Node::Pool(pool) if self.learns[pool.source] => match (pool.kind, &tape.values[pool.source]) {
                (PoolKind::Average, _) => self.unpool(*pool, grad, &pooling::average),
                (PoolKind::Maximum, Value::Counts(counts)) => {
                    self.unpool(*pool, grad, &|unpooling, to, from| pooling::maximum(counts, unpooling, to, from));
                }
                (PoolKind::Maximum, Value::Image(_)) => {}
            },
            Node::Dropout { source, p, .. } if self.learns[*source] => {
                let mask = &tape.nodes[index].mask;
                let grad = if mask.is_empty() { grad } else { pooling::masked(grad, mask, 1.0 / (1.0 - p)) };
                self.add(*source, grad);
            }
            // What no neuron made learns nothing.
            Node::Pool(_) | Node::Dropout { .. } => {}
        }
    }

    fn add(&mut self, value: usize, grad: Grad) {
        match &mut self.grads[value] {
            None => self.grads[value] = Some(grad),
            Some(sum) => {
                for (sum, grad) in sum.tiles.iter_mut().zip(&grad.tiles) {
                    sum.par_chunks_mut(1 << 14).zip(grad.par_chunks(1 << 14)).for_each(|(sum, grad)| {
                        sum.iter_mut().zip(grad).for_each(|(sum, grad)| *sum += grad);
                    });
                }
            }
        }
    }

    fn unpool(&mut self, pool: Pool, grad: Grad, rule: &UnpoolRule<'_>) {
        let (output, steps) = (grad.shape, grad.steps);
        let out = Grad::made(self.tape.batch, steps, pool.input, |tile, sample, to| {
            let (width, from_len) = (grad.width(tile), output.area() * grad.width(tile));
            for (step, to) in to.chunks_mut(pool.input.area() * width).enumerate() {
                let from = &grad.tiles[tile][(sample * steps + step) * from_len..][..from_len];
                rule(&Unpooling { pool, output, tile, width, sample, step }, to, from);
            }
        });
        self.add(pool.source, out);
    }

    fn spiking(&mut self, index: usize, spiking: &Spiking, mut grad: Grad) {
        let (tape, batch) = (self.tape, self.tape.batch);
        let steps = tape.body.steps;
        let prepared = prepare(spiking, steps, batch, None, |source| &tape.values[source]);
        let norms = &tape.nodes[index].norms;
        let mut kept = Vec::new();
        let is_kept: Vec<bool> = (0..prepared.len()).map(|branch| tape.nodes[index].outputs.holds(branch)).collect();
        let of_kept = |kept: bool| {
            let is_kept = &is_kept;
            // The last branch first, and those that were computed again before those that were kept: where it is a
            // shortcut, its outputs go before the larger gradient of the other comes.
            prepared.iter().enumerate().rev().filter(move |(branch, _)| is_kept[*branch] == kept)
        };
        let positions = batch * steps * spiking.output.area();
        let together =
            of_kept(true).map(|(_, own)| tiles_together(own.branch.conv.inputs(), positions)).min().unwrap_or(1);
        for tile in 0..spiking.output.channels.div_ceil(WORD) {
            let width = grad.width(tile);
            let mut own_grad = std::mem::take(&mut grad.tiles[tile]);
            let outputs = |(branch, own): (usize, &PreparedBranch)| {
                tape.nodes[index].outputs.take(branch, tile).unwrap_or_else(|| {
                    let weights = own.weights(self.params, tile);
                    own.ready(&weights);
                    convolve_all(own, &tape.values[own.branch.source], &weights, width, batch)
                })
            };
            let ys: Vec<Buffer> = prepared.iter().enumerate().map(outputs).collect();
            let sums = self.through_neurons(spiking, &prepared, norms, &ys, tile, &mut own_grad);
            let norm_grad = |(branch, own): (usize, &PreparedBranch)| {
                self.norm_grad(own, &norms[branch], tile, width, &sums, branch)
            };
            let coefficients = prepared.iter().enumerate().map(norm_grad).collect();
            let mut done = TileDone { tile, width, grad: own_grad, ys, coefficients };
            for (branch, own) in of_kept(false) {
                self.branch(branch, own, &norms[branch], std::slice::from_ref(&done));
                done.ys[branch] = Buffer::default();
            }
            if is_kept.contains(&true) {
                kept.push(done);
            }
        }
        // Where outputs of several tiles are there, a sample goes through them while its gradient is in the cache.
        let mut kept = kept.into_iter();
        while kept.len() > 0 {
            let mut group: Vec<TileDone> = kept.by_ref().take(together).collect();
            for (branch, own) in of_kept(true) {
                self.branch(branch, own, &norms[branch], &group);
                group.iter_mut().for_each(|done| done.ys[branch] = Buffer::default());
            }
        }
    }

    /// Through one branch, for some tiles of its outputs.
    fn branch(&mut self, branch: usize, own: &PreparedBranch, norm: &Normal, done: &[TileDone]) {
        let tape = self.tape;
        let source = own.branch.source;
        let tiles = done.iter().map(|done| TileBack {
            y: &done.ys[branch],
            mean: &norm.mean[lanes(own.branch.conv.outputs, done.tile)],
            coefficients: &done.coefficients[branch],
            grad: &done.grad,
            width: done.width,
            tile: done.tile,
        });
        let weights = own.branch.weight..own.branch.weight + own.branch.conv.weights();
        let state = BranchBack {
            own,
            value: &tape.values[source],
            weights: &self.params[weights.clone()],
            steps: tape.body.steps,
            tiles: tiles.collect(),
        };
        let later = || Grad::later(tape.batch, tape.body.steps, own.branch.conv.input);
        let target = self.learns[source].then(|| self.grads[source].get_or_insert_with(later));
        let flat = &mut self.out[weights];
        for (parts, done) in state.run(tape.batch, target).iter().zip(done) {
            own.geometry.add_weight_grad(parts, done.tile, flat);
        }
    }

    /// Turns the gradient of a tile's spikes into that of its drive, in place. Returns sums over the batch by channel:
    /// of the drive's gradient, then for each branch of its product with the centred output. Adds the leak's gradient.
    fn through_neurons(
        &mut self,
        spiking: &Spiking,
        prepared: &[PreparedBranch],
        norms: &[Normal],
        ys: &[Buffer],
        tile: usize,
        grad: &mut [f32],
    ) -> Vec<Vec<f64>> {
        let steps = self.tape.body.steps;
        let neurons = NormNeuron::new(spiking, prepared, norms, tile, steps, self.params);
        let layer = neurons.tile();
        let (positions, width, leak) = (layer.positions, layer.width, layer.leak);
        let columns = 2 + prepared.len();
        let samples: Vec<Vec<f32>> = grad
            .par_chunks_mut(steps * positions * width)
            .enumerate()
            .map(|(sample, grad)| {
                let mut found = vec![0.0; columns * width];
                let mut parts = found.chunks_mut(width);
                let (Some(drive), Some(leak)) = (parts.next(), parts.next()) else {
                    unreachable!("at least two columns")
                };
                let mut sums = Sums { drive, leak, centred: parts.collect() };
                let mut membranes = vec![0.0; steps * PAD];
                norm_neuron::backward(
                    &layer,
                    &neurons.drives(neurons.of_sample(ys, sample)),
                    grad,
                    &mut sums,
                    &mut membranes,
                );
                found
            })
            .collect();
        let sum = |column: usize| -> Vec<f64> {
            let mut sums = vec![0.0; width];
            for sample in &samples {
                sums.iter_mut().zip(&sample[column * width..]).for_each(|(sum, &own)| *sum += f64::from(own));
            }
            sums
        };
        if let Leak::Learned(at) = spiking.leak {
            self.out[at] += (sum(1).iter().sum::<f64>() * f64::from(leak * (1.0 - leak))) as f32;
        }
        std::iter::once(0).chain(2..columns).map(sum).collect()
    }

    /// Gradients of a norm's parameters, and the coefficients of its input's gradient.
    fn norm_grad(
        &mut self,
        own: &PreparedBranch,
        norm: &Normal,
        tile: usize,
        width: usize,
        sums: &[Vec<f64>],
        branch: usize,
    ) -> Coefficients {
        let zeros = || vec![0.0; width];
        let mut found = Coefficients { a: zeros(), b: zeros(), c: zeros() };
        let count = (self.tape.batch * own.sample_len(width) / width) as f64;
        let by_lane = sums[0].iter().zip(&sums[1 + branch]).take(own.geometry.outputs(tile));
        for (lane, (&sum, &centred)) in by_lane.enumerate() {
            let channel = tile * WORD + lane;
            match own.branch.norm {
                BranchNorm::Bias(at) => {
                    found.a[lane] = 1.0;
                    self.out[at + channel] += sum as f32;
                }
                BranchNorm::Batch { gamma, beta, .. } => {
                    let (inverse, scale) = (f64::from(norm.inverse[channel]), f64::from(norm.scale[channel]));
                    self.out[gamma + channel] += (inverse * centred) as f32;
                    self.out[beta + channel] += sum as f32;
                    found.a[lane] = scale as f32;
                    found.b[lane] = (-scale * inverse * inverse * centred / count) as f32;
                    found.c[lane] = (-scale * sum / count) as f32;
                }
            }
        }
        found
    }
}
