//! Trained networks at inference on the CPU: what a program links that only answers.
//!
//! A [`Package`] is what a run left. A [`Predictor`] is made of it and answers to images, each as early as the
//! package's exits let it. Beneath are the [`Encoder`] from bytes, which training uses too, and the [`Network`], whose
//! blocks' own layers may run on another backend than the CPU ([`Layers`]); classifiers and detectors ([`FrozenHead`],
//! [`FrozenDetector`]) work sample by sample, so that an answer has the same bits whatever batch it was in.
//!
//! There is no tensor library here, no asynchronous runtime and no network: a test holds that line.

mod encode;
mod file;
mod head;
mod level;
mod network;
mod package;
pub mod picture;
mod predict;
mod tensors;

pub use encode::{Encoder, Input, Values};
pub use file::FileError;
pub use head::{FrozenDetector, FrozenHead};
pub use level::Levels;
pub use network::{BlockParts, Layers, LoadError, Network, part_values};
pub use package::{
    BlockManifest, CARD, CURVE, CURVE_PICTURE, FIGURES, MANIFEST, Manifest, Package, PackageError, REPORT, SAMPLES,
    SUMMARY, TENSORS, prefixed,
};
pub use predict::Predictor;
pub use tensors::{NamedTensor, NamedTensors, TensorsError};
