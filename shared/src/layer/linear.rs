//! `linear`: fully connected weights, into neurons.

use super::{Layer, part};
use crate::ImageShape;
use crate::graph::Lowering;
use serde::{Deserialize, Serialize};

/// Flatten, fully connected weights, neurons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Linear {
    /// Output features.
    pub features: usize,
}

impl Layer for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn is_normalised(&self) -> bool {
        false
    }

    fn check(&self, _input: ImageShape) -> Result<(), String> {
        if self.features == 0 { Err("features must be at least 1".into()) } else { Ok(()) }
    }

    fn lower(&self, index: usize, lowering: &mut Lowering<'_>) {
        let name = part(index);
        let branch = lowering.fully_connected(&format!("{name}.linear"), lowering.value(), self.features);
        lowering.spiking(&name, vec![branch]);
    }
}
