//! Forward over a batch.

use super::super::buffer::Buffer;
use super::super::in_pool;
use super::super::norm_neuron::{self, Output};
use super::super::value::{Counts, Value, tile_width};
use super::kept::Kept;
use super::layer::{Moments, NormNeuron, Normal, PreparedBranch, Weights, convolve_all, convolve_and_measure, prepare};
use super::{Input, NodeTape, Tape};
use crate::call::{Call, Mode, Record, Statistic, dropout_mask};
use crate::count::{Count, Counted};
use crate::spikes::{Spikes, WORD};
use bloctrain_memory::keep::{kept_layers, layer_outputs};
use bloctrain_shared::ImageShape;
use bloctrain_shared::graph::{BranchNorm, Content, Node, PoolKind, Spiking};
use rayon::prelude::*;
use std::sync::Arc;

/// What a forward pass leaves.
#[derive(Debug)]
pub struct Outcome {
    /// The spikes that leave the body.
    pub spikes: Spikes,
    /// Those of the tapped value.
    pub tapped: Option<Spikes>,
    /// What was seen in passing.
    pub record: Record,
}

/// Runs a body forward on its flat parameters.
pub fn forward(call: &Call<'_>, params: &[f32], input: Input<'_>) -> Outcome {
    in_pool(|| walk(call, params, input, None, false)).0
}

/// The same for whoever runs it often with the same parameters, with what such calls share.
pub(super) fn forward_again(call: &Call<'_>, params: &[f32], input: Input<'_>, kept: &Kept) -> Outcome {
    in_pool(|| walk(call, params, input, Some(kept), false)).0
}

/// Runs a body forward and keeps what the backward pass needs.
pub fn forward_tracked(call: &Call<'_>, params: &[f32], input: Input<'_>) -> (Outcome, Tape) {
    in_pool(|| walk(call, params, input, None, true))
}

fn walk(call: &Call<'_>, params: &[f32], input: Input<'_>, kept: Option<&Kept>, keep: bool) -> (Outcome, Tape) {
    let body = call.body;
    let batch = input.batch(body);
    let contents = body.contents(input.content(), call.mode.trains());
    let mut last_use = vec![0; body.nodes.len() + 1];
    for (index, node) in body.nodes.iter().enumerate() {
        node.sources().into_iter().for_each(|source| last_use[source] = index);
    }
    call.tap.iter().for_each(|tap| last_use[tap.value] = body.nodes.len());
    let record = Record { count: Count::new(batch), ..Record::default() };
    let keeps = if keep { kept_layers(&layer_outputs(body, &contents)) } else { vec![false; body.nodes.len()] };
    let mut values: Vec<Option<Value>> = vec![Some(input.into_value(body))];
    let mut state = Forward { call, params, kept, batch, contents, keeps, record, nodes: Vec::new() };
    for (index, node) in body.nodes.iter().enumerate() {
        let value = state.node(node, &values);
        values.push(Some(value));
        if !keep {
            (0..=index).filter(|&value| last_use[value] == index).for_each(|value| values[value] = None);
        }
    }
    let Forward { record, nodes, .. } = state;
    // The backward pass reads what nodes read, which the last value is not.
    let spikes = spikes_of(values.pop().flatten());
    let tapped = call.tap.map(|tap| spikes_of(values[tap.value].clone()));
    let values = values.into_iter().flatten().collect();
    let tape = Tape { body: body.clone(), batch, left: call.left(), values, nodes };
    (Outcome { spikes, tapped, record }, tape)
}

/// A value that leaves a body.
fn spikes_of(value: Option<Value>) -> Spikes {
    match value {
        Some(Value::Counts(mut counts)) => counts.planes.swap_remove(0),
        Some(Value::Image(_)) | None => unreachable!("what leaves a body are spikes; its specification was checked"),
    }
}

struct Forward<'a> {
    call: &'a Call<'a>,
    params: &'a [f32],
    kept: Option<&'a Kept>,
    batch: usize,
    /// What the numbers of each value are.
    contents: Vec<Content>,
    /// Whether each node keeps outputs that are worth it.
    keeps: Vec<bool>,
    record: Record,
    nodes: Vec<NodeTape>,
}

