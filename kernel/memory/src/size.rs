//! Sizes that the kernels are built for.

/// Bits of a word of packed spikes.
pub const WORD: usize = 64;

/// Lanes that every vector width divides: buffers are padded to a multiple of it.
pub const PAD: usize = 16;

/// Partial sums of weight gradients. Fixed, so that the order of additions is.
pub const PARTS: usize = 8;

/// Rows and columns of the inputs of a tile of Winograd's F(4x4, 3x3).
pub const TILE: usize = 6;

/// Points of such a tile in the transform domain.
pub const POINTS: usize = TILE * TILE;
