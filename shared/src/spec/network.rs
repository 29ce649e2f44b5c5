//! `[network]`: a preset or blocks written out.

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
    /// The network's own head, used by the last block and end to end. Without it a preset has its own (that of
    /// `resnet9` and `resnet11` has no hidden layer), and blocks written out have `classifier`. It is one value: what
    /// is not written of it is `pool = 4` and `hidden = []`, not the preset's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head: Option<HeadSpec>,
    /// The local classifier of every block but the last.
    pub classifier: HeadSpec,
    /// What every block but the last is trained with besides its classifier.
    #[serde(skip_serializing_if = "AuxiliarySpec::is_default")]
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
    #[serde(skip_serializing_if = "AuxiliaryKind::is_none")]
    pub kind: AuxiliaryKind,
    /// Number of layers, each of the shape of the next block's output that it stands for; with `next` the number of
    /// blocks.
    #[serde(skip_serializing_if = "is_one")]
    pub depth: usize,
    /// Factor of the gradient that the block gets from its own classifier.
    #[serde(skip_serializing_if = "is_whole")]
    pub exit_gradient: f64,
}

impl AuxiliarySpec {
    /// Whether nothing was asked for: then it is not written, as before there was any.
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for AuxiliarySpec {
    fn default() -> Self {
        Self { kind: AuxiliaryKind::None, depth: 1, exit_gradient: 1.0 }
    }
}

// Left out of a run's identity at their defaults, as before there was any auxiliary network.
impl AuxiliaryKind {
    fn is_none(&self) -> bool {
        *self == Self::None
    }
}

fn is_one(depth: &usize) -> bool {
    *depth == 1
}

fn is_whole(factor: &f64) -> bool {
    *factor == 1.0
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
    /// The blocks that follow, as they are, with the last one's own classifier. The next block starts from what they
    /// have learned.
    #[serde(rename = "next")]
    Next,
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
