//! Statistics of a batch, from those of its samples.

use super::super::fire;
use std::sync::OnceLock;

/// Mean and sum of squares around it of each sample's outputs, by channel; every sample is taken in once, in any order.
#[derive(Debug)]
pub(super) struct SampleMoments {
    samples: Vec<OnceLock<(Vec<f32>, Vec<f32>)>>,
    /// Rows of one sample.
    rows: usize,
}

impl SampleMoments {
    pub(super) fn new(batch: usize, rows: usize) -> Self {
        Self { samples: (0..batch).map(|_| OnceLock::new()).collect(), rows }
    }

    /// Takes in a sample's outputs `[rows, width]`.
    pub(super) fn of_sample(&self, sample: usize, y: &[f32], width: usize) {
        self.samples[sample].get_or_init(|| {
            let (mut mean, mut squares) = (vec![0.0; width], vec![0.0; width]);
            fire::moments(y, width, &mut mean, &mut squares);
            (mean, squares)
        });
    }

    /// Mean, biased and unbiased variance by channel; samples are added in their order.
    pub(super) fn of_batch(&self, width: usize) -> Vec<(f32, f32, f32)> {
        let samples = || self.samples.iter().filter_map(OnceLock::get);
        let rows = self.rows as f64;
        let count = rows * samples().count() as f64;
        let channel = |lane: usize| {
            let mean = samples().map(|(mean, _)| f64::from(mean[lane])).sum::<f64>() / samples().count().max(1) as f64;
            let within: f64 = samples().map(|(_, squares)| f64::from(squares[lane])).sum();
            let between: f64 = samples().map(|(own, _)| rows * (f64::from(own[lane]) - mean).powi(2)).sum();
            let variance = (within + between) / count;
            (mean as f32, variance as f32, (variance * count / (count - 1.0).max(1.0)) as f32)
        };
        (0..width).map(channel).collect()
    }
}
