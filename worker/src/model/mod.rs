//! Trained networks: all blocks together, the package on disk, the accuracy-against-compute curve.

pub mod curve;
pub mod infer;
pub mod network;
pub mod package;
