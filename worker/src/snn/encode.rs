//! Spike codes of images.

use bloctrain_shared::ImageShape;
use bloctrain_shared::seed;
use bloctrain_shared::spec::EncodingKind;
use rand::RngExt;
use rayon::prelude::*;

/// What makes a sample's random code its own.
#[derive(Debug, Clone, Copy)]
pub struct CodeSeed {
    /// The run's seed.
    pub seed: u64,
    /// The augmented view.
    pub view: u32,
    /// Training images and test images have different codes.
    pub domain: u64,
}

/// Codes intensities in [0, 1] `[B, C, H, W]` as spikes `[T, B, C, H, W]`.
///
/// `poisson`: each pixel spikes at each step with probability equal to its intensity. `latency`: intensity x > 0 spikes
/// once, at step `round((1 - x) (T - 1))`. `direct` repeats the intensities.
pub fn encode_batch(
    kind: EncodingKind,
    images: &[f32],
    shape: ImageShape,
    ids: &[u32],
    steps: usize,
    code: CodeSeed,
) -> Vec<f32> {
    let (batch, size) = (ids.len(), shape.len());
    let mut out = vec![0.0_f32; steps * batch * size];
    // Each (step, sample) frame is drawn from its own stream, so frames can be made in any order.
    out.par_chunks_mut(size.max(1)).enumerate().for_each(|(frame, out)| {
        let (step, row) = (frame / batch.max(1), frame % batch.max(1));
        let image = &images[row * size..(row + 1) * size];
        match kind {
            EncodingKind::Direct => out.copy_from_slice(image),
            EncodingKind::Poisson => {
                let mut rng = seed::rng(code.seed, "poisson", &[code.domain, ids[row].into(), code.view.into(), step as u64]);
                out.iter_mut().zip(image).for_each(|(spike, &x)| *spike = f32::from(u8::from(rng.random::<f32>() < x)));
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
