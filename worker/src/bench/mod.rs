//! Parts of the program, timed: what `bloctrain bench` prints.
//!
//! Inputs and initial weights follow from fixed seeds, so a benchmark repeats itself in everything but time. Every
//! module measures one part and returns its figures; the clock is given by the caller.

pub mod cache;
#[cfg(feature = "cuda")]
pub mod convolution;
pub mod inference;
pub mod layer;
pub mod step;

use bloctrain_data::{DataError, Dataset, Options, Split, embedded};
use bloctrain_infer::Levels;
use bloctrain_shared::ImageShape;
use burn_tensor::backend::Backend;
use burn_tensor::{Tensor, TensorData};
use std::path::Path;

/// Seconds since some start.
pub type Clock<'a> = &'a dyn Fn() -> f64;

/// Calls before the clock counts.
const WARM_UP: u32 = 2;

/// Seed of everything random in a benchmark.
const SEED: u64 = 1;

const MIB: f64 = (1 << 20) as f64;
const GIGA: f64 = 1e9;

/// The middle one of some measurements.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0).max(1e-12)
}

/// Seconds of the fastest of `iters` calls of each kind, after a few that do not count. The kinds take turns, so that a
/// slow moment of the machine meets them all.
fn fastest<const N: usize>(clock: Clock<'_>, iters: u32, calls: [&dyn Fn(); N]) -> [f64; N] {
    let mut best = [f64::INFINITY; N];
    for iteration in 0..WARM_UP + iters {
        for (call, best) in calls.iter().zip(&mut best) {
            let begun = clock();
            call();
            if iteration >= WARM_UP {
                *best = best.min(clock() - begun);
            }
        }
    }
    best
}

/// Images to benchmark on.
#[derive(Debug)]
pub struct Images(Dataset);

impl Images {
    /// The images of a folder, or the embedded ones.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn open(folder: Option<&Path>) -> Result<Self, DataError> {
        let open = |folder| bloctrain_data::open(folder, &Options::default()).map(|opened| opened.dataset);
        folder.map_or_else(embedded::load, open).map(Self)
    }

    /// The embedded images made as large as CIFAR's, by zeros around them and one copy per channel: for networks that
    /// need three channels of 32x32 where no such data are at hand.
    ///
    /// # Errors
    /// When the program itself is damaged.
    pub fn enlarged() -> Result<Self, DataError> {
        let shape = ImageShape::new(3, 32, 32);
        let dataset = embedded::load()?;
        let enlarge = |split: &Split| {
            let pixels =
                (0..split.len()).flat_map(|index| enlarged(split.image(index), dataset.shape, shape)).collect();
            Split::new(split.labels().to_vec(), pixels, shape.len())
        };
        let (train, test) = (enlarge(&dataset.train), enlarge(&dataset.test));
        Ok(Self(Dataset::new(dataset.name, dataset.classes, shape, train, test)))
    }

    /// Shape of every image.
    pub fn shape(&self) -> ImageShape {
        self.0.shape
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.0.classes.len()
    }

    /// Batch `number` of the training images, in their order and from the start again at their end: normalised images
    /// `[batch, C, H, W]` and their labels.
    fn batch(&self, batch: usize, number: usize) -> (Vec<f32>, Vec<usize>) {
        let mut values = vec![0.0; batch * self.0.shape.len()];
        let (levels, mut labels) = (Levels::normalised(&self.0.mean, &self.0.std), Vec::with_capacity(batch));
        for (row, image) in values.chunks_mut(self.0.shape.len()).enumerate() {
            let sample = (number * batch + row) % self.0.train.len();
            levels.write(self.0.train.image(sample), image);
            labels.push(self.0.train.label(sample).into());
        }
        (values, labels)
    }
}

/// An image with zeros around it, repeated over the channels.
fn enlarged(image: &[u8], from: ImageShape, to: ImageShape) -> Vec<u8> {
    let (top, left) = ((to.height - from.height) / 2, (to.width - from.width) / 2);
    let mut plane = vec![0; to.area()];
    for (row, pixels) in image[..from.area()].chunks(from.width).enumerate() {
        plane[(top + row) * to.width + left..][..from.width].copy_from_slice(pixels);
    }
    plane.repeat(to.channels)
}

fn image_tensor<B: Backend>(values: Vec<f32>, shape: ImageShape, device: &B::Device) -> Tensor<B, 4> {
    let batch = values.len() / shape.len().max(1);
    Tensor::from_data(TensorData::new(values, [batch, shape.channels, shape.height, shape.width]), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_enlarged_image_has_zeros_around_it_in_every_channel() {
        let image = enlarged(&[1, 2, 3, 4], ImageShape::new(1, 2, 2), ImageShape::new(2, 4, 4));
        let plane = [0, 0, 0, 0, 0, 1, 2, 0, 0, 3, 4, 0, 0, 0, 0, 0];
        assert_eq!(image, [plane, plane].concat());
    }

    #[test]
    fn the_fastest_call_of_each_kind_counts_and_the_first_ones_do_not() {
        let (now, calls) = (std::cell::Cell::new(0.0), std::cell::Cell::new(0));
        let takes =
            |seconds: [f64; 5]| move |now: &std::cell::Cell<f64>, call: usize| now.set(now.get() + seconds[call]);
        let (one, other) = (takes([1.0, 2.0, 9.0, 5.0, 7.0]), takes([4.0, 4.0, 3.0, 8.0, 2.0]));
        let next = || calls.replace(calls.get() + 1) / 2;
        let found = fastest(&|| now.get(), 3, [&|| one(&now, next()), &|| other(&now, next())]);
        assert_eq!(found, [5.0, 2.0]);
    }

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
    }
}
