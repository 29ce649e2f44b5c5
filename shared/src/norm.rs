//! Normalisation: `network.norm` of a specification.

use serde::{Deserialize, Serialize};

/// Normalisation between a convolution and its neurons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Norm {
    /// Batch normalisation with statistics over (T, B, H, W).
    #[serde(rename = "batch")]
    Batch,
    /// The same, scaled by the neuron's threshold (tdBN, Zheng et al. 2021).
    #[serde(rename = "td")]
    Td,
    /// None; convolutions get a bias instead.
    #[serde(rename = "none")]
    None,
}
