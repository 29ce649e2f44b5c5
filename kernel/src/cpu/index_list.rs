//! Spikes as lists of indices, so that the kernels follow lists instead of searching words for ones.
//!
//! A band is up to 64 positions; its spikes in 64 channels are 64 words. They are listed by position, or, transposed,
//! by channel. Lists come in the order of their lengths: the processor then foresees where a list ends, which otherwise
//! costs as much as adding several rows.

use super::geometry::{BAND, Class, Geometry};
use crate::spikes::WORD;
use std::ops::Range;

/// One list.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct IndexList {
    /// Which word it lists.
    pub(super) index: u8,
    pub(super) len: u8,
    /// Where its indices begin.
    pub(super) start: u16,
}

/// The ones of up to 64 words.
#[derive(Debug)]
pub(super) struct IndexLists {
    /// Indices of ones, word by word. Whole groups of eight are written, so there is room for one more.
    pub(super) ids: Vec<u8>,
    lists: [IndexList; WORD + 1],
    used: usize,
    ones: usize,
}

/// For each byte, the indices of its ones from the lowest byte on.
static ONES: [u64; 256] = ones();

const fn ones() -> [u64; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut bit, mut found) = (0, 0);
        while bit < 8 {
            if byte >> bit & 1 == 1 {
                table[byte] |= (bit as u64) << (8 * found);
                found += 1;
            }
            bit += 1;
        }
        byte += 1;
    }
    table
}

impl IndexLists {
    pub(super) fn new() -> Self {
        Self { ids: vec![0; WORD * WORD + 8], lists: [IndexList::default(); WORD + 1], used: 0, ones: 0 }
    }

    /// Lists that are not empty, shortest first.
    #[inline(always)]
    pub(super) fn in_order(&self) -> &[IndexList] {
        &self.lists[..self.used]
    }

    /// Number of indices.
    pub(super) fn ones(&self) -> usize {
        self.ones
    }

    /// Lists the ones of each word.
    #[inline(always)]
    pub(super) fn fill(&mut self, words: &[u64]) {
        let mut of_len = [0_u8; WORD + 1];
        let mut starts = [0_u16; WORD];
        let mut end = 0;
        for (start, &word) in starts.iter_mut().zip(words) {
            *start = end as u16;
            self.expand(word, end);
            let len = word.count_ones() as usize;
            of_len[len] += 1;
            end += len;
        }
        self.ones = end;
        // Empty lists go to a position of their own.
        let mut slots = [WORD as u8; WORD + 1];
        let mut slot = 0;
        for len in 1..=WORD {
            slots[len] = slot;
            slot += of_len[len];
        }
        self.used = usize::from(slot);
        for (index, (&start, &word)) in starts.iter().zip(words).enumerate() {
            let len = word.count_ones() as usize;
            self.lists[usize::from(slots[len])] = IndexList { index: index as u8, len: len as u8, start };
            slots[len] += u8::from(len > 0);
        }
    }

    /// Writes the indices of a word's ones from `at` on.
    #[inline(always)]
    fn expand(&mut self, word: u64, at: usize) {
        // Ones before each byte, from the ones in each byte.
        let pairs = word - ((word >> 1) & 0x5555_5555_5555_5555);
        let fours = (pairs & 0x3333_3333_3333_3333) + ((pairs >> 2) & 0x3333_3333_3333_3333);
        let bytes = (fours + (fours >> 4)) & 0x0f0f_0f0f_0f0f_0f0f;
        let before = bytes.wrapping_mul(0x0101_0101_0101_0100);
        for byte in 0..8 {
            let ones = ONES[(word >> (8 * byte) & 0xff) as usize] + 0x0808_0808_0808_0808 * byte;
            let to = at + (before >> (8 * byte) & 0xff) as usize;
            self.ids[to..to + 8].copy_from_slice(&ones.to_le_bytes());
        }
    }
}

/// Transposes 64 words of 64 bits: bit `c` of word `p` becomes bit `p` of word `c`.
#[inline(always)]
pub(super) fn transpose(words: &mut [u64; WORD]) {
    let mut shift = WORD / 2;
    let mut mask = u64::MAX >> (WORD / 2);
    while shift > 0 {
        for block in (0..WORD).step_by(2 * shift) {
            for low in block..block + shift {
                let swap = (words[low] >> shift ^ words[low + shift]) & mask;
                words[low] ^= swap << shift;
                words[low + shift] ^= swap;
            }
        }
        shift /= 2;
        mask ^= mask << shift;
    }
}

/// A position of a band.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Position {
    /// Its words in the sample, without the word within the position.
    words: usize,
    /// Row and column among the positions of its class.
    y: u32,
    x: u32,
    /// Output position that a tap without an offset reaches, counted over the frames of the sample.
    output: u32,
    /// The same in the framed gradients of the frames that are worked on together.
    pub(super) framed: u32,
}

