//! A data set in memory.

use bloctrain_infer::picture::scaled_planes;
use bloctrain_shared::{Digest, ImageShape};

/// Training or test images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SplitKind {
    /// Images to train on, those held out for validation among them.
    Train,
    /// Test images.
    Test,
}

/// Images with labels.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Split {
    labels: Vec<u16>,
    pub(crate) pixels: Vec<u8>,
    size: usize,
}

impl Split {
    /// Images of `size` bytes each, sample-major.
    ///
    /// # Panics
    /// When the numbers of labels and pixels do not fit.
    pub fn new(labels: Vec<u16>, pixels: Vec<u8>, size: usize) -> Self {
        assert_eq!(labels.len() * size, pixels.len(), "every label needs one image");
        Self { labels, pixels, size }
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Global label of a sample.
    pub fn label(&self, index: usize) -> u16 {
        self.labels[index]
    }

    /// All labels.
    pub fn labels(&self) -> &[u16] {
        &self.labels
    }

    /// Pixels of a sample, channels first.
    pub fn image(&self, index: usize) -> &[u8] {
        &self.pixels[index * self.size..(index + 1) * self.size]
    }
}

/// A data set.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// Name for people.
    pub name: String,
    /// Class names by global label.
    pub classes: Vec<String>,
    /// Shape of every image.
    pub shape: ImageShape,
    /// Training images.
    pub train: Split,
    /// Test images.
    pub test: Split,
    /// Mean of each channel over the training images, of pixels in [0, 1].
    pub mean: Vec<f32>,
    /// Standard deviation of each channel over the training images.
    pub std: Vec<f32>,
    /// Digest of names, shape, labels and pixels.
    pub digest: Digest,
}

impl Dataset {
    /// Puts a data set together: statistics and digest follow from its content.
    pub fn new(name: impl Into<String>, classes: Vec<String>, shape: ImageShape, train: Split, test: Split) -> Self {
        let name = name.into();
        let (mean, std) = statistics(&train, shape);
        let labels = |split: &Split| split.labels.iter().flat_map(|label| label.to_le_bytes()).collect::<Vec<u8>>();
        let digest = Digest::of_parts(&[
            classes.join("\n").as_bytes(),
            shape.to_string().as_bytes(),
            &labels(&train),
            &train.pixels,
            &labels(&test),
            &test.pixels,
        ]);
        Self { name, classes, shape, train, test, mean, std, digest }
    }

    /// The same images, scaled as [`Options::size`](super::Options::size) says.
    #[must_use]
    pub(crate) fn scaled(self, size: Option<u32>) -> Self {
        let Some(size) = size else { return self };
        let side = size as usize;
        let shape = ImageShape::new(self.shape.channels, side, side);
        if shape == self.shape {
            return self;
        }
        let split = |split: &Split| {
            let pixels =
                (0..split.len()).flat_map(|index| scaled_planes(split.image(index), self.shape, size)).collect();
            Split::new(split.labels.clone(), pixels, shape.len())
        };
        let (train, test) = (split(&self.train), split(&self.test));
        Self::new(self.name, self.classes, shape, train, test)
    }

    /// Images of a split.
    pub fn split(&self, kind: SplitKind) -> &Split {
        match kind {
            SplitKind::Train => &self.train,
            SplitKind::Test => &self.test,
        }
    }
}

fn statistics(train: &Split, shape: ImageShape) -> (Vec<f32>, Vec<f32>) {
    let area = shape.area();
    let count = (train.len() * area).max(1) as f64;
    let channel = |channel: usize| {
        let (mut sum, mut square) = (0_u64, 0_u64);
        for index in 0..train.len() {
            for &pixel in &train.image(index)[channel * area..(channel + 1) * area] {
                sum += u64::from(pixel);
                square += u64::from(pixel) * u64::from(pixel);
            }
        }
        let mean = sum as f64 / count / 255.0;
        let variance = (square as f64 / count / (255.0 * 255.0) - mean * mean).max(0.0);
        (mean as f32, variance.sqrt().max(1e-3) as f32)
    };
    (0..shape.channels).map(channel).unzip()
}
