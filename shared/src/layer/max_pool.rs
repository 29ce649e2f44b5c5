//! `max-pool`: maxima over windows.

use super::{Layer, check_window};
use crate::ImageShape;
use crate::graph::{Lowering, Node, Pool};
use serde::{Deserialize, Serialize};

/// Maximum over windows; keeps spikes binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaxPool {
    /// Side and step of the window.
    pub size: usize,
}

impl Layer for MaxPool {
    fn name(&self) -> &'static str {
        "max-pool"
    }

    fn is_normalised(&self) -> bool {
        false
    }

    fn check(&self, input: ImageShape) -> Result<(), String> {
        check_window(input, self.size)
    }

    fn lower(&self, _index: usize, lowering: &mut Lowering<'_>) {
        let source = lowering.value();
        lowering.push(Node::MaxPool(Pool { source, size: self.size, input: lowering.shape(source) }));
    }
}