/// Up to 64 positions of one class.
#[derive(Debug)]
pub(super) struct Band {
    positions: [Position; BAND],
    used: usize,
}

impl Band {
    pub(super) fn new() -> Self {
        Self { positions: [Position::default(); BAND], used: 0 }
    }

    pub(super) fn positions(&self) -> &[Position] {
        &self.positions[..self.used]
    }

    /// Number of bands of a class in some frames.
    pub(super) fn count(class: &Class, frames: usize) -> usize {
        (class.positions.len() * frames).div_ceil(BAND)
    }

    /// Takes in the positions of band `band` of a class in some frames.
    pub(super) fn set(&mut self, geometry: &Geometry, class: &Class, frames: &Range<usize>, band: usize) {
        let positions = class.positions.len();
        let all = band * BAND..((band + 1) * BAND).min(positions * frames.len());
        self.used = all.len();
        for (own, at) in self.positions.iter_mut().zip(all) {
            let (frame, position) = (at / positions, at % positions);
            let (framed, input) = class.positions[position];
            let (y, x) = (framed / geometry.framed[1], framed % geometry.framed[1]);
            let output = (frames.start + frame) * geometry.output_area() + y * geometry.output[1] + x;
            *own = Position {
                words: ((frames.start + frame) * geometry.input_area() + input) * geometry.words,
                y: y as u32,
                x: x as u32,
                output: output as u32,
                framed: (frame * geometry.framed_area() + framed) as u32,
            };
        }
    }

    /// Word `word` of every position; the rest is zero.
    pub(super) fn words(&self, plane: &[u64], word: usize) -> [u64; WORD] {
        let mut words = [0; WORD];
        words.iter_mut().zip(self.positions()).for_each(|(to, position)| *to = plane[position.words + word]);
        words
    }
}

/// Where a tap reaches from the positions of a class.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reach {
    y: u32,
    x: u32,
    output: u32,
    size: [u32; 2],
}

impl Reach {
    /// From a tap's offset in the framed gradient.
    pub(super) fn new(geometry: &Geometry, offset: usize) -> Self {
        let y = (offset / geometry.framed[1]) as u32;
        let x = (offset % geometry.framed[1]) as u32;
        let (y, x) = (y.wrapping_sub(geometry.before[0] as u32), x.wrapping_sub(geometry.before[1] as u32));
        let size = [geometry.output[0] as u32, geometry.output[1] as u32];
        Self { y, x, output: y.wrapping_mul(size[1]).wrapping_add(x), size }
    }
}

/// A list, and the output position that its rows are added to.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Job {
    pub(super) start: u16,
    pub(super) len: u8,
    pub(super) output: u32,
}

/// What a tap has to add for a band listed by position; returns how many jobs there are. Lists whose output is outside
/// are left out, without a branch.
#[inline(always)]
pub(super) fn jobs(band: &Band, lists: &IndexLists, reach: Reach, jobs: &mut [Job; BAND + 1]) -> usize {
    let mut used = 0;
    for list in lists.in_order() {
        let position = band.positions[usize::from(list.index) % BAND];
        let inside =
            (position.y.wrapping_add(reach.y) < reach.size[0]) & (position.x.wrapping_add(reach.x) < reach.size[1]);
        jobs[used] = Job { start: list.start, len: list.len, output: position.output.wrapping_add(reach.output) };
        used += usize::from(inside);
    }
    used
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some_words(seed: u64) -> [u64; WORD] {
        let mut state = seed;
        std::array::from_fn(|index| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            match index % 5 {
                0 => 0,
                1 => u64::MAX,
                _ => state & (state << 7),
            }
        })
    }

    #[test]
    fn lists_name_every_one_once_and_grow() {
        let words = some_words(7);
        let mut lists = IndexLists::new();
        lists.fill(&words);
        let mut found = [0_u64; WORD];
        for list in lists.in_order() {
            let ids = &lists.ids[usize::from(list.start)..][..usize::from(list.len)];
            assert!(!ids.is_empty() && ids.is_sorted());
            ids.iter().for_each(|id| found[usize::from(list.index)] |= 1 << id);
        }
        assert_eq!(found, words);
        assert!(lists.in_order().is_sorted_by_key(|list| list.len));
    }

    #[test]
    fn transposing_swaps_rows_and_columns() {
        let words = some_words(3);
        let mut transposed = words;
        transpose(&mut transposed);
        for (row, word) in words.iter().enumerate() {
            for (column, other) in transposed.iter().enumerate() {
                assert_eq!(word >> column & 1, other >> row & 1);
            }
        }
    }
}
