//! `[network]` with nothing left open: presets become their blocks.

use super::network::{AuxiliarySpec, BlockSpec, HeadSpec, NetworkSpec};
use super::preset;
use crate::norm::Norm;
use serde::{Deserialize, Serialize};

/// A network with nothing left open: what the worker builds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResolvedNetwork {
    /// The blocks, first to last.
    pub blocks: Vec<BlockSpec>,
    /// Normalisation of every convolution.
    pub norm: Norm,
    /// The local classifier of blocks 1..K-1.
    pub classifier: HeadSpec,
    /// The head of block K and of the end-to-end network.
    pub head: HeadSpec,
    /// What blocks 1..K-1 are trained with besides.
    pub auxiliary: AuxiliarySpec,
}

impl ResolvedNetwork {
    /// The same network as one single block: the end-to-end baseline.
    pub fn joined(&self) -> Self {
        let layers = self.blocks.iter().flat_map(|block| block.layers.clone()).collect();
        Self { blocks: vec![BlockSpec { layers }], ..self.clone() }
    }

    /// The classifier of block `index` (from 0).
    pub fn head_of(&self, index: usize) -> &HeadSpec {
        if index + 1 == self.blocks.len() { &self.head } else { &self.classifier }
    }
}

/// A network specification that does not resolve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// No preset of that name.
    #[error("network.preset: there is no preset `{name}`; the presets are {known}")]
    UnknownPreset {
        /// The name that was asked for.
        name: String,
        /// The names that exist.
        known: String,
    },
    /// Both ways of writing a network at once.
    #[error("network: give either a preset or [[network.block]], not both")]
    PresetAndBlocks,
    /// A width without a preset.
    #[error(
        "network.width applies to presets; a network written out in [[network.block]] has its channels in the layers"
    )]
    WidthWithoutPreset,
    /// A width of zero.
    #[error("network.width must be at least 1")]
    ZeroWidth,
}

impl NetworkSpec {
    /// Name of the preset used when the spec names neither preset nor blocks.
    pub const DEFAULT_PRESET: &'static str = "small";

    /// Name of the preset, written or not; it counts where no blocks are written.
    pub fn preset_name(&self) -> &str {
        self.preset.as_deref().unwrap_or(Self::DEFAULT_PRESET)
    }

    /// The network with presets and defaults filled in.
    ///
    /// # Errors
    /// When the preset is unknown, or preset, width and blocks contradict each other.
    pub fn resolve(&self) -> Result<ResolvedNetwork, ResolveError> {
        if self.width == Some(0) {
            return Err(ResolveError::ZeroWidth);
        }
        if self.block.is_empty() {
            let name = self.preset_name();
            let preset = preset::find(name).ok_or_else(|| ResolveError::UnknownPreset {
                name: name.to_owned(),
                known: preset::PRESETS.map(|preset| preset.name).join(", "),
            })?;
            let (blocks, head) = (preset.build)(self.width.unwrap_or(preset.width));
            return Ok(self.with(blocks, head));
        }
        match (&self.preset, self.width) {
            (Some(_), _) => Err(ResolveError::PresetAndBlocks),
            (None, Some(_)) => Err(ResolveError::WidthWithoutPreset),
            (None, None) => Ok(self.with(self.block.clone(), self.classifier.clone())),
        }
    }

    fn with(&self, blocks: Vec<BlockSpec>, head: HeadSpec) -> ResolvedNetwork {
        let head = self.head.clone().unwrap_or(head);
        let (classifier, auxiliary) = (self.classifier.clone(), self.auxiliary.clone());
        ResolvedNetwork { blocks, norm: self.norm, classifier, head, auxiliary }
    }
}
