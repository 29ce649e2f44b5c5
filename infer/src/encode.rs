//! From bytes to a network's input: the one encoder of training, evaluation and prediction.
//!
//! Bytes become values by a table ([`Levels`]), are augmented where that is asked for, and enter as an image (`direct`)
//! or as spikes. Nothing is normalised and taken back, so that a byte has the same code wherever it is read.

use crate::level::Levels;
use bloctrain_kernel::cpu;
use bloctrain_kernel::spikes::Spikes;
use bloctrain_shared::spec::{EncodingKind, EncodingSpec, RunSpec};
use bloctrain_shared::{ImageShape, seed};
use rand::RngExt;
use rayon::prelude::*;

/// Encodes images of one shape as one specification asks.
#[derive(Debug, Clone)]
pub struct Encoder {
    encoding: EncodingSpec,
    shape: ImageShape,
    seed: u64,
    levels: Levels,
}

/// Some images as values, sample-major, with what makes their random codes their own.
#[derive(Debug)]
pub struct Values<'a> {
    /// The values, channels first.
    pub values: Vec<f32>,
    /// Indices of the samples.
    pub ids: &'a [u32],
    /// View of augmented images.
    pub view: u32,
    /// Whether these are test images, whose codes are others than those of training images.
    pub test: bool,
}

/// What enters a network's first block.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// Images `[B, C, H, W]`, presented at every step.
    Images {
        /// Number of images B.
        samples: usize,
        /// The values.
        values: Vec<f32>,
    },
    /// Spikes over time.
    Spikes(Spikes),
}

impl From<Spikes> for Input {
    fn from(spikes: Spikes) -> Self {
        Self::Spikes(spikes)
    }
}

impl Input {
    /// Number of samples.
    pub fn samples(&self) -> usize {
        match self {
            Self::Images { samples, .. } => *samples,
            Self::Spikes(spikes) => spikes.batch(),
        }
    }

    /// As the kernels take it.
    pub(crate) fn with<R>(self, run: impl FnOnce(cpu::Input<'_>) -> R) -> R {
        match self {
            Self::Images { values, .. } => run(cpu::Input::Images(&values)),
            Self::Spikes(spikes) => run(cpu::Input::Spikes(spikes)),
        }
    }
}

impl Encoder {
    /// An encoder for images with these statistics of the training data, one for each channel.
    pub fn new(spec: &RunSpec, shape: ImageShape, mean: &[f32], std: &[f32]) -> Self {
        let levels = match spec.encoding.kind {
            EncodingKind::Direct => Levels::normalised(mean, std),
            EncodingKind::Poisson | EncodingKind::Latency => Levels::intensities(mean),
        };
        Self { encoding: spec.encoding.clone(), shape, seed: spec.run.seed, levels }
    }

    /// The value of every grey level.
    pub fn levels(&self) -> &Levels {
        &self.levels
    }

