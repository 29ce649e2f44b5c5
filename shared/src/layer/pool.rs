//! `avg-pool` and `max-pool`: averages and maxima over windows.

use super::{Layer, check_window};
use crate::ImageShape;
use crate::graph::{Lowering, Node, Pool, PoolKind};
use serde::{Deserialize, Serialize};

/// Average over windows; its output is not binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AvgPool {
    /// Side and step of the window.
    pub size: usize,
}

/// Maximum over windows; keeps spikes binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaxPool {
    /// Side and step of the window.
    pub size: usize,
}

/// Makes a layer of a pooling.
macro_rules! pooling {
    ($layer:ident, $name:literal, $kind:ident) => {
        impl Layer for $layer {
            fn name(&self) -> &'static str {
                $name
            }

            fn is_normalised(&self) -> bool {
                false
            }

            fn check(&self, input: ImageShape) -> Result<(), String> {
                check_window(input, self.size)
            }

            fn lower(&self, _index: usize, lowering: &mut Lowering<'_>) {
                let source = lowering.value();
                let input = lowering.shape(source);
                lowering.push(Node::Pool(Pool { kind: PoolKind::$kind, source, size: self.size, input }));
            }
        }
    };
}

pooling!(AvgPool, "avg-pool", Average);
pooling!(MaxPool, "max-pool", Maximum);
