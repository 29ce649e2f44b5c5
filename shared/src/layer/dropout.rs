//! `dropout`: some inputs made zero while training.

use super::Layer;
use crate::ImageShape;
use crate::graph::{Lowering, Node};
use serde::{Deserialize, Serialize};

/// Zero inputs with probability `p` while training, with one mask for all time steps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dropout {
    /// Probability in [0, 1).
    pub p: f32,
}

impl Layer for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn is_normalised(&self) -> bool {
        false
    }

    fn check(&self, _input: ImageShape) -> Result<(), String> {
        if (0.0..1.0).contains(&self.p) {
            Ok(())
        } else {
            Err(format!("p = {} is not a probability in [0, 1)", self.p))
        }
    }

    fn lower(&self, index: usize, lowering: &mut Lowering<'_>) {
        let source = lowering.value();
        lowering.push(Node::Dropout { source, p: self.p, index: index as u64, shape: lowering.shape(source) });
    }
}
