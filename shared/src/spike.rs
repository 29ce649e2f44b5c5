//! One bit a spike: the packed form of a block's output.
//!
//! A sample's spikes `[T, C, H, W]` are packed along channels: for every (t, y, x) in that order there are
//! `ceil(C / 8)` bytes, and channel c is bit `c % 8` (least significant first) of byte `c / 8`. Unused bits are 0. The
//! worker packs and unpacks (`kernel/spikes`), the store keeps (`cache`).

use serde::{Deserialize, Serialize};

/// Sizes of one sample's spikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpikeDims {
    /// Time steps T.
    pub steps: usize,
    /// Channels C.
    pub channels: usize,
    /// Rows H.
    pub height: usize,
    /// Columns W.
    pub width: usize,
}

impl SpikeDims {
    /// Number of spikes that could be, T·C·H·W.
    pub const fn sites(&self) -> usize {
        self.steps * self.channels * self.height * self.width
    }

    /// Bytes of one packed sample: T·H·W·ceil(C/8).
    pub const fn packed_bytes(&self) -> usize {
        self.steps * self.height * self.width * self.channels.div_ceil(8)
    }
}
