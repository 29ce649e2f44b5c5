//! Spikes of a batch, one bit each.

use bloctrain_shared::ImageShape;
use bloctrain_shared::spike::SpikeDims;
use rayon::prelude::*;

pub use bloctrain_memory::size::WORD;

/// Spikes `[B, T, H * W, ceil(C / 64)]` in 64-bit words: channel c is bit `c % 64` of word `c / 64`. Unused bits are 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spikes {
    batch: usize,
    steps: usize,
    shape: ImageShape,
    words: Vec<u64>,
}

impl Spikes {
    /// A batch without a spike.
    pub fn zeros(batch: usize, steps: usize, shape: ImageShape) -> Self {
        let words = vec![0; batch * steps * shape.area() * shape.channels.div_ceil(WORD)];
        Self { batch, steps, shape, words }
    }

    /// From values `[T, B, C, H, W]`; anything but 0 is a spike.
    ///
    /// # Panics
    /// When there are not T·B·C·H·W values.
    pub fn from_values(values: &[f32], batch: usize, steps: usize, shape: ImageShape) -> Self {
        assert_eq!(values.len(), batch * steps * shape.len(), "values do not have the stated dimensions");
        let mut spikes = Self::zeros(batch, steps, shape);
        let (area, words) = (shape.area(), spikes.words_per_position());
        spikes.words.par_chunks_mut((area * words).max(1)).enumerate().for_each(|(frame, out)| {
            let (sample, step) = (frame / steps, frame % steps);
            let planes = values[(step * batch + sample) * shape.len()..][..shape.len()].chunks(area.max(1));
            for (channel, plane) in planes.enumerate() {
                let (word, bit) = (channel / WORD, channel % WORD);
                for (position, &value) in plane.iter().enumerate() {
                    out[position * words + word] |= u64::from(value != 0.0) << bit;
                }
            }
        });
        spikes
    }

    /// From samples in the form of the spike cache ([`bloctrain_shared::spike`]).
    ///
    /// # Panics
    /// When a sample does not have `dims.packed_bytes()` bytes.
    pub fn from_packed(samples: &[&[u8]], dims: SpikeDims) -> Self {
        let shape = ImageShape::new(dims.channels, dims.height, dims.width);
        let mut spikes = Self::zeros(samples.len(), dims.steps, shape);
        let (bytes, words) = (dims.channels.div_ceil(8), spikes.words_per_position());
        let size = spikes.sample_words();
        spikes.words.par_chunks_mut(size.max(1)).zip(samples).for_each(|(out, packed)| {
            assert_eq!(packed.len(), dims.packed_bytes(), "packed spikes do not have the stated dimensions");
            for (words, bytes) in out.chunks_mut(words.max(1)).zip(packed.chunks(bytes.max(1))) {
                for (word, bytes) in words.iter_mut().zip(bytes.chunks(8)) {
                    let mut whole = [0; 8];
                    whole[..bytes.len()].copy_from_slice(bytes);
                    *word = u64::from_le_bytes(whole);
                }
            }
        });
        spikes
    }

    /// Appends one sample in the form of the spike cache.
    pub fn pack_sample(&self, sample: usize, out: &mut Vec<u8>) {
        let bytes = self.shape.channels.div_ceil(8);
        for words in self.sample(sample).chunks(self.words_per_position().max(1)) {
            let start = out.len();
            out.extend(words.iter().flat_map(|word| word.to_le_bytes()));
            out.truncate(start + bytes);
        }
    }

    /// Values 0.0 and 1.0, `[T, B, C, H, W]`.
    pub fn to_values(&self) -> Vec<f32> {
        let (size, area, words) = (self.shape.len(), self.shape.area(), self.words_per_position());
        let mut values = vec![0.0; self.batch * self.steps * size];
        values.par_chunks_mut(size.max(1)).enumerate().for_each(|(frame, out)| {
            let (step, sample) = (frame / self.batch, frame % self.batch);
            let from = &self.sample(sample)[step * area * words..][..area * words];
            for (channel, plane) in out.chunks_mut(area.max(1)).enumerate() {
                let (word, bit) = (channel / WORD, channel % WORD);
                for (position, value) in plane.iter_mut().enumerate() {
                    *value = f32::from((from[position * words + word] >> bit & 1) as u8);
                }
            }
        });
        values
    }

    /// Calls with the place in `[C, H, W]` of every spike of one sample at one step, position by position.
    pub fn for_each_spike(&self, sample: usize, step: usize, mut call: impl FnMut(usize)) {
        let area = self.shape.area();
        for position in 0..area {
            self.for_each_channel(sample, step, position, |channel| call(channel * area + position));
        }
    }

    /// Calls with every channel that spikes at one position of one sample at one step.
    pub fn for_each_channel(&self, sample: usize, step: usize, position: usize, mut call: impl FnMut(usize)) {
        let words = self.words_per_position();
        let first = (step * self.shape.area() + position) * words;
        for (index, &word) in self.sample(sample)[first..first + words].iter().enumerate() {
            let mut bits = word;
            while bits != 0 {
                call(index * WORD + bits.trailing_zeros() as usize);
                bits &= bits - 1;
            }
        }
    }

