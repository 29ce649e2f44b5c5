//! The model package: a folder, or a prefix of an object store, that holds everything needed to use a trained network.
//!
//! ```text
//! model.json          what the network is, its classes, its exits (the manifest)
//! model.safetensors   every parameter and running statistic, named `block1/...` and `detector1/...`
//! summary.json        the figures of the run
//! curve.json, .svg    accuracy against compute
//! figures.json        what a report says beyond the summary
//! samples.json        test images of every exit, with what each block said
//! report.html, README.md   the run's report, and a model card
//! ```

use crate::network::LoadError;
use crate::tensors::{NamedTensor, NamedTensors};
use bloctrain_shared::exit::ExitRule;
use bloctrain_shared::label::LabelMap;
use bloctrain_shared::plan::DatasetInfo;
use bloctrain_shared::spec::RunSpec;
use bloctrain_shared::{Digest, key};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// File name of the manifest.
pub const MANIFEST: &str = key::MODEL_MANIFEST;
/// File name of the parameters.
pub const TENSORS: &str = key::MODEL_TENSORS;
/// File name of the run's figures.
pub const SUMMARY: &str = "summary.json";
/// File name of the curve as JSON.
pub const CURVE: &str = "curve.json";
/// File name of the curve as a picture.
pub const CURVE_PICTURE: &str = "curve.svg";

/// File name of what a report says beyond the summary.
pub const FIGURES: &str = "figures.json";
/// File name of the test images of every exit.
pub const SAMPLES: &str = key::MODEL_SAMPLES;
/// File name of the report.
pub const REPORT: &str = "report.html";
/// File name of the model card.
pub const CARD: &str = "README.md";

/// What the network is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the package's form.
    pub format: u32,
    /// The run that trained it.
    pub run: String,
    /// The specification of the run.
    pub spec: RunSpec,
    /// Classes, image shape and digest of the data that it was trained on.
    pub dataset: DatasetInfo,
    /// Mean of every image channel, of pixels in [0, 1].
    pub mean: Vec<f32>,
    /// Standard deviation of every image channel.
    pub std: Vec<f32>,
    /// The trained blocks, first to last; blocks that were never needed are not there.
    pub blocks: Vec<BlockManifest>,
    /// The exits.
    pub exit: ExitRule,
    /// Digest of the parameters' file.
    pub tensors: Digest,
}

/// One trained block.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BlockManifest {
    /// Global labels that its classifier tells apart.
    pub classes: LabelMap,
    /// Global labels that stayed hard; empty for the last block.
    pub hard: LabelMap,
    /// Whether it has a learned detector.
    pub detector: bool,
}

/// A package in memory.
#[derive(Debug, Clone)]
pub struct Package {
    /// What the network is.
    pub manifest: Manifest,
    /// Its parameters.
    pub tensors: NamedTensors,
}

/// A package that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// A file is not there or cannot be read.
    #[error("cannot read {file}: {problem}; a model is the folder or the address that `train` names at its end")]
    Read {
        /// The file.
        file: String,
        /// Why.
        problem: String,
    },
    /// Its parameters do not fit its manifest.
    #[error("the model is inconsistent: {0}")]
    Inconsistent(#[from] LoadError),
    /// A file has the wrong content.
    #[error("{file} is not a model of this version: {problem}")]
    Invalid {
        /// The file.
        file: String,
        /// What is wrong.
        problem: String,
    },
}

impl Package {
    /// Reads a package from a folder, verifying the parameters' digest.
    ///
    /// # Errors
    /// When a file is missing, damaged, or of a newer form.
    pub fn load(folder: &Path) -> Result<Self, PackageError> {
        let name = |file: &str| folder.join(file).display().to_string();
        Self::read(name, |file| {
            let refuse = |error: std::io::Error| PackageError::Read { file: name(file), problem: error.to_string() };
            std::fs::read(folder.join(file)).map_err(refuse)
        })
    }

    /// Reads a package from wherever `read` finds its files, which people know as what `name` makes of them.
    ///
    /// # Errors
    /// As [`load`](Self::load), and whatever `read` answers.
    pub fn read(
        name: impl Fn(&str) -> String,
        read: impl Fn(&str) -> Result<Vec<u8>, PackageError>,
    ) -> Result<Self, PackageError> {
        let invalid = |file: &str, problem: String| PackageError::Invalid { file: name(file), problem };
        let manifest: Manifest =
            serde_json::from_slice(&read(MANIFEST)?).map_err(|error| invalid(MANIFEST, error.to_string()))?;
        if manifest.format > key::FORMAT_VERSION {
            let problem = format!(
                "it has format {}, this program knows up to {}; use a newer bloctrain",
                manifest.format,
                key::FORMAT_VERSION
            );
            return Err(invalid(MANIFEST, problem));
        }
        let bytes = read(TENSORS)?;
        if Digest::of(&bytes) != manifest.tensors {
            return Err(invalid(
                TENSORS,
                "its checksum differs from the one in model.json; the file is damaged".into(),
            ));
        }
        let tensors = NamedTensors::decode(&bytes).map_err(|error| invalid(TENSORS, error.to_string()))?;
        Ok(Self { manifest, tensors })
    }

    /// The parameters of one part (`block1`, `detector2`), without their prefix.
    pub fn part(&self, name: &str) -> NamedTensors {
        let own = |tensor: &NamedTensor| {
            let short = tensor.name.strip_prefix(name)?.strip_prefix('/')?.to_owned();
            Some(NamedTensor { name: short, ..tensor.clone() })
        };
        NamedTensors { tensors: self.tensors.tensors.iter().filter_map(own).collect(), metadata: Default::default() }
    }
}

/// Parameters of one part under its prefix.
pub fn prefixed(part: &str, tensors: NamedTensors) -> impl Iterator<Item = NamedTensor> + '_ {
    tensors.tensors.into_iter().map(move |tensor| NamedTensor { name: format!("{part}/{}", tensor.name), ..tensor })
}
