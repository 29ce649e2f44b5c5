//! A package put to use on the CPU: answers to images, and records of test images.

use crate::encode::{Encoder, Input};

use crate::file::FileError;
use crate::network::{BlockParts, Network};
use crate::package::{BlockManifest, Manifest, Package, PackageError};
use crate::picture::read_image;
use bloctrain_shared::ImageShape;
use bloctrain_shared::exit::{Answer, ExitRule};
use bloctrain_shared::record::Records;
use std::path::PathBuf;

/// Samples in one forward pass. No answer depends on it.
const BATCH: usize = 64;

/// A trained network that answers.
pub struct Predictor {
    shape: ImageShape,
    /// `data.size` of the specification: image files are scaled to it.
    size: Option<u32>,
    classes: usize,
    exit: ExitRule,
    network: Network,
    encoder: Encoder,
}

impl Predictor {
    /// Builds the network of a package.
    ///
    /// # Errors
    /// When its parameters do not fit its manifest.
    pub fn new(package: &Package) -> Result<Self, PackageError> {
        let Manifest { spec, dataset, mean, std, blocks, exit, .. } = &package.manifest;
        let part = |(number, block): (usize, &BlockManifest)| BlockParts {
            classes: block.classes.clone(),
            hard: block.hard.clone(),
            weights: package.part(&format!("block{number}")),
            detector: block.detector.then(|| package.part(&format!("detector{number}"))),
        };
        let parts: Vec<BlockParts> = (1..).zip(blocks).map(part).collect();
        let (shape, classes) = (dataset.shape, dataset.classes.len());
        let network = Network::new(spec, shape, &parts)?;
        Ok(Self {
            shape,
            size: spec.data.size,
            classes,
            exit: exit.clone(),
            network,
            encoder: Encoder::new(spec, shape, mean, std),
        })
    }

    /// Shape of the images that it takes.
    pub fn shape(&self) -> ImageShape {
        self.shape
    }

    /// Answers to images, bytes channels first, by the package's own exits.
    ///
    /// # Panics
    /// When an image is not of [`shape`](Self::shape).
    pub fn answers(&self, images: &[&[u8]]) -> Vec<Answer> {
        // An image of its own is no sample of a data set: all of them have the random code of sample 0.
        let one =
            |chunk: &[&[u8]]| self.network.answers(self.input(chunk, &vec![0; chunk.len()]), &self.exit, self.classes);
        images.chunks(BATCH).flat_map(one).collect()
    }

    /// Answers to image files, as [`answers`](Self::answers).
    ///
    /// # Errors
    /// When an image cannot be read or has another size.
    pub fn files(&self, paths: &[PathBuf]) -> Result<Vec<Answer>, FileError> {
        let mut answers = Vec::with_capacity(paths.len());
        for chunk in paths.chunks(BATCH) {
            let images =
                chunk.iter().map(|path| read_image(path, self.shape, self.size)).collect::<Result<Vec<_>, _>>()?;
            let pixels: Vec<&[u8]> = images.iter().map(Vec::as_slice).collect();
            answers.extend(self.answers(&pixels));
        }
        Ok(answers)
    }

    /// What every block says about test images of a data set, given by their indices, labels and bytes, whether or not
    /// they would have exited before.
    ///
    /// # Panics
    /// When an image is not of [`shape`](Self::shape), or there are not as many of each.
    pub fn records(&self, ids: &[u32], labels: &[u16], images: &[&[u8]]) -> Records {
        assert!(ids.len() == labels.len() && ids.len() == images.len(), "every image has an index and a label");
        let mut records = Records::default();
        for ((ids, labels), images) in ids.chunks(BATCH).zip(labels.chunks(BATCH)).zip(images.chunks(BATCH)) {
            let part = self.network.records(self.input(images, ids), ids, labels);
            records.join(part).expect("one network gives records of one form");
        }
        records
    }

    /// Test images as the network takes them.
    ///
    /// # Panics
    /// When an image is not of [`shape`](Self::shape).
    pub fn input(&self, images: &[&[u8]], ids: &[u32]) -> Input {
        assert!(images.iter().all(|image| image.len() == self.shape.len()), "images of another shape");
        self.encoder.input(self.encoder.images(images, ids))
    }

    /// The network alone.
    pub fn into_network(self) -> Network {
        self.network
    }
}
