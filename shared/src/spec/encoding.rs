//! `[encoding]`: the input code.

use serde::{Deserialize, Serialize};

/// `[encoding]`: how an image becomes T steps of input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EncodingSpec {
    /// The code.
    pub kind: EncodingKind,
    /// Time steps T, at least 1.
    pub steps: usize,
}

impl Default for EncodingSpec {
    fn default() -> Self {
        Self { kind: EncodingKind::Direct, steps: 4 }
    }
}

/// The code in which an image is presented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EncodingKind {
    /// The first layer sees the normalised image at every step.
    #[serde(rename = "direct")]
    Direct,
    /// Each pixel spikes at each step with probability equal to its intensity.
    #[serde(rename = "poisson")]
    Poisson,
    /// Each pixel spikes once, brighter ones earlier; a black pixel never.
    #[serde(rename = "latency")]
    Latency,
}