impl Forward<'_> {
    fn node(&mut self, node: &Node, values: &[Option<Value>]) -> Value {
        let source = |index: usize| values[index].as_ref().expect("a value lives until its last use");
        let mut tape = NodeTape::default();
        let value = match node {
            Node::Spiking(spiking) => {
                let spikes = self.spiking(spiking, values, &mut tape);
                self.record.rates.extend(self.call.measure.then(|| spikes.rate()));
                Value::Counts(Counts::spikes(spikes))
            }
            Node::Pool(pool) => match (source(pool.source), pool.kind) {
                (Value::Image(image), PoolKind::Average) => Value::Image(image.average(*pool, node.output())),
                (Value::Image(image), PoolKind::Maximum) => Value::Image(image.maximum(*pool, node.output())),
                (Value::Counts(counts), PoolKind::Average) => Value::Counts(counts.average(*pool, node.output())),
                (Value::Counts(counts), PoolKind::Maximum) => Value::Counts(counts.maximum(*pool, node.output())),
            },
            Node::Dropout { source: from, p, index, shape } => match self.call.mode {
                Mode::Train { seed } if *p > 0.0 => {
                    tape.mask =
                        mask_bits(&dropout_mask(seed, *index, *p, self.batch * shape.len()), self.batch, *shape);
                    let scale = 1.0 / (1.0 - p);
                    match source(*from) {
                        Value::Image(image) => Value::Image(image.masked(&tape.mask, scale)),
                        Value::Counts(counts) => Value::Counts(counts.masked(&tape.mask, scale)),
                    }
                }
                _ => source(*from).clone(),
            },
        };
        self.nodes.push(tape);
        value
    }

    fn spiking(&mut self, spiking: &Spiking, values: &[Option<Value>], tape: &mut NodeTape) -> Spikes {
        let (steps, channels) = (self.call.body.steps, spiking.output.channels);
        let keeps = self.keeps[self.nodes.len()];
        let value = |source: usize| values[source].as_ref().expect("a value lives until its last use");
        let prepared = prepare(spiking, steps, self.batch, self.kept.map(|kept| &kept.geometries), value);
        let inputs: Vec<&Value> = prepared.iter().map(|own| value(own.branch.source)).collect();
        if self.call.count {
            for (own, value) in prepared.iter().zip(&inputs) {
                self.record.count.add(own.branch.conv, counted(self.contents[own.branch.source], value));
            }
        }
        let mut norms: Vec<Normal> = prepared.iter().map(|own| self.normal(own)).collect();
        let mut spikes = Spikes::zeros(self.batch, steps, spiking.output);
        if !self.trains() {
            self.infer(spiking, &prepared, &inputs, &norms, &mut spikes);
            tape.norms = norms;
            return spikes;
        }
        let first_statistic = self.record.statistics.len();
        for own in &prepared {
            if matches!(own.branch.norm, BranchNorm::Batch { .. }) {
                let zeros = || vec![0.0; channels];
                self.record.statistics.push(Statistic { mean: zeros(), variance: zeros() });
            }
        }
        for tile in 0..channels.div_ceil(WORD) {
            let width = tile_width(channels, tile);
            let weights: Vec<Arc<Weights>> = prepared.iter().map(|own| self.weights(own, tile)).collect();
            let convolve = |(branch, own): (usize, &PreparedBranch)| match own.branch.norm {
                BranchNorm::Batch { .. } => {
                    convolve_and_measure(own, inputs[branch], &weights[branch], width, self.batch)
                }
                BranchNorm::Bias(_) => {
                    (convolve_all(own, inputs[branch], &weights[branch], width, self.batch), Vec::new())
                }
            };
            let convolved = prepared.iter().enumerate().map(convolve);
            let (ys, moments): (Vec<Buffer>, Vec<Vec<Moments>>) = convolved.unzip();
            let mut statistic = first_statistic;
            for ((own, moments), norm) in prepared.iter().zip(&moments).zip(&mut norms) {
                if let BranchNorm::Batch { gamma, beta, .. } = own.branch.norm {
                    let found = &mut self.record.statistics[statistic];
                    statistic += 1;
                    let moments = batch_moments(moments, own.sample_len(width) / width, width);
                    for (lane, (mean, variance, unbiased)) in
                        moments.into_iter().take(channels - tile * WORD).enumerate()
                    {
                        let channel = tile * WORD + lane;
                        norm.set(
                            channel,
                            (mean, variance),
                            (self.params[gamma + channel], self.params[beta + channel]),
                        );
                        (found.mean[channel], found.variance[channel]) = (mean, unbiased);
                    }
                }
            }
            let neurons = NormNeuron::new(spiking, &prepared, &norms, tile, steps, self.params);
            norm_neuron_all(&neurons, &ys, tile, &mut spikes);
            let kept = ys.into_iter().enumerate().filter(|(branch, _)| keeps && prepared[*branch].is_worth_keeping());
            kept.for_each(|(branch, y)| tape.outputs.keep(branch, tile, y));
        }
        tape.norms = norms;
        spikes
    }

    /// Spikes of a layer that is not trained. Where there are fewer samples than threads, threads share a sample: each
    /// takes tiles of it, or frames where there is one tile.
    fn infer(
        &self,
        spiking: &Spiking,
        prepared: &[PreparedBranch],
        inputs: &[&Value],
        norms: &[Normal],
        spikes: &mut Spikes,
    ) {
        let (steps, tiles) = (self.call.body.steps, spikes.words_per_position());
        let threads = rayon::current_num_threads().div_ceil(self.batch.max(1));
        let one = |tile: usize, word: usize, parts: usize, spikes: &mut Spikes| {
            let weights: Vec<Arc<Weights>> = prepared.iter().map(|own| self.weights(own, tile)).collect();
            let neurons = NormNeuron::new(spiking, prepared, norms, tile, steps, self.params);
            infer_all(&neurons, inputs, &weights, word, parts, spikes);
        };
        if threads == 1 || tiles == 1 {
            (0..tiles).for_each(|tile| one(tile, tile, threads, spikes));
            return;
        }
        let alone = ImageShape { channels: WORD, ..spiking.output };
        let apart = |tile| {
            let mut spikes = Spikes::zeros(self.batch, steps, alone);
            one(tile, 0, threads.div_ceil(tiles), &mut spikes);
            spikes
        };
        let apart: Vec<Spikes> = (0..tiles).into_par_iter().map(apart).collect();
        for (tile, apart) in apart.iter().enumerate() {
            put_words(&mut spikes.words_mut()[tile..], tiles, apart.words());
        }
    }

    fn weights(&self, own: &PreparedBranch, tile: usize) -> Arc<Weights> {
        let make = || own.weights(self.params, tile);
        let weights = match self.kept {
            Some(kept) => kept.weights.get((own.branch.weight, tile), make),
            None => Arc::new(make()),
        };
        own.ready(&weights);
        weights
    }

    fn trains(&self) -> bool {
        self.call.mode.trains()
    }

    /// A branch's norm as far as it is known before the batch was seen.
    fn normal(&self, own: &PreparedBranch) -> Normal {
        let channels = own.branch.conv.outputs;
        let mut normal = Normal::zeros(channels);
        match own.branch.norm {
            BranchNorm::Bias(at) => {
                normal.scale[..channels].fill(1.0);
                normal.shift[..channels].copy_from_slice(&self.params[at..at + channels]);
            }
            BranchNorm::Batch { gamma, beta, statistic } if !self.trains() => {
                let running = &self.call.running[statistic];
                for channel in 0..channels {
                    let affine = (self.params[gamma + channel], self.params[beta + channel]);
                    normal.set(channel, (running.mean[channel], running.variance[channel]), affine);
                }
            }
            BranchNorm::Batch { .. } => {}
        }
        normal
    }
}

