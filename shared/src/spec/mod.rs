//! What a user asks for: everything that changes a number in the result, and nothing else.
//!
//! A [`RunSpec`] is TOML; every field has a default, so an empty spec is a valid one. [`parse`](parse::parse) reads it
//! with overrides, [`check`](check::check) refuses values that cannot work, [`written`] fields that nothing reads, and
//! [`identity`] says which specs are the same. What holds for each field is in one table, [`field`]. How this process
//! runs (device, threads, store address) is not part of it.

pub mod check;
pub mod encoding;
pub mod field;
pub mod hard_inputs;
pub mod identity;
pub mod network;
pub mod parse;
pub mod preset;
pub mod print;
pub mod resolve;
pub mod sweep;
pub mod train;
pub mod written;

pub use crate::layer::LayerSpec;
pub use crate::neuron::{NeuronModel, NeuronSpec, Reset, Surrogate};
pub use crate::norm::Norm;
pub use encoding::{EncodingKind, EncodingSpec};
pub use hard_inputs::HardInputSpec;
pub use network::{BlockSpec, HeadSpec, NetworkSpec};
pub use parse::{Override, parse};
pub use train::{
    Combine, DetectorPolicy, DetectorSpec, ExitSpec, HardClassPolicy, HardClassSpec, Loss, OptimizerKind, Precision,
    Schedule, TrainSpec,
};

use serde::{Deserialize, Serialize};

/// The whole specification of a run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunSpec {
    /// What to train on.
    pub data: DataSpec,
    /// The network and its cut into blocks.
    pub network: NetworkSpec,
    /// The spiking neuron used in every layer.
    pub neuron: NeuronSpec,
    /// How images become input over time.
    pub encoding: EncodingSpec,
    /// How each block is trained.
    pub train: TrainSpec,
    /// Which classes go on to the next block.
    pub hard_classes: HardClassSpec,
    /// Which inputs go on to the next block, in place of classes.
    #[serde(skip_serializing_if = "HardInputSpec::is_default")]
    pub hard_inputs: HardInputSpec,
    /// How inputs are judged easy or hard at inference.
    pub detector: DetectorSpec,
    /// How exits are chosen and answers combined.
    pub exit: ExitSpec,
    /// Name, seed and priority.
    pub run: RunOptions,
}

impl RunSpec {
    /// Whether detectors learn on a view that no block has trained on, and that nothing is mixed into: where hard
    /// inputs are selected, and where the views that are trained on show two images.
    pub fn judges_unseen(&self) -> bool {
        self.hard_inputs.is_on() || self.data.augment.contains(&Augment::CutMix)
    }
}

/// `[data]`: the data set and its preparation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataSpec {
    /// Name of an embedded data set; used when `dir` is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Folder with the data set's standard files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<String>,
    /// Scales every image so that its shorter side has so many pixels, and takes the square in its middle; in training,
    /// evaluation and prediction alike. Without it all images have to be of one size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u32>,
    /// Fraction of the training data held out for validation, per class, in (0, 0.5].
    pub validation_fraction: f64,
    /// Augmentations of training images.
    pub augment: Vec<Augment>,
    /// Side of the square that `cutout` cuts out, as a share of the image's height.
    pub cutout_size: f64,
    /// Augmented versions of every sample that a spike cache holds, cycled over epochs; one without augmentation.
    /// Training on images augments anew in every epoch. 0 caches none: every epoch of every block computes a version
    /// that no block has seen.
    pub views: u32,
}

impl Default for DataSpec {
    fn default() -> Self {
        Self {
            name: None,
            dir: None,
            size: None,
            validation_fraction: 0.1,
            augment: Vec::new(),
            cutout_size: 0.25,
            views: 4,
        }
    }
}

/// An augmentation of a training image, drawn from (seed, sample, view).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Augment {
    /// Pad by four zero pixels, then cut out a window of the original size.
    #[serde(rename = "crop")]
    Crop,
    /// Mirror left to right, with probability one half.
    #[serde(rename = "flip")]
    Flip,
    /// Mirror left to right in every other view; half of the samples begin mirrored (Jordan 2024).
    #[serde(rename = "alternating-flip")]
    AlternatingFlip,
    /// Replace a square around a random centre by the mean (DeVries and Taylor 2017).
    #[serde(rename = "cutout")]
    Cutout,
    /// Replace a rectangle by that of another training image, with probability one half; the label is mixed by the
    /// areas (Yun et al. 2019).
    #[serde(rename = "cutmix")]
    CutMix,
}

/// `[run]`: what the run is called and what seeds it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunOptions {
    /// Name shown to people; the run's id is derived from the whole spec.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Seed of everything random in the run.
    pub seed: u64,
    /// Share of a fleet relative to other runs.
    pub priority: u32,
    /// Train the same network without blocks, by ordinary back-propagation through time.
    pub end_to_end: bool,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self { name: None, seed: 1, priority: 1, end_to_end: false }
    }
}
