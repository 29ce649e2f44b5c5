//! A package put to use: records of test data, answers to image files.

use super::network::{BlockParts, FullNet};
use super::package::{Manifest, Package};
use crate::kernel::BodyInput;
use crate::snn::encode::Encoder;
use bloctrain_data::picture::read_image;
use bloctrain_data::{DataError, Dataset, Split};
use bloctrain_shared::exit::Answer;
use bloctrain_shared::record::Records;
use burn::backend::Flex;
use std::path::PathBuf;

/// Samples in one forward pass. No answer depends on it.
const BATCH: usize = 64;

/// A trained network on the processor.
pub struct Predictor<'a> {
    manifest: &'a Manifest,
    net: FullNet<Flex>,
    encoder: Encoder,
}

/// A model that cannot answer.
#[derive(Debug, thiserror::Error)]
pub enum InferError {
    /// The package does not fit itself.
    #[error("the model is inconsistent: {0}")]
    Model(String),
    /// An image cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),
}

impl<'a> Predictor<'a> {
    /// Builds the network of a package.
    ///
    /// # Errors
    /// When its parameters do not fit its manifest.
    pub fn new(package: &'a Package) -> Result<Self, InferError> {
        let manifest = &package.manifest;
        let part = |(index, block): (usize, &super::package::BlockManifest)| BlockParts {
            classes: block.classes.clone(),
            hard: block.hard.clone(),
            weights: package.part(&format!("block{}", index + 1)),
            detector: block.detector.then(|| package.part(&format!("detector{}", index + 1))),
        };
        let parts: Vec<BlockParts> = manifest.blocks.iter().enumerate().map(part).collect();
        let net = FullNet::new(&manifest.spec, manifest.dataset.shape, &parts, &Default::default());
        let net = net.map_err(|error| InferError::Model(error.into()))?;
        let encoder = Encoder::new(&manifest.spec, manifest.dataset.shape, &manifest.mean, &manifest.std);
        Ok(Self { manifest, net, encoder })
    }

    /// What every block says about every test image.
    ///
    /// # Errors
    /// When the model has no block.
    pub fn test_records(&self, dataset: &Dataset) -> Result<Records, InferError> {
        let test: &Split = &dataset.test;
        let ids: Vec<u32> = (0..test.len() as u32).collect();
        let mut records = Records::default();
        for chunk in ids.chunks(BATCH) {
            let labels: Vec<u16> = chunk.iter().map(|&id| test.label(id as usize)).collect();
            let part = self.net.records(self.test_input(dataset, chunk), chunk, &labels);
            records.join(part).map_err(|error| InferError::Model(error.to_string()))?;
        }
        Ok(records)
    }

    /// Answers to image files by the model's own exits.
    ///
    /// # Errors
    /// When an image cannot be read or has another size.
    pub fn answers(&self, paths: &[PathBuf]) -> Result<Vec<Answer>, InferError> {
        let classes = self.manifest.dataset.classes.len();
        let mut answers = Vec::with_capacity(paths.len());
        for chunk in paths.chunks(BATCH) {
            let read = |path: &PathBuf| read_image(path, self.manifest.dataset.shape, self.manifest.spec.data.size);
            let images = chunk.iter().map(read).collect::<Result<Vec<_>, _>>()?;
            let pixels: Vec<&[u8]> = images.iter().map(Vec::as_slice).collect();
            // A file is no sample of a data set: all of them have the random code of sample 0.
            let input = self.input(&pixels, &vec![0; chunk.len()]);
            answers.extend(self.net.answers(input, &self.manifest.exit, classes));
        }
        Ok(answers)
    }

    /// Some test images as the network takes them.
    pub fn test_input(&self, dataset: &Dataset, ids: &[u32]) -> BodyInput<Flex> {
        let pixels: Vec<&[u8]> = ids.iter().map(|&id| dataset.test.image(id as usize)).collect();
        self.input(&pixels, ids)
    }

    /// The network alone.
    pub fn into_network(self) -> FullNet<Flex> {
        self.net
    }

    fn input(&self, images: &[&[u8]], ids: &[u32]) -> BodyInput<Flex> {
        self.encoder.input(self.encoder.images(images, ids), &Default::default())
    }
}
