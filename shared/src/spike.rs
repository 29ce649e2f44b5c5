//! One bit a spike: the packed form of a block's output.
//!
//! A sample's spikes `[T, C, H, W]` are packed along channels: for every (t, y, x) in that order there are
//! `ceil(C / 8)` bytes, and channel c is bit `c % 8` (least significant first) of byte `c / 8`. Unused bits are 0.

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

/// Appends one sample's packed spikes to `out`. `spikes` is `[T, C, H, W]`; anything but 0 is a spike.
///
/// # Panics
/// When `spikes` does not have `dims.sites()` values.
pub fn pack(spikes: &[f32], dims: SpikeDims, out: &mut Vec<u8>) {
    assert_eq!(spikes.len(), dims.sites(), "spikes do not have the stated dimensions");
    let start = out.len();
    out.resize(start + dims.packed_bytes(), 0);
    let area = dims.height * dims.width;
    let bytes = dims.channels.div_ceil(8);
    for (step, packed) in out[start..].chunks_mut((area * bytes).max(1)).enumerate() {
        for channel in 0..dims.channels {
            let plane = &spikes[(step * dims.channels + channel) * area..][..area];
            let (byte, bit) = (channel / 8, channel % 8);
            for (position, &spike) in plane.iter().enumerate() {
                packed[position * bytes + byte] |= u8::from(spike != 0.0) << bit;
            }
        }
    }
}

/// Writes one packed sample as 0.0 and 1.0 into `out`, `[T, C, H, W]`.
///
/// # Panics
/// When `packed` or `out` does not have the length that `dims` states.
pub fn unpack_into(packed: &[u8], dims: SpikeDims, out: &mut [f32]) {
    assert_eq!(packed.len(), dims.packed_bytes(), "packed spikes do not have the stated dimensions");
    assert_eq!(out.len(), dims.sites(), "the output does not have the stated dimensions");
    let area = dims.height * dims.width;
    let bytes = dims.channels.div_ceil(8);
    for (index, plane) in out.chunks_mut(area.max(1)).enumerate() {
        let (step, channel) = (index / dims.channels, index % dims.channels);
        let packed = &packed[step * area * bytes..];
        let (byte, bit) = (channel / 8, channel % 8);
        for (position, value) in plane.iter_mut().enumerate() {
            *value = f32::from((packed[position * bytes + byte] >> bit) & 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bits_by_hand() {
        let dims = SpikeDims { steps: 1, channels: 10, height: 1, width: 2 };
        let mut spikes = vec![0.0; dims.sites()];
        spikes[0] = 1.0; // channel 0, x 0
        spikes[9 * 2 + 1] = 1.0; // channel 9, x 1
        let mut packed = Vec::new();
        pack(&spikes, dims, &mut packed);
        assert_eq!(packed, [0b0000_0001, 0, 0, 0b0000_0010]);
    }

    proptest! {
        #[test]
        fn round_trip(steps in 1_usize..4, channels in 1_usize..20, height in 1_usize..4, width in 1_usize..4, seed in any::<u64>()) {
            let dims = SpikeDims { steps, channels, height, width };
            let spikes: Vec<f32> = (0..dims.sites()).map(|i| f32::from(((seed >> (i % 61)) & 1) as u8)).collect();
            let mut packed = vec![7];
            pack(&spikes, dims, &mut packed);
            let mut back = vec![9.0; dims.sites()];
            unpack_into(&packed[1..], dims, &mut back);
            prop_assert_eq!(back, spikes);
            prop_assert_eq!(packed.len() - 1, dims.packed_bytes());
        }
    }
}
