//! `conv`: a convolution with its norm, into neurons.

use super::{Layer, check_convolution, part};
use crate::ImageShape;
use crate::graph::{self, Lowering};
use serde::{Deserialize, Serialize};

/// Convolution, normalisation, neurons; padding is `kernel / 2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conv {
    /// Output channels.
    pub channels: usize,
    /// Side of the square kernel, odd.
    #[serde(default = "super::three")]
    pub kernel: usize,
    /// Step between output positions.
    #[serde(default = "super::one")]
    pub stride: usize,
}

impl Layer for Conv {
    fn name(&self) -> &'static str {
        "conv"
    }

    fn is_normalised(&self) -> bool {
        true
    }

    fn check(&self, input: ImageShape) -> Result<(), String> {
        if self.kernel.is_multiple_of(2) {
            return Err(format!("kernel {} is even; use an odd side such as 3", self.kernel));
        }
        check_convolution(input, self.channels, self.stride)
    }

    fn lower(&self, index: usize, lowering: &mut Lowering<'_>) {
        let (name, source) = (part(index), lowering.value());
        let conv = graph::Conv::square(lowering.shape(source), self.channels, self.kernel, self.stride);
        let branch = lowering.convolution(&format!("{name}.conv"), source, conv, lowering.threshold());
        lowering.spiking(&name, vec![branch]);
    }
}
