//! `[network]`: a preset or blocks written out, and their resolved form.

use super::preset;
use crate::layer::LayerSpec;
use crate::norm::Norm;
use serde::{Deserialize, Serialize};

/// `[network]`: a preset with a width, or `[[network.block]]` with layers written out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkSpec {
    /// Name of a preset; `small` where neither it nor `block` is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// Channels of the preset's first layer; the preset's own number where it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<usize>,
    /// Normalisation between a convolution and its neurons.
    pub norm: Norm,
    /// Blocks written out, first to last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub block: Vec<BlockSpec>,
    /// The network's own head, used by the last block and end to end. Without it a preset has its own, and blocks written
    /// out have `classifier`. It is one value: what is not written of it is `pool = 4` and `hidden = []`, not the preset's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head: Option<HeadSpec>,
    /// The local classifier of every block but the last.
    pub classifier: HeadSpec,
    /// What every block but the last is trained with besides its classifier.
    pub auxiliary: AuxiliarySpec,
}

impl Default for NetworkSpec {
    fn default() -> Self {
        Self {
            preset: None,
            width: None,
            norm: Norm::Batch,
            block: Vec::new(),
            head: None,
            classifier: HeadSpec::default(),
            auxiliary: AuxiliarySpec::default(),
        }
    }
}

/// `[network.auxiliary]`: layers behind a block that only its training has, with a classifier of their own on top. They
/// stand for what follows, so that the block learns features that deeper layers can use (Belilovsky et al. 2020).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuxiliarySpec {
    /// What the layers are.
    pub kind: AuxiliaryKind,
    /// Number of layers. Each has the shape of the next block's output that it stands for.
    pub depth: usize,
    /// Factor of the gradient that the block gets from its own classifier.
    pub exit_gradient: f64,
}

impl Default for AuxiliarySpec {
    fn default() -> Self {
        Self { kind: AuxiliaryKind::None, depth: 1, exit_gradient: 1.0 }
    }
}

/// Layers of an auxiliary network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuxiliaryKind {
    /// No auxiliary network.
    #[serde(rename = "none")]
    None,
    /// 3x3 convolutions.
    #[serde(rename = "conv")]
    Conv,
    /// Residual pairs.
    #[serde(rename = "residual")]
    Residual,
}

/// One block: layers between two cuts. Its last layer must emit spikes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockSpec {
    /// The layers, first to last.
    pub layers: Vec<LayerSpec>,
}

/// A classifier on spikes: adaptive average pooling, spiking hidden layers, a linear readout averaged over time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HeadSpec {
    /// Side of the pooled map; 0 keeps the map as it is.
    pub pool: usize,
    /// Features of the spiking hidden layers.
    pub hidden: Vec<usize>,
}

impl Default for HeadSpec {
    fn default() -> Self {
        Self { pool: 4, hidden: Vec::new() }
    }
}

/// A network with nothing left open: what the worker builds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Network {
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

impl Network {
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
    #[error("network.width applies to presets; a network written out in [[network.block]] has its channels in the layers")]
    WidthWithoutPreset,
    /// A width of zero.
    #[error("network.width must be at least 1")]
    ZeroWidth,
}

impl NetworkSpec {
    /// Name of the preset used when the spec names neither preset nor blocks.
    pub const DEFAULT_PRESET: &'static str = "small";

    /// The network with presets and defaults filled in.
    ///
    /// # Errors
    /// When the preset is unknown, or preset, width and blocks contradict each other.
    pub fn resolve(&self) -> Result<Network, ResolveError> {
        if self.width == Some(0) {
            return Err(ResolveError::ZeroWidth);
        }
        if self.block.is_empty() {
            let name = self.preset.as_deref().unwrap_or(Self::DEFAULT_PRESET);
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

    fn with(&self, blocks: Vec<BlockSpec>, head: HeadSpec) -> Network {
        let head = self.head.clone().unwrap_or(head);
        Network { blocks, norm: self.norm, classifier: self.classifier.clone(), head, auxiliary: self.auxiliary.clone() }
    }
}
