//! Data sets: standard files, the embedded subset, splits, augmentation, downloads.
//!
//! A [`Dataset`] holds pixels as bytes, sample-major, channels first. Reading never guesses: a file that is cut, has a
//! label out of range or an image of another size is refused by name.

pub mod augment;
mod cifar;
pub mod embedded;
pub mod fetch;
pub mod folder;
mod idx;
pub mod registry;
pub mod split;
pub mod stored;
pub mod verify;

use bloctrain_shared::{Digest, ImageShape};
use std::path::{Path, PathBuf};

/// Data that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The folder holds no known data set.
    #[error(
        "{} holds no data set that is known here: expected CIFAR-10 (data_batch_1.bin ...), CIFAR-100 (train.bin, test.bin), MNIST-like IDX files (train-images-idx3-ubyte[.gz] ...) or class folders (train/<class>/*.png, test/<class>/*.png)", path.display()
    )]
    NotRecognised {
        /// The folder.
        path: PathBuf,
    },
    /// There is no embedded data set of that name.
    #[error("there is no embedded data set `{name}`; there is `{known}`, and --data DIR reads files")]
    UnknownName {
        /// What was asked for.
        name: String,
        /// What is there.
        known: &'static str,
    },
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file's content is wrong.
    #[error("{}: {problem}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where in the file.
        problem: String,
    },
    /// An image file cannot be used.
    #[error(transparent)]
    Image(#[from] bloctrain_infer::ImageError),
    /// A download failed.
    #[error("{what}: {problem}")]
    Fetch {
        /// File or address.
        what: String,
        /// What is wrong and what to do.
        problem: String,
    },
}

impl DataError {
    pub(crate) fn content(path: &Path, problem: impl Into<String>) -> Self {
        Self::Content { path: path.to_owned(), problem: problem.into() }
    }

    pub(crate) fn read(path: &Path, source: std::io::Error) -> Self {
        Self::Read { path: path.to_owned(), source }
    }
}

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
    pixels: Vec<u8>,
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

    /// Reads the data set in a folder, whichever of the known ones it is.
    ///
    /// # Errors
    /// When none is recognised, or a file is missing or wrong.
    pub fn open(folder: &Path) -> Result<Self, DataError> {
        if !folder.is_dir() {
            let what =
                if folder.exists() { "it is a file; give the folder that holds the data" } else { "there is no such folder" };
            let problem = std::io::Error::new(std::io::ErrorKind::NotFound, what);
            return Err(DataError::read(folder, problem));
        }
        for reader in [cifar::open, idx::open, folder::open] {
            if let Some(dataset) = reader(folder)? {
                return Ok(dataset);
            }
        }
        Err(DataError::NotRecognised { path: folder.to_owned() })
    }

    /// The embedded data set of a name.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn by_name(name: &str) -> Result<Self, DataError> {
        if name == embedded::NAME {
            return embedded::load();
        }
        Err(DataError::UnknownName { name: name.to_owned(), known: embedded::NAME })
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

pub(crate) fn check_labels(path: &Path, labels: &[u16], classes: usize) -> Result<(), DataError> {
    match labels.iter().position(|&label| usize::from(label) >= classes) {
        Some(index) => Err(DataError::content(
            path,
            format!("record {index} has label {}, but there are {classes} classes (0 to {})", labels[index], classes - 1),
        )),
        None => Ok(()),
    }
}
