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
    /// Zeros and ones.
    Spikes(&'a Spikes),
    /// Other numbers that change over time.
    Fractions,
}

impl Count {
    /// Nothing yet.
    pub fn new(batch: usize) -> Self {
        Self { synops: vec![0.0; batch], macs: 0.0 }
    }

    /// Counts a convolution.
    pub fn add(&mut self, conv: Conv, steps: usize, input: Counted<'_>) {
        match input {
            Counted::Image => self.macs += conv.macs(),
            Counted::Fractions => self.macs += steps as f64 * conv.macs(),
            Counted::Spikes(spikes) => {
                let (fan_out, words) = (conv.fan_out(), spikes.words_per_position());
                for (sample, sum) in self.synops.iter_mut().enumerate() {
                    for frame in spikes.sample(sample).chunks((fan_out.len() * words).max(1)) {
                        let ones = |words: &[u64]| f64::from(words.iter().map(|word| word.count_ones()).sum::<u32>());
                        *sum +=
                            frame.chunks(words.max(1)).zip(&fan_out).map(|(words, fan_out)| ones(words) * fan_out).sum::<f64>();
                    }
                }
            }
        }
    }
}
