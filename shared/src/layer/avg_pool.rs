//! `avg-pool`: averages over windows.

use super::{Layer, check_window};
use crate::ImageShape;
use crate::graph::{Lowering, Node, Pool};
use serde::{Deserialize, Serialize};

/// Average over windows; its output is not binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AvgPool {
    /// Side and step of the window.
    pub size: usize,
}

impl Layer for AvgPool {
    fn name(&self) -> &'static str {
        "avg-pool"
    }

    fn is_normalised(&self) -> bool {
        false
    }

    fn check(&self, input: ImageShape) -> Result<(), String> {
        check_window(input, self.size)
    }

    fn lower(&self, _index: usize, lowering: &mut Lowering<'_>) {
        let source = lowering.value();
        lowering.push(Node::AvgPool(Pool { source, size: self.size, input: lowering.shape(source) }));
    }
}
