//! `residual`: two convolutions with a shortcut.

use super::{Layer, check_convolution, part};
use crate::ImageShape;
use crate::graph::{Conv, Lowering};
use serde::{Deserialize, Serialize};

/// Two 3x3 convolutions with a 1x1 shortcut into the second one's neurons; the second convolution and the shortcut have
/// the stride.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Residual {
    /// Output channels.
    pub channels: usize,
    /// Step between output positions.
    #[serde(default = "super::one")]
    pub stride: usize,
}

impl Layer for Residual {
    fn name(&self) -> &'static str {
        "residual"
    }

    fn is_normalised(&self) -> bool {
        true
    }

    fn check(&self, input: ImageShape) -> Result<(), String> {
        check_convolution(input, self.channels, self.stride)
    }

    fn lower(&self, index: usize, lowering: &mut Lowering<'_>) {
        let Self { channels, stride } = *self;
        let (name, source, theta) = (part(index), lowering.value(), lowering.threshold());
        let input = lowering.shape(source);
        // Two branches drive the second neurons together.
        let half = theta * std::f32::consts::FRAC_1_SQRT_2;
        let first = lowering.convolution(&format!("{name}.conv1"), source, Conv::square(input, channels, 3, 1), theta);
        lowering.spiking(&format!("{name}.neuron1"), vec![first]);
        let inner = lowering.value();
        let conv = Conv::square(lowering.shape(inner), channels, 3, stride);
        let second = lowering.convolution(&format!("{name}.conv2"), inner, conv, half);
        let conv = Conv::square(input, channels, 1, stride);
        let shortcut = lowering.convolution(&format!("{name}.shortcut"), source, conv, half);
        lowering.spiking(&format!("{name}.neuron2"), vec![second, shortcut]);
    }
}
