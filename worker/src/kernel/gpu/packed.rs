//! Spikes on the device, one bit each.

use super::layout::empty;
use bloctrain_kernel::spikes::Spikes;
use bloctrain_shared::ImageShape;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use burn_tensor::{Bytes, DType, Shape};

/// Channels in a word on the device.
const WORD: usize = 32;

/// Spikes `[B, T, H * W, words]` in 32-bit words: channel c is bit `c % 32` of word `c / 32`. The words of
/// [`Spikes`], split in two, have the same form.
#[derive(Debug, Clone)]
pub(super) struct Packed<R: CubeRuntime> {
    pub(super) words: CubeTensor<R>,
    pub(super) batch: usize,
    pub(super) steps: usize,
    pub(super) shape: ImageShape,
    /// Words of one position; those beyond `ceil(C / 32)` are not read.
    pub(super) words_per_position: usize,
}

impl<R: CubeRuntime> Packed<R> {
    /// Room for spikes, on the device of a tensor.
    pub(super) fn empty(near: &CubeTensor<R>, batch: usize, steps: usize, shape: ImageShape) -> Self {
        let words_per_position = shape.channels.div_ceil(WORD);
        let words = empty(near, &[batch * steps * shape.area() * words_per_position], DType::U32);
        Self { words, batch, steps, shape, words_per_position }
    }

    /// Spikes of the host, sent as they are.
    pub(super) fn upload(spikes: &Spikes, device: &R::Device) -> Self {
        let client = R::client(device);
        let halves = spikes.words().iter().flat_map(|word| [*word as u32, (*word >> WORD) as u32]);
        let words = Bytes::from_elems(halves.collect::<Vec<u32>>());
        let handle = client.create(words);
        let words_per_position = 2 * spikes.words_per_position();
        let (batch, steps, shape) = (spikes.batch(), spikes.steps(), spikes.shape());
        let length = batch * steps * shape.area() * words_per_position;
        let words = CubeTensor::new_contiguous(client, device.clone(), Shape::from([length]), handle, DType::U32);
        Self { words, batch, steps, shape, words_per_position }
    }

    /// The spikes on the host.
    ///
    /// # Panics
    /// When the device is lost.
    pub(super) fn download(&self) -> Spikes {
        let bytes = self.words.client.read_one(self.words.handle.clone()).expect("the device gives its memory back");
        let mut spikes = Spikes::zeros(self.batch, self.steps, self.shape);
        let (own, theirs) = (spikes.words_per_position().max(1), self.words_per_position.max(1));
        let positions = spikes.words_mut().chunks_mut(own).zip(bytes.chunks_exact(4 * theirs));
        for (to, from) in positions {
            for (index, word) in from.chunks_exact(4).enumerate() {
                let word = word.try_into().map_or(0, u32::from_ne_bytes);
                to[index / 2] |= u64::from(word) << (WORD * (index % 2));
            }
        }
        spikes
    }
}