    /// Images of no data set, or test images of one, with the random codes of test samples.
    pub fn images<'a>(&self, images: &[&[u8]], ids: &'a [u32]) -> Values<'a> {
        let mut values = vec![0.0_f32; images.len() * self.shape.len()];
        values.chunks_mut(self.shape.len()).zip(images).for_each(|(out, pixels)| self.levels.write(pixels, out));
        Values { values, ids, view: 0, test: true }
    }

    /// The input of a network's first block.
    pub fn input(&self, values: Values<'_>) -> Input {
        let samples = values.ids.len();
        match self.encoding.kind {
            EncodingKind::Direct => Input::Images { samples, values: values.values },
            EncodingKind::Poisson | EncodingKind::Latency => {
                Input::Spikes(Spikes::from_values(&self.spikes(&values), samples, self.encoding.steps, self.shape))
            }
        }
    }

    /// Spikes `[T, B, C, H, W]` of intensities in [0, 1].
    ///
    /// `poisson`: each pixel spikes at each step with probability equal to its intensity. `latency`: intensity x > 0
    /// spikes once, at step `round((1 - x) (T - 1))`.
    fn spikes(&self, values: &Values<'_>) -> Vec<f32> {
        let (batch, size, steps) = (values.ids.len(), self.shape.len(), self.encoding.steps);
        let mut out = vec![0.0_f32; steps * batch * size];
        // Each (step, sample) frame is drawn from its own stream, so frames can be made in any order.
        out.par_chunks_mut(size.max(1)).enumerate().for_each(|(frame, out)| {
            let (step, row) = (frame / batch.max(1), frame % batch.max(1));
            let image = &values.values[row * size..(row + 1) * size];
            match self.encoding.kind {
                EncodingKind::Direct => out.copy_from_slice(image),
                EncodingKind::Poisson => {
                    // Training images and test images have different codes.
                    let domain = u64::from(values.test);
                    let parts = [domain, values.ids[row].into(), values.view.into(), step as u64];
                    let mut rng = seed::rng(self.seed, "poisson", &parts);
                    out.iter_mut()
                        .zip(image)
                        .for_each(|(spike, &x)| *spike = f32::from(u8::from(rng.random::<f32>() < x)));
                }
                EncodingKind::Latency => {
                    let last = (steps - 1) as f32;
                    let fires = |x: f32| x > 0.0 && ((1.0 - x) * last).round() == step as f32;
                    out.iter_mut().zip(image).for_each(|(spike, &x)| *spike = f32::from(u8::from(fires(x))));
                }
            }
        });
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoder(kind: EncodingKind, steps: usize, shape: ImageShape) -> (Encoder, RunSpec) {
        let mut spec = RunSpec::default();
        (spec.encoding.kind, spec.encoding.steps) = (kind, steps);
        // Statistics under which black pixels fired, and others moved, when values were normalised and taken back.
        let (mean, std) = (vec![0.2860; shape.channels], vec![0.3530; shape.channels]);
        (Encoder::new(&spec, shape, &mean, &std), spec)
    }

    /// Steps at which each pixel of the only sample fires.
    fn firing(spikes: &[f32], steps: usize) -> Vec<Vec<usize>> {
        let size = spikes.len() / steps;
        (0..size).map(|pixel| (0..steps).filter(|step| spikes[step * size + pixel] == 1.0).collect()).collect()
    }

    #[test]
    fn latency_by_hand() {
        let (encoder, _) = encoder(EncodingKind::Latency, 4, ImageShape::new(1, 2, 4));
        let pixels = [0, 1, 42, 43, 127, 128, 212, 255];
        let found = firing(&encoder.spikes(&encoder.images(&[&pixels], &[0])), 4);
        // 3 (1 - x / 255) is 2.988, 2.506, 2.494, 1.506, 1.494, 0.506 and 0, rounded; black never fires.
        let expected: [&[usize]; 8] = [&[], &[3], &[3], &[2], &[2], &[1], &[1], &[0]];
        assert_eq!(found, expected);
    }

    #[test]
    fn poisson_by_hand() {
        let steps = 4096;
        let (encoder, spec) = encoder(EncodingKind::Poisson, steps, ImageShape::new(1, 1, 4));
        let pixels = [0, 255, 51, 204];
        let spikes = encoder.spikes(&encoder.images(&[&pixels], &[7]));
        let found = firing(&spikes, steps);
        assert!(found[0].is_empty() && found[1].len() == steps, "black never fires, white always");
        for (pixel, probability) in [(2, 0.2), (3, 0.8)] {
            let rate = found[pixel].len() as f64 / steps as f64;
            assert!((rate - probability).abs() < 4.0 * (0.16 / steps as f64).sqrt(), "{rate} is not {probability}");
        }
        // A spike is a draw of (seed, "poisson", test, sample, view, step) below the intensity.
        for step in [0, 1, 4095] {
            let mut rng = seed::rng(spec.run.seed, "poisson", &[1, 7, 0, step]);
            let expected: Vec<f32> =
                pixels.iter().map(|&byte| f32::from(u8::from(rng.random::<f32>() < f32::from(byte) / 255.0))).collect();
            assert_eq!(spikes[step as usize * 4..][..4], expected);
        }
    }
}