    /// Some of the samples, in the given order.
    ///
    /// # Panics
    /// When there is no such sample.
    #[must_use]
    pub fn gather(&self, samples: &[usize]) -> Self {
        let words = samples.iter().flat_map(|&sample| self.sample(sample)).copied().collect();
        Self { batch: samples.len(), steps: self.steps, shape: self.shape, words }
    }

    /// The first time steps of every sample.
    ///
    /// # Panics
    /// When there are fewer.
    #[must_use]
    pub fn first(&self, steps: usize) -> Self {
        let kept = steps * self.shape.area() * self.words_per_position();
        let words = (0..self.batch).flat_map(|sample| &self.sample(sample)[..kept]).copied().collect();
        Self { batch: self.batch, steps, shape: self.shape, words }
    }

    /// Number of samples B.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Time steps T.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Channels, rows and columns.
    pub fn shape(&self) -> ImageShape {
        self.shape
    }

    /// Words of one position.
    pub fn words_per_position(&self) -> usize {
        self.shape.channels.div_ceil(WORD)
    }

    /// Words of one sample.
    pub fn sample_words(&self) -> usize {
        self.steps * self.shape.area() * self.words_per_position()
    }

    /// One sample, `[T, H * W, words]`.
    pub fn sample(&self, sample: usize) -> &[u64] {
        &self.words[sample * self.sample_words()..][..self.sample_words()]
    }

    /// All words.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// All words, to write.
    pub fn words_mut(&mut self) -> &mut [u64] {
        &mut self.words
    }

    /// Share of sites that spike, in [0, 1].
    pub fn rate(&self) -> f64 {
        let ones: u64 = self.words.iter().map(|word| u64::from(word.count_ones())).sum();
        ones as f64 / (self.batch * self.steps * self.shape.len()).max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition of the packed form: one sample's spikes `[T, C, H, W]`, bit by bit.
    fn pack(spikes: &[f32], dims: SpikeDims, out: &mut Vec<u8>) {
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

    #[test]
    fn bits_by_hand() {
        let dims = SpikeDims { steps: 1, channels: 10, height: 1, width: 2 };
        let mut values = vec![0.0; dims.sites()];
        values[0] = 1.0; // channel 0, x 0
        values[9 * 2 + 1] = 1.0; // channel 9, x 1
        let expected = [0b0000_0001, 0, 0, 0b0000_0010];
        let spikes = Spikes::from_values(&values, 1, 1, ImageShape::new(10, 1, 2));
        let (mut packed, mut defined) = (vec![7], Vec::new());
        spikes.pack_sample(0, &mut packed);
        pack(&values, dims, &mut defined);
        assert_eq!((&packed[1..], defined.as_slice()), (expected.as_slice(), expected.as_slice()));
        assert_eq!(Spikes::from_packed(&[&packed[1..]], dims).to_values(), values);
    }

    proptest! {
        #[test]
        fn every_form_holds_the_same_spikes(batch in 1_usize..4, steps in 1_usize..4, channels in 1_usize..140,
            height in 1_usize..4, width in 1_usize..4, seed in any::<u64>()) {
            let shape = ImageShape::new(channels, height, width);
            let spike = |index: usize| f32::from((seed.rotate_left((index * 7 % 64) as u32) ^ index as u64)
                .count_ones() as u8 & 1);
            let values: Vec<f32> = (0..batch * steps * shape.len()).map(spike).collect();
            let spikes = Spikes::from_values(&values, batch, steps, shape);
            prop_assert_eq!(&spikes.to_values(), &values);
            let dims = SpikeDims { steps, channels, height, width };
            let mut samples = Vec::new();
            for sample in 0..batch {
                let own: Vec<f32> = (0..steps).flat_map(|step| values[(step * batch + sample) * shape.len()..][..shape
                    .len()].to_vec()).collect();
                let (mut expected, mut packed) = (Vec::new(), Vec::new());
                pack(&own, dims, &mut expected);
                spikes.pack_sample(sample, &mut packed);
                prop_assert_eq!(&packed, &expected);
                prop_assert_eq!(packed.len(), dims.packed_bytes());
                samples.push(packed);
            }
            let samples: Vec<&[u8]> = samples.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(&Spikes::from_packed(&samples, dims), &spikes);
            let fewer = steps.div_ceil(2);
            let early = &values[..fewer * batch * shape.len()];
            prop_assert_eq!(spikes.first(fewer), Spikes::from_values(early, batch, fewer, shape));
            let backwards: Vec<usize> = (0..batch).rev().collect();
            let reversed: Vec<&[u8]> = samples.iter().rev().copied().collect();
            prop_assert_eq!(spikes.gather(&backwards), Spikes::from_packed(&reversed, dims));
        }
    }
}
