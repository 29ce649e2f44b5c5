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
    /// The network's own head, used by the last block and end to end. Without it a preset has its own, and blocks written
    /// out have `classifier`. It is one value: what is not written of it is `pool = 4` and `hidden = []`, not the preset's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head: Option<HeadSpec>,
    /// The local classifier of every block but the last.
    pub classifier: HeadSpec,
}

impl Default for NetworkSpec {
    fn default() -> Self {
        Self { preset: None, width: None, norm: Norm::Batch, block: Vec::new(), head: None, classifier: HeadSpec::default() }
    }
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
