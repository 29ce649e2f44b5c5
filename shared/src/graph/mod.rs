//! A network as a graph of operations, lowered once from its specification.
//!
//! [`Graph::new`] turns the layers of every block into nodes. Everything else reads the graph: shapes, parameters with
//! their names, shapes and first values, what numbers flow (spikes, counts or fractions), how many operations there
//! are, how much memory a step takes, and the kernels of every backend. Nothing but [`layer`](crate::layer) looks at
//! the layers of a specification.
//!
//! `body` has the nodes, `content` the kinds of values, `parameter` the parameters, `pool` adaptive pooling, `head` the
//! classifiers and detectors on a block's spikes, `lowering` what layers are lowered with, `network` the whole.

mod body;
mod content;
mod head;
mod lowering;
mod network;
mod parameter;
mod pool;

pub use body::{Body, Branch, BranchNorm, Conv, EPSILON, Node, Pool, PoolKind, Spiking};
pub use content::Content;
pub use head::{Classifier, Dense, Detector, HiddenLayer};
pub use lowering::Lowering;
pub use network::{BlockGraph, Graph, GraphError, ShapeError};
pub use parameter::{Initial, Parameter, Running};
pub use pool::AdaptivePool;