fn counted(content: Content, value: &Value) -> Counted<'_> {
    match (content, value) {
        (Content::Spikes | Content::Counts { .. }, Value::Counts(counts)) => Counted::Spikes(&counts.planes),
        (Content::Fractions, Value::Image(_)) => Counted::Image,
        (Content::Spikes | Content::Counts { .. }, Value::Image(_)) | (Content::Fractions, Value::Counts(_)) => {
            unreachable!("values are kept in the form that the graph says")
        }
    }
}

/// A dropout's mask `[B, C, H, W]` as bits `[B, H * W, words]`.
fn mask_bits(keep: &[bool], batch: usize, shape: ImageShape) -> Vec<u64> {
    let values: Vec<f32> = keep.iter().map(|&keep| f32::from(u8::from(keep))).collect();
    Spikes::from_values(&values, batch, 1, shape).words().to_vec()
}

/// Mean, biased and unbiased variance by lane, from the moments of every sample over so many rows, added in order.
fn batch_moments(samples: &[Moments], rows: usize, width: usize) -> Vec<(f32, f32, f32)> {
    let rows = rows as f64;
    let count = rows * samples.len() as f64;
    let mut means = vec![0.0; width];
    for [mean, _] in samples {
        means.iter_mut().zip(mean).for_each(|(sum, &mean)| *sum += f64::from(mean));
    }
    means.iter_mut().for_each(|sum| *sum /= samples.len().max(1) as f64);
    let (mut within, mut between) = (vec![0.0; width], vec![0.0; width]);
    for [mean, squares] in samples {
        within.iter_mut().zip(squares).for_each(|(sum, &squares)| *sum += f64::from(squares));
        for ((sum, &own), mean) in between.iter_mut().zip(mean).zip(&means) {
            let off = f64::from(own) - mean;
            *sum += rows * (off * off);
        }
    }
    let lane = |((&mean, within), between): ((&f64, f64), f64)| {
        let variance = (within + between) / count;
        (mean as f32, variance as f32, (variance * count / (count - 1.0).max(1.0)) as f32)
    };
    means.iter().zip(within).zip(between).map(lane).collect()
}

