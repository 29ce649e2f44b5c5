//! Synaptic operations and multiply-accumulates of a pass; see [`bloctrain_shared::compute`] for the rules.

use crate::spikes::Spikes;
use bloctrain_shared::graph::Conv;

/// Operations of a pass over B samples.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Count {
    /// Synaptic operations `[B]`.
    pub synops: Vec<f64>,
    /// MACs of one sample.
    pub macs: f64,
}

/// What a convolution reads, as far as its cost depends on it.
#[derive(Debug, Clone, Copy)]
pub enum Counted<'a> {
    /// Numbers that are the same at every step: computed, and counted, once.
    Image,
    /// Numbers of spikes as bit planes, that of the lowest digit first; spikes are one plane.
    Spikes(&'a [Spikes]),
}

impl Count {
    /// Nothing yet.
    pub fn new(batch: usize) -> Self {
        Self { synops: vec![0.0; batch], macs: 0.0 }
    }

    /// Counts a convolution.
    pub fn add(&mut self, conv: Conv, input: Counted<'_>) {
        match input {
            Counted::Image => self.macs += conv.macs(),
            Counted::Spikes(planes) => {
                let fan_out = conv.fan_out();
                for (digit, plane) in planes.iter().enumerate() {
                    self.add_plane(plane, (1_u64 << digit) as f64, &fan_out);
                }
            }
        }
    }

    /// Counts ones that stand for so many spikes each, of which each is added `fan_out` times by its place.
    fn add_plane(&mut self, plane: &Spikes, spikes: f64, fan_out: &[f64]) {
        let words = plane.words_per_position();
        let ones = |words: &[u64]| f64::from(words.iter().map(|word| word.count_ones()).sum::<u32>());
        for (sample, sum) in self.synops.iter_mut().enumerate() {
            for frame in plane.sample(sample).chunks((fan_out.len() * words).max(1)) {
                let places = frame.chunks(words.max(1)).zip(fan_out);
                *sum += spikes * places.map(|(words, fan_out)| ones(words) * fan_out).sum::<f64>();
            }
        }
    }
}