/// BranchNorm and neurons of a tile for every sample.
fn norm_neuron_all(neurons: &NormNeuron<'_>, ys: &[Buffer], tile: usize, spikes: &mut Spikes) {
    let (size, words) = (spikes.sample_words(), spikes.words_per_position());
    spikes.words_mut().par_chunks_mut(size).enumerate().for_each(|(sample, out)| {
        let output = Output { words: out, words_per_position: words, word: tile };
        let tile = neurons.tile();
        norm_neuron::forward(&tile, &neurons.drives(neurons.of_sample(ys, sample)), 0..tile.positions, output);
    });
}

/// Puts words of successive positions where each position has so many.
fn put_words(to: &mut [u64], words_per_position: usize, words: &[u64]) {
    to.iter_mut().step_by(words_per_position).zip(words).for_each(|(to, word)| *to = *word);
}

/// Convolution, norm and neurons of a tile, sample by sample: nothing but spikes outlives a sample. Each is worked on
/// in so many parts at the same time.
fn infer_all(
    neurons: &NormNeuron<'_>,
    inputs: &[&Value],
    weights: &[Arc<Weights>],
    word: usize,
    parts: usize,
    spikes: &mut Spikes,
) {
    let (size, words_per_position, tile) = (spikes.sample_words(), spikes.words_per_position(), neurons.tile());
    let scratch = || neurons.prepared.iter().map(|own| Buffer::zeros(own.sample_len(tile.width))).collect::<Vec<_>>();
    spikes.words_mut().par_chunks_mut(size).enumerate().for_each_init(scratch, |ys, (sample, words)| {
        ys.par_iter_mut().enumerate().for_each(|(branch, y)| {
            neurons.prepared[branch].convolve_in_parts(inputs[branch], sample, &weights[branch], tile.width, parts, y);
        });
        let drives = neurons.drives(neurons.of_sample(ys, 0));
        if parts == 1 {
            norm_neuron::forward(&tile, &drives, 0..tile.positions, Output { words, words_per_position, word });
            return;
        }
        let part = |at: usize| {
            let places = at * tile.positions / parts..(at + 1) * tile.positions / parts;
            let mut own = vec![0; tile.steps * places.len()];
            norm_neuron::forward(
                &tile,
                &drives,
                places.clone(),
                Output { words: &mut own, words_per_position: 1, word: 0 },
            );
            (places, own)
        };
        let found: Vec<_> = (0..parts).into_par_iter().map(part).collect();
        for (step, words) in words.chunks_mut(tile.positions * words_per_position).enumerate() {
            let words = &mut words[word..];
            for (places, own) in &found {
                let own = &own[step * places.len()..][..places.len()];
                put_words(&mut words[places.start * words_per_position..], words_per_position, own);
            }
        }
    });
}
